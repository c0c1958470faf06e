//! The log of one store: the Raft log of all its shards (FORMAT.md §1).
//!
//! Nothing here spawns. A commit's future, when polled, drives every write of the log that is in flight and is woken when any
//! of them completes. So each caller makes progress by polling its own future only; a future that is dropped takes nothing
//! back (its records are written, with its neighbours') and leaves nobody hanging.

mod hub;
mod index;
mod read;
mod reclaim;
mod record;
mod recover;
mod segment;
pub mod shadow;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use crate::disk::Disk;
use crate::error::StorageError;
use bytes::Bytes;
use hub::{Hub, Outcome, Ticket};
pub use recover::inspect;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::{Generation, Incarnation, ShardId, StoreId};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use writer::State;

/// What a replica is, as far as its own log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplicaState {
    /// It votes.
    Voter = 1,
    /// It gets entries and does not count.
    Learner = 2,
    /// It was removed.
    Removed = 3,
    /// It lost something that it may have acknowledged.
    Damaged = 4,
}

/// Term and vote: durable before any answer that rests on them (Raft §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Current term.
    pub term: u64,
    /// Who got this replica's vote in this term.
    pub vote: Option<StoreId>,
}

impl HardState {
    /// Whether this may come after `earlier`: terms never go back, a vote never changes within its term.
    pub fn follows(&self, earlier: &HardState) -> bool {
        let kept = earlier.vote.is_none() || earlier.vote == self.vote;
        self.term > earlier.term || (self.term == earlier.term && kept)
    }
}

/// All that the log knows of a shard besides its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardState {
    /// The shard.
    pub shard: ShardId,
    /// Its generation.
    pub generation: Generation,
    /// What this replica is.
    pub state: ReplicaState,
    /// Term and vote.
    pub hard: HardState,
    /// The log begins behind this index.
    pub floor_index: u64,
    /// The floor's term.
    pub floor_term: u64,
    /// Everything up to this index is in the tree's tables.
    pub flushed_index: u64,
    /// Only when damaged: the last index it may have acknowledged.
    pub acknowledged_index: u64,
    /// Index of the active configuration.
    pub config_index: u64,
    /// The active configuration, encoded (PROTOCOL.md §5).
    pub config: Bytes,
}

/// What a commit appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry; truncates the shard's log at its index first.
    Entry(Entry),
    /// A shard's term and vote.
    HardState {
        /// The shard.
        shard: ShardId,
        /// Its generation.
        generation: Generation,
        /// Term and vote.
        hard: HardState,
    },
    /// All of a shard's state; replaces what was known. Entries at or below the floor are gone. A floor above the one
    /// known is a snapshot: entries behind it stay only when the log holds the floor's own entry with its term (Raft §7). A
    /// lower floor or flushed index than known changes neither. A shard's first record is its state.
    ShardState(ShardState),
    /// The shard is no longer here.
    ShardGone(ShardId),
    /// The incarnation under which another store is known here.
    Peer {
        /// The other store.
        store: StoreId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// Every peer has recorded this store's incarnation: it may vote.
    Admitted,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// 128 bits of this store alone: seeds every sector's checksum, so that another store's segment is refused.
    pub store_identity: [u8; 16],
    /// Length of a segment file, at least 128 KiB, a multiple of 4096.
    pub segment_bytes: u64,
    /// How much log that nothing needs is kept for followers that are behind.
    pub keep_bytes: u64,
}

impl LogOptions {
    /// Segments of 32 MiB, two of them kept for followers.
    pub fn new(store_identity: [u8; 16]) -> LogOptions {
        LogOptions { store_identity, segment_bytes: 32 << 20, keep_bytes: 64 << 20 }
    }
}

/// The identity that seeds a store's log (FORMAT.md §4): another cluster's, node's or incarnation's log does not open
/// with it.
pub fn store_identity(store: StoreId, incarnation: Incarnation) -> [u8; 16] {
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&incarnation.0.to_le_bytes());
    identity[8..12].copy_from_slice(&store.node.0.to_le_bytes());
    identity[12..14].copy_from_slice(&store.store.to_le_bytes());
    identity
}

/// What a log held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// By shard, in order of their ids.
    pub shards: Vec<RecoveredShard>,
    /// Under which incarnation other stores are known.
    pub peers: Vec<(StoreId, Incarnation)>,
    /// Whether this store may vote: [`Record::Admitted`] was logged.
    pub admitted: bool,
    /// What recovery did, for one log line.
    pub report: RecoveryReport,
}

