//! From commits to batches: order, group commit, segment switch, acknowledgement.
//!
//! Commits queue in the order of their calls. While fewer than four batches are in flight, the next batch takes as many
//! records from the queue's front as fit, of as many commits as there are. Batches are acknowledged in order of their
//! number. The first write or sync that fails poisons the log: whatever is not acknowledged by then, and all that comes
//! later, fails; an answer that comes in after the failure is not trusted, since one failed sync may have eaten the error of
//! another.

use super::hub::{Hub, Outcome, Ticket};
use super::index::{Mirror, Place};
use super::record::{CONFIG_BYTES_MAX, Logged};
use super::segment::batch::{FIRST, Filling, HEAD, Put, Stream};
use super::segment::{self, Closing, Handle, Segment};
use super::{LogOptions, LogStats, Record, ShardState, reclaim};
use crate::disk::{Disk, DiskBuf};
use crate::error::{DiskError, StorageError};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Batches in flight at most.
pub(crate) const IN_FLIGHT_MAX: usize = 4;

/// What a commit carries: the caller's records, or the log's own.
pub(super) enum Item {
    Record(Record),
    Own(Logged),
    /// Segments below this one go; becomes records when its turn comes, from what the log knows then.
    Retire(u64),
}

struct Commit {
    items: VecDeque<Item>,
    ticket: Rc<Ticket>,
    /// Of the entry at the front: bytes already in batches, and where it began.
    done: usize,
    began: Option<Place>,
}

/// A closed batch on its way to the disk.
struct Batch<F> {
    number: u64,
    handle: Rc<Handle<F>>,
    offset: u64,
    buf: DiskBuf,
}

struct Flight {
    number: u64,
    write: Pin<Box<dyn Future<Output = Result<(), DiskError>>>>,
    started: bool,
    written: bool,
}

/// Everything the log holds in memory.
pub(crate) struct State<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: LogOptions,
    pub(crate) mirror: Mirror,
    /// Live segments; the last one takes the batches.
    pub(crate) segments: BTreeMap<u64, Segment<D::File>>,
    /// Segments below are not needed; as the log itself says.
    pub(crate) oldest: u64,
    /// Ready for the next switches, in order. The last one is the reserve.
    pub(crate) prepared: VecDeque<Rc<Handle<D::File>>>,
    /// Why no further segment could be prepared.
    pub(crate) blocked: Option<DiskError>,
    pub(crate) stream: Stream,
    /// (first, last) batch of each head that is not wholly durable.
    heads: VecDeque<(u64, u64)>,
    /// Highest batch number known durable, all before it too.
    pub(crate) durable: u64,
    pub(crate) poisoned: Option<Arc<DiskError>>,
    pub(crate) stats: LogStats,
    queue: VecDeque<Commit>,
    /// Bytes of the entries in it.
    queued_bytes: usize,
    ready: VecDeque<Batch<D::File>>,
    in_flight: VecDeque<Flight>,
    next_ticket: u64,
}

impl<D: Disk> State<D> {
    /// `segments` is not empty; its last one takes the next batch.
    pub(crate) fn new(
        disk: D,
        options: LogOptions,
        mirror: Mirror,
        segments: BTreeMap<u64, Segment<D::File>>,
        oldest: u64,
        stream: Stream,
    ) -> State<D> {
        assert!(!segments.is_empty());
        State {
            disk,
            options,
            mirror,
            segments,
            oldest,
            prepared: VecDeque::new(),
            blocked: None,
            heads: VecDeque::new(),
            durable: stream.next - 1,
            stream,
            poisoned: None,
            stats: LogStats::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_ticket: 1,
        }
    }

    /// Sequence of the segment that takes batches.
    pub(crate) fn current(&self) -> u64 {
        self.segments.keys().next_back().copied().unwrap_or_default()
    }

    /// Bytes left in the segment that takes batches, and its length.
    pub(crate) fn room(&self) -> (u64, u64) {
        self.segments.values().next_back().map_or((0, 0), |s| (s.handle.bytes - s.end, s.handle.bytes))
    }

    /// Whether this is the last segment of a full disk.
    fn last(&self) -> bool {
        self.blocked.is_some() && self.prepared.is_empty()
    }

    /// What the last segment of a full disk keeps from a record, bytes: half of it is for votes and states, an eighth for
    /// the records that free segments.
    fn kept_from(&self, item: Option<&Item>) -> u64 {
        let bytes = self.room().1;
        match item {
            Some(Item::Record(Record::Entry(_))) if self.last() => bytes / 2,
            Some(Item::Record(_)) if self.last() => bytes / 8,
            _ => 0,
        }
    }

