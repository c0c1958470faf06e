//! Every target on the stable toolchain: its seeds, mutations of them, and the inputs kept in `corpus/<target>`.

use std::fs;
use std::path::Path;

/// Mutations of each seed.
const MUTATIONS: u64 = 60;

/// Numbers that are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// A few bytes flipped, overwritten by what counts and lengths like least, cut off or repeated.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (self.0 & 7)),
                1 => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xff),
                2 => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0),
                3 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    }
}

#[test]
fn every_target_has_seeds() {
    for target in decoders::TARGETS {
        let seeds = decoders::seeds(target.name);
        assert!(!seeds.is_empty(), "{}", target.name);
        seeds.iter().for_each(|seed| decoders::run(target.name, seed));
    }
}

#[test]
fn mutations_break_nothing() {
    for target in decoders::TARGETS {
        let mut dice = Dice(1);
        for seed in decoders::seeds(target.name) {
            for _ in 0..MUTATIONS {
                (target.run)(&dice.mutate(&seed));
            }
        }
    }
}

#[test]
fn the_corpus_breaks_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut replayed = 0;
    for target in decoders::TARGETS {
        let Ok(inputs) = fs::read_dir(corpus.join(target.name)) else { continue };
        for input in inputs {
            decoders::run(target.name, &fs::read(input.unwrap().path()).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed > 0, "no corpus in {}", corpus.display());
}
