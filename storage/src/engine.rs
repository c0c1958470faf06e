//! All trees of one store: one manifest, one block cache, one directory of tables.

use crate::cache::BlockCache;
use crate::compaction::choose::{LAST_LEVEL, Policy};
use crate::compaction::pace::{Weight, felt, turns_left, turns_left_beside, wait_beside_ns_per_byte, wait_ns_per_byte};
use crate::disk::Disk;
use crate::error::{DiskError, StorageError};
use crate::gate::{Pace, Share};
use crate::manifest::{Manifest, join};
use crate::memory::PagePool;
use crate::sst::TableId;
use crate::sst::builder::TableBuilder;
use crate::sst::compress::Compression;
use crate::sst::reader::{Table, TableRef, Trash, table_name, table_number};
use crate::sst::writer::TableWriter;
use crate::tree::{Tree, TreeState};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ringkv_wire::ids::ShardId;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// The block cache gets at least this part of what reads have.
const CACHE_LEAST_PART: usize = 8;
/// Its budget changes by such a part: with each change it forgets a little of what it learnt.
const CACHE_STEPS: usize = 64;

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// What reads have: indexes and filters of all tables, and the block cache, which gets the rest, an eighth at least; bytes.
    pub cache_bytes: usize,
    /// What memtables have, with those being flushed; bytes. Of less that they use, the memory of flushed ones is kept for the
    /// next ones.
    pub memtable_bytes: usize,
    /// Target size of a block, 512 to 32,768.
    pub block_bytes: usize,
    /// Keys that as many flushes wrote to want a merge: what a read may have to look at.
    pub runs_max: usize,
    /// Smallest table that merges aim at, bytes.
    pub table_bytes: u64,
    /// How the blocks of merged tables are made smaller above the last level. Flushed ones stay as they are: they are soon read
    /// again.
    pub compression: Compression,
    /// The same in the last level, where most of the data is and which is written least often.
    pub last_compression: Compression,
    /// For the hashers of cache and memtables and the ids of tables: random bits that no other store and no other opening has used, else two
    /// tables may get the same id. (A simulation derives it from its own seed, the node and the boot.)
    pub seed: u64,
}

impl EngineOptions {
    /// How tables of a level are made smaller.
    pub fn compression_of(&self, level: u8) -> Compression {
        match level {
            0 => Compression::None,
            LAST_LEVEL => self.last_compression,
            _ => self.compression,
        }
    }
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            cache_bytes: 64 << 20,
            memtable_bytes: 160 << 20,
            block_bytes: 4096,
            runs_max: 8,
            table_bytes: 8 << 20,
            compression: Compression::Lz4,
            last_compression: Compression::Lz4,
            seed: 0,
        }
    }
}

/// What an engine holds and has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Trees.
    pub trees: usize,
    /// Tables of all trees.
    pub tables: usize,
    /// Their files, bytes.
    pub table_bytes: u64,
    /// Index, filter and properties in memory, bytes.
    pub mapped_bytes: u64,
    /// Trees known to be damaged.
    pub trees_damaged: usize,
    /// Tables without a filter.
    pub tables_without_filter: usize,
    /// Memtables of all trees, bytes.
    pub memtable_bytes: usize,
    /// Memory kept for the next ones, bytes.
    pub spare_bytes: usize,
    /// Of an embedded database: memtables that are in tables by now, and that snapshots or walks still look at, bytes.
    pub held_bytes: usize,
    /// Block cache, bytes.
    pub cache_bytes: u64,
    /// Lookups in the block cache that found their block.
    pub cache_hits: u64,
    /// Lookups in the block cache that did not.
    pub cache_misses: u64,
    /// Sorted runs of the tree that has most: what a read of an absent key asks (read amplification).
    pub runs_max: usize,
    /// Of the tables' bytes those in last levels: the rest is what space amplification is made of.
    pub last_level_bytes: u64,
    /// Bytes that merges have to read before none is wanted, about.
    pub debt_bytes: u64,
    /// Bytes of tables that flushes wrote.
    pub flushed_bytes: u64,
    /// Bytes of tables that merges wrote; both together beside `flushed_bytes` are the write amplification.
    pub merged_bytes: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Merges done.
    pub merges: u64,
    /// Flushes and merges that failed.
    pub failures: u64,
    /// Files of dropped tables not yet removed.
    pub trash: usize,
    /// The manifest, bytes.
    pub manifest_bytes: u64,
}