/// One shard as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredShard {
    /// Its state.
    pub state: ShardState,
    /// All entries above the floor, without gaps.
    pub entries: Vec<Entry>,
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments read as part of the log.
    pub segments: u64,
    /// Batches read and kept.
    pub batches: u64,
    /// Entries above the floors.
    pub entries: u64,
    /// Entries written again, because nothing proved their batches durable.
    pub rewritten: u64,
    /// Where an unfinished tail was cut: segment and sector of the first byte not taken; `None` when there was none.
    pub cut: Option<(u64, u64)>,
    /// Files that were no longer part of the log.
    pub removed: u64,
}

impl std::fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RecoveryReport { segments, batches, entries, rewritten, removed, .. } = self;
        write!(f, "{batches} batches in {segments} segments, {entries} entries, {rewritten} written again")?;
        if let Some((segment, sector)) = self.cut {
            write!(f, ", unfinished tail cut at segment {segment} sector {sector}")?;
        }
        write!(f, ", {removed} old files removed")
    }
}

/// Counters of a log since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Live segments, the current one included.
    pub segments: u64,
    /// Segments ready for the next switches.
    pub prepared: u64,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Batches acknowledged.
    pub batches: u64,
    /// Syncs acknowledged.
    pub syncs: u64,
    /// Segments made anew.
    pub made: u64,
    /// Segments reused for new ones.
    pub recycled: u64,
    /// Segments removed.
    pub removed: u64,
    /// Whether a write or sync failed: the log takes no more.
    pub poisoned: bool,
    /// Whether no further segment could be prepared.
    pub disk_full: bool,
}

impl LogStats {
    /// Those that only grow, each with its name.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("log_batches", self.batches),
            ("log_syncs", self.syncs),
            ("segments_made", self.made),
            ("segments_recycled", self.recycled),
            ("segments_removed", self.removed),
            ("log_poisoned", u64::from(self.poisoned)),
        ]
    }
}

/// A log. Clones are handles to the same one.
pub struct Log<D: Disk> {
    shared: Rc<Shared<D>>,
}

struct Shared<D: Disk> {
    disk: D,
    dir: String,
    hub: Arc<Hub>,
    state: RefCell<State<D>>,
    /// Segments no longer needed, that a reader may still hold.
    retired: RefCell<reclaim::Retired<D::File>>,
}

impl<D: Disk> Clone for Log<D> {
    fn clone(&self) -> Log<D> {
        Log { shared: self.shared.clone() }
    }
}

impl<D: Disk> Log<D> {
    /// Opens, or makes, the log in `dir` and recovers it (FORMAT.md §1.5). What it returns is durable.
    ///
    /// # Errors
    /// `Damaged`: something that was synced is gone or rotten, or the log is another store's. `Newer`: a newer ringkv wrote
    /// it. `Disk`: the disk failed; nothing is lost by trying again.
    pub async fn open(disk: D, dir: &str, options: LogOptions) -> Result<(Log<D>, Recovered), StorageError> {
        assert!(options.segment_bytes >= segment::SEGMENT_BYTES_MIN, "segments of at least 128 KiB");
        assert!(options.segment_bytes.is_multiple_of(4096));
        let (state, recovered) = recover::recover(&disk, dir, options).await?;
        tracing::info!(dir, report = %recovered.report, "log opened");
        let shared = Shared {
            disk,
            dir: dir.to_owned(),
            hub: Arc::default(),
            state: RefCell::new(state),
            retired: RefCell::default(),
        };
        Ok((Log { shared: Rc::new(shared) }, recovered))
    }

