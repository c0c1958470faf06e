//! One shard's tree: a memtable, memtables being flushed, tables.

mod flush;
mod merge;
pub(crate) mod run;
mod scrub;
mod shed;
pub mod snapshot;
pub(crate) mod version;

pub use crate::iter::{Span, TreeIter, Way};
pub use crate::manifest::Flushed;
pub use crate::sst::Value;
pub use scrub::ScrubPlace;
pub use snapshot::{Receiver, TableSet};

use crate::compaction::pace::Weight;
use crate::disk::Disk;
use crate::engine::EngineState;
use crate::error::StorageError;
use crate::gate::Gate;
use crate::iter::MergeIter;
use crate::manifest::TreeRecord;
use crate::memory::PagePool;
use crate::memtable::{Hint, Memtable};
use crate::sst::reader::Found;
use crate::sst::{NEVER_MS, Record, TreeKey};
use bytes::Bytes;
use ringkv_wire::ids::{KeyspaceId, ShardId};
use ringkv_wire::ring::hash::key_hash;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use version::{SIDE_BY_SIDE, Search, Version};

/// A memtable smaller than this is copied for an iterator; a larger one is frozen.
const COPY_BYTES_MAX: usize = 256 << 10;

/// How many keys [`Tree::warm`] is ahead of the one whose record it fetches.
const WARM_AHEAD: usize = 16;

/// A key that is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sought<'k> {
    /// Its keyspace.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: &'k [u8],
    /// [`key_hash`] of the two.
    pub hash: u64,
}

impl<'k> Sought<'k> {
    /// A key and its hash.
    pub fn new(keyspace: KeyspaceId, key: &'k [u8]) -> Sought<'k> {
        Sought { keyspace, key, hash: key_hash(keyspace, key) }
    }

    pub(crate) fn tree_key(&self) -> TreeKey<'k> {
        (self.keyspace, self.key)
    }
}

/// Whether a key is the tree's.
pub(crate) type Inside = Rc<dyn Fn(TreeKey<'_>) -> bool>;

/// What memory says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'t> {
    /// The newest version.
    Found {
        /// Log index of the write.
        version: u64,
        /// The value, where it stands.
        value: &'t [u8],
    },
    /// There is none, or it was deleted.
    Absent,
    /// A block must be read: ask [`Tree::get`].
    Disk,
}

impl<'t> Lookup<'t> {
    /// What a record says at a log time.
    #[inline]
    pub(crate) fn of(record: Record<'t>, log_time_ms: u64) -> Lookup<'t> {
        let Record { version, value, .. } = record.at(log_time_ms);
        value.map_or(Lookup::Absent, |value| Lookup::Found { version, value })
    }
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
    /// The store's, for memtables.
    seed: u64,
    pool: Rc<PagePool>,
    active: RefCell<Memtable>,
    /// Newest first.
    frozen: RefCell<Vec<Frozen>>,
    next_frozen: Cell<u64>,
    version: RefCell<Rc<Version<D>>>,
    /// Whether a merge of these tables is wanted, and how many could be read when that was asked.
    wanted: Cell<Option<(usize, bool)>>,
    /// Which keys are its own, when not all are.
    inside: RefCell<Option<Inside>>,
    /// What its tables weigh.
    weight: Cell<Weight>,
    /// What has an expiry up to then is gone.
    log_time_ms: Cell<u64>,
    /// Flushes and installs go one at a time, in the order they were called.
    flushing: Gate,
    /// Merges go one at a time.
    merging: Gate,
}

impl<D: Disk> TreeState<D> {
    pub(crate) fn empty(engine: &EngineState<D>, shard: ShardId) -> Rc<TreeState<D>> {
        TreeState::with(engine, shard, Version::empty())
    }

    pub(crate) async fn open(
        engine: Rc<EngineState<D>>,
        shard: ShardId,
        record: TreeRecord,
    ) -> Result<Rc<TreeState<D>>, StorageError> {
        Ok(TreeState::with(&engine, shard, Version::open(&engine, record).await?))
    }

