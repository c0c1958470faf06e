//! A log read by one who changes nothing of it: what a recovery would find, and every record that it would take.

pub use crate::wal::index::Place;
pub use crate::wal::record::{Cut, Logged};

use super::find::find;
use super::image::Source;
use crate::disk::{Disk, OpenMode};
use crate::error::StorageError;
use crate::wal::Recovered;
use crate::wal::segment::sector::Seed;

/// A record and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'r> {
    /// The batch in which it begins.
    pub at: Place,
    /// The number of the batch in which it ends: a later one for an entry that was cut into fragments.
    pub ends: u64,
    /// The record.
    pub record: &'r Logged,
}

/// A segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its sequence.
    pub sequence: u64,
    /// Where its batches end.
    pub end: u64,
    /// Length of its file.
    pub bytes: u64,
}

/// What a sound log holds.
#[derive(Debug)]
pub struct Inspected {
    /// What a recovery would give. Its report says what was read; nothing was written again or removed.
    pub recovered: Recovered,
    /// The segments that make the log, oldest first.
    pub segments: Vec<Live>,
    /// Segment files that are no part of it: unborn, void or no longer needed. A recovery removes them.
    pub others: Vec<u64>,
    /// Number of the last batch; 0 when there is none.
    pub last: u64,
    /// The highest batch that the log itself calls durable. A recovery writes what stands behind it again.
    pub synced: u64,
}

/// Walks the log in `dir` as a recovery does (FORMAT.md §1.5, steps 1 to 4) without writing, making or removing
/// anything. `heard` hears of every record in order, also of those in front of damage. No process may have the log
/// open.
///
/// # Errors
/// As [`crate::wal::Log::open`].
pub async fn inspect<D: Disk>(
    disk: &D,
    dir: &str,
    store_identity: [u8; 16],
    mut heard: impl FnMut(Standing<'_>),
) -> Result<Inspected, StorageError> {
    let source = Source { disk, dir, seed: Seed::new(&store_identity), mode: OpenMode::Read };
    let files = source.list().await?;
    let found = find(&source, &files, &mut heard).await?;
    let live = found.walked.iter().map(|walked| Live {
        sequence: walked.handle.sequence,
        end: walked.end,
        bytes: walked.handle.bytes,
    });
    let segments: Vec<Live> = live.collect();
    let is_live = |file: &u64| segments.iter().any(|live| live.sequence == *file);
    let others = files.iter().copied().filter(|file| !is_live(file)).collect();
    let (last, synced) = (found.walk.last(), found.walk.synced);
    let recovered = super::recovered(&found.walk.mirror, found.walk.entries, found.report);
    Ok(Inspected { recovered, segments, others, last, synced })
}

/// Name of a segment's file in the log's directory.
pub fn segment_name(sequence: u64) -> String {
    crate::wal::segment::name(sequence)
}
