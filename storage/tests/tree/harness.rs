//! A tree, the log that feeds it, and what a store would do with both.

use bytes::Bytes;
use ringkv_storage::disk::Disk;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::error::StorageError;
use ringkv_storage::sst::NEVER_MS;
use ringkv_storage::sst::compress::Compression;
use ringkv_storage::tree::{Flushed, Lookup, Sought, Tree, Value};
use ringkv_wire::ids::{KeyspaceId, ShardId};
use std::collections::BTreeMap;

pub const DIR: &str = "store-0000";
pub const SHARD: ShardId = ShardId(3);
pub const SEALED: KeyspaceId = KeyspaceId(0);

pub type Map = BTreeMap<(KeyspaceId, Bytes), Value>;

/// A write, as the log would hold it; its index is its place plus 1.
#[derive(Clone, Debug)]
pub struct Write {
    pub keyspace: KeyspaceId,
    pub key: Bytes,
    pub value: Option<Bytes>,
    pub expiry_ms: u64,
}

/// Small blocks, so that small tables have several.
pub fn options(seed: u64) -> EngineOptions {
    EngineOptions {
        cache_bytes: 64 << 10,
        memtable_bytes: 4 << 20,
        block_bytes: 512,
        runs_max: 3,
        table_bytes: 8 << 10,
        compression: Compression::Lz4,
        last_compression: Compression::Zstd,
        seed,
    }
}

/// The log time of an entry.
pub fn log_time_ms(index: u64) -> u64 {
    index * 10
}

pub fn at(index: u64) -> Flushed {
    Flushed { index, term: 2, log_time_ms: log_time_ms(index), config_index: 1, config: Bytes::from_static(b"config") }
}

pub fn sealed(index: u64) -> Vec<(KeyspaceId, Bytes, Bytes)> {
    vec![(SEALED, Bytes::from_static(b"sessions"), Bytes::copy_from_slice(&index.to_le_bytes()))]
}

pub fn open(disk: &FaultDisk, seed: u64) -> Result<Engine<FaultDisk>, StorageError> {
    open_as(disk, options(seed))
}

pub fn open_as(disk: &FaultDisk, options: EngineOptions) -> Result<Engine<FaultDisk>, StorageError> {
    block_on(Engine::open(disk.clone(), DIR, options))
}

/// A replica: the log survives every crash, the tree must follow from it.
pub struct Replica {
    pub disk: FaultDisk,
    pub engine: Engine<FaultDisk>,
    pub tree: Tree<FaultDisk>,
    pub log: Vec<Write>,
    /// Highest index whose flush was acknowledged.
    pub acknowledged: u64,
    /// Of every opening, each with a seed of its own.
    options: EngineOptions,
    boots: u64,
}

impl Replica {
    pub fn new(disk: FaultDisk) -> Replica {
        Replica::with(disk, options(0))
    }

    pub fn with(disk: FaultDisk, options: EngineOptions) -> Replica {
        let engine = open_as(&disk, options.clone()).expect("an empty disk opens");
        let tree = engine.tree(SHARD);
        Replica { disk, engine, tree, log: Vec::new(), acknowledged: 0, options, boots: 0 }
    }

    /// Another one that goes its own way from here.
    pub fn fork(&self, seed: u64) -> Replica {
        let disk = self.disk.fork(seed);
        let options = EngineOptions { seed: 1000 + seed, ..self.options.clone() };
        let engine = open_as(&disk, options.clone()).expect("a sound disk opens");
        let tree = engine.tree(SHARD);
        let (log, acknowledged) = (self.log.clone(), self.acknowledged);
        Replica { disk, engine, tree, log, acknowledged, options, boots: 2000 }
    }

    pub fn write(&mut self, keyspace: u32, key: &[u8], value: Option<&[u8]>) {
        self.write_until(keyspace, key, value, NEVER_MS);
    }