    fn with(engine: &EngineState<D>, shard: ShardId, version: Version<D>) -> Rc<TreeState<D>> {
        let (seed, pool) = (engine.options.seed, engine.pool.clone());
        let weight = version.weight(&engine.policy());
        engine.weigh(Weight::default(), weight);
        Rc::new(TreeState {
            shard,
            seed,
            active: Memtable::new(shard.0, seed, &pool).into(),
            pool,
            frozen: RefCell::default(),
            next_frozen: Cell::new(1),
            log_time_ms: Cell::new(version.at.as_ref().map_or(0, |at| at.log_time_ms)),
            version: RefCell::new(Rc::new(version)),
            wanted: Cell::default(),
            inside: RefCell::default(),
            weight: Cell::new(weight),
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
            // The next one will probably take as many keys.
            let next = Memtable::with_room(self.shard.0, self.seed, &self.pool, active.entries());
            let memtable = Rc::new(std::mem::replace(&mut *active, next));
            self.frozen.borrow_mut().insert(0, Frozen { number, memtable });
        }
        self.next_frozen.get() - 1
    }

    /// Frozen memtables up to a number, newest first.
    fn frozen_to(&self, number: u64) -> Vec<Rc<Memtable>> {
        let frozen = self.frozen.borrow();
        frozen.iter().filter(|frozen| frozen.number <= number).map(|frozen| frozen.memtable.clone()).collect()
    }

    /// Which keys are its own; none: all.
    pub(crate) fn inside(&self) -> Option<Inside> {
        self.inside.borrow().clone()
    }

    /// Whether a key is its own.
    fn owns(&self, key: TreeKey<'_>) -> bool {
        self.inside.borrow().as_ref().is_none_or(|inside| inside(key))
    }

    pub(crate) fn log_time_ms(&self) -> u64 {
        self.log_time_ms.get()
    }

    /// What the memtables say: none when they do not know the key.
    fn in_memory(&self, key: Sought<'_>) -> Option<Option<Value>> {
        let (active, frozen) = (self.active.borrow(), self.frozen.borrow());
        let slot = active.get(key.tree_key(), key.hash).or_else(|| in_frozen(&frozen, key))?;
        Some(slot.at(self.log_time_ms()).to_value())
    }
}

/// The newest write of a key in memtables that are being flushed.
fn in_frozen<'f>(frozen: &'f [Frozen], key: Sought<'_>) -> Option<Record<'f>> {
    frozen.iter().find_map(|frozen| frozen.memtable.get(key.tree_key(), key.hash))
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
        self.write(index, (keyspace, key), Some(value), NEVER_MS);
    }

    /// As [`Tree::put`], of a value that is gone when the log time reaches `expiry_ms`: no read finds it from then on, and the
    /// merge that comes by drops it. The last of its milliseconds, [`NEVER_MS`], does not come.
    pub fn put_until(&self, index: u64, keyspace: KeyspaceId, key: &[u8], value: Bytes, expiry_ms: u64) {
        self.write(index, (keyspace, key), Some(value), expiry_ms);
    }

    /// Deletes a key at log index `index`; see [`Tree::put`].
    pub fn delete(&self, index: u64, keyspace: KeyspaceId, key: &[u8]) {
        self.write(index, (keyspace, key), None, NEVER_MS);
    }

    /// The log time has come to this, ms: reads from now on go by it. Never goes back. Flushes and merges go by the log time that
    /// the last flush was told to reflect, so that tables hold what there was then, whenever they are merged.
    #[inline]
    pub fn advance(&self, log_time_ms: u64) {
        self.state.log_time_ms.set(self.state.log_time_ms().max(log_time_ms));
    }

    /// Of the keys only those are the tree's of which `inside` is true, from now on: its interval of positions became smaller. Others
    /// are found by no read, and merges drop them; so it must never become larger again. The owner's own keyspace 0 is asked too.
    pub fn narrow(&self, inside: impl Fn(KeyspaceId, &[u8]) -> bool + 'static) {
        self.state.inside.replace(Some(Rc::new(move |(keyspace, key)| inside(keyspace, key))));
    }