impl EngineStats {
    /// What it takes for its data in memory, bytes: memtables and what is kept for them, what snapshots keep of them, the cache, indexes
    /// and filters.
    pub fn memory_bytes(&self) -> u64 {
        (self.memtable_bytes + self.spare_bytes + self.held_bytes) as u64 + self.cache_bytes + self.mapped_bytes
    }

    /// Everything with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |number: usize| number as u64;
        [
            ("cache_bytes", self.cache_bytes),
            ("cache_hits", self.cache_hits),
            ("cache_misses", self.cache_misses),
            ("debt_bytes", self.debt_bytes),
            ("failures", self.failures),
            ("flushed_bytes", self.flushed_bytes),
            ("flushes", self.flushes),
            ("held_bytes", count(self.held_bytes)),
            ("last_level_bytes", self.last_level_bytes),
            ("manifest_bytes", self.manifest_bytes),
            ("mapped_bytes", self.mapped_bytes),
            ("memory_bytes", self.memory_bytes()),
            ("memtable_bytes", count(self.memtable_bytes)),
            ("merged_bytes", self.merged_bytes),
            ("merges", self.merges),
            ("runs_max", count(self.runs_max)),
            ("spare_bytes", count(self.spare_bytes)),
            ("table_bytes", self.table_bytes),
            ("tables", count(self.tables)),
            ("tables_without_filter", count(self.tables_without_filter)),
            ("trash", count(self.trash)),
            ("trees", count(self.trees)),
            ("trees_damaged", count(self.trees_damaged)),
        ]
        .into_iter()
    }
}

/// The engine. Clones are the same one; single-threaded.
pub struct Engine<D: Disk>(pub(crate) Rc<EngineState<D>>);

impl<D: Disk> Clone for Engine<D> {
    fn clone(&self) -> Engine<D> {
        Engine(self.0.clone())
    }
}

pub(crate) struct EngineState<D: Disk> {
    pub(crate) disk: D,
    pub(crate) tables_dir: String,
    pub(crate) options: EngineOptions,
    pub(crate) cache: BlockCache,
    /// Memory of memtables that were flushed, for the next ones.
    pub(crate) pool: Rc<PagePool>,
    pub(crate) manifest: Manifest<D>,
    pub(crate) memtable_bytes: Cell<usize>,
    pub(crate) trash: Trash,
    /// How merges share the time with flushes.
    pub(crate) share: Rc<Share>,
    /// What the tables of all trees weigh.
    weight: Cell<Weight>,
    /// Bytes written to memtables since writers last asked for their pace, and the pressure that they felt then.
    pub(crate) fresh_bytes: Cell<u64>,
    felt: Cell<f64>,
    /// Memory that memtables took beyond their budget then, as a part of it.
    filled: Cell<f64>,
    /// Whether flushes and merges have a thread of their own.
    beside: Cell<bool>,
    pub(crate) flushes: Cell<u64>,
    pub(crate) flushed_bytes: Cell<u64>,
    pub(crate) merged_bytes: Cell<u64>,
    pub(crate) merges: Cell<u64>,
    pub(crate) failures: Cell<u64>,
    trees: RefCell<BTreeMap<ShardId, Rc<TreeState<D>>>>,
    next_file: Cell<u64>,
    next_handle: Cell<u64>,
    ids: RefCell<ChaCha12Rng>,
}

impl<D: Disk> Engine<D> {
    /// Opens the engine in `dir`, made if need be: reads the manifest, moves to a fresh one, maps index and filter of every
    /// table, removes files that nobody names. Damage to the manifest is an error; a table that is damaged in footer, index
    /// or filter, or is missing, makes its tree damaged ([`Tree::damage`]) and no other.
    pub async fn open(disk: D, dir: &str, options: EngineOptions) -> Result<Engine<D>, StorageError> {
        let tables_dir = join(dir, "tables");
        disk.create_dir(&tables_dir).await?;
        sync_dirs_to(&disk, dir).await?;
        let files = disk.list(&tables_dir).await?;
        let has_tables = files.iter().any(|name| table_number(name).is_some());
        let ids_seed = options.seed;
        let manifest = Manifest::open(disk.clone(), dir, has_tables, move |n| draw(&mut ids(ids_seed, n, 1))).await?;
        let records = manifest.trees();
        let named: BTreeSet<u64> =
            records.values().flat_map(|record| &record.tables).map(|table| table.place.number).collect();
        let highest =
            files.iter().filter_map(|name| table_number(name)).chain(named.iter().copied()).max().unwrap_or(0);
        let cache = BlockCache::new(options.cache_bytes, options.seed);
        let ids = RefCell::new(ids(options.seed, manifest.number(), 2));
        let pool = Rc::new(PagePool::new(options.memtable_bytes));
        let state = Rc::new(EngineState {
            disk,
            tables_dir,
            options,
            cache,
            pool,
            manifest,
            memtable_bytes: Cell::new(0),
            trash: Trash::default(),
            share: Rc::default(),
            weight: Cell::default(),
            fresh_bytes: Cell::default(),
            felt: Cell::default(),
            filled: Cell::default(),
            beside: Cell::default(),
            flushes: Cell::new(0),
            flushed_bytes: Cell::new(0),
            merged_bytes: Cell::new(0),
            merges: Cell::new(0),
            failures: Cell::new(0),
            trees: RefCell::default(),
            next_file: Cell::new(highest + 1),
            next_handle: Cell::new(1),
            ids,
        });
        for (shard, record) in records {
            let tree = TreeState::open(state.clone(), shard, record).await?;
            state.trees.borrow_mut().insert(shard, tree);
        }
        let orphans = files.iter().filter(|name| table_number(name).is_none_or(|number| !named.contains(&number)));
        state.trash.extend(orphans.map(|name| join(&state.tables_dir, name)));
        state.sweep().await;
        Ok(Engine(state))
    }

