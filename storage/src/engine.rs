//! All trees of one store: one manifest, one block cache, one directory of tables.

use crate::cache::BlockCache;
use crate::compaction::choose::{LAST_LEVEL, Policy, debt_bytes};
use crate::disk::Disk;
use crate::error::{DiskError, StorageError};
use crate::gate::Pace;
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

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Budget of the block cache, bytes.
    pub cache_bytes: usize,
    /// Memory of flushed memtables that is kept for the next ones, bytes: a quarter more than they may take, for their indexes.
    pub spare_bytes: usize,
    /// Target size of a block, 512 to 32,768.
    pub block_bytes: usize,
    /// Keys that as many flushes wrote to want a merge: what a read may have to look at.
    pub runs_max: usize,
    /// Smallest table that merges aim at, bytes.
    pub table_bytes: u64,
    /// How the blocks of merged tables are made smaller. Flushed ones stay as they are: they are soon read again.
    pub compression: Compression,
    /// For the hashers of cache and memtables and the ids of tables: random bits that no other store and no other opening has used, else two
    /// tables may get the same id. (A simulation derives it from its own seed, the node and the boot.)
    pub seed: u64,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            cache_bytes: 64 << 20,
            spare_bytes: 80 << 20,
            block_bytes: 4096,
            runs_max: 8,
            table_bytes: 8 << 20,
            compression: Compression::Lz4,
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
    /// Flushes that run: merges leave most of the time to them, since puts wait for their memory.
    pub(crate) flushing: Rc<Cell<usize>>,
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
        let pool = Rc::new(PagePool::new(options.spare_bytes));
        let state = Rc::new(EngineState {
            disk,
            tables_dir,
            options,
            cache,
            pool,
            manifest,
            memtable_bytes: Cell::new(0),
            trash: Trash::default(),
            flushing: Rc::default(),
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
        state.trash.borrow_mut().extend(orphans.map(|name| join(&state.tables_dir, name)));
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

    /// What it holds and has done.
    pub fn stats(&self) -> EngineStats {
        let state = &self.0;
        let (cache_hits, cache_misses) = state.cache.hits_and_misses();
        let mut stats = EngineStats {
            trees: state.trees.borrow().len(),
            memtable_bytes: self.memtable_bytes(),
            cache_bytes: state.cache.bytes(),
            cache_hits,
            cache_misses,
            flushed_bytes: state.flushed_bytes.get(),
            merged_bytes: state.merged_bytes.get(),
            flushes: state.flushes.get(),
            merges: state.merges.get(),
            failures: state.failures.get(),
            trash: state.trash.borrow().len(),
            manifest_bytes: state.manifest.bytes(),
            ..EngineStats::default()
        };
        for tree in state.trees.borrow().values() {
            let version = tree.version();
            stats.trees_damaged += usize::from(version.damage().is_some());
            stats.runs_max = stats.runs_max.max(version.runs.len());
            stats.debt_bytes += debt_bytes(&version.facts(), &state.policy());
            let last = version.members().filter(|member| member.entry.level == LAST_LEVEL);
            stats.last_level_bytes += last.map(|member| member.entry.place.bytes).sum::<u64>();
            for table in version.tables() {
                stats.tables += 1;
                stats.table_bytes += table.place().bytes;
                stats.mapped_bytes += table.mapped_bytes() as u64;
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

    /// Begins a new table.
    pub(crate) async fn new_table(&self, compression: Compression, pace: Pace) -> Result<TableWriter<D>, StorageError> {
        let (number, path) = self.new_file();
        let id = TableId(draw(&mut self.ids.borrow_mut()));
        let builder = TableBuilder::new(id, self.options.block_bytes, compression);
        TableWriter::create(self.disk.clone(), path, number, id, builder, (self.trash.clone(), pace)).await
    }

    /// Opens a table file.
    pub(crate) async fn open_table(&self, place: TableRef) -> Result<Rc<Table<D>>, StorageError> {
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
        let paths = std::mem::take(&mut *self.trash.borrow_mut());
        for path in paths {
            match self.disk.remove(&path).await {
                Ok(()) | Err(DiskError::NotFound { .. }) => {}
                Err(_) => self.trash.borrow_mut().push(path),
            }
        }
    }

    /// When to merge.
    pub(crate) fn policy(&self) -> Policy {
        Policy { runs_max: self.options.runs_max, table_bytes: self.options.table_bytes, settle: false, log_time_ms: 0 }
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