    /// Oldest segment in which a fragmented entry began that has not ended yet.
    pub(crate) fn began(&self) -> Option<u64> {
        self.queue.iter().find_map(|commit| commit.began).map(|place| place.segment)
    }

    fn ticket(&mut self) -> Rc<Ticket> {
        self.next_ticket += 1;
        Rc::new(Ticket { id: self.next_ticket, outcome: Outcome::Queued.into() })
    }

    /// Takes a commit: behind all others.
    pub(crate) fn queue(&mut self, records: Vec<Record>) -> Rc<Ticket> {
        let ticket = self.ticket();
        if records.is_empty() {
            ticket.set(Outcome::Batched(0));
        } else {
            self.queued_bytes += records.iter().map(entry_bytes).sum::<usize>();
            let items = records.into_iter().map(Item::Record).collect();
            self.queue.push_back(Commit { items, ticket: ticket.clone(), done: 0, began: None });
        }
        ticket
    }

    /// Says that segments below `oldest` go: in front of all, since those in front may wait for a segment.
    pub(crate) fn queue_retire(&mut self, oldest: u64) -> Rc<Ticket> {
        let ticket = self.ticket();
        let items = VecDeque::from([Item::Retire(oldest)]);
        self.queue.push_front(Commit { items, ticket: ticket.clone(), done: 0, began: None });
        ticket
    }

    pub(crate) fn poison_error(&self) -> Option<StorageError> {
        self.poisoned.clone().map(|cause| StorageError::Poisoned { cause })
    }

    /// Starts what can be started, polls what may have completed, acknowledges in order.
    pub(crate) fn drive(&mut self, hub: &Arc<Hub>) {
        let waker = Waker::from(hub.clone());
        let mut context = Context::from_waker(&waker);
        let (mut all, mut settled) = (hub.take_woken(), false);
        loop {
            settled |= self.pump();
            match self.poll_flights(all, &mut context) {
                Ok(false) => break,
                Ok(true) => settled |= self.settle(),
                Err(error) => {
                    self.poison(error);
                    settled = true;
                    break;
                }
            }
            all = false;
        }
        if settled {
            hub.wake_waiters();
        }
    }

    /// Whether any write completed.
    fn poll_flights(&mut self, all: bool, context: &mut Context<'_>) -> Result<bool, DiskError> {
        let mut any = false;
        for flight in self.in_flight.iter_mut().filter(|flight| !flight.written && (all || !flight.started)) {
            flight.started = true;
            if let Poll::Ready(result) = flight.write.as_mut().poll(context) {
                result?;
                flight.written = true;
                any = true;
            }
        }
        Ok(any)
    }

    fn settle(&mut self) -> bool {
        let before = self.durable;
        while self.in_flight.front().is_some_and(|flight| flight.written) {
            if let Some(flight) = self.in_flight.pop_front() {
                assert!(flight.number == self.durable + 1);
                self.durable = flight.number;
                self.stats.batches += 1;
                self.stats.syncs += 1;
            }
        }
        while self.heads.front().is_some_and(|(_, last)| *last <= self.durable) {
            self.heads.pop_front();
        }
        self.durable != before
    }

    /// What headers say is synced. Part of a head counts for nothing: without the rest its segment is unborn, and recovery
    /// must not miss it.
    fn synced(&self) -> u64 {
        self.heads.front().map_or(self.durable, |(first, _)| self.durable.min(first - 1))
    }

    /// The log takes no more, for good.
    pub(crate) fn poison(&mut self, cause: DiskError) {
        tracing::error!(error = %cause, "the log is poisoned");
        self.poisoned = Some(Arc::new(cause));
        self.stats.poisoned = true;
        self.in_flight.clear();
        self.ready.clear();
        self.queue.clear();
        self.queued_bytes = 0;
    }

    /// Bytes of entries that have not found a place yet.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Fills the free slots. Whether a commit failed.
    fn pump(&mut self) -> bool {
        let mut failed = false;
        while self.poisoned.is_none() {
            while self.in_flight.len() < IN_FLIGHT_MAX {
                let Some(batch) = self.ready.pop_front() else { break };
                self.start(batch);
            }
            if self.in_flight.len() >= IN_FLIGHT_MAX || self.queue.is_empty() {
                break;
            }
            match self.form() {
                Formed::Something => {}
                Formed::Failure => failed = true,
                Formed::Nothing => break,
            }
        }
        failed
    }

