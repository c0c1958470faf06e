//! Nonsense behind right checksums: what a store that writes it, or a peer that sends it, would bring. Checksums stop rot; here every
//! edit is followed by correcting those of what it touched, so that the decoders behind them see it.

mod good;

use crate::edits::{Edit, edits};
use bytes::Bytes;
use good::{Good, Layout, good};
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::manifest::{Flushed, TreeRecord, look};
use ringkv_storage::sst::TableId;
use ringkv_storage::sst::footer::FOOTER_BYTES;
use ringkv_storage::tree::{Span, Tree, Way};
use ringkv_wire::ids::{KeyspaceId, ShardId};
use std::collections::BTreeMap;

const DIR: &str = "store-0000";
const SHARD: ShardId = ShardId(3);
const KEYSPACE: KeyspaceId = KeyspaceId(1);
const SECTOR: usize = 512;
/// The longest bound that is written.
const BOUND_BYTES_MAX: usize = 1024;

fn options() -> EngineOptions {
    EngineOptions {
        cache_bytes: 1 << 20,
        memtable_bytes: 1 << 20,
        block_bytes: 512,
        table_bytes: 4096,
        runs_max: 1,
        ..EngineOptions::default()
    }
}

fn at(index: u64) -> Flushed {
    Flushed { index, term: 1, log_time_ms: 1, config_index: 0, config: Bytes::from_static(b"config") }
}

fn key(number: u64) -> Vec<u8> {
    format!("key/{number:04}").into_bytes()
}

