//! Opening a log: what is durable is kept, an unfinished tail is cut, damage stops (FORMAT.md §1.5).

mod find;
mod image;
pub mod inspect;
mod survey;
mod walk;

use super::index::{Mirror, Place};
use super::record::{Cut, Logged};
use super::segment::batch::{FIRST, HEAD, Stream};
use super::segment::sector::Seed;
use super::segment::{self, Closing, Handle, Segment};
use super::writer::State;
use super::{LogOptions, Recovered, RecoveredShard, RecoveryReport, reclaim};
use crate::disk::{Disk, DiskBuf, OpenMode};
use crate::error::StorageError;
use find::{Found, Walked, find};
use image::Source;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::ShardId;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use walk::Walk;

/// Numbers skipped at a recovery: more than can have been in flight and left no trace.
const NUMBER_JUMP: u64 = 16;

/// Recovers the log in `dir`; a new one when there is none.
pub(super) async fn recover<D: Disk>(
    disk: &D,
    dir: &str,
    options: LogOptions,
) -> Result<(State<D>, Recovered), StorageError> {
    prepare_dir(disk, dir).await?;
    let seed = Seed::new(&options.store_identity);
    let source = Source { disk, dir, seed, mode: OpenMode::Write };
    let files = source.list().await?;
    let found = find(&source, &files, &mut |_| {}).await?;
    let stream = Stream { next: found.highest + NUMBER_JUMP, chain: 0, seed };
    rewrite(disk, dir, options, &files, found, stream).await
}

/// Makes the directory, durably.
async fn prepare_dir<D: Disk>(disk: &D, dir: &str) -> Result<(), StorageError> {
    disk.create_dir(dir).await?;
    let parents = dir.match_indices('/').map(|(at, _)| &dir[..at]);
    for parent in std::iter::once("").chain(parents) {
        disk.sync_dir(parent).await?;
    }
    Ok(())
}

/// Up to which batch the old segments are kept as they are: the last one proved durable, or, when the newest segment is
/// nearly empty, the last one before it, so that restarts do not pile up segments.
fn choose_cut<F>(walk: &Walk, walked: &[Walked<F>], segment_bytes: u64) -> Cut {
    let proved = walk.taken.iter().rev().find(|taken| taken.number <= walk.synced);
    let proved = proved.map_or(Cut::default(), |t| Cut { batch: t.number, segment: t.segment, chain: t.chain });
    match walked.last() {
        Some(last) if last.end <= segment_bytes / 4 && last.before.batch < proved.batch => last.before,
        _ => proved,
    }
}

/// Splits each shard's entries at the cut: up to which index they stay, and those to write again.
fn split(walk: &Walk, cut: Cut) -> (BTreeMap<ShardId, u64>, Vec<Entry>) {
    let (mut kept, mut again) = (BTreeMap::new(), Vec::new());
    for (shard, log) in &walk.mirror.shards {
        let entries = walk.entries.get(shard).map_or(&[][..], |entries| entries);
        let stay = entries.partition_point(|(_, done)| *done <= cut.batch);
        let last = stay.checked_sub(1).and_then(|at| entries.get(at)).map(|(entry, _)| entry.index);
        kept.insert(*shard, last.unwrap_or(log.state.floor_index));
        again.extend(entries[stay..].iter().map(|(entry, _)| entry.clone()));
    }
    (kept, again)
}

/// Opens a fresh segment with the cut, all states and the entries behind the cut, and syncs it. From here on it is the log.
async fn rewrite<D: Disk>(
    disk: &D,
    dir: &str,
    options: LogOptions,
    files: &[u64],
    found: Found<D::File>,
    mut stream: Stream,
) -> Result<(State<D>, Recovered), StorageError> {
    let Found { mut walk, walked, mut report, .. } = found;
    let newest = walked.last().map_or(0, |walked| walked.handle.sequence);
    let cut = choose_cut(&walk, &walked, options.segment_bytes);
    stream.chain = cut.chain;
    let (kept, again) = split(&walk, cut);
    let mut segments: BTreeMap<u64, Segment<D::File>> = walked
        .into_iter()
        .filter(|w| (walk.oldest..=cut.segment).contains(&w.handle.sequence))
        .map(|Walked { handle, end, .. }| (handle.sequence, Segment { handle: Rc::new(handle), end }))
        .collect();
    let sequence = newest + 1;
    let oldest = segments.keys().next().copied().unwrap_or(sequence);
    let fresh = Fresh {
        sequence,
        batch_bytes: segment::batch_bytes(options.segment_bytes),
        oldest,
        cut: (newest > 0).then_some(cut),
        gone: walk.gone.iter().filter(|(_, number)| *number > cut.batch).map(|(shard, _)| *shard).collect(),
        kept: &kept,
        again: &again,
    };
    let bufs = fresh.head(&mut walk.mirror, &mut stream);
    // Unborn segments hold nothing, and give their space.
    report.removed += remove(disk, dir, files.iter().copied().filter(|file| *file > newest)).await?;
    let end: u64 = bufs.iter().map(|buf| buf.len() as u64).sum();
    let bytes = options.segment_bytes.max((end * 2).next_multiple_of(4096));
    let handle = reclaim::make(disk, dir, sequence, bytes).await?;
    write_all(disk, &handle, bufs).await?;
    let live: Vec<u64> = segments.keys().copied().collect();
    segments.insert(sequence, Segment { handle: Rc::new(handle), end });
    let gone = files.iter().copied().filter(|file| *file <= newest && !live.contains(file));
    report.removed += remove(disk, dir, gone).await?;
    report.rewritten = again.len() as u64;
    let recovered = recovered(&walk.mirror, walk.entries, report);
    let state = State::new(disk.clone(), options, walk.mirror, segments, oldest, stream);
    Ok((state, recovered))
}

