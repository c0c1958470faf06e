//! Where to begin a search in an index: a guess from the key's first bytes, as good as keys are spread evenly over those bytes that
//! there are. So it makes no difference whether keys are random bytes, decimal digits or words of a few letters.

use crate::memory::prefetch;
use zerocopy::little_endian::U64;

/// Indexes with fewer blocks have none: their search is short, and lies in few cache lines.
const BLOCKS_MIN: usize = 256;
/// Blocks that share a step, about.
const EACH: usize = 2;
/// Most steps.
const STEPS_MAX: usize = 1 << 16;
/// So many numbers that keys can have fall into a step, where their bytes allow it.
const FINE: u64 = 64;
/// Marks a byte that no key has at this place.
const ABSENT: u16 = 1 << 15;

/// Equal steps over the prefixes of an index, and how many prefixes lie before each. Made when a table is opened.
#[derive(Debug, Default)]
pub(crate) struct Guide {
    /// Of each of the first places: how many of the bytes that prefixes have there are less than this one.
    ranks: Box<[[u16; 256]]>,
    /// How many numbers the places behind each have, and all.
    behind: Vec<u64>,
    /// Of a number, the share that makes its step; 64 bits behind the point.
    scale: u64,
    before: Box<[u32]>,
}

impl Guide {
    /// For prefixes in order.
    pub(crate) fn new(prefixes: &[U64]) -> Guide {
        if prefixes.len() < BLOCKS_MIN {
            return Guide::default();
        }
        let steps = (prefixes.len() / EACH).min(STEPS_MAX);
        let mut guide = Guide::default();
        let (mut ranks, mut counts, mut all) = (Vec::new(), Vec::new(), 1);
        for place in 0..size_of::<u64>() {
            if all >= steps as u64 * FINE {
                break;
            }
            let (table, count) = ranked(prefixes, place);
            ranks.push(table);
            counts.push(count);
            all *= count;
        }
        guide.ranks = ranks.into_boxed_slice();
        guide.behind =
            counts.iter().rev().scan(1, |product, count| Some(std::mem::replace(product, *product * count))).collect();
        guide.behind.reverse();
        let steps = steps.min(all as usize);
        guide.scale = u64::MAX / all * steps as u64;
        let mut before = vec![prefixes.len() as u32; steps + 1].into_boxed_slice();
        let mut next = 0;
        for (at, prefix) in prefixes.iter().enumerate() {
            let step = guide.step(prefix.get()).min(steps - 1);
            while next <= step {
                before[next] = at as u32;
                next += 1;
            }
        }
        guide.before = before;
        guide
    }

    /// The step of a prefix, or of bytes that no prefix has; it may be behind the last.
    #[inline]
    fn step(&self, prefix: u64) -> usize {
        let mut number = 0;
        for ((byte, ranks), behind) in prefix.to_be_bytes().iter().zip(&self.ranks).zip(&self.behind) {
            let rank = ranks[usize::from(*byte)];
            number += u64::from(rank & !ABSENT) * behind;
            if rank & ABSENT != 0 {
                // Behind all prefixes with a lesser byte here, before all with a greater one, whatever follows.
                break;
            }
        }
        ((u128::from(number) * u128::from(self.scale)) >> u64::BITS) as usize
    }

    /// The step of a prefix, its memory asked for.
    #[inline]
    pub(crate) fn begin(&self, wanted: u64) -> usize {
        let step = self.step(wanted).min(self.before.len().saturating_sub(2));
        prefetch(self.before.get(step));
        step
    }

    /// Among `count` prefixes: from where to where the last one can be that is not above those of a step; the first when all are above.
    #[inline]
    pub(crate) fn ends(&self, step: usize, count: usize) -> (usize, usize) {
        match self.before.get(step..step + 2) {
            Some([from, to]) => ((*from as usize).saturating_sub(1), *to as usize),
            _ => (0, count),
        }
    }

    /// Memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.before) + size_of_val(&*self.ranks)
    }
}

/// The rank of each byte among those that prefixes have at a place, and how many these are.
fn ranked(prefixes: &[U64], place: usize) -> ([u16; 256], u64) {
    let mut there = [false; 256];
    prefixes.iter().for_each(|prefix| there[usize::from(prefix.get().to_be_bytes()[place])] = true);
    let (mut ranks, mut count) = ([0; 256], 0);
    for (rank, there) in ranks.iter_mut().zip(there) {
        *rank = if there { count } else { count | ABSENT };
        count += u16::from(there);
    }
    (ranks, u64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words() -> impl Strategy<Value = u64> {
        let letters =
            prop::collection::vec(prop_oneof![Just(b'0'), Just(b'4'), Just(b'9'), Just(0), Just(255), any::<u8>()], 8);
        prop_oneof![any::<u64>(), letters.prop_map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight")))]
    }

    proptest! {
        #[test]
        fn what_is_sought_is_where_it_says(
            mut prefixes in prop::collection::vec(words(), BLOCKS_MIN..BLOCKS_MIN + 200),
            few in any::<bool>(),
            probes in prop::collection::vec(words(), 1..50),
        ) {
            if few {
                let rounded = |prefix: &mut u64| *prefix &= 0x0f0f_0000_0000_00ff;
                prefixes.iter_mut().for_each(rounded);
            }
            prefixes.sort_unstable();
            let prefixes: Vec<U64> = prefixes.into_iter().map(U64::new).collect();
            let guide = Guide::new(&prefixes);
            prop_assert!(guide.bytes() > 0);
            for wanted in probes.into_iter().chain(prefixes.iter().map(|prefix| prefix.get())) {
                let (from, to) = guide.ends(guide.begin(wanted), prefixes.len());
                let expected = prefixes.partition_point(|prefix| prefix.get() <= wanted).saturating_sub(1);
                let inside = to <= prefixes.len() && (from..to.max(1)).contains(&expected);
                prop_assert!(inside, "{wanted:x}: {expected} not in {from}..{to}");
            }
        }
    }

    /// The longest search among these.
    fn longest(prefixes: impl Iterator<Item = u64>) -> usize {
        let prefixes: Vec<U64> = prefixes.map(U64::new).collect();
        let guide = Guide::new(&prefixes);
        assert!(guide.bytes() <= prefixes.len() * 4, "{} bytes for {} prefixes", guide.bytes(), prefixes.len());
        let around = |prefix: &U64| guide.ends(guide.begin(prefix.get()), prefixes.len());
        prefixes.iter().map(around).map(|(from, to)| to - from).max().unwrap_or(0)
    }

    #[test]
    fn even_bytes_and_digits_are_found_at_once() {
        assert!(longest((0..10_000).map(|n| n * (u64::MAX / 10_000))) <= 4);
        let digits = |n: u64| u64::from_be_bytes(format!("{n:08}").as_bytes().try_into().expect("eight digits"));
        assert!(longest((0..10_000).map(|n| digits(n * 37))) <= 6);
        assert_eq!(Guide::default().ends(Guide::default().begin(5), 7), (0, 7));
    }
}
