//! The one who appends.

use super::frame::{self, BATCH_BYTES_MAX, batch_bytes};
use super::head::{Born, HEAD_BYTES};
use super::segment::Tail;
use super::shared::Shared;
use super::{Op, Position};
use crate::error::StorageError;
use std::sync::Arc;

/// Longer frames are copied into the mapping: a sync of them takes longer than what it does there, and nobody keeps memory for them.
const FRAME_KEPT_BYTES: usize = 256 << 10;

/// Appends to the log. There is one for each open log.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    tail: Tail,
    next_seq: u64,
    /// A frame that is written by a system call is made here.
    frame: Vec<u8>,
}

impl Writer {
    /// Goes on in `tail`, which is in `shared`'s list, with record `next_seq`.
    pub(super) fn new(shared: Arc<Shared>, tail: Tail, next_seq: u64) -> Writer {
        Writer { shared, tail, next_seq, frame: Vec::new() }
    }

    /// Appends `ops` as records `first_seq`, `first_seq` + 1, ..: recovery finds all of them or none. When it returns they
    /// survive the death of the process; the machine's after [`Shared::sync_to`] of the position answered. Without ops it
    /// writes a mark: proof, for a recovery, of how far the log is durable.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] after a failed sync, or when the system refused to take this frame: nobody knows how much of it is there.
    /// [`StorageError::DiskFull`] when no segment could be made: nothing was written, and the same number may be tried again.
    ///
    /// # Panics
    /// When `first_seq` does not follow the last record, or an op or [`batch_bytes`] is beyond its limit.
    pub fn append(&mut self, first_seq: u64, ops: &[Op<'_>]) -> Result<Position, StorageError> {
        assert_eq!(first_seq, self.next_seq, "a record out of order");
        let bytes = batch_bytes(ops);
        assert!(bytes <= BATCH_BYTES_MAX, "a batch too large");
        let bytes = bytes as usize;
        self.shared.check_poison()?;
        if self.tail.room() < bytes {
            self.rotate(bytes)?;
        }
        let (at, salt, synced) = (self.tail.at, self.tail.segment.salt, self.shared.synced_seq());
        if synced + 1 == first_seq && bytes <= FRAME_KEPT_BYTES {
            // All before is durable: whoever writes here waits for each sync, or few writes come between two.
            self.frame.resize(bytes, 0);
            frame::put(&mut self.frame, at, salt, first_seq, synced, ops);
            self.tail.write(&self.frame).map_err(|cause| self.shared.poison(cause))?;
        } else {
            frame::put(self.tail.slice(at..at + bytes), at, salt, first_seq, synced, ops);
        }
        self.tail.advance(bytes);
        self.next_seq = first_seq + ops.len() as u64;
        let last = self.next_seq - 1;
        self.shared.publish(last);
        Ok(Position(last))
    }

    /// Whether the segment that is written has room for these, so that an append waits for nothing.
    pub fn has_room(&self, ops: &[Op<'_>]) -> bool {
        self.tail.room() as u64 >= batch_bytes(ops)
    }

    /// Goes over to the next segment, with room for a frame of `bytes`.
    #[cold]
    fn rotate(&mut self, bytes: usize) -> Result<(), StorageError> {
        let segment = self.shared.take(HEAD_BYTES + bytes)?;
        let born = Born { first_seq: self.next_seq, synced: self.shared.synced_seq() };
        self.tail = Tail::begin(segment, born);
        self.shared.push_live(&self.tail.segment, born.first_seq);
        Ok(())
    }
}
