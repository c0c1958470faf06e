//! Reading the frames, up to the end of the log or to damage. Changes nothing.

use super::survey::{Member, Survey, damaged};
use super::{Apply, Position};
use crate::db::log::frame::{FRAME_ALIGN, FRAME_HEAD_BYTES, FrameHead, take_op};
use crate::db::log::head::HEAD_BYTES;
use crate::disk::OpenMode;
use crate::disk::files::Root;
use crate::error::{DiskError, StorageError};
use memmap2::{Advice, Mmap, MmapOptions};
use std::io;

/// What of a member is part of the log.
pub(super) struct Kept {
    /// Where the frames end, per member that holds a part of the log; the members behind those are void.
    pub ends: Vec<usize>,
    /// The last record.
    pub last_seq: u64,
    /// Every record up to this one is proved durable.
    pub synced: Position,
}

/// A segment's file in memory, read only.
pub(super) struct Image {
    map: Mmap,
}

impl Image {
    /// Reads all of `path`: an error of the device is an error here.
    pub fn load(root: &Root, path: &str) -> Result<Image, DiskError> {
        let file = root.open_file(path, OpenMode::Read)?;
        // SAFETY: nobody but this opening, which holds the database's lock, writes or cuts a file of the log, and this one
        // is cut only behind the frames that were taken, when nobody looks there any more. All pages are brought in below,
        // where an error of the device is answered. An outsider who cuts the file ends the process by SIGBUS; the next
        // opening finds what was done.
        let map = unsafe { MmapOptions::new().map(&file.file) }.map_err(|e| file.error("map", e))?;
        match map.advise(Advice::PopulateRead) {
            // Before Linux 5.14.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
            read => read.map_err(|e| file.error("read", e))?,
        }
        Ok(Image { map })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// Takes every whole frame in unbroken order and tells `apply` of the records behind `flushed_seq`. Where that ends before
/// the log does, looks at all that stands behind for proof that it may not end there.
pub(super) fn walk(root: &Root, found: &Survey, flushed_seq: u64, apply: &mut Apply<'_>) -> Result<Kept, StorageError> {
    let first_seq = found.members.first().map_or(1, |member| member.born.first_seq);
    let mut walk = Walk { next_seq: first_seq, synced: 0, flushed_seq, apply };
    let mut ends = Vec::new();
    for (at, member) in found.members.iter().enumerate() {
        walk.synced = walk.synced.max(member.born.synced);
        let image = Image::load(root, &member.path)?;
        let end = walk.member(member, image.bytes())?;
        ends.push(end);
        if member.bound != Some(walk.next_seq) {
            let behind = found.members.get(at + 1..).unwrap_or_default();
            may_end(root, &walk, member, &image, end, behind)?;
            break;
        }
    }
    Ok(Kept { ends, last_seq: walk.next_seq - 1, synced: Position(walk.synced) })
}

struct Walk<'w, 'a> {
    /// The record that comes next.
    next_seq: u64,
    /// The highest mark seen.
    synced: u64,
    flushed_seq: u64,
    apply: &'w mut Apply<'a>,
}

impl Walk<'_, '_> {
    /// Takes the frames of one segment; answers where they end.
    fn member(&mut self, member: &Member, bytes: &[u8]) -> Result<usize, StorageError> {
        let mut at = HEAD_BYTES;
        while member.bound != Some(self.next_seq) {
            let Some(head) = FrameHead::read(bytes, at, member.salt) else { break };
            let Some(body) = head.body(bytes, at, member.salt) else { break };
            self.frame(member, at, &head, body)?;
            at = head.end(at);
        }
        Ok(at.min(bytes.len()))
    }

    /// Takes one frame. Its checks hold, so it is what was written here; what does not fit is no power cut's work.
    fn frame(&mut self, member: &Member, at: usize, head: &FrameHead, body: &[u8]) -> Result<(), StorageError> {
        let path = &member.path;
        if head.first_seq != self.next_seq {
            return Err(damaged(path, at, format!("record {}", self.next_seq), format!("record {}", head.first_seq)));
        }
        if head.synced >= head.first_seq {
            let expected = format!("a mark before record {}", head.first_seq);
            return Err(damaged(path, at, expected, format!("synced up to {}", head.synced)));
        }
        let limit = member.bound.unwrap_or(u64::MAX / 2);
        let Some(next_seq) = head.next_seq().filter(|next| *next <= limit) else {
            let got = format!("{} records from {}", head.ops, head.first_seq);
            return Err(damaged(path, at, format!("records before {limit}"), got));
        };
        self.ops(member, at, head, body)?;
        self.next_seq = next_seq;
        self.synced = self.synced.max(head.synced);
        Ok(())
    }

    fn ops(&mut self, member: &Member, at: usize, head: &FrameHead, body: &[u8]) -> Result<(), StorageError> {
        let mut rest = body;
        for (seq, op) in (head.first_seq..).zip(0..head.ops) {
            let Some(taken) = take_op(&mut rest) else {
                let offset = at + FRAME_HEAD_BYTES + (body.len() - rest.len());
                return Err(damaged(&member.path, offset, format!("op {op} of {}", head.ops), "none".to_owned()));
            };
            if seq > self.flushed_seq {
                (self.apply)(seq, taken)?;
            }
        }
        if !rest.is_empty() {
            let got = format!("{} bytes more", rest.len());
            return Err(damaged(&member.path, at, format!("{} ops", head.ops), got));
        }
        Ok(())
    }
}

/// Whether the log may end at `end` of `member`: not when anything behind proves that the next record was durable.
fn may_end(
    root: &Root,
    walk: &Walk<'_, '_>,
    member: &Member,
    image: &Image,
    end: usize,
    behind: &[Member],
) -> Result<(), StorageError> {
    let mut proof = highest_mark(image.bytes(), end, member).map(|mark| (mark, &member.path));
    for later in behind {
        let frames = highest_mark(Image::load(root, &later.path)?.bytes(), HEAD_BYTES, later);
        let mark = frames.unwrap_or_default().max(later.born.synced);
        proof = proof.max(Some((mark, &later.path)));
    }
    match proof {
        Some((mark, path)) if mark >= walk.next_seq => {
            let expected = format!("record {}: {path} says that all up to {mark} were durable", walk.next_seq);
            Err(damaged(&member.path, end, expected, "no whole frame".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The highest mark of any frame of `member` at or behind `from`, wherever one stands: the chain is broken here.
fn highest_mark(bytes: &[u8], from: usize, member: &Member) -> Option<u64> {
    let first_seq = member.born.first_seq;
    let frames = (from..bytes.len()).step_by(FRAME_ALIGN).filter_map(|at| FrameHead::read(bytes, at, member.salt));
    // A check that holds by chance does not also carry numbers of this segment.
    let ours = |head: &FrameHead| {
        head.synced < head.first_seq && head.first_seq >= first_seq && head.first_seq - first_seq <= bytes.len() as u64
    };
    frames.filter(ours).map(|head| head.synced).max()
}
