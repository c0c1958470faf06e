//! What the files of a log say, found without changing any of them: the reading half of a recovery (FORMAT.md §1.5).

use super::image::{Image, Source};
use super::inspect::Standing;
use super::survey::{self, Head};
use super::walk::{self, End, Walk};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::wal::RecoveryReport;
use crate::wal::record::Cut;
use crate::wal::segment::{self, Handle};
use std::collections::BTreeMap;

/// A segment of the log as it was walked.
pub(super) struct Walked<F> {
    pub(super) handle: Handle<F>,
    /// Where its batches end.
    pub(super) end: u64,
    /// The batch taken before its first.
    pub(super) before: Cut,
}

/// A log as it was found.
pub(super) struct Found<F> {
    pub(super) walk: Walk,
    /// Its segments, oldest first.
    pub(super) walked: Vec<Walked<F>>,
    /// The highest batch number in any whole sector.
    pub(super) highest: u64,
    /// Nothing was written or removed yet.
    pub(super) report: RecoveryReport,
}

/// Walks the log that `files` hold and judges what stands behind it. `heard` hears of every record taken, in order.
pub(super) async fn find<D: Disk>(
    source: &Source<'_, D>,
    files: &[u64],
    heard: &mut dyn FnMut(Standing<'_>),
) -> Result<Found<D::File>, StorageError> {
    let heads = survey::survey(source, files).await?;
    let chain = survey::chain(&heads);
    let (mut walk, mut walked) = (Walk::new(), Vec::new());
    for (at, (sequence, head)) in chain.iter().enumerate() {
        let mut image = source.open(*sequence).await?;
        let before = last_cut(&walk);
        let until = chain.get(at + 1).and_then(|(_, next)| next.cut);
        let Some(end) = walk.segment(&mut image, *head, until, heard).await? else { break };
        let Image { file, path, size, .. } = image;
        walked.push(Walked { handle: Handle { file, sequence: *sequence, path, bytes: size }, end, before });
    }
    let mut report = RecoveryReport {
        segments: walked.len() as u64,
        batches: walk.taken.len() as u64,
        entries: walk.entries.values().map(|entries| entries.len() as u64).sum(),
        ..RecoveryReport::default()
    };
    let highest = judge_rest(source, files, &walk, walked.last(), &mut report).await?;
    check_whole(source.dir, &heads, &walk, walked.first())?;
    check_floors(source.dir, &walk)?;
    Ok(Found { walk, walked, highest, report })
}

fn last_cut(walk: &Walk) -> Cut {
    walk.taken.last().map_or(Cut::default(), |taken| Cut {
        batch: taken.number,
        segment: taken.segment,
        chain: taken.chain,
    })
}

/// Judges what stands behind the last batch: in its segment and in newer files. The highest batch number anywhere.
async fn judge_rest<D: Disk>(
    source: &Source<'_, D>,
    files: &[u64],
    walk: &Walk,
    last: Option<&Walked<D::File>>,
    report: &mut RecoveryReport,
) -> Result<u64, StorageError> {
    let (sequence, end) = last.map_or((0, 0), |walked| (walked.handle.sequence, walked.end));
    let mut highest = walk.last();
    for &file in files.iter().filter(|file| **file >= sequence) {
        let image = source.open(file).await?;
        let here = file == sequence;
        let end = End { offset: if here { end } else { 0 }, last: walk.last(), here };
        let behind = walk::judge(&image, end).await?;
        highest = highest.max(behind.highest);
        report.cut = report.cut.or(behind.tail.map(|sector| (file, sector)));
    }
    Ok(highest)
}

/// Every segment that the log says it needs must have been walked.
///
/// When none was, the log is new: a first boot ended early, maybe more than once. Had anything ever been acknowledged,
/// its sectors would be there, whole or rotten, and would have been called damage before.
fn check_whole<F>(
    dir: &str,
    heads: &BTreeMap<u64, Option<Head>>,
    walk: &Walk,
    first: Option<&Walked<F>>,
) -> Result<(), StorageError> {
    let first = first.map(|walked| walked.handle.sequence);
    let Some(missing) = first.filter(|first| walk.oldest < *first).map(|first| first - 1) else { return Ok(()) };
    let got = match heads.get(&missing) {
        None => "no file",
        Some(None) => "no complete head",
        Some(Some(_)) => "a head that does not continue the log",
    };
    Err(StorageError::Damaged {
        path: format!("{dir}/{}", segment::name(missing)),
        offset: 0,
        expected: format!("all segments from {} on", walk.oldest),
        got: got.to_owned(),
    })
}

/// Every shard's entries must begin right behind its floor.
fn check_floors(dir: &str, walk: &Walk) -> Result<(), StorageError> {
    for (shard, log) in &walk.mirror.shards {
        let next = log.state.floor_index.saturating_add(1);
        if let Some(first) = log.first().filter(|first| *first != next) {
            let expected = format!("entries of {shard} from {next}");
            return Err(StorageError::Damaged { path: dir.to_owned(), offset: 0, expected, got: format!("{first}") });
        }
    }
    Ok(())
}