    /// The tree of a shard: a cheap handle; empty when the manifest has none.
    pub fn tree(&self, shard: ShardId) -> Tree<D> {
        let mut trees = self.0.trees.borrow_mut();
        let state = trees.entry(shard).or_insert_with(|| TreeState::empty(&self.0, shard));
        Tree::new(self.0.clone(), state.clone())
    }

    /// Shards whose trees the manifest or this process knows, in order.
    pub fn shards(&self) -> Vec<ShardId> {
        self.0.trees.borrow().keys().copied().collect()
    }

    /// Memory of all memtables, also those being flushed.
    pub fn memtable_bytes(&self) -> usize {
        self.0.memtable_bytes.get()
    }

    /// How long whoever writes is to wait for each byte of keys and values, ns, so that flushes and merges keep up: hardly at all
    /// in everyday work, more the further they are behind. To be asked now and then while one writes, once a turn: it goes by
    /// how far behind they were over what was written since. `memtable_bytes`: what memtables may take before they are flushed.
    pub fn wait_ns_per_byte(&self, memtable_bytes: usize) -> f64 {
        let state = &self.0;
        let felt = felt(state.felt.get(), state.pressure(), state.fresh_bytes.take(), memtable_bytes);
        state.felt.set(felt);
        let filled = self.memtable_bytes() as f64 / memtable_bytes.max(1) as f64 - 1.0;
        state.filled.set(filled);
        state.share_out();
        wait_ns_per_byte(felt, filled)
    }

    /// [`Engine::wait_ns_per_byte`] for whoever keeps memtables of his own and writes on another thread: bytes written since this was
    /// last asked, what memtables take now, and what one may take.
    pub(crate) fn pace_writers(&self, fresh_bytes: u64, taken_bytes: usize, memtable_bytes: usize) -> f64 {
        let state = &self.0;
        let felt = felt(state.felt.get(), state.pressure(), fresh_bytes, memtable_bytes);
        state.felt.set(felt);
        let filled = taken_bytes as f64 / memtable_bytes.max(1) as f64 - 1.0;
        state.filled.set(filled - 1.0);
        state.beside.set(true);
        state.share_out();
        let runs = state.trees.borrow().values().map(|tree| tree.version().runs.len()).max();
        wait_beside_ns_per_byte(felt, filled, runs.unwrap_or(0))
    }

    /// What it holds and has done.
    pub fn stats(&self) -> EngineStats {
        let state = &self.0;
        let (cache_hits, cache_misses) = state.cache.hits_and_misses();
        let weight = state.weight.get();
        let mut stats = EngineStats {
            trees: state.trees.borrow().len(),
            memtable_bytes: self.memtable_bytes(),
            spare_bytes: state.pool.spare_bytes(),
            cache_bytes: state.cache.bytes(),
            cache_hits,
            cache_misses,
            table_bytes: weight.all,
            last_level_bytes: weight.all - weight.upper,
            debt_bytes: weight.debt,
            mapped_bytes: weight.mapped,
            flushed_bytes: state.flushed_bytes.get(),
            merged_bytes: state.merged_bytes.get(),
            flushes: state.flushes.get(),
            merges: state.merges.get(),
            failures: state.failures.get(),
            trash: state.trash.len(),
            manifest_bytes: state.manifest.bytes(),
            ..EngineStats::default()
        };
        for tree in state.trees.borrow().values() {
            let version = tree.version();
            stats.trees_damaged += usize::from(version.damage().is_some());
            stats.runs_max = stats.runs_max.max(version.runs.len());
            for table in version.tables() {
                stats.tables += 1;
                stats.tables_without_filter += usize::from(table.filter().is_none());
            }
        }
        stats
    }