    pub fn write_until(&mut self, keyspace: u32, key: &[u8], value: Option<&[u8]>, expiry_ms: u64) {
        let (key, value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
        self.log.push(Write { keyspace: KeyspaceId(keyspace), key, value, expiry_ms });
        apply(&self.tree, self.log.len() as u64, &self.log[self.log.len() - 1]);
    }

    pub fn index(&self) -> u64 {
        self.log.len() as u64
    }

    pub fn flush(&mut self) -> Result<(), StorageError> {
        let index = self.index();
        block_on(self.tree.flush(at(index), sealed(index)))?;
        self.acknowledged = index;
        Ok(())
    }

    /// What the tree must say when it reflects the log up to its end and was last flushed at `flushed`.
    pub fn expected(&self, flushed: u64) -> Map {
        self.expected_of(self.log.len(), flushed)
    }

    /// What the tables must say when they were last flushed at `flushed`.
    pub fn expected_at(&self, flushed: u64) -> Map {
        self.expected_of(flushed as usize, flushed)
    }

    fn expected_of(&self, writes: usize, flushed: u64) -> Map {
        let (mut map, now_ms) = (Map::new(), log_time_ms(writes as u64));
        for (version, write) in (1..).zip(&self.log[..writes]) {
            let key = (write.keyspace, write.key.clone());
            let expiry_ms = write.expiry_ms;
            match write.value.clone().filter(|_| expiry_ms > now_ms) {
                Some(value) => map.insert(key, Value { value, version, expiry_ms }),
                None => map.remove(&key),
            };
        }
        for (keyspace, key, value) in sealed(flushed).into_iter().filter(|_| flushed > 0) {
            map.insert((keyspace, key), Value { value, version: flushed, expiry_ms: NEVER_MS });
        }
        map
    }

    /// Goes on with `disk`, as after a restart: opens, checks that nothing acknowledged is gone, redoes the log.
    pub fn reopen(&mut self, disk: FaultDisk) -> Result<(), StorageError> {
        self.boots += 1;
        self.engine = open_as(&disk, EngineOptions { seed: self.boots, ..self.options.clone() })?;
        self.disk = disk;
        self.tree = self.engine.tree(SHARD);
        let flushed = self.tree.flushed();
        let index = flushed.as_ref().map_or(0, |flushed| flushed.index);
        assert!(index >= self.acknowledged, "flushed up to {}, found {index}", self.acknowledged);
        assert!(flushed.is_none() || flushed == Some(at(index)));
        self.redo();
        Ok(())
    }

    /// Applies what the log holds behind the flushed index.
    pub fn redo(&mut self) {
        let index = self.tree.flushed().map_or(0, |flushed| flushed.index);
        for (version, write) in (1..).zip(&self.log).skip(index as usize) {
            apply(&self.tree, version, write);
        }
        self.acknowledged = index;
    }

    /// Everything is there by `iter`, `get` and `look`, and nothing else.
    pub fn check(&self) {
        let flushed = self.tree.flushed().map_or(0, |flushed| flushed.index);
        let expected = self.expected(flushed);
        assert_eq!(walk(&self.tree).expect("readable"), expected);
        check_gets(&self.tree, &expected, &self.log);
    }
}

/// What [`Tree::look`] finds, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Version and value.
    Found((u64, Bytes)),
    Absent,
    Disk,
}

pub fn look<D: Disk>(tree: &Tree<D>, keyspace: KeyspaceId, key: &[u8]) -> Looked {
    let mut looked = None;
    tree.look([Sought::new(keyspace, key)], |found| {
        looked = Some(match found {
            Lookup::Found { version, value } => Looked::Found((version, Bytes::copy_from_slice(value))),
            Lookup::Absent => Looked::Absent,
            Lookup::Disk => Looked::Disk,
        });
    });
    looked.expect("heard of the key")
}

pub fn versioned(value: &Value) -> (u64, Bytes) {
    (value.version, value.value.clone())
}

pub fn check_gets(tree: &Tree<FaultDisk>, expected: &Map, log: &[Write]) {
    for write in log {
        let want = expected.get(&(write.keyspace, write.key.clone())).cloned();
        match look(tree, write.keyspace, &write.key) {
            Looked::Found(found) => assert_eq!(Some(found), want.as_ref().map(versioned)),
            Looked::Absent => assert_eq!(None, want),
            Looked::Disk => {}
        }
        assert_eq!(block_on(tree.get(write.keyspace, &write.key)).expect("readable"), want);
    }
}

fn apply(tree: &Tree<FaultDisk>, index: u64, write: &Write) {
    match &write.value {
        Some(value) => tree.put_until(index, write.keyspace, &write.key, value.clone(), write.expiry_ms),
        None => tree.delete(index, write.keyspace, &write.key),
    }
    tree.advance(log_time_ms(index));
}

/// All of a tree, in order.
pub fn walk(tree: &Tree<FaultDisk>) -> Result<Map, StorageError> {
    let (mut iter, mut map) = (tree.iter(), Map::new());
    while let Some((keyspace, key, value)) = block_on(iter.next())? {
        let last = map.last_key_value().map(|(key, _)| key.clone());
        assert!(last < Some((keyspace, key.clone())), "in order");
        map.insert((keyspace, key), value);
    }
    Ok(map)
}

/// Paths of all table files.
pub fn table_files(disk: &FaultDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.ends_with(".sst")).collect()
}