    fn write(&self, index: u64, key: TreeKey<'_>, value: Option<Bytes>, expiry_ms: u64) {
        let flushed = self.state.version.borrow().at.as_ref().map_or(0, |at| at.index);
        assert!(index > flushed, "redo begins behind the flushed index {flushed}, not at {index}");
        let bytes = key.1.len() + value.as_ref().map_or(0, Bytes::len);
        self.engine.fresh_bytes.set(self.engine.fresh_bytes.get() + bytes as u64);
        let grown = self.state.active.borrow_mut().write_until(index, key, value, expiry_ms);
        self.engine.count_memtable(grown);
    }

    /// Looks keys up in memtables, filters and the block cache; `each` hears of each in their order. Never waits. Keys are looked
    /// up side by side, so that their memory is fetched together: in a batch a key costs a fraction of what it costs alone.
    ///
    /// # Panics
    /// When `keys` or `each` writes to the tree.
    pub fn look<'k>(&self, keys: impl IntoIterator<Item = Sought<'k>>, each: impl FnMut(Lookup<'_>)) {
        let keys = keys.into_iter();
        // What is laid out for many costs a single one dearly.
        match keys.size_hint() {
            (_, Some(1)) => self.look_by::<1>(keys, each),
            _ => self.look_by::<SIDE_BY_SIDE>(keys, each),
        }
    }

    fn look_by<'k, const N: usize>(
        &self,
        mut keys: impl Iterator<Item = Sought<'k>>,
        mut each: impl FnMut(Lookup<'_>),
    ) {
        let (active, frozen, version) = (self.state.active.borrow(), self.state.frozen.borrow(), self.state.version());
        let (log_time_ms, inside) = (self.state.log_time_ms(), self.state.inside.borrow());
        let mut some = [Sought::default(); N];
        loop {
            let mut count = 0;
            for (place, key) in some.iter_mut().zip(&mut keys) {
                active.prepare(key.hash);
                *place = key;
                count += 1;
            }
            let some = &some[..count];
            let mut hints = [Hint::default(); N];
            some.iter().zip(&mut hints).for_each(|(key, hint)| *hint = active.hint(key.hash));
            let mut slots = [None; N];
            let mut missing = 0;
            for ((key, hint), slot) in some.iter().zip(hints).zip(&mut slots) {
                // Not assigned whole: what says that there is none would be stored, and waited for when it is read at another width.
                if let Some(record) = active.get_hinted(key.tree_key(), hint).or_else(|| in_frozen(&frozen, *key)) {
                    *slot = Some(record);
                }
                if inside.as_ref().is_some_and(|inside| !inside(key.tree_key())) {
                    *slot = Some(Record::new(0, None));
                }
                missing += usize::from(slot.is_none());
            }
            if missing == 0 || version.runs.is_empty() {
                slots[..count]
                    .iter()
                    .for_each(|slot| each(slot.map_or(Lookup::Absent, |slot| Lookup::of(slot, log_time_ms))));
            } else {
                self.look_in_tables(&version, some, &slots, &mut each);
            }
            if count < N {
                return;
            }
        }
    }

