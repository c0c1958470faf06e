//! Keeping segments coming: what nobody needs becomes the next one.

use super::index::Mirror;
use super::record::Logged;
use super::segment::{self, Handle};
use super::writer::{Item, State};
use super::{Log, LogStats};
use crate::disk::{Disk, OpenMode};
use crate::error::{DiskError, StorageError};
use ringkv_wire::ids::ShardId;
use std::collections::VecDeque;
use std::rc::Rc;

/// After a failed preparation this many calls pass before the next try, doubling up to the last.
const PATIENCE: (u32, u32) = (4, 256);

/// Segments taken out of the log, and how long to wait before the disk is asked for space again.
pub(crate) struct Retired<F> {
    handles: VecDeque<Rc<Handle<F>>>,
    skip: u32,
    patience: u32,
}

impl<F> Default for Retired<F> {
    fn default() -> Retired<F> {
        Retired { handles: VecDeque::new(), skip: 0, patience: PATIENCE.0 }
    }
}

impl<F> Retired<F> {
    pub(crate) fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }
}

/// The first segment that is kept when `keep` bytes are, or takes batches: older ones may go when nothing pins them.
fn kept_from<D: Disk>(state: &State<D>, keep: u64) -> u64 {
    // A full disk has no room for followers' comfort.
    let keep = if state.blocked.is_some() { 0 } else { keep };
    let (mut kept, mut bytes) = (state.current(), 0);
    for (sequence, segment) in state.segments.iter().rev().skip(1) {
        bytes += segment.handle.bytes;
        if bytes > keep {
            break;
        }
        kept = *sequence;
    }
    kept
}

pub(crate) fn pins_beyond<D: Disk>(state: &State<D>, keep: u64) -> Vec<(ShardId, u64)> {
    let kept = kept_from(state, keep);
    if is_first(state, kept) {
        return Vec::new();
    }
    let pins = state.mirror.shards.iter();
    pins.filter_map(|(shard, log)| log.unflushed_below(kept).map(|index| (*shard, index))).collect()
}

pub(crate) fn stats<D: Disk>(state: &State<D>) -> LogStats {
    let live: u64 = state.segments.values().map(|segment| segment.handle.bytes).sum();
    let prepared: u64 = state.prepared.iter().map(|handle| handle.bytes).sum();
    LogStats {
        segments: state.segments.len() as u64,
        prepared: state.prepared.len() as u64,
        bytes: live + prepared,
        disk_full: state.blocked.is_some(),
        ..state.stats
    }
}

/// Whether no segment is older. Asked before what looks through all that the log holds of every shard.
fn is_first<D: Disk>(state: &State<D>, segment: u64) -> bool {
    state.segments.keys().next().is_none_or(|first| *first >= segment)
}

/// The segment that becomes the oldest, when older ones are not needed.
fn next_oldest<D: Disk>(state: &State<D>) -> Option<u64> {
    let kept = kept_from(state, state.options.keep_bytes);
    if is_first(state, kept) {
        return None;
    }
    let pinned = state.mirror.shards.values().filter_map(|log| log.pinned()).chain(state.began()).min();
    let oldest = kept.min(pinned.unwrap_or(u64::MAX));
    (!is_first(state, oldest)).then_some(oldest)
}

pub(crate) fn wants_care<D: Disk>(state: &State<D>, none_retired: bool) -> bool {
    let ready = state.poisoned.is_none() && state.blocked.is_none() && state.prepared.len() >= wanted(state);
    !ready || !none_retired || next_oldest(state).is_some()
}

/// What the log says before segments below `oldest` go: the floors that rise with them, then the new oldest segment.
pub(crate) fn farewell(mirror: &Mirror, oldest: u64) -> VecDeque<Item> {
    let floors = mirror.shards.iter().filter_map(|(&shard, log)| {
        let (index, term) = log.floor_below(oldest)?;
        Some(Item::Own(Logged::Floor { shard, index, term }))
    });
    floors.chain([Item::Own(Logged::Oldest(oldest))]).collect()
}

pub(crate) async fn maintain<D: Disk>(log: Log<D>) -> Result<(), StorageError> {
    let bare = {
        let state = log.shared.state.borrow();
        if let Some(error) = state.poison_error() {
            return Err(error);
        }
        state.prepared.is_empty()
    };
    if bare {
        // What follows may itself need a segment to be logged in.
        provided(&log).await?;
    }
    let oldest = next_oldest(&log.shared.state.borrow());
    if let Some(oldest) = oldest {
        // Durable before any of the files changes: recovery then misses nothing that it needs.
        match log.retire(oldest).await {
            // Not even for that: there may be space by now.
            Err(StorageError::DiskFull) => return provided(&log).await,
            other => other?,
        }
        let mut state = log.shared.state.borrow_mut();
        let live = state.segments.split_off(&oldest);
        let gone = std::mem::replace(&mut state.segments, live);
        log.shared.retired.borrow_mut().handles.extend(gone.into_values().map(|segment| segment.handle));
    }
    provided(&log).await
}

