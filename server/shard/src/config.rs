//! What a store is told at its start, and how it is told to stop and asked how it is.

use crate::counters::Named;
use crate::digest::{Digester, Digesting};
use crate::witness::Witness;
use ringkv_core::raft::Role;
use ringkv_storage::error::StorageError;
use ringkv_storage::sst::compress::Compression;
use ringkv_storage::wal::store_identity;
use ringkv_wire::ids::{Generation, Incarnation, ShardId, StoreId};
use ringkv_wire::ring::topology::ClusterMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// What a store is told at its start.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Which store it is.
    pub id: StoreId,
    /// The incarnation of its data directory.
    pub incarnation: Incarnation,
    /// The cluster map.
    pub map: Arc<ClusterMap>,
    /// Its folder below the disk's root, for instance `store-0000`.
    pub dir: String,
    /// The store has had a log before: finding none is damage, not a first boot.
    pub made: bool,
    /// Memory and file sizes.
    pub budgets: Budgets,
}

impl StoreConfig {
    /// Binds the log to this directory's life: another cluster's, node's or incarnation's log does not open here.
    pub fn log_identity(&self) -> [u8; 16] {
        store_identity(self.id, self.incarnation)
    }
}

/// Memory and file sizes of one store.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// All memtables together: above it the largest is flushed, and writers wait the longer the more it gets meanwhile. See
    /// [`Budgets::memory_bytes`].
    pub memtable_bytes: usize,
    /// Indexes and filters of all tables, and the block cache, which gets what they leave.
    pub cache_bytes: usize,
    /// Smallest table that merges aim at.
    pub table_bytes: u64,
    /// How tables of the last level are made smaller.
    pub compression: Compression,
    /// One log segment.
    pub segment_bytes: u64,
    /// Log that is kept: for followers that come back, and for what memtables hold. Memtables that need older log are flushed.
    pub log_keep_bytes: u64,
    /// One shard's session table.
    pub session_bytes: usize,
    /// Tables are read and checked at this rate, bytes per second; 0: not at all.
    pub scrub_bytes_per_s: u64,
    /// Unanswered requests of one connection.
    pub inflight_requests: usize,
}

impl Budgets {
    /// Most that memtables take, with those being flushed and memory kept for the next ones: beyond it writes are refused.
    pub fn memtables_most_bytes(&self) -> usize {
        self.memtable_bytes / 2 * 5
    }

    /// What a store takes for its data, in all.
    pub fn memory_bytes(&self) -> usize {
        self.memtables_most_bytes() + self.cache_bytes
    }

    /// Log that is worth keeping beside memtables of so many bytes: twice as much, since a log that may hold less than they do
    /// flushes them before they are full. (An entry takes about as much in both; those of the tree that is flushed next are the
    /// oldest of the log.)
    pub fn log_keep_for(memtable_bytes: usize) -> u64 {
        2 * memtable_bytes as u64
    }
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            memtable_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            table_bytes: 8 << 20,
            compression: Compression::Lz4,
            segment_bytes: 32 << 20,
            log_keep_bytes: Budgets::log_keep_for(64 << 20),
            session_bytes: 8 << 20,
            scrub_bytes_per_s: 4 << 20,
            inflight_requests: 4096,
        }
    }
}

/// Why a store ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Its files cannot be used.
    #[error("store {store}: {source}")]
    Storage {
        /// The store.
        store: StoreId,
        /// What is wrong.
        source: StorageError,
    },
    /// What its files say does not fit the map.
    #[error("store {store}: {what}")]
    Config {
        /// The store.
        store: StoreId,
        /// What does not fit.
        what: String,
    },
}

/// One shard of a store, as seen from outside.
#[derive(Clone, Debug)]
pub struct ShardView {
    /// The shard.
    pub shard: ShardId,
    /// Its generation.
    pub generation: Generation,
    /// This replica's role.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<StoreId>,
    /// Commit index.
    pub commit: u64,
    /// Applied index.
    pub applied: u64,
    /// Last index of its log.
    pub last_index: u64,
    /// Log time at the applied index, ms.
    pub log_time_ms: u64,
    /// Bytes of the session table.
    pub session_bytes: usize,
    /// Bytes of entries held in memory.
    pub raft_bytes: usize,
}

/// What waits in a store: each is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Requests that the busiest connection waits for.
    pub unanswered: usize,
    /// Bytes of answers that the slowest connection has not taken.
    pub unread_bytes: usize,
    /// Reads that wait for the disk.
    pub disk_reads: usize,
    /// Commits on their way to the log.
    pub commits: usize,
    /// Snapshots on their way out and in.
    pub snapshots: usize,
    /// Bytes of all segment files of the log.
    pub log_bytes: u64,
}

