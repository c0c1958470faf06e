//! The memtable: the newest writes of one tree, in order.

use crate::gate::Pace;
use crate::sst::{Record, TreeKey};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What an entry costs besides its key and value: its share of the map's nodes, and two heap blocks.
const ENTRY_OVERHEAD_BYTES: usize = 160;
/// A value shorter than this is copied, so that it does not hold the message it came in.
const COPY_BELOW_BYTES: usize = 64 << 10;

/// The newest version of a key: a value, or its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Log index of the write.
    pub version: u64,
    /// The value, unless deleted.
    pub value: Option<Bytes>,
}

/// Writes not yet in a table.
#[derive(Clone, Debug, Default)]
pub struct Memtable {
    keyspaces: BTreeMap<KeyspaceId, BTreeMap<Bytes, Slot>>,
    bytes: usize,
    entries: usize,
    version_max: u64,
}

fn cost(key: &[u8], value: &Option<Bytes>) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len) + ENTRY_OVERHEAD_BYTES
}

impl Memtable {
    /// Writes a value or a tombstone. Answers by how many bytes the memtable grew.
    pub fn write(&mut self, version: u64, key: TreeKey<'_>, value: Option<Bytes>) -> isize {
        let value = value.map(|value| match value.len() {
            0..COPY_BELOW_BYTES => Bytes::copy_from_slice(&value),
            _ => value,
        });
        let new = cost(key.1, &value);
        let keyspace = self.keyspaces.entry(key.0).or_default();
        let slot = Slot { version, value };
        let old = match keyspace.get_mut(key.1) {
            Some(old) => cost(key.1, &std::mem::replace(old, slot).value),
            None => {
                keyspace.insert(Bytes::copy_from_slice(key.1), slot);
                self.entries += 1;
                0
            }
        };
        self.version_max = self.version_max.max(version);
        self.bytes = self.bytes + new - old;
        new as isize - old as isize
    }

    /// The newest write of a key, if it is here.
    pub fn get(&self, key: TreeKey<'_>) -> Option<&Slot> {
        self.keyspaces.get(&key.0)?.get(key.1)
    }

    /// The first record behind `after`, or the very first.
    pub fn next_after(&self, after: Option<TreeKey<'_>>) -> Option<Record> {
        let record = |keyspace: KeyspaceId, (key, slot): (&Bytes, &Slot)| Record {
            keyspace,
            key: key.clone(),
            version: slot.version,
            value: slot.value.clone(),
        };
        let from = after.map_or(KeyspaceId(0), |(keyspace, _)| keyspace);
        self.keyspaces.range(from..).find_map(|(keyspace, keys)| {
            let bound = match after {
                Some((at, key)) if at == *keyspace => Bound::Excluded(key),
                _ => Bound::Unbounded,
            };
            keys.range::<[u8], _>((bound, Bound::Unbounded)).next().map(|found| record(*keyspace, found))
        })
    }

    /// Frees it in slices: a big one has hundreds of thousands of heap blocks.
    pub async fn free(self) {
        let mut pace = Pace::default();
        for (key, slot) in self.keyspaces.into_values().flatten() {
            // Freeing costs about as much as moving that many bytes, whatever the length.
            drop((key, slot));
            pace.step(ENTRY_OVERHEAD_BYTES).await;
        }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
    /// Number of keys.
    pub fn entries(&self) -> usize {
        self.entries
    }
    /// Memory it holds: keys, values, and what each entry costs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// The highest version written.
    pub fn version_max(&self) -> u64 {
        self.version_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_write_wins_and_bytes_are_counted() {
        let mut memtable = Memtable::default();
        let key = (KeyspaceId(1), b"k".as_slice());
        let grown = memtable.write(5, key, Some(Bytes::from_static(b"12345")));
        assert_eq!(grown as usize, 1 + 5 + ENTRY_OVERHEAD_BYTES);
        assert_eq!(memtable.write(6, key, None), -5);
        assert_eq!((memtable.bytes(), memtable.entries(), memtable.version_max()), (1 + ENTRY_OVERHEAD_BYTES, 1, 6));
        assert_eq!(memtable.get(key), Some(&Slot { version: 6, value: None }));
        assert_eq!(memtable.get((KeyspaceId(2), b"k")), None);
    }

    #[test]
    fn steps_through_keyspaces_in_order() {
        let mut memtable = Memtable::default();
        for (keyspace, key) in [(2, "a"), (1, "b"), (1, ""), (0, "z"), (1, "bb")] {
            memtable.write(1, (KeyspaceId(keyspace), key.as_bytes()), Some(Bytes::new()));
        }
        let (mut seen, mut last) = (Vec::new(), None::<Record>);
        while let Some(record) = memtable.next_after(last.as_ref().map(Record::tree_key)) {
            seen.push((record.keyspace.0, String::from_utf8(record.key.to_vec()).unwrap()));
            last = Some(record);
        }
        let expected = [(0, "z"), (1, ""), (1, "b"), (1, "bb"), (2, "a")];
        assert_eq!(seen, expected.map(|(keyspace, key)| (keyspace, key.to_owned())));
    }

    #[test]
    fn small_values_do_not_hold_their_message() {
        let mut memtable = Memtable::default();
        let message = Bytes::from(vec![0; 1 << 20]);
        memtable.write(1, (KeyspaceId(1), b"a"), Some(message.slice(..10)));
        assert!(message.is_unique());
        memtable.write(1, (KeyspaceId(1), b"b"), Some(message.slice(..100_000)));
        assert!(!message.is_unique());
    }
}