    fn start(&mut self, batch: Batch<D::File>) {
        let Batch { number, handle, offset, buf } = batch;
        let disk = self.disk.clone();
        let write = Box::pin(async move { disk.commit(&handle.file, offset, buf).await.0 });
        self.in_flight.push_back(Flight { number, write, started: false, written: false });
    }

    /// Makes one batch of the queue's front, or switches to the next segment.
    fn form(&mut self) -> Formed {
        let most = segment::batch_bytes(self.options.segment_bytes) as u64;
        let room = self.room().0;
        let spare = self.kept_from(self.queue.front().and_then(|commit| commit.items.front()));
        let mut fill = Filling::new(room.saturating_sub(spare).min(most) as usize);
        let (mut finished, mut failed) = (Vec::new(), false);
        while let Some(mut commit) = self.queue.pop_front() {
            match self.fill_from(&mut commit, &mut fill) {
                Ok(true) => finished.push(commit.ticket),
                Ok(false) => {
                    self.queue.push_front(commit);
                    break;
                }
                Err(error) => {
                    let left =
                        commit.items.iter().map(|item| if let Item::Record(r) = item { entry_bytes(r) } else { 0 });
                    self.queued_bytes -= left.sum::<usize>();
                    commit.ticket.set(Outcome::Failed(error));
                    failed = true;
                }
            }
        }
        finished.iter().for_each(|ticket| ticket.set(Outcome::Batched(self.stream.next)));
        if !fill.is_empty() {
            self.close(fill, 0);
        } else if !failed {
            return self.switch();
        }
        if failed { Formed::Failure } else { Formed::Something }
    }

    /// Moves records of a commit into the batch. `false`: the batch is full.
    fn fill_from(&mut self, commit: &mut Commit, fill: &mut Filling) -> Result<bool, StorageError> {
        let batch_bytes = segment::batch_bytes(self.options.segment_bytes);
        while let Some(item) = commit.items.front() {
            if self.room().0 <= self.kept_from(Some(item)) {
                return Ok(false);
            }
            let logged = match item {
                Item::Record(record) => self.admit(record)?,
                Item::Own(logged) => logged.clone(),
                Item::Retire(oldest) => {
                    commit.items = reclaim::farewell(&self.mirror, *oldest);
                    continue;
                }
            };
            if let Logged::Entry(entry) = &logged {
                let here = self.here();
                match fill.put_entry(entry, commit.done, batch_bytes) {
                    Put::Full => return Ok(false),
                    Put::Part(done) => {
                        commit.done = done;
                        commit.began.get_or_insert(here);
                        return Ok(false);
                    }
                    Put::Done => {}
                }
                let at = commit.began.take().unwrap_or(here);
                commit.done = 0;
                if let Some(log) = self.mirror.shards.get_mut(&entry.shard) {
                    log.append(entry.index, entry.term, at, here.number);
                }
            } else if !fill.put(&logged) {
                return Ok(false);
            } else {
                self.mirror.apply(&logged);
                if let Logged::Oldest(segment) = logged {
                    self.oldest = segment;
                }
            }
            if let Some(Item::Record(record)) = commit.items.pop_front() {
                self.queued_bytes -= entry_bytes(&record);
            }
        }
        Ok(true)
    }

    /// Where the next batch will stand.
    fn here(&self) -> Place {
        let offset = self.segments.values().next_back().map_or(0, |segment| segment.end);
        Place { segment: self.current(), offset, number: self.stream.next }
    }

    /// Checks a caller's record against what the log holds, and says how it is logged.
    fn admit(&self, record: &Record) -> Result<Logged, StorageError> {
        let known = |shard| self.mirror.shards.get(&shard).ok_or(StorageError::UnknownShard { shard });
        Ok(match record {
            Record::Entry(entry) => {
                let log = known(entry.shard)?;
                let (first, next) = (log.state.floor_index.saturating_add(1), log.last().saturating_add(1));
                if !(first..=next).contains(&entry.index) {
                    return Err(StorageError::Gap { shard: entry.shard, first, next, got: entry.index });
                }
                Logged::Entry(entry.clone())
            }
            Record::HardState { shard, generation, hard } => {
                if !hard.follows(&known(*shard)?.state.hard) {
                    return Err(StorageError::Backwards { shard: *shard });
                }
                Logged::HardState { shard: *shard, generation: *generation, hard: *hard }
            }
            Record::ShardState(state) => self.admit_state(state)?,
            Record::ShardGone(shard) => Logged::Gone(*shard),
            Record::Peer { store, incarnation } => Logged::Peer { store: *store, incarnation: *incarnation },
            Record::Admitted => Logged::Store { admitted: true },
        })
    }

