//! Reading a whole table and believing nothing: for tables that came from elsewhere, and for scrubbing.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::Pace;
use crate::sst::damaged;
use crate::sst::properties::Properties;
use crate::sst::reader::Table;
use crate::sst::scan::TableScan;
use crate::sst::view::key_of;
use ringkv_wire::ring::hash::key_hash;
use std::sync::Arc;

/// Checks every block of an open table, the order of all keys, their place by index and filter, and the properties.
pub async fn verify_table<D: Disk>(table: &Arc<Table<D>>) -> Result<(), StorageError> {
    let (mut scan, mut counted, mut pace) = (TableScan::new(table.clone()), Properties::default(), Pace::default());
    let mut laid = Vec::new();
    while let Some((place, block)) = scan.next_block().await? {
        let problem = |expected: &str| damaged(table.path(), place.offset, expected, "something else");
        let block = block.view().ok_or_else(|| problem("entries"))?;
        for at in 0..block.count() {
            let entry = block.entry(at).ok_or_else(|| problem("an entry"))?;
            block.lay_key_of(&entry, &mut laid);
            let key = key_of(&laid).ok_or_else(|| problem("a key with its keyspace"))?;
            if counted.entries > 0 && counted.greatest() >= key {
                return Err(problem("keys in order"));
            }
            let hash = key_hash(key.0, key.1);
            if table.locate(key, hash) != Some(place.number) || block.position(key, hash) != Some(at) {
                return Err(problem("keys that index, filter and tags lead to"));
            }
            counted.count(key, &entry.record);
        }
        pace.step(place.bytes as usize).await;
    }
    if counted != *table.properties() {
        let expected = format!("{:?}", table.properties());
        return Err(damaged(table.path(), table.footer().properties.range.start, expected, format!("{counted:?}")));
    }
    Ok(())
}