    /// Removes the files of dropped tables whose last reader has gone. Flushes, merges and installs do it too.
    pub async fn sweep(&self) {
        self.0.sweep().await;
    }
}

impl<D: Disk> EngineState<D> {
    /// A table file number never used before, and its path.
    pub(crate) fn new_file(&self) -> (u64, String) {
        let number = self.next_file.get();
        self.next_file.set(number + 1);
        (number, self.table_path(number))
    }

    /// Begins a new table of a level.
    pub(crate) async fn new_table(&self, level: u8, pace: Pace) -> Result<TableWriter<D>, StorageError> {
        let compression = self.options.compression_of(level);
        let (number, path) = self.new_file();
        let id = TableId(draw(&mut self.ids.borrow_mut()));
        let builder = TableBuilder::new(id, self.options.block_bytes, compression);
        TableWriter::create(self.disk.clone(), path, number, id, builder, (self.trash.clone(), pace)).await
    }

    /// Opens a table file.
    pub(crate) async fn open_table(&self, place: TableRef) -> Result<Arc<Table<D>>, StorageError> {
        let handle = self.next_handle.get();
        self.next_handle.set(handle + 1);
        let path = self.table_path(place.number);
        Table::open(self.disk.clone(), path, place, handle, self.trash.clone()).await
    }

    /// The path of a table file.
    pub(crate) fn table_path(&self, number: u64) -> String {
        join(&self.tables_dir, &table_name(number))
    }

    /// Removes what is in the trash, unless a failed edit may yet bring it back. What cannot be removed stays there.
    pub(crate) async fn sweep(&self) {
        if !self.manifest.is_settled() {
            return;
        }
        let paths = self.trash.take();
        for path in paths {
            match self.disk.remove(&path).await {
                Ok(()) | Err(DiskError::NotFound { .. }) => {}
                Err(_) => self.trash.push(path),
            }
        }
    }

    /// When to merge.
    pub(crate) fn policy(&self) -> Policy {
        Policy { runs_max: self.options.runs_max, table_bytes: self.options.table_bytes, settle: false, log_time_ms: 0 }
    }

    /// Merges that read less than a few of the smallest tables are soon done.
    fn pressure(&self) -> f64 {
        self.weight.get().pressure(self.options.table_bytes * self.options.runs_max as u64)
    }

    /// Shares the time between flushes and merges.
    fn share_out(&self) {
        let turns = if self.beside.get() { turns_left_beside } else { turns_left };
        let (flushes_leave, merges_leave) = turns(self.pressure(), self.filled.get());
        self.share.set(flushes_leave, merges_leave);
    }

    /// The tables of a tree weigh other than before.
    pub(crate) fn weigh(&self, before: Weight, now: Weight) {
        self.weight.set(self.weight.get().minus(before).plus(now));
        self.share_out();
        let all = self.options.cache_bytes;
        let (step, least) = ((all / CACHE_STEPS).max(1), all / CACHE_LEAST_PART);
        let mapped = (self.weight.get().mapped as usize).next_multiple_of(step);
        self.cache.set_budget(all.saturating_sub(mapped).max(least));
    }

    pub(crate) fn count_memtable(&self, grown: isize) {
        self.memtable_bytes.set(self.memtable_bytes.get().checked_add_signed(grown).expect("what shrinks was counted"));
    }
}

/// Makes the names of `dir`, of its parents and of what it holds durable.
async fn sync_dirs_to<D: Disk>(disk: &D, dir: &str) -> Result<(), DiskError> {
    let mut at = dir;
    loop {
        disk.sync_dir(at).await?;
        if at.is_empty() {
            return Ok(());
        }
        at = at.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
}

/// The random stream of one opening; `stream` tells manifests from tables.
fn ids(seed: u64, number: u64, stream: u64) -> ChaCha12Rng {
    let mut bytes = [0; 32];
    for (to, word) in bytes.chunks_exact_mut(8).zip([seed, number, stream, 0]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha12Rng::from_seed(bytes)
}

fn draw(rng: &mut ChaCha12Rng) -> [u8; 16] {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    bytes
}