    /// A state with a higher floor is a snapshot: the entries behind it stay only when the log holds the floor's own entry
    /// (Raft §7). The floor that the log raised itself stays, and so does the flushed index.
    fn admit_state(&self, state: &ShardState) -> Result<Logged, StorageError> {
        assert!(state.config.len() <= CONFIG_BYTES_MAX, "{}: configuration too long", state.shard);
        let mut state = state.clone();
        let Some(log) = self.mirror.shards.get(&state.shard) else {
            let kept = state.floor_index;
            return Ok(Logged::Shard { state, kept });
        };
        if !state.hard.follows(&log.state.hard) {
            return Err(StorageError::Backwards { shard: state.shard });
        }
        state.flushed_index = state.flushed_index.max(log.state.flushed_index);
        if state.floor_index <= log.state.floor_index {
            (state.floor_index, state.floor_term) = (log.state.floor_index, log.state.floor_term);
            return Ok(Logged::Shard { state, kept: u64::MAX });
        }
        let holds = log.term_of(state.floor_index) == Some(state.floor_term);
        let kept = if holds { u64::MAX } else { state.floor_index };
        Ok(Logged::Shard { state, kept })
    }

    fn blocked_error(&self) -> StorageError {
        match &self.blocked {
            Some(DiskError::NoSpace { .. }) | None => StorageError::DiskFull,
            Some(error) => StorageError::Disk(error.clone()),
        }
    }

    /// Closes the batch and lines it up.
    fn close(&mut self, fill: Filling, flags: u16) {
        let (number, synced) = (self.stream.next, self.synced());
        let Some(segment) = self.segments.values_mut().next_back() else { return };
        let (handle, offset) = (segment.handle.clone(), segment.end);
        let buf = self.stream.seal(fill, handle.sequence, offset, synced, flags);
        segment.end += buf.len() as u64;
        assert!(segment.end <= handle.bytes);
        self.ready.push_back(Batch { number, handle, offset, buf });
    }

    /// Goes on in the next prepared segment, opening it with its head. While there is hope for another one, entries leave the
    /// last to votes and states; on a full disk those that were taken before it was known go there too. What finds no room
    /// waits for it: only the log's own records are refused, so that who cares for it can go on.
    fn switch(&mut self) -> Formed {
        let Some(item) = self.queue.front().and_then(|commit| commit.items.front()) else { return Formed::Nothing };
        let (entry, own) = (matches!(item, Item::Record(Record::Entry(_))), !matches!(item, Item::Record(_)));
        let needed = if entry && self.blocked.is_none() { 2 } else { 1 };
        if self.prepared.len() < needed {
            if self.blocked.is_none() || !own {
                return Formed::Nothing;
            }
            let error = self.blocked_error();
            if let Some(commit) = self.queue.pop_front() {
                commit.ticket.set(Outcome::Failed(error));
            }
            return Formed::Failure;
        }
        let Some(handle) = self.prepared.pop_front() else { return Formed::Nothing };
        assert!(handle.sequence > self.current());
        self.segments.insert(handle.sequence, Segment { handle, end: 0 });
        let batch_bytes = segment::batch_bytes(self.options.segment_bytes);
        let (first, oldest) = (self.stream.next, self.oldest);
        let head = segment::head(&self.mirror, None, |_| u64::MAX);
        let batches = segment::pack(head, &[], Closing { first, oldest }, batch_bytes, |_, _, _| {});
        self.heads.push_back((first, first + batches.len() as u64 - 1));
        assert!((batches.len() * batch_bytes) as u64 <= self.room().0, "too many shards for segments of this size");
        for (at, fill) in batches.into_iter().enumerate() {
            self.close(fill, if at == 0 { HEAD | FIRST } else { HEAD });
        }
        Formed::Something
    }
}

fn entry_bytes(record: &Record) -> usize {
    if let Record::Entry(entry) = record { entry.encoded_bytes() } else { 0 }
}

/// What forming a batch did.
enum Formed {
    Something,
    /// A commit was refused.
    Failure,
    /// Nothing can be done before the next segment is prepared.
    Nothing,
}
