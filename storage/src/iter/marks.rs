//! Where the sources of a merge stand, as numbers side by side: comparing keys where they lie would fetch a line of memory or two for each of
//! them at each step.

use crate::iter::Way;
use crate::sst::TreeKey;
use ringkv_wire::ids::KeyspaceId;

/// Bytes of a mark.
const MARK_BYTES: usize = size_of::<u128>();
/// So many bytes that keys share a mark has all the same: keys that come soon mostly differ from those of now in one of them at most.
const SPARE_BYTES: usize = MARK_BYTES / 2;
/// After so many steps it is looked whether keys share more than before.
const STEPS_MAX: u32 = 1 << 12;
/// The mark of a source at its end. Some key may have it too.
const END: u128 = u128::MAX;

/// A mark for each source: where one is less than another its key comes first in the walk; where they are the same, keys must tell.
#[derive(Default)]
pub(super) struct Marks {
    way: Way,
    each: Vec<u128>,
    /// The keyspace of all keys and bytes that all begin with; none when there are several keyspaces.
    shared: Option<(KeyspaceId, Vec<u8>)>,
    /// Steps left before it is made anew.
    left: u32,
}

impl Marks {
    /// Of no sources yet.
    pub fn new(way: Way) -> Marks {
        Marks { way, ..Marks::default() }
    }

    /// Makes all marks anew, of the keys that the sources stand at; none: at the end.
    pub fn set_all<'k>(&mut self, keys: impl Iterator<Item = Option<TreeKey<'k>>> + Clone) {
        self.shared = shared(keys.clone().flatten()).map(|(keyspace, front)| {
            let kept = front.len().saturating_sub(SPARE_BYTES);
            (keyspace, front[..kept].to_vec())
        });
        self.left = STEPS_MAX;
        let mut each = std::mem::take(&mut self.each);
        each.clear();
        // All keys share what is shared.
        each.extend(keys.map(|key| self.of(key).unwrap_or(END)));
        self.each = each;
    }

    /// A source stands at another key. False when all marks must be made anew.
    #[inline]
    pub fn set(&mut self, at: usize, key: Option<TreeKey<'_>>) -> bool {
        self.left = self.left.saturating_sub(1);
        let Some(mark) = self.of(key) else { return false };
        self.each[at] = mark;
        self.left > 0
    }

    /// Whether the first of two sources comes before the other, or none when keys must tell.
    #[inline]
    pub fn before(&self, at: usize, other: usize) -> Option<bool> {
        let (mark, other) = (self.each[at], self.each[other]);
        (mark != other).then_some(mark < other)
    }

    /// A key's mark; none when it does not begin as all others do.
    #[inline]
    fn of(&self, key: Option<TreeKey<'_>>) -> Option<u128> {
        let Some((keyspace, key)) = key else { return Some(END) };
        // Of several keyspaces nothing is told.
        let Some((all, front)) = &self.shared else { return Some(0) };
        let rest = key.strip_prefix(&front[..]).filter(|_| keyspace == *all)?;
        let number = number(rest);
        Some(if self.way == Way::Up { number } else { !number })
    }
}

/// The first bytes of a key as a number that compares as keys do, up to equality.
#[inline]
fn number(key: &[u8]) -> u128 {
    if let Some(first) = key.first_chunk::<MARK_BYTES>() {
        return u128::from_be_bytes(*first);
    }
    let mut bytes = [0; MARK_BYTES];
    bytes[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(bytes)
}

/// The keyspace of all keys, and what they begin with; none when there are several keyspaces, or no keys.
fn shared<'k>(mut keys: impl Iterator<Item = TreeKey<'k>>) -> Option<TreeKey<'k>> {
    let first = keys.next()?;
    keys.try_fold(first, |(keyspace, front), key| {
        let common = front.iter().zip(key.1).take_while(|(a, b)| a == b).count();
        (key.0 == keyspace).then_some((keyspace, &front[..common]))
    })
}