    fn look_in_tables<const N: usize>(
        &self,
        version: &Version<D>,
        keys: &[Sought<'_>],
        slots: &[Option<Record<'_>>; N],
        each: &mut impl FnMut(Lookup<'_>),
    ) {
        let mut found = [Search::Open; N];
        for (found, _) in found.iter_mut().zip(slots).filter(|(_, slot)| slot.is_some()) {
            *found = Search::Elsewhere;
        }
        let (cache, log_time_ms) = (self.engine.cache.reader(), self.state.log_time_ms());
        version.search(&cache, keys, &mut found);
        for (slot, found) in slots.iter().zip(&found).take(keys.len()) {
            each(slot.map_or_else(|| found.lookup(log_time_ms), |slot| Lookup::of(slot, log_time_ms)));
        }
    }

    /// Fetches the memory of keys that are written next, side by side.
    pub fn warm<'k>(&self, keys: impl IntoIterator<Item = Sought<'k>>) {
        let active = self.state.active.borrow();
        let mut ahead = [None; WARM_AHEAD];
        let end = [None; WARM_AHEAD];
        for (at, key) in keys.into_iter().map(Some).chain(end).enumerate() {
            key.iter().for_each(|key| active.prepare(key.hash));
            if let Some(key) = std::mem::replace(&mut ahead[at % (WARM_AHEAD)], key) {
                active.hint(key.hash);
            }
        }
    }

    /// Looks a key up, reading blocks where needed, in the tree as it is when this is called. A block that cannot be
    /// read or fails its check is an error for the keys in it only; a table that could not be opened, for the keys that no
    /// newer table has.
    pub fn get(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Value>, StorageError>> + 'static {
        let sought = Sought::new(keyspace, key);
        let memory = if self.state.owns(sought.tree_key()) { self.state.in_memory(sought) } else { Some(None) };
        let (engine, hash, log_time_ms) = (self.engine.clone(), sought.hash, self.state.log_time_ms());
        // Only a key that memory does not know is carried to the disk.
        let disk = memory.is_none().then(|| (self.state.version(), Bytes::copy_from_slice(key)));
        async move {
            let Some((version, key)) = disk else { return Ok(memory.flatten()) };
            match version.get(&engine.cache, Sought { keyspace, key: &key, hash }).await? {
                Found::Value(value) => Ok(Some(value).filter(|value| value.expiry_ms > log_time_ms)),
                Found::Deleted | Found::Nothing => Ok(None),
            }
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

    /// Whether a merge of its tables is worth it.
    pub fn wants_merge(&self) -> bool {
        let version = self.state.version();
        let sound = version.sound();
        match self.state.wanted.get() {
            Some((then, wanted)) if then == sound => wanted,
            _ => {
                let wanted = version.choice(&self.engine.policy()).is_some();
                self.state.wanted.set(Some((sound, wanted)));
                wanted
            }
        }
    }

    /// The durable side as it is now.
    pub(crate) fn durable(&self) -> Rc<Version<D>> {
        self.state.version()
    }

    /// Number of durable tables.
    pub fn table_count(&self) -> usize {
        self.state.version.borrow().members().count()
    }

    /// Number of sorted runs of durable tables: what a read may have to look at.
    pub fn run_count(&self) -> usize {
        self.state.version.borrow().runs.len()
    }

    /// The first thing known to be wrong with its tables: found at opening, by a read, a merge, or while they were shipped. It
    /// goes when other tables are installed.
    pub fn damage(&self) -> Option<StorageError> {
        self.state.version.borrow().damage()
    }

    /// Walks the tree as it is now; later writes, flushes and merges do not change what the walk sees.
    pub fn iter(&self) -> TreeIter<D> {
        self.range(Span::all(), Way::Up)
    }

    /// Walks a part of the tree, in either direction; see [`Tree::iter`].
    pub fn range(&self, span: Span, way: Way) -> TreeIter<D> {
        let small = self.state.active.borrow().bytes() < COPY_BYTES_MAX;
        let copied = small.then(|| Rc::new(self.state.active.borrow().clone()));
        if !small {
            self.state.freeze();
        }
        let memtables: Vec<_> = copied.into_iter().chain(self.state.frozen_to(u64::MAX)).collect();
        let version = self.state.version();
        let closed = version.closed_in(&span);
        let merge = MergeIter::new(&memtables, &version.runs, span, way);
        TreeIter::new(merge, closed, self.state.inside(), self.state.log_time_ms())
    }

    /// From now on the tables are these.
    fn show(&self, version: Version<D>) {
        let (before, now) = (self.state.weight.get(), version.weight(&self.engine.policy()));
        self.advance(version.log_time_ms());
        self.state.version.replace(Rc::new(version));
        self.state.wanted.set(None);
        self.state.weight.set(now);
        self.engine.weigh(before, now);
    }

    /// The shard it belongs to.
    pub fn shard(&self) -> ShardId {
        self.state.shard
    }
}