/// What a recovery writes into the segment that it opens.
struct Fresh<'a> {
    sequence: u64,
    batch_bytes: usize,
    oldest: u64,
    /// Where the log before ends; `None`: there was none.
    cut: Option<Cut>,
    /// Shards that went behind the cut, and may have come back.
    gone: BTreeSet<ShardId>,
    /// Up to which index a shard's entries before the cut hold.
    kept: &'a BTreeMap<ShardId, u64>,
    /// Entries behind the cut.
    again: &'a [Entry],
}

impl Fresh<'_> {
    /// The batches of its head. The mirror then says where the entries written again stand.
    fn head(&self, mirror: &mut Mirror, stream: &mut Stream) -> Vec<DiskBuf> {
        let kept_of = |shard: ShardId| self.kept.get(&shard).copied().unwrap_or_default();
        let mut head = segment::head(mirror, self.cut, kept_of);
        let gone = self.gone.iter().map(|shard| Logged::Gone(*shard));
        let front = usize::from(self.cut.is_some());
        head.splice(front..front, gone);
        let (first, mut places) = (stream.next, Vec::new());
        let closing = Closing { first, oldest: self.oldest };
        let placed = |_: &Entry, began, done| places.push((began, done));
        let batches = segment::pack(head, self.again, closing, self.batch_bytes, placed);
        let (mut bufs, mut offset, mut offsets) = (Vec::new(), 0, Vec::new());
        let synced = self.cut.unwrap_or_default().batch;
        for (at, fill) in batches.into_iter().enumerate() {
            let flags = if at == 0 { HEAD | FIRST } else { HEAD };
            let buf = stream.seal(fill, self.sequence, offset, synced, flags);
            offsets.push(offset);
            offset += buf.len() as u64;
            bufs.push(buf);
        }
        for (shard, log) in &mut mirror.shards {
            log.truncate_from(kept_of(*shard).saturating_add(1));
        }
        for (entry, (began, done)) in self.again.iter().zip(places) {
            let number = |at: usize| first + at as u64;
            let offset = offsets.get(began).copied().unwrap_or_default();
            let at = Place { segment: self.sequence, offset, number: number(began) };
            if let Some(log) = mirror.shards.get_mut(&entry.shard) {
                log.append(entry.index, entry.term, at, number(done));
            }
        }
        bufs
    }
}

async fn write_all<D: Disk>(disk: &D, handle: &Handle<D::File>, bufs: Vec<DiskBuf>) -> Result<(), StorageError> {
    let mut offset = 0;
    for buf in bufs {
        let bytes = buf.len() as u64;
        disk.write_at(&handle.file, offset, buf).await.0?;
        offset += bytes;
    }
    disk.sync(&handle.file).await?;
    Ok(())
}

async fn remove<D: Disk>(disk: &D, dir: &str, files: impl Iterator<Item = u64>) -> Result<u64, StorageError> {
    let mut removed = 0;
    for file in files {
        disk.remove(&format!("{dir}/{}", segment::name(file))).await?;
        removed += 1;
    }
    if removed > 0 {
        disk.sync_dir(dir).await?;
    }
    Ok(removed)
}

/// What whoever opens the log is given.
fn recovered(mirror: &Mirror, mut entries: BTreeMap<ShardId, Vec<walk::Dated>>, report: RecoveryReport) -> Recovered {
    let shards = mirror.shards.iter().map(|(shard, log)| RecoveredShard {
        state: log.state.clone(),
        entries: entries.remove(shard).unwrap_or_default().into_iter().map(|(entry, _)| entry).collect(),
    });
    Recovered {
        shards: shards.collect(),
        peers: mirror.peers.iter().map(|(store, incarnation)| (*store, *incarnation)).collect(),
        admitted: mirror.admitted,
        report,
    }
}