/// Corrects all checksums of a table.
fn seal_table(bytes: &mut [u8], layout: &Layout) {
    let footer = bytes.len() - FOOTER_BYTES;
    let mut id = TableId([0; 16]);
    id.0.copy_from_slice(&bytes[footer + 8..footer + 24]);
    for block in &layout.blocks {
        let crc = id.checksum(block.start as u64, &bytes[block.start..block.end - 4]);
        bytes[block.end - 4..block.end].copy_from_slice(&crc.to_le_bytes());
    }
    let good = &layout.footer;
    for (section, field) in [(&good.index, 60), (&good.filter, 84), (&good.properties, 100)] {
        let range = section.range.start as usize..section.range.end as usize;
        let crc = id.checksum(section.range.start, &bytes[range]);
        bytes[footer + field..footer + field + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = id.checksum(footer as u64, &bytes[footer..footer + FOOTER_BYTES - 4]);
    bytes[footer + FOOTER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn put(bytes: &mut [u8], offset: usize, part: &[u8]) {
    let offset = offset % bytes.len().max(1);
    bytes[offset..].iter_mut().zip(part).for_each(|(to, from)| *to = *from);
}

/// Edits the tables of a store and seals them; answers those that were edited.
fn edit_tables(good: &Good, input: &[u8]) -> (FaultDisk, BTreeMap<String, Vec<u8>>) {
    let (disk, mut edited) = (good.disk.fork(1), BTreeMap::new());
    let paths: Vec<&String> = good.tables.keys().collect();
    for Edit { file, offset, bytes, .. } in edits(input) {
        let path = paths[file % paths.len()];
        let table = edited.entry(path.clone()).or_insert_with(|| disk.peek(path).expect("it is there"));
        put(table, offset as usize, bytes);
    }
    for (path, bytes) in &mut edited {
        seal_table(bytes, &good.tables[path]);
        disk.poke(path, 0, bytes);
    }
    (disk, edited)
}

/// Everything that a walk tells, and whether it came to its end.
fn walk(tree: &Tree<FaultDisk>, way: Way) -> (Vec<(KeyspaceId, Bytes, Bytes)>, bool) {
    let (mut walk, mut all) = (tree.range(Span::all(), way), Vec::new());
    loop {
        match block_on(walk.next()) {
            Ok(Some((keyspace, key, value))) => all.push((keyspace, key, value.value)),
            Ok(None) => return (all, true),
            Err(_) => return (all, false),
        }
    }
}

/// Opens a store and reads all of it: errors are fine, panics are not.
fn read_all(disk: &FaultDisk) {
    let Ok(engine) = block_on(Engine::open(disk.clone(), DIR, options())) else { return };
    for shard in engine.shards() {
        let tree = engine.tree(shard);
        for number in (0..64).step_by(3) {
            let _either = block_on(tree.get(KEYSPACE, &key(number)));
        }
        let _either = (walk(&tree, Way::Up), walk(&tree, Way::Down));
    }
    assert!(engine.stats().tables >= engine.stats().tables_without_filter);
}

/// A table from a peer: what is taken can be walked both ways, looked up and merged, and says the same each time.
fn install(bytes: &[u8]) {
    let disk = FaultDisk::new(2);
    let engine = block_on(Engine::open(disk, DIR, options())).expect("a new engine opens");
    let (tree, mut id) = (engine.tree(SHARD), [0; 16]);
    id.copy_from_slice(&bytes[bytes.len() - FOOTER_BYTES + 8..][..16]);
    let receiver = tree.receive();
    block_on(receiver.write(id, bytes.len() as u64, 0, bytes)).expect("a good disk");
    if block_on(receiver.install(at(u64::MAX), &[id])).is_err() {
        assert_eq!(tree.table_count(), 0, "refused, and taken");
        return;
    }
    let (all, whole) = walk(&tree, Way::Up);
    assert!(whole, "verified, and not readable");
    let (mut down, whole) = walk(&tree, Way::Down);
    down.reverse();
    assert!(whole && down == all, "the other way it says something else");
    for (keyspace, key, value) in &all {
        let got = block_on(tree.get(*keyspace, key)).expect("verified");
        assert_eq!(got.map(|got| got.value).as_ref(), Some(value), "a walk and a lookup differ");
    }
    block_on(tree.settle()).expect("verified, and not merged");
    assert!(walk(&tree, Way::Up) == (all, true), "a merge changed it");
}

/// Tables edited behind right checksums: first byte even: of today, odd: of version 1. An engine over them opens and reads without
/// a panic, and who is sent such a table refuses it or can use it.
pub fn tables(input: &[u8]) {
    let Some((old, input)) = input.split_first() else { return };
    good(old % 2 == 1, |good| {
        let (disk, edited) = edit_tables(good, input);
        read_all(&disk);
        edited.values().for_each(|bytes| install(bytes));
    });
}

/// The manifest and CURRENT edited behind right checksums; first byte as in [`tables`]. What is read is restated as it was when the
/// engine opens, and the engine goes on.
pub fn manifest(input: &[u8]) {
    let Some((old, input)) = input.split_first() else { return };
    good(old % 2 == 1, |good| {
        let disk = good.disk.fork(1);
        edit_manifest(&disk, input);
        let Ok(before) = block_on(look(&disk, DIR, true)) else {
            assert!(block_on(Engine::open(disk, DIR, options())).is_err(), "opened, and not readable");
            return;
        };
        let engine = block_on(Engine::open(disk.clone(), DIR, options())).expect("what can be read can be opened");
        let after = block_on(look(&disk, DIR, true)).expect("it was just written");
        let is_cut = |record: &TreeRecord| {
            let keys = record.tables.iter().flat_map(|table| [table.bounds.least(), table.bounds.greatest()]);
            keys.map(|(_, key)| key.len()).any(|bytes| bytes > BOUND_BYTES_MAX)
        };
        assert!(before.values().any(is_cut) || before == after, "restated differently");
        for (shard, record) in before {
            let tree = engine.tree(shard);
            let _either = (walk(&tree, Way::Up), walk(&tree, Way::Down), tree.wants_merge(), engine.stats());
            if let Some(index) = record.at.index.checked_add(1) {
                tree.put(index, KEYSPACE, b"more", Bytes::from_static(b"goes on"));
                block_on(tree.flush(at(index), Vec::new())).expect("a good disk");
                let got = block_on(tree.get(KEYSPACE, b"more")).expect("it is in the newest table");
                assert_eq!(got.map(|got| got.version), Some(index));
            }
        }
    });
}

fn edit_manifest(disk: &FaultDisk, input: &[u8]) {
    let current = format!("{DIR}/CURRENT");
    let manifest = disk.paths().into_iter().find(|path| path.contains("/MANIFEST-")).expect("it is there");
    let mut pointer = disk.peek(&current).expect("it is there");
    let mut bytes = disk.peek(&manifest).expect("it is there");
    let mut touched = Vec::new();
    for Edit { file, offset, bytes: part, .. } in edits(input) {
        if file % 4 == 3 {
            put(&mut pointer, offset as usize, part);
        } else {
            // Far behind the last edit is nothing of interest.
            let offset = offset as usize % (8 * 4096).min(bytes.len());
            put(&mut bytes, offset, part);
            touched.extend(offset / SECTOR..(offset + part.len()).div_ceil(SECTOR));
        }
    }
    let crc = crc32c::crc32c(&pointer[..4092]);
    pointer[4092..].copy_from_slice(&crc.to_le_bytes());
    let seed = crc32c::crc32c(&pointer[16..32]);
    for sector in touched {
        let Some(sector) = bytes.get_mut(sector * SECTOR..(sector + 1) * SECTOR) else { continue };
        let crc = crc32c::crc32c_append(seed, &sector[..SECTOR - 4]);
        sector[SECTOR - 4..].copy_from_slice(&crc.to_le_bytes());
    }
    disk.poke(&current, 0, &pointer);
    disk.poke(&manifest, 0, &bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_good_ones_are_good_and_sealing_changes_nothing() {
        for old in [false, true] {
            good(old, |good| {
                assert!(good.tables.len() > 1);
                for (path, layout) in &good.tables {
                    let bytes = good.disk.peek(path).expect("it is there");
                    let mut sealed = bytes.clone();
                    seal_table(&mut sealed, layout);
                    assert!(sealed == bytes, "{path}");
                    install(&bytes);
                }
                let disk = good.disk.fork(1);
                edit_manifest(&disk, &[]);
                let engine = block_on(Engine::open(disk, DIR, options())).expect("it is good");
                assert!(walk(&engine.tree(SHARD), Way::Up).1 && !walk(&engine.tree(SHARD), Way::Up).0.is_empty());
            });
        }
    }
}
