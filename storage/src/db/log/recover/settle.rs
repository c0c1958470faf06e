//! Making what was found durable, and clearing away what is not part of the log. May end anywhere and begin again: the
//! same records are found.

use super::walk::Image;
use super::{Kept, Live, LogOptions, Position, Segments, Survey};
use crate::db::log::frame::FrameHead;
use crate::db::log::head::HEAD_BYTES;
use crate::db::log::recover::survey::Member;
use crate::db::log::segment::DIR;
use crate::disk::OpenMode;
use crate::disk::files::Root;
use crate::error::{DiskError, StorageError};

/// Bytes written again at once.
const STEP_BYTES: usize = 1 << 20;

/// Writes again what nothing proves to be durable, cuts off what is void, removes files; answers what stays.
pub(super) fn settle(root: &Root, found: &Survey, kept: &Kept, options: &LogOptions) -> Result<Segments, StorageError> {
    let mut segments = Segments::default();
    for (at, member) in found.members.iter().enumerate() {
        match kept.ends.get(at) {
            Some(&end) if end > HEAD_BYTES => {
                let bytes = harden(root, member, end, kept.synced)?;
                let (path, first_seq) = (member.path.clone(), member.born.first_seq);
                segments.live.push_back(Live { path, first_seq, bytes, open: None });
            }
            // Nothing in it, but until the next one is durable it may be the only one whose head says that there is a log.
            Some(_) => {
                let (path, first_seq, bytes) = (member.path.clone(), member.born.first_seq, member.bytes);
                segments.live.push_back(Live { path, first_seq, bytes, open: None });
            }
            // Void. It must be gone before a segment is begun that claims its numbers.
            None => root.remove(&member.path)?,
        }
    }
    for path in &found.unfinished {
        root.remove(path)?;
    }
    for (path, bytes) in &found.needless {
        if *bytes == options.segment_bytes && segments.spares.len() <= options.ahead {
            segments.spares.push(path.clone());
        } else {
            root.remove(path)?;
        }
    }
    root.sync_dir(DIR)?;
    Ok(segments)
}

/// Makes the frames of `member` up to `end` durable and cuts the file behind them; answers its length.
///
/// What nothing proves to be durable is written again, the same bytes to the same place: after a failed sync of a process
/// before, the page cache shows what the disk may not hold, and a sync alone would say that all is well.
fn harden(root: &Root, member: &Member, end: usize, synced: Position) -> Result<u64, DiskError> {
    let file = root.open_file(&member.path, OpenMode::Write)?;
    let bytes = end.next_multiple_of(4096) as u64;
    if member.bound.is_none_or(|bound| bound - 1 > synced.0) {
        let image = Image::load(root, &member.path)?;
        let mut at = unproved(image.bytes(), member, end, synced);
        while at < end {
            let step = STEP_BYTES.min(end - at);
            // Copied first: the system would read the page that it writes.
            let copy = image.bytes()[at..at + step].to_vec();
            file.write_at(at as u64, &copy)?;
            at += step;
        }
    }
    if file.size()? > bytes {
        file.file.set_len(bytes).map_err(|e| file.error("cut", e))?;
    }
    file.sync()?;
    file.size()
}

/// Where the first frame begins that ends behind the record `synced`.
fn unproved(bytes: &[u8], member: &Member, end: usize, synced: Position) -> usize {
    let mut at = HEAD_BYTES;
    while at < end {
        match FrameHead::read(bytes, at, member.salt) {
            Some(head) if head.next_seq().is_some_and(|next| next - 1 <= synced.0) => at = head.end(at),
            _ => break,
        }
    }
    at
}
