//! One shard's tree: a memtable, memtables being flushed, tables.

mod flush;
mod merge;
mod scrub;
pub mod snapshot;
mod version;

pub use crate::iter::TreeIter;
pub use crate::manifest::Flushed;
pub use crate::sst::Value;
pub use scrub::ScrubPlace;
pub use snapshot::{Receiver, TableSet};

use crate::compaction::choose::choose;
use crate::disk::Disk;
use crate::engine::EngineState;
use crate::error::StorageError;
use crate::gate::Gate;
use crate::iter::MergeIter;
use crate::manifest::TreeRecord;
use crate::memtable::Memtable;
use crate::sst::TreeKey;
use crate::sst::reader::{Found, find_in};
use bytes::Bytes;
use ringkv_wire::ids::{KeyspaceId, ShardId};
use ringkv_wire::ring::hash::key_hash;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use version::Version;

/// A memtable smaller than this is copied for an iterator; a larger one is frozen.
const COPY_ENTRIES_MAX: usize = 1024;

/// The answer of [`Tree::get_now`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The newest version.
    Found(Value),
    /// There is none, or it was deleted.
    Absent,
    /// A block must be read: ask [`Tree::get`].
    Disk,
}

/// One shard's tree. Clones are the same one.
pub struct Tree<D: Disk> {
    engine: Rc<EngineState<D>>,
    state: Rc<TreeState<D>>,
}

impl<D: Disk> Clone for Tree<D> {
    fn clone(&self) -> Tree<D> {
        Tree { engine: self.engine.clone(), state: self.state.clone() }
    }
}

/// A memtable that takes no more writes.
struct Frozen {
    number: u64,
    memtable: Rc<Memtable>,
}

pub(crate) struct TreeState<D: Disk> {
    shard: ShardId,
    active: RefCell<Memtable>,
    /// Newest first.
    frozen: RefCell<Vec<Frozen>>,
    next_frozen: Cell<u64>,
    version: RefCell<Rc<Version<D>>>,
    /// Flushes and installs go one at a time, in the order they were called.
    flushing: Gate,
    /// Merges go one at a time.
    merging: Gate,
}

impl<D: Disk> TreeState<D> {
    pub(crate) fn empty(shard: ShardId) -> Rc<TreeState<D>> {
        TreeState::with(shard, Version::empty())
    }

    pub(crate) async fn open(
        engine: Rc<EngineState<D>>,
        shard: ShardId,
        record: TreeRecord,
    ) -> Result<Rc<TreeState<D>>, StorageError> {
        Ok(TreeState::with(shard, Version::open(&engine, record).await?))
    }

    fn with(shard: ShardId, version: Version<D>) -> Rc<TreeState<D>> {
        Rc::new(TreeState {
            shard,
            active: RefCell::default(),
            frozen: RefCell::default(),
            next_frozen: Cell::new(1),
            version: RefCell::new(Rc::new(version)),
            flushing: Gate::default(),
            merging: Gate::default(),
        })
    }

    pub(crate) fn version(&self) -> Rc<Version<D>> {
        self.version.borrow().clone()
    }

    /// Freezes the memtable, unless it is empty. Answers the number of the newest frozen one, ever.
    fn freeze(&self) -> u64 {
        let mut active = self.active.borrow_mut();
        if !active.is_empty() {
            let number = self.next_frozen.get();
            self.next_frozen.set(number + 1);
            let memtable = Rc::new(std::mem::take(&mut *active));
            self.frozen.borrow_mut().insert(0, Frozen { number, memtable });
        }
        self.next_frozen.get() - 1
    }

    /// Frozen memtables up to a number, newest first.
    fn frozen_to(&self, number: u64) -> Vec<Rc<Memtable>> {
        let frozen = self.frozen.borrow();
        frozen.iter().filter(|frozen| frozen.number <= number).map(|frozen| frozen.memtable.clone()).collect()
    }

    /// What the memtables say: none when they do not know the key.
    fn in_memory(&self, key: TreeKey<'_>) -> Option<Option<Value>> {
        let active = self.active.borrow();
        let frozen = self.frozen.borrow();
        let slot = active.get(key).or_else(|| frozen.iter().find_map(|frozen| frozen.memtable.get(key)))?;
        Some(slot.value.clone().map(|value| Value { value, version: slot.version }))
    }
}

impl<D: Disk> Tree<D> {
    pub(crate) fn new(engine: Rc<EngineState<D>>, state: Rc<TreeState<D>>) -> Tree<D> {
        Tree { engine, state }
    }

