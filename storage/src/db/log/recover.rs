//! Opening: what the last process left, judged, made durable, and a fresh segment behind it (FORMAT.md §6.3).

mod settle;
mod survey;
mod walk;

use super::head::Born;
use super::segment::{DIR, Segment, SyncPages, Tail};
use super::shared::{Live, Segments, Shared};
use super::writer::Writer;
use super::{LogOptions, Op, Position, SEGMENT_BYTES_MIN};
use crate::disk::files::Root;
use crate::error::StorageError;
use settle::settle;
use std::sync::Arc;
use survey::{Survey, survey};
use walk::{Kept, walk};

/// Hears of each record behind the flushed ones, in order: its sequence number, then what was written.
pub(crate) type Apply<'a> = dyn FnMut(u64, Op<'_>) -> Result<(), StorageError> + 'a;

/// Opens the log in the directory `log` below `root`; whoever calls holds the lock of the database. `flushed_seq` is the
/// last record that tables hold, 0 for none: `apply` hears of those behind it. Answers the writer, what it shares, and the
/// last record that is known, in the log or in tables. All that was found is durable then. `sync_pages` makes the syncs of the open log.
///
/// # Errors
/// [`StorageError::Damaged`] when what was synced is not there, [`StorageError::Newer`], the disk's errors, and those of
/// `apply`. Nothing was changed on the disk then, unless the disk itself failed; opening again finds the same.
pub(crate) fn open(
    root: &Root,
    flushed_seq: u64,
    options: LogOptions,
    apply: &mut Apply<'_>,
    sync_pages: SyncPages,
) -> Result<(Writer, Arc<Shared>, u64), StorageError> {
    let whole_blocks = options.segment_bytes.is_multiple_of(4096);
    assert!(whole_blocks && options.segment_bytes >= SEGMENT_BYTES_MIN, "segments of {}", options.segment_bytes);
    // The mappings are of the page cache, so all else goes through it too.
    let root = root.clone().buffered();
    root.create_dir(DIR)?;
    root.sync_dir("")?;
    let found = survey(&root, flushed_seq)?;
    let kept = walk(&root, &found, flushed_seq, apply)?;
    let last_seq = kept.last_seq.max(flushed_seq);
    let segments = settle(&root, &found, &kept, &options)?;
    begin(root, options, sync_pages, last_seq, found.next_number, segments)
}

/// Makes the log of a database below `root` that has none yet, but tables with records up to `last_seq`; durable with its name.
pub(crate) fn create(root: &Root, last_seq: u64, options: LogOptions) -> Result<(), StorageError> {
    let root = root.clone().buffered();
    root.create_dir(DIR)?;
    begin(root.clone(), options, Box::new(Segment::sync_pages), last_seq, 1, Segments::default())?;
    root.sync_dir(DIR)?;
    Ok(root.sync_dir("")?)
}

/// Puts a fresh segment behind all others. Its head says where they end.
fn begin(
    root: Root,
    options: LogOptions,
    sync_pages: SyncPages,
    last_seq: u64,
    next_number: u64,
    segments: Segments,
) -> Result<(Writer, Arc<Shared>, u64), StorageError> {
    let shared = Arc::new(Shared::new(root, options, sync_pages, last_seq, next_number, segments));
    let segment = shared.take(SEGMENT_BYTES_MIN as usize)?;
    segment.populate();
    let tail = Tail::begin(segment, Born { first_seq: last_seq + 1, synced: last_seq });
    shared.push_live(&tail.segment, last_seq + 1);
    shared.sync_all()?;
    let writer = Writer::new(Arc::clone(&shared), tail, last_seq + 1);
    Ok((writer, shared, last_seq))
}