/// Commits may have waited for a segment, or for the news that there is none.
async fn provided<D: Disk>(log: &Log<D>) -> Result<(), StorageError> {
    let result = provide(log).await;
    log.shared.hub.wake_waiters();
    result
}

/// Segments that stand ready at most.
const PREPARED_MAX: usize = 2;

/// One segment is always held in reserve; a second one stands ready when the current one is half full.
fn wanted<D: Disk>(state: &State<D>) -> usize {
    let (room, bytes) = state.room();
    if room > bytes / 2 { 1 } else { PREPARED_MAX }
}

async fn provide<D: Disk>(log: &Log<D>) -> Result<(), StorageError> {
    loop {
        let (lacking, welcome) = {
            let state = log.shared.state.borrow();
            (state.prepared.len() < wanted(&state), state.prepared.len() < PREPARED_MAX)
        };
        // A segment that is there already is taken early: it costs nothing, a new one is written twice.
        if recycle(log, welcome).await? {
            continue;
        }
        if !lacking || !fresh(log).await? {
            return Ok(());
        }
    }
}

fn next_sequence<D: Disk>(state: &State<D>) -> u64 {
    state.prepared.back().map_or(state.current(), |handle| handle.sequence) + 1
}

fn admit<D: Disk>(log: &Log<D>, handle: Handle<D::File>) {
    let mut state = log.shared.state.borrow_mut();
    state.blocked = None;
    state.prepared.push_back(Rc::new(handle));
    let mut retired = log.shared.retired.borrow_mut();
    (retired.skip, retired.patience) = (0, PATIENCE.0);
}

/// Turns one retired segment into the next prepared one, or removes it. `false`: there was none that no reader holds.
async fn recycle<D: Disk>(log: &Log<D>, welcome: bool) -> Result<bool, StorageError> {
    let (disk, dir) = (&log.shared.disk, &log.shared.dir);
    let (old, sequence, bytes) = {
        let mut retired = log.shared.retired.borrow_mut();
        let Some(at) = retired.handles.iter().position(|handle| Rc::strong_count(handle) == 1) else {
            return Ok(false);
        };
        let Some(old) = retired.handles.remove(at) else { return Ok(false) };
        let state = log.shared.state.borrow();
        (old, next_sequence(&state), state.options.segment_bytes)
    };
    if !welcome || old.bytes != bytes {
        disk.remove(&old.path).await?;
        disk.sync_dir(dir).await?;
        log.shared.state.borrow_mut().stats.removed += 1;
        return Ok(true);
    }
    let path = format!("{dir}/{}", segment::name(sequence));
    disk.rename(&old.path, &path).await?;
    disk.sync_dir(dir).await?;
    let file = disk.open(&path, OpenMode::Write).await?;
    admit(log, Handle { file, sequence, path, bytes });
    log.shared.state.borrow_mut().stats.recycled += 1;
    Ok(true)
}

/// Makes a new segment file. `false`: there is no space, or it is too early to ask again.
async fn fresh<D: Disk>(log: &Log<D>) -> Result<bool, StorageError> {
    let (sequence, bytes) = {
        let state = log.shared.state.borrow();
        let mut retired = log.shared.retired.borrow_mut();
        if retired.skip > 0 {
            retired.skip -= 1;
            return Ok(false);
        }
        (next_sequence(&state), state.options.segment_bytes)
    };
    match make(&log.shared.disk, &log.shared.dir, sequence, bytes).await {
        Ok(handle) => {
            admit(log, handle);
            log.shared.state.borrow_mut().stats.made += 1;
            Ok(true)
        }
        Err(error) => {
            let no_space = matches!(error, DiskError::NoSpace { .. });
            tracing::warn!(%error, "no further log segment");
            log.shared.state.borrow_mut().blocked = Some(error.clone());
            let mut retired = log.shared.retired.borrow_mut();
            retired.skip = retired.patience;
            retired.patience = (retired.patience * 2).min(PATIENCE.1);
            if no_space { Ok(false) } else { Err(error.into()) }
        }
    }
}

/// Makes a zero-filled segment, durable with its name. A file of that name goes first: nothing in it is part of the log, and
/// writes of a process that died may still be on their way to it.
pub(crate) async fn make<D: Disk>(
    disk: &D,
    dir: &str,
    sequence: u64,
    bytes: u64,
) -> Result<Handle<D::File>, DiskError> {
    let path = format!("{dir}/{}", segment::name(sequence));
    match disk.remove(&path).await {
        Ok(()) | Err(DiskError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let file = disk.open(&path, OpenMode::Create).await?;
    let made = match disk.allocate(&file, bytes).await {
        Ok(()) => disk.sync_dir(dir).await,
        Err(error) => Err(error),
    };
    if let Err(error) = made {
        // What was taken of the space goes back to tables and to whoever filled the disk.
        disk.remove(&path).await?;
        return Err(error);
    }
    Ok(Handle { file, sequence, path, bytes })
}
