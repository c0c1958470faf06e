//! What the writer, those who sync and the driver share.

use super::head::HEAD_BYTES;
use super::segment::{Segment, SyncPages};
use super::{LogOptions, Position};
use crate::db::driver::rest;
use crate::disk::files::Root;
use crate::error::{DiskError, StorageError};
use crate::mix::mix;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Where a sync comes at least every so many bytes, the blocks of segments are written before they are used: what that saves is more
/// than what it costs.
const SYNCED_OFTEN_BYTES: usize = 64 << 10;
/// Bytes that are written out at once: who syncs waits for them.
const WRITE_OUT_BYTES: usize = 2 << 20;
/// Between two of these: as long again, for those who wait.
const WRITE_OUT_REST: Duration = Duration::from_millis(2);
/// The part of a segment after which that is judged.
const JUDGED_PART: usize = 32;

/// A segment with records that no table holds yet.
pub(super) struct Live {
    pub path: String,
    pub first_seq: u64,
    /// Length of the file.
    pub bytes: u64,
    /// None: from before this opening, and durable.
    pub open: Option<Arc<Segment>>,
}

/// Segments, oldest first.
#[derive(Default)]
pub(super) struct Segments {
    /// The last one is the writer's.
    pub live: VecDeque<Live>,
    /// Ready for the writer.
    pub prepared: VecDeque<Segment>,
    /// Paths of files of the usual size that are not needed any more.
    pub spares: Vec<String>,
}

/// The log but for its writer. Locks are taken in this order: `releasing`, `next_number` or `syncing`, then `segments`.
pub(crate) struct Shared {
    root: Root,
    options: LogOptions,
    sync_pages: SyncPages,
    /// The last record that was written.
    appended: AtomicU64,
    /// Every record up to this one is durable.
    synced: AtomicU64,
    poison: OnceLock<Arc<DiskError>>,
    /// Whether somebody syncs, and for those who wait for that: all hear of its end at once, for one handing it to the next would
    /// take each a wake-up.
    syncing: Mutex<bool>,
    ended: Condvar,
    /// Number of the next segment; held while one is made, so that they get ready in order.
    next_number: Mutex<u64>,
    /// Held while segments are given up.
    releasing: Mutex<()>,
    segments: Mutex<Segments>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half changed by a panic under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A log in `root` whose records up to `last_seq` are durable.
    pub(super) fn new(
        root: Root,
        options: LogOptions,
        sync_pages: SyncPages,
        last_seq: u64,
        next_number: u64,
        segments: Segments,
    ) -> Shared {
        Shared {
            root,
            options,
            sync_pages,
            appended: AtomicU64::new(last_seq),
            synced: AtomicU64::new(last_seq),
            poison: OnceLock::new(),
            syncing: Mutex::default(),
            ended: Condvar::new(),
            next_number: Mutex::new(next_number),
            releasing: Mutex::default(),
            segments: Mutex::new(segments),
        }
    }

    /// Makes everything before `position` durable. Who comes first syncs all that was appended; the others wait for it and
    /// mostly find their position synced.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] once a sync failed: this and every later one, and every append.
    pub fn sync_to(&self, position: Position) -> Result<(), StorageError> {
        while !self.is_synced(position)? {
            if let Some(_turn) = self.turn_unless(|| self.synced_seq() >= position.0) {
                return self.sync_appended();
            }
        }
        Ok(())
    }

    /// The right to sync, nobody else's meanwhile; none when somebody else's sync ended, or `enough` holds.
    fn turn_unless(&self, enough: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut syncing = lock(&self.syncing);
        if *syncing {
            drop(self.ended.wait(syncing).unwrap_or_else(PoisonError::into_inner));
            return None;
        }
        if enough() {
            return None;
        }
        *syncing = true;
        Some(Turn(self))
    }

    /// Whether everything before `position` is durable.
    ///
    /// # Errors
    /// As [`Shared::sync_to`].
    pub fn is_synced(&self, position: Position) -> Result<bool, StorageError> {
        self.check_poison()?;
        Ok(self.synced_seq() >= position.0)
    }

    /// Makes all that was appended durable, the heads of segments without records too.
    pub(super) fn sync_all(&self) -> Result<(), StorageError> {
        let _turn = self.turn();
        self.sync_appended()
    }