    /// Writes a value at log index `index`, which is above the flushed index and not below any index written before.
    ///
    /// # Panics
    /// When `index` is at or below [`Tree::flushed`]: the write would shadow what was written after it.
    pub fn put(&self, index: u64, keyspace: KeyspaceId, key: &[u8], value: Bytes) {
        self.write(index, (keyspace, key), Some(value));
    }

    /// Deletes a key at log index `index`; see [`Tree::put`].
    pub fn delete(&self, index: u64, keyspace: KeyspaceId, key: &[u8]) {
        self.write(index, (keyspace, key), None);
    }

    fn write(&self, index: u64, key: TreeKey<'_>, value: Option<Bytes>) {
        let flushed = self.state.version.borrow().at.as_ref().map_or(0, |at| at.index);
        assert!(index > flushed, "redo begins behind the flushed index {flushed}, not at {index}");
        let grown = self.state.active.borrow_mut().write(index, key, value);
        self.engine.count_memtable(grown);
    }

    /// Looks a key up in memtables, filters and the block cache. Never waits.
    pub fn get_now(&self, keyspace: KeyspaceId, key: &[u8]) -> Lookup {
        match self.state.in_memory((keyspace, key)) {
            Some(Some(value)) => return Lookup::Found(value),
            Some(None) => return Lookup::Absent,
            None => {}
        }
        let version = self.state.version.borrow();
        if version.tables.is_empty() && version.closed.is_none() {
            return Lookup::Absent;
        }
        let hash = key_hash(keyspace, key);
        for table in &version.tables {
            match table.find_now((keyspace, key), hash, &self.engine.cache) {
                Found::Value(value) => return Lookup::Found(value),
                Found::Deleted => return Lookup::Absent,
                Found::Nothing => {}
                Found::Block(_) => return Lookup::Disk,
            }
        }
        // What a table that is not open holds is an error: for `get` to tell.
        if version.closed.is_some() { Lookup::Disk } else { Lookup::Absent }
    }

    /// Looks a key up, reading blocks where needed, in the tree as it is when this is called. A block that cannot be
    /// read or fails its check is an error for the keys in it only; a table that could not be opened, for the keys that no
    /// newer table has.
    pub fn get(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Value>, StorageError>> + 'static {
        let memory = self.state.in_memory((keyspace, key));
        let engine = self.engine.clone();
        // Only a key that memory does not know is carried to the disk.
        let disk = memory.is_none().then(|| (self.state.version(), Bytes::copy_from_slice(key)));
        async move {
            let Some((version, key)) = disk else { return Ok(memory.flatten()) };
            let hash = key_hash(keyspace, &key);
            for table in &version.tables {
                let mut found = table.find_now((keyspace, &key), hash, &engine.cache);
                if let Found::Block(place) = found {
                    found = find_in(&table.read_block(place, &engine.cache).await?, (keyspace, &key));
                }
                match found {
                    Found::Value(value) => return Ok(Some(value)),
                    Found::Deleted => return Ok(None),
                    Found::Nothing | Found::Block(_) => {}
                }
            }
            version.closed_by().map_or(Ok(None), Err)
        }
    }

    /// Memory of this tree's memtables, also those being flushed.
    pub fn memtable_bytes(&self) -> usize {
        let frozen: usize = self.state.frozen.borrow().iter().map(|frozen| frozen.memtable.bytes()).sum();
        self.state.active.borrow().bytes() + frozen
    }

    /// What the durable tables reflect; none before the first flush or install.
    pub fn flushed(&self) -> Option<Flushed> {
        self.state.version.borrow().at.clone()
    }

    /// Whether there are more tables than `tables_max`, counting only those a merge could take.
    pub fn wants_merge(&self) -> bool {
        choose(&self.state.version().tables, self.engine.options.tables_max).is_some()
    }

    /// Number of durable tables.
    pub fn table_count(&self) -> usize {
        self.state.version.borrow().tables.len()
    }

    /// The first thing known to be wrong with its tables: found at opening, by a read, a merge, or while they were shipped. It
    /// goes when other tables are installed.
    pub fn damage(&self) -> Option<StorageError> {
        self.state.version.borrow().damage()
    }

    /// Walks the tree as it is now; later writes, flushes and merges do not change what the walk sees.
    pub fn iter(&self) -> TreeIter<D> {
        let small = self.state.active.borrow().entries() < COPY_ENTRIES_MAX;
        let copied = small.then(|| Rc::new(self.state.active.borrow().clone()));
        if !small {
            self.state.freeze();
        }
        let memtables: Vec<_> = copied.into_iter().chain(self.state.frozen_to(u64::MAX)).collect();
        let version = self.state.version();
        TreeIter::new(MergeIter::new(&memtables, &version.tables), version.closed_by())
    }

    /// The shard it belongs to.
    pub fn shard(&self) -> ShardId {
        self.state.shard
    }
}
