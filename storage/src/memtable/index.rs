//! From a key's tag to its record's place: open addressing with linear probing, no deletions.
//!
//! A slot is one word, tag and place. A tag's upper bits are its home, so that a table twice as large has its entries in the
//! same order, and growing is one pass over both.

use crate::memory::{PagePool, Pages, prefetch};
use crate::mix::mix;

/// log2 of the slots that a table begins with.
const FIRST_BITS: u32 = 5;

/// Room for more keys than fit into so many slots is not made beforehand.
const ROOM_BITS_MAX: u32 = 24;

/// Tags and places. At most half of the slots are taken.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Turns hashes into tags: a secret, and odd.
    factor: u64,
    slots: Pages,
    /// log2 of the slots; 0: there are none.
    bits: u32,
    taken: usize,
}

fn slot(tag: u32, place: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(place)
}

impl Default for Index {
    fn default() -> Index {
        Index::new(0)
    }
}

impl Index {
    /// Empty. Without `seed` nobody can tell which keys share a tag: the ring's hash has no secret, and who chose keys that do
    /// would make every search walk over all of them.
    pub fn new(seed: u64) -> Index {
        Index { factor: mix(seed) | 1, slots: Pages::default(), bits: 0, taken: 0 }
    }

    /// A key's tag, from its hash (multiply and shift: Dietzfelbinger and others, "A Reliable Randomized Algorithm for the
    /// Closest-Pair Problem", 1997).
    #[inline]
    pub fn tag(&self, hash: u64) -> u32 {
        (hash.wrapping_mul(self.factor) >> 32) as u32
    }

    fn home(&self, tag: u32) -> usize {
        (tag >> (32 - self.bits)) as usize
    }

    /// Fetches the line where a search for this tag begins.
    pub fn prefetch(&self, tag: u32) {
        if self.bits > 0 {
            prefetch(self.slots.words().get(self.home(tag)));
        }
    }

    /// The first slot from the tag's home with this tag and a place that `is`, and that place.
    #[inline]
    pub fn find(&self, tag: u32, mut is: impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        if self.bits == 0 {
            return None;
        }
        let words = self.slots.words();
        let mut at = self.home(tag);
        loop {
            let word = words[at];
            if word == 0 {
                return None;
            }
            if (word >> 32) as u32 == tag && is(word as u32) {
                return Some((at, word as u32));
            }
            at = (at + 1) & (words.len() - 1);
        }
    }

    /// Names another place for what [`Index::find`] found.
    pub fn replace(&mut self, at: usize, place: u32) {
        let word = &mut self.slots.words_mut()[at];
        *word = slot((*word >> 32) as u32, place);
    }

    /// Takes in a tag that is not there, or is there for other keys.
    pub fn insert(&mut self, tag: u32, place: u32) {
        assert_ne!(place, 0, "no record stands there");
        if (self.taken + 1) * 2 > self.slots.words().len() {
            self.grow();
        }
        let home = self.home(tag);
        put(self.slots.words_mut(), home, slot(tag, place));
        self.taken += 1;
    }

    /// Makes room for so many keys, while there are none.
    pub fn make_room(&mut self, keys: usize, pool: &PagePool) {
        assert_eq!(self.taken, 0, "room is made before keys come");
        self.bits = (2 * keys).next_power_of_two().trailing_zeros().clamp(FIRST_BITS, ROOM_BITS_MAX);
        self.slots = pool.take(1 << self.bits);
    }

    /// Gives its memory away.
    pub fn into_pages(self) -> Pages {
        self.slots
    }

    fn grow(&mut self) {
        let bits = if self.bits == 0 { FIRST_BITS } else { self.bits + 1 };
        assert!(bits < 32, "2^31 keys in one memtable");
        let old = std::mem::replace(&mut self.slots, Pages::zeroed(1 << bits));
        self.bits = bits;
        for &word in old.words().iter().filter(|&&word| word != 0) {
            let home = self.home((word >> 32) as u32);
            put(self.slots.words_mut(), home, word);
        }
    }
}

fn put(words: &mut [u64], home: usize, word: u64) {
    let mut at = home;
    while words[at] != 0 {
        at = (at + 1) & (words.len() - 1);
    }
    words[at] = word;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Found by the shard's bench: a seed beside a constant of ours made the factor small, and a shard's keys shared their homes.
    #[test]
    fn keys_of_one_shard_spread_under_any_seed() {
        for seed in [0, 1, u64::MAX, 0x9e37_79b9_7f4a_7c15, 0x9e37_79b9_7f4a_7c16, 0x9e37_79b9_7f4a_7c17] {
            let index = Index::new(seed);
            let mut homes: Vec<u32> = (0..4096).map(|n| index.tag(mix(n) >> 4) >> 20).collect();
            homes.sort_unstable();
            homes.dedup();
            assert!(homes.len() > 2048, "seed {seed:x}: {} homes of 4,096", homes.len());
        }
    }

    #[test]
    fn keys_that_share_a_tag_under_one_seed_do_not_under_another() {
        let (one, other) = (Index::new(1), Index::new(0xfeed_5eed_0dd5_eed1));
        let shared: Vec<u64> =
            (0..1 << 20).map(|n: u64| (n << 32) + 7 * n).filter(|&hash| one.tag(hash) >> 20 == 0).collect();
        assert!(shared.len() > 100, "{} share a home in a table of 4,096", shared.len());
        let mut homes: Vec<u32> = shared.iter().map(|&hash| other.tag(hash) >> 20).collect();
        homes.sort_unstable();
        homes.dedup();
        assert!(homes.len() * 4 > shared.len(), "{} homes for {} keys", homes.len(), shared.len());
    }

    #[test]
    fn finds_what_was_put_also_when_tags_are_shared_and_wrap_around() {
        let (mut index, mut model) = (Index::default(), BTreeMap::<u32, Vec<u32>>::new());
        for place in 1..=3000u32 {
            // A few tags near the end of the range, each many times; the rest spread.
            let tag = if place % 3 == 0 { u32::MAX - place % 7 } else { place.wrapping_mul(0x9e37_79b9) };
            index.insert(tag, place);
            model.entry(tag).or_default().push(place);
        }
        for (&tag, places) in &model {
            let mut seen = Vec::new();
            assert_eq!(
                index.find(tag, |place| {
                    seen.push(place);
                    false
                }),
                None
            );
            seen.sort_unstable();
            assert_eq!(&seen, places, "tag {tag:x}");
        }
        assert_eq!(index.find(12345, |_| true).map(|f| f.1), model.get(&12345).map(|places| places[0]));
    }
}
