//! A shard's tree with the jobs that its store would run beside it. Every call of flush and merge is in this file.

use crate::counting::{CountingDisk, Kind};
use crate::data::{Key, Values, present, shuffled};
use crate::tasks::Tasks;
use bytes::Bytes;
use indicatif::ProgressBar;
use ringkv_benches::KEYSPACE;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::disk::files::Root;
use ringkv_storage::disk::uring::UringDisk;
use ringkv_storage::disk::uring::ring::{Ring, RingOptions};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::tree::{Flushed, Tree};
use ringkv_wire::ids::ShardId;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What a store takes for its memtables when nobody says otherwise.
pub const MEMTABLE_BYTES: usize = 64 << 20;
/// And for its block cache.
pub const CACHE_BYTES: usize = 64 << 20;
/// A memtable that is never flushed for its size.
pub const MEMTABLE_NO_LIMIT: usize = usize::MAX / 2;
/// The store's folder, and that of its tables.
const STORE_DIR: &str = "store-0000";
pub const TABLES_DIR: &str = "store-0000/tables";
/// Puts between two turns of the jobs: the keys of one call.
pub const PUTS_A_TURN: u64 = 64;

/// The disk of these benches.
pub type BenchDisk = CountingDisk<UringDisk>;

/// A tree, its disk, and the jobs beside it.
pub struct Drive {
    pub disk: BenchDisk,
    pub tasks: Tasks,
    pub engine: Engine<BenchDisk>,
    pub tree: Tree<BenchDisk>,
    /// A memtable above this is flushed.
    memtable_bytes: usize,
    /// Index of the last write.
    index: u64,
    flush: Job,
    merge: Job,
    /// How long writes waited for room in memory.
    waited: Cell<Duration>,
    /// And for their pace.
    paced: Cell<Duration>,
    /// Bytes written since the last turn.
    fresh_bytes: Cell<usize>,
}

/// A kind of job, of which one runs at a time.
#[derive(Default)]
struct Job {
    running: Rc<Cell<bool>>,
    cpu: Rc<Cell<Duration>>,
}

impl Job {
    fn start<E: std::fmt::Debug>(&self, tasks: &Tasks, work: impl Future<Output = Result<(), E>> + 'static) {
        let running = self.running.clone();
        running.set(true);
        tasks.spawn_metered(&self.cpu, async move {
            work.await.expect("a job on a sound disk succeeds");
            running.set(false);
        });
    }
}

impl Drive {
    /// The tree of a new store in `dir`.
    pub fn open(dir: &Path, cache_bytes: usize, memtable_bytes: usize) -> Drive {
        Drive::open_with(dir, memtable_bytes, EngineOptions { cache_bytes, seed: 1, ..EngineOptions::default() })
    }

    /// The tree of a new store in `dir`, whose engine is set up so.
    pub fn open_with(dir: &Path, memtable_bytes: usize, options: EngineOptions) -> Drive {
        let ring = Ring::new(RingOptions::default()).expect("this system has io_uring");
        let root = Root::open(dir).expect("the folder can be written to");
        let disk = CountingDisk::over(UringDisk::over(root, ring.clone()));
        let tasks = Tasks::new(ring);
        let engine = tasks.block_on(Engine::open(disk.clone(), STORE_DIR, options)).expect("an empty folder opens");
        let tree = engine.tree(ShardId(1));
        let (flush, merge) = (Job::default(), Job::default());
        let (waited, paced, fresh_bytes) = (Cell::default(), Cell::default(), Cell::default());
        Drive { disk, tasks, engine, tree, memtable_bytes, index: 0, flush, merge, waited, paced, fresh_bytes }
    }

    /// Writes a key, and takes a turn now and then. Waits while two memtables are full.
    pub fn put(&mut self, key: &Key, value: Bytes) {
        self.write(key, value);
        if self.index.is_multiple_of(PUTS_A_TURN) {
            self.tend();
        }
    }

    /// Writes a key and does nothing else.
    pub fn write(&mut self, key: &Key, value: Bytes) {
        self.index += 1;
        self.fresh_bytes.set(self.fresh_bytes.get() + key.len() + value.len());
        self.tree.put(self.index, KEYSPACE, key, value);
    }