/// A store as seen from outside.
#[derive(Clone, Debug)]
pub struct StoreView {
    /// The store.
    pub id: StoreId,
    /// It may vote.
    pub admitted: bool,
    /// Its log failed.
    pub failed: bool,
    /// Bytes of all memtables.
    pub memtable_bytes: usize,
    /// What waits in it.
    pub queues: Queues,
    /// Its shards, by id.
    pub shards: Vec<ShardView>,
}

/// Looks at a store.
pub type Look = Rc<dyn Fn() -> StoreView>;

#[derive(Default)]
struct Shared {
    stop: Cell<bool>,
    wake: RefCell<Option<Rc<dyn Fn()>>>,
    look: RefCell<Option<Look>>,
    digest: RefCell<Option<Digester>>,
    count: RefCell<Option<Rc<dyn Fn() -> Named>>>,
    counted: RefCell<Named>,
    witness: RefCell<Option<Rc<dyn Witness>>>,
    opened: RefCell<Option<Box<dyn FnOnce()>>>,
}

/// The handle by which whoever runs a store stops it and looks at it. On the store's own thread.
#[derive(Clone, Default)]
pub struct Control(Rc<Shared>);

impl Control {
    /// A handle, to be given to one store.
    pub fn new() -> Control {
        Control::default()
    }

    /// Asks the store to hand leadership over and end. Its `run` then returns.
    pub fn shutdown(&self) {
        self.0.stop.set(true);
        if let Some(wake) = self.0.wake.borrow().as_ref() {
            wake();
        }
    }

    /// How the store is between two turns; `None` before it has opened or after it ended.
    pub fn observe(&self) -> Option<StoreView> {
        let look = self.0.look.borrow().clone();
        look.map(|look| look())
    }

    /// Begins a digest of a shard between two turns, to be compared with those of its other replicas at the same index;
    /// `None` when it is not here or not whole now. Reading goes on beside the store and holds it up no more than a reader.
    pub fn digest(&self, shard: ShardId) -> Option<Digesting> {
        let digest = self.0.digest.borrow().clone();
        digest.and_then(|digest| digest(shard))
    }

    /// The store's side: how to begin a digest. Until [`Control::detach`].
    pub fn attach_digest(&self, digest: Digester) {
        *self.0.digest.borrow_mut() = Some(digest);
    }

    /// What the store has counted since it was opened; what it had counted when it ended; empty when it did not open.
    pub fn counters(&self) -> Named {
        let count = self.0.count.borrow().clone();
        count.map_or_else(|| self.0.counted.borrow().clone(), |count| count())
    }

    /// The store's side: how to ask for its counters. Until [`Control::detach`].
    pub fn attach_counters(&self, count: Rc<dyn Fn() -> Named>) {
        *self.0.count.borrow_mut() = Some(count);
    }

    /// Lets someone look on. To be set before the store runs.
    pub fn set_witness(&self, witness: Rc<dyn Witness>) {
        *self.0.witness.borrow_mut() = Some(witness);
    }

    /// Calls `then` once the store has opened: its log exists, it begins to serve. To be set before the store runs.
    pub fn when_open(&self, then: impl FnOnce() + 'static) {
        *self.0.opened.borrow_mut() = Some(Box::new(then));
    }

    /// Whether [`Control::shutdown`] was called.
    pub fn stopping(&self) -> bool {
        self.0.stop.get()
    }

    /// The store's side: it has opened; how to wake it, how to look at it.
    pub fn attach(&self, wake: Rc<dyn Fn()>, look: Look) {
        *self.0.wake.borrow_mut() = Some(wake);
        *self.0.look.borrow_mut() = Some(look);
        let opened = self.0.opened.borrow_mut().take();
        if let Some(then) = opened {
            then();
        }
    }

    /// The store's side: it ended.
    pub fn detach(&self) {
        *self.0.counted.borrow_mut() = self.counters();
        *self.0.count.borrow_mut() = None;
        *self.0.wake.borrow_mut() = None;
        *self.0.look.borrow_mut() = None;
        *self.0.digest.borrow_mut() = None;
    }

    /// The store's side: who looks on.
    pub fn witness(&self) -> Option<Rc<dyn Witness>> {
        self.0.witness.borrow().clone()
    }
}