    /// The right to sync, when nobody else has it.
    fn turn(&self) -> Turn<'_> {
        loop {
            if let Some(turn) = self.turn_unless(|| false) {
                return turn;
            }
        }
    }

    /// One sync of all that was appended, segment by segment, oldest first, by whoever has the turn.
    pub(super) fn sync_appended(&self) -> Result<(), StorageError> {
        // The turn before this one may have failed since its taker last looked: asking the system again would prove nothing.
        self.check_poison()?;
        // Read before the segments' ends: what is behind this record may become durable too, what is before it must.
        let appended = self.appended.load(Ordering::Acquire);
        let open: Vec<Arc<Segment>> = lock(&self.segments).live.iter().filter_map(|live| live.open.clone()).collect();
        for segment in open {
            let (from, to) = (segment.synced.load(Ordering::Relaxed), segment.end.load(Ordering::Acquire));
            if from == to {
                continue;
            }
            assert!(from < to, "a segment shrank");
            let synced = (self.sync_pages)(&segment, from..to);
            synced.map_err(|e| self.poison(DiskError::io(&segment.path, "sync", e)))?;
            segment.synced.store(to, Ordering::Release);
            segment.syncs.fetch_add(1, Ordering::Relaxed);
        }
        self.synced.store(appended, Ordering::Release);
        Ok(())
    }

    /// Ends the log: nobody knows what a failed sync, or write, left on the disk, and asking again proves nothing.
    pub(super) fn poison(&self, cause: DiskError) -> StorageError {
        let cause = Arc::clone(self.poison.get_or_init(|| Arc::new(cause)));
        StorageError::Poisoned { cause }
    }

    pub(super) fn check_poison(&self) -> Result<(), StorageError> {
        match self.poison.get() {
            None => Ok(()),
            Some(cause) => Err(StorageError::Poisoned { cause: Arc::clone(cause) }),
        }
    }

    /// How many segments are ready, and how many of them have written blocks.
    #[cfg(test)]
    pub fn ready_and_written(&self) -> (usize, usize) {
        let segments = lock(&self.segments);
        (
            segments.prepared.len(),
            segments.prepared.iter().filter(|next| next.is_written.load(Ordering::Relaxed)).count(),
        )
    }

    /// Whether a sync failed: the log takes nothing until it is opened again.
    #[cfg(test)]
    pub fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Every record up to this one is durable.
    pub(super) fn synced_seq(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Says that all records up to `last_seq` were written.
    pub(super) fn publish(&self, last_seq: u64) {
        self.appended.store(last_seq, Ordering::Release);
    }

    /// Keeps `ahead` segments ready: files of the usual size, filled with zeros or used before, durable with their names,
    /// in memory. Called by the driver; what fails is tried again by the next call.
    pub fn prepare(&self) -> Result<(), StorageError> {
        loop {
            let mut next_number = lock(&self.next_number);
            if lock(&self.segments).prepared.len() >= self.options.ahead {
                return self.write_out();
            }
            let segment = self.make(&mut next_number)?;
            segment.populate();
            lock(&self.segments).prepared.push_back(segment);
        }
    }

    /// Where the writer's segment is synced often, writes out those blocks of it and of the next one that were only reserved, as they are in
    /// memory: the first sync of such a block ends in the file system's journal, and takes half as long again as one of blocks that were
    /// written before. Stores to the pages fault from then on. Under the lock of numbers, which a writer waits for who finds none ready.
    fn write_out(&self) -> Result<(), StorageError> {
        let live = lock(&self.segments).live.back().and_then(|live| live.open.clone());
        let Some(live) = live.filter(|live| is_synced_often(live)) else { return Ok(()) };
        self.write_segment_out(&live)?;
        let next = lock(&self.segments).prepared.pop_front();
        let Some(next) = next else { return Ok(()) };
        let written = self.write_segment_out(&next);
        lock(&self.segments).prepared.push_front(next);
        written
    }

    fn write_segment_out(&self, segment: &Segment) -> Result<(), StorageError> {
        if segment.is_written.load(Ordering::Relaxed) {
            return Ok(());
        }
        let from = segment.end.load(Ordering::Acquire);
        for at in (from..segment.bytes()).step_by(WRITE_OUT_BYTES) {
            // Nobody else's sync meanwhile: of two, the system would tell but one that a write failed.
            let turn = self.turn();
            self.check_poison()?;
            let range = at..(at + WRITE_OUT_BYTES).min(segment.bytes());
            (self.sync_pages)(segment, range).map_err(|e| self.poison(DiskError::io(&segment.path, "write", e)))?;
            drop(turn);
            rest(WRITE_OUT_REST);
        }
        segment.is_written.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the next segment, of a spare file when there is one.
    fn make(&self, next_number: &mut u64) -> Result<Segment, DiskError> {
        let number = *next_number;
        let salt = mix(self.options.seed ^ mix(number)) as u32;
        *next_number += 1;
        let spare = lock(&self.segments).spares.pop();
        match spare {
            Some(old) => Segment::reuse(&self.root, &old, number, salt),
            None => Segment::make(&self.root, number, salt, self.options.segment_bytes),
        }
    }

    /// A segment for the writer with at least `bytes`: a prepared one, or one made now; grown when it is too small.
    pub(super) fn take(&self, bytes: usize) -> Result<Segment, StorageError> {
        let segment = self.prepared_or_made().map_err(disk_full)?;
        if segment.bytes() >= bytes {
            return Ok(segment);
        }
        let grown = segment.grown(&self.root, bytes as u64);
        if grown.is_err() {
            lock(&self.segments).prepared.push_front(segment);
        }
        grown.map_err(disk_full)
    }

    fn prepared_or_made(&self) -> Result<Segment, DiskError> {
        let ready = || lock(&self.segments).prepared.pop_front();
        if let Some(segment) = ready() {
            return Ok(segment);
        }
        // The driver may be making one right now.
        let mut next_number = lock(&self.next_number);
        ready().map_or_else(|| self.make(&mut next_number), Ok)
    }

    /// Hears that the writer is in `segment` now.
    pub(super) fn push_live(&self, segment: &Arc<Segment>, first_seq: u64) {
        let (path, bytes) = (segment.path.clone(), segment.bytes() as u64);
        lock(&self.segments).live.push_back(Live { path, first_seq, bytes, open: Some(Arc::clone(segment)) });
    }

    /// Gives up the segments whose records are all at or below `flushed_seq`, which must be durable elsewhere: their files
    /// are kept for later segments, or removed.
    pub fn release(&self, flushed_seq: u64) -> Result<(), StorageError> {
        let _releasing = lock(&self.releasing);
        let count = self.releasable(flushed_seq);
        if count == 0 {
            return Ok(());
        }
        self.sync_head(count)?;
        let gone: Vec<Live> = lock(&self.segments).live.drain(..count).collect();
        // One that cannot be removed does not keep the others.
        let recycled: Vec<_> = gone.into_iter().map(|live| self.recycle(live)).collect();
        Ok(recycled.into_iter().collect::<Result<(), DiskError>>()?)
    }

    /// Makes the head of a live segment durable: the oldest one that stays must be known by it on the disk before those in front of it
    /// go. Not what is behind the head: nobody asked for that, and it would be a second write of all that is logged.
    fn sync_head(&self, at: usize) -> Result<(), StorageError> {
        let _turn = self.turn();
        self.check_poison()?;
        let segment = lock(&self.segments).live.get(at).and_then(|live| live.open.clone());
        let Some(segment) = segment else { return Ok(()) };
        let synced = (self.sync_pages)(&segment, 0..HEAD_BYTES);
        synced.map_err(|e| self.poison(DiskError::io(&segment.path, "sync", e)))
    }

    /// How many segments at the front are not needed. Never the last one.
    fn releasable(&self, flushed_seq: u64) -> usize {
        let segments = lock(&self.segments);
        segments.live.iter().skip(1).take_while(|next| next.first_seq - 1 <= flushed_seq).count()
    }

    /// Keeps a file for later, or removes it.
    fn recycle(&self, live: Live) -> Result<(), DiskError> {
        let mut segments = lock(&self.segments);
        if live.bytes == self.options.segment_bytes && segments.spares.len() < self.options.ahead {
            segments.spares.push(live.path);
            return Ok(());
        }
        drop(segments);
        self.root.remove(&live.path)
    }

    /// Bytes of the files that hold records which no table does: what a flush would give back.
    pub fn bytes(&self) -> u64 {
        lock(&self.segments).live.iter().map(|live| live.bytes).sum()
    }
}

/// Whether somebody syncs this segment after every few bytes.
fn is_synced_often(segment: &Segment) -> bool {
    let (end, syncs) = (segment.end.load(Ordering::Relaxed), segment.syncs.load(Ordering::Relaxed));
    end >= segment.bytes() / JUDGED_PART && syncs.saturating_mul(SYNCED_OFTEN_BYTES) >= end
}

/// The right to sync.
struct Turn<'s>(&'s Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.syncing) = false;
        self.0.ended.notify_all();
    }
}

/// A full disk is an answer to the writer, not an accident.
fn disk_full(error: DiskError) -> StorageError {
    match error {
        DiskError::NoSpace { .. } => StorageError::DiskFull,
        error => error.into(),
    }
}