    /// Appends records; ready when they and all that was committed before are durable.
    ///
    /// The order is fixed when this is called; the future may be polled late, or dropped. Several commits may share a batch,
    /// a large one takes several: after a crash a part from its start may be there, never acknowledged. Entries go on where
    /// the shard's log ends, or truncate it. When the segment is full, a commit waits for [`Log::maintain`]; on a full disk
    /// until there is space, and all commits behind it with it. That does not happen to who stops when [`Log::full`] says so
    /// and has less than a segment under way.
    ///
    /// # Errors
    /// `Gap`, `Backwards`, `UnknownShard`: a mistake of the caller; a part from the start of `records` may have been logged,
    /// the rest was refused. `Poisoned`: nothing is known of it; the log takes no more.
    pub fn commit(&self, records: Vec<Record>) -> impl Future<Output = Result<(), StorageError>> + 'static {
        let ticket = self.shared.state.borrow_mut().queue(records);
        CommitFuture { log: self.clone(), ticket }
    }

    /// Logs that segments below `oldest` go.
    fn retire(&self, oldest: u64) -> CommitFuture<D> {
        let ticket = self.shared.state.borrow_mut().queue_retire(oldest);
        CommitFuture { log: self.clone(), ticket }
    }

    /// Entries of a shard from index `from`, in order, at most `max_bytes` of them but at least one; from segments, verified.
    /// Empty when the log does not hold `from`, or not durably yet.
    ///
    /// # Errors
    /// `Damaged`: the disk gave back something else than was written. `Disk`: it failed.
    pub fn read_entries(
        &self,
        shard: ShardId,
        from: u64,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, StorageError>> + 'static {
        read::read_entries(self.clone(), shard, from, max_bytes)
    }

    /// The first index that the log may still hold: one above the shard's floor.
    pub fn first_index(&self, shard: ShardId) -> u64 {
        self.shared.state.borrow().mirror.shards.get(&shard).map_or(1, |log| log.state.floor_index.saturating_add(1))
    }

    /// Whether [`Log::maintain`] would do anything. It may when commits have been acknowledged or a tree was flushed since.
    pub fn wants_care(&self) -> bool {
        reclaim::wants_care(&self.shared.state.borrow(), self.shared.retired.borrow().is_empty())
    }

    /// Prepares the next segment ahead of need and recycles those that nothing needs. To be called every few milliseconds
    /// while [`Log::wants_care`], not while another call is pending.
    ///
    /// # Errors
    /// What the disk said; the log goes on. No space is no error here: see [`LogStats::disk_full`].
    pub fn maintain(&self) -> impl Future<Output = Result<(), StorageError>> + 'static {
        reclaim::maintain(self.clone())
    }

    /// The shard's tree is durable up to `index`: its entries up to there pin no segment.
    pub fn note_flushed(&self, shard: ShardId, index: u64) {
        if let Some(log) = self.shared.state.borrow_mut().mirror.shards.get_mut(&shard) {
            log.state.flushed_index = log.state.flushed_index.max(index);
        }
    }

    /// Shards that need more of the log than its newest `keep` bytes (on a full disk: than its last segment): each with the
    /// index up to which it is to be flushed, so that older segments can be used again.
    pub fn pins_beyond(&self, keep: u64) -> Vec<(ShardId, u64)> {
        reclaim::pins_beyond(&self.shared.state.borrow(), keep)
    }

    /// Whether nothing new should be proposed or accepted: the next segment could not be prepared. There is still room for
    /// what is under way (half the segment in use, half of the one in reserve), votes and hard states go on. Ends by itself
    /// when there is space again.
    pub fn full(&self) -> bool {
        self.shared.state.borrow().blocked.is_some()
    }

    /// Bytes of entries committed that have not found a place in a segment yet.
    pub fn queued_bytes(&self) -> usize {
        self.shared.state.borrow().queued_bytes()
    }

    /// Counters.
    pub fn stats(&self) -> LogStats {
        reclaim::stats(&self.shared.state.borrow())
    }

    /// The error that poisoned the log.
    pub fn poisoned(&self) -> Option<StorageError> {
        self.shared.state.borrow().poison_error()
    }
}

/// See [`Log::commit`].
struct CommitFuture<D: Disk> {
    log: Log<D>,
    ticket: Rc<Ticket>,
}

impl<D: Disk> Future for CommitFuture<D> {
    type Output = Result<(), StorageError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = &self.log.shared;
        shared.hub.wait(self.ticket.id, context.waker());
        let mut state = shared.state.borrow_mut();
        state.drive(&shared.hub);
        let outcome = self.ticket.outcome.borrow().clone();
        let result = match outcome {
            Outcome::Batched(number) if number <= state.durable => Ok(()),
            Outcome::Failed(error) => Err(error),
            Outcome::Queued | Outcome::Batched(_) => match state.poison_error() {
                Some(error) => Err(error),
                None => return Poll::Pending,
            },
        };
        shared.hub.forget(self.ticket.id);
        Poll::Ready(result)
    }
}

impl<D: Disk> Drop for CommitFuture<D> {
    fn drop(&mut self) {
        self.log.shared.hub.forget(self.ticket.id);
    }
}