    /// Starts the jobs that are due and gives each a slice; goes on with them until there is room for a write.
    pub fn tend(&self) {
        self.start_jobs();
        self.tasks.turn();
        self.keep_pace();
        if self.is_full() {
            let begun = Instant::now();
            while self.is_full() {
                self.tasks.turn_waiting();
                self.start_jobs();
            }
            self.waited.set(self.waited.get() + begun.elapsed());
        }
    }

    /// Leaves the jobs the time that the engine asks for, as a store does that answers later.
    fn keep_pace(&self) {
        let wait_ns = self.fresh_bytes.take() as f64 * self.engine.wait_ns_per_byte(self.memtable_bytes);
        let (begun, wait) = (Instant::now(), Duration::from_nanos(wait_ns as u64));
        if wait > Duration::from_micros(1) {
            while begun.elapsed() < wait {
                self.tasks.turn();
            }
            self.paced.set(self.paced.get() + begun.elapsed());
        }
    }

    /// As [`Drive::tend`] when no write is due before `limit` has passed: sleeps when the jobs do.
    pub fn tend_within(&self, limit: Duration) {
        self.start_jobs();
        self.tasks.turn_within(limit);
    }

    /// Whether one memtable is being flushed and the next is full too.
    fn is_full(&self) -> bool {
        self.flush.running.get() && self.engine.memtable_bytes() >= 2 * self.memtable_bytes
    }

    fn start_jobs(&self) {
        if !self.flush.running.get() && self.engine.memtable_bytes() >= self.memtable_bytes {
            self.start_flush();
        }
        if !self.merge.running.get() && self.tree.wants_merge() {
            self.merge.start(&self.tasks, self.tree.merge());
        }
    }

    fn start_flush(&self) {
        let at = Flushed { index: self.index, ..Flushed::default() };
        self.flush.start(&self.tasks, self.tree.flush(at, Vec::new()));
    }

    /// Flushes what is in memory and merges until nothing wants to be merged.
    pub fn settle(&self) {
        self.tasks.run();
        self.start_flush();
        self.tasks.run();
        self.merge.start(&self.tasks, self.tree.settle());
        self.tasks.run();
        self.tasks.block_on(self.engine.sweep());
    }

    /// Puts entries 0..`count`, in an order without a pattern.
    pub fn load(&mut self, count: u64, values: &Values, pass: u64, progress: &ProgressBar) {
        self.load_named(count, values, pass, present, progress);
    }

    /// As [`Drive::load`], with keys of another kind.
    pub fn load_named(&mut self, count: u64, values: &Values, pass: u64, name: fn(u64) -> Key, progress: &ProgressBar) {
        for number in shuffled(count, pass) {
            self.put(&name(u64::from(number)), values.of(u64::from(number), pass));
            if self.index.is_multiple_of(1 << 12) {
                progress.inc(1 << 12);
            }
        }
    }

    /// How many tables may have to be asked for one key.
    pub fn sorted_runs(&self) -> usize {
        self.tree.run_count()
    }

    /// CPU time of flushes and of merges, without what the kernel does for them.
    pub fn jobs_cpu(&self) -> (Duration, Duration) {
        (self.flush.cpu.get(), self.merge.cpu.get())
    }

    /// How long writes waited to leave the jobs their time.
    pub fn paced(&self) -> Duration {
        self.paced.get()
    }

    /// How long writes waited because two memtables were full.
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Bytes written to tables and manifests.
    pub fn bytes_written(&self) -> u64 {
        self.disk.counts(Kind::Table).bytes_written + self.disk.counts(Kind::Manifest).bytes_written
    }
}

/// Flushes a tree whose disk answers at once; `index` is that of its last write.
pub fn flush_to_memory(tree: &Tree<FaultDisk>, index: u64) {
    block_on(tree.flush(Flushed { index, ..Flushed::default() }, Vec::new())).expect("the disk is sound");
}

/// All table files below a store's folder.
pub fn tables(dir: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(dir.join(TABLES_DIR)).expect("the store is there");
    listed.map(|entry| entry.expect("it can be listed").path()).collect()
}
