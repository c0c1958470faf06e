//! Every target on the stable toolchain: its seeds, mutations of them, what its dictionary spells, and the inputs kept in
//! `corpus/<target>`.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

/// Mutations of each seed.
const MUTATIONS: u64 = 60;

/// Inputs that are spelled with a dictionary, unless `FUZZ_SECONDS` says for how long to spell.
const SPELLED: u64 = 20_000;

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

    /// Words of a dictionary one behind the other, now and then a piece of a seed or a byte.
    fn spell(&mut self, words: &[Vec<u8>], seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=self.below(12) {
            match self.below(8) {
                0 => bytes.push(self.next() as u8),
                1 => {
                    let seed = &seeds[self.below(seeds.len())];
                    let from = self.below(seed.len());
                    bytes.extend(seed.iter().skip(from).take(1 + self.below(40)));
                }
                _ => bytes.extend_from_slice(&words[self.below(words.len())]),
            }
        }
        bytes
    }
}

/// The words of a libFuzzer dictionary: one in quotes a line, bytes as `\xNN`.
fn words(text: &str) -> Vec<Vec<u8>> {
    let quoted = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"'));
    let word = |quoted: &str| {
        let mut parts = quoted.split("\\x");
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let (byte, rest) = part.split_at(2);
            bytes.push(u8::from_str_radix(byte, 16).expect("two hex digits"));
            bytes.extend_from_slice(rest.as_bytes());
        }
        bytes
    };
    quoted.map(word).collect()
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
fn what_dictionaries_spell_breaks_nothing() {
    let seconds = env::var("FUZZ_SECONDS").ok().map(|text| text.parse().expect("FUZZ_SECONDS is a number"));
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or_default());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut spelled = 0;
    for target in decoders::TARGETS {
        let Ok(text) = fs::read_to_string(folder.join(target.name).with_extension("dict")) else { continue };
        let (words, seeds, mut dice) = (words(&text), decoders::seeds(target.name), Dice(seconds.unwrap_or(1)));
        assert!(words.len() > 10, "{} words in the dictionary of {}", words.len(), target.name);
        let goes_on = |done: u64| if seconds.is_some() { Instant::now() < until } else { done < SPELLED };
        for done in 0.. {
            if !goes_on(done) {
                break;
            }
            (target.run)(&dice.spell(&words, &seeds));
            spelled += 1;
        }
    }
    println!("{spelled} inputs spelled");
    assert!(spelled > 0, "no dictionary in {}", folder.display());
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
