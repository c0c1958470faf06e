//! What is queued to leave on one connection.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// Pieces below this are copied together, larger ones are queued as they are.
const COPY_BYTES_MAX: usize = 8 << 10;

/// A queue of bytes, kept in pieces that are worth a system call's attention. A piece does not move while a clone of it lives.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    /// Small pieces, copied together; behind everything in `queue`.
    tail: BytesMut,
    bytes: usize,
}

impl Outbox {
    /// Puts bytes behind all others.
    pub fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        if bytes.len() < COPY_BYTES_MAX {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.queue.push_back(bytes);
        }
    }

    /// Bytes queued.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All that is queued, in order.
    pub fn pieces(&mut self) -> impl Iterator<Item = &Bytes> {
        self.seal();
        self.queue.iter()
    }

    /// Takes `n` bytes from the front: they have left.
    pub fn advance(&mut self, mut n: usize) {
        assert!(n <= self.bytes, "{n} bytes left, {} were queued", self.bytes);
        self.bytes -= n;
        while n > 0 {
            let Some(first) = self.queue.front_mut() else { break };
            let step = n.min(first.len());
            first.advance(step);
            n -= step;
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
        assert_eq!(n, 0, "what left was sealed before");
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.queue.push_back(tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_leaves_in_order_in_few_pieces() {
        let (mut outbox, mut wanted, mut left) = (Outbox::default(), Vec::new(), Vec::new());
        for i in 0..200usize {
            let piece = vec![i as u8; if i % 50 == 49 { COPY_BYTES_MAX + i } else { i }];
            wanted.extend_from_slice(&piece);
            outbox.push(Bytes::from(piece));
        }
        assert_eq!(outbox.bytes(), wanted.len());
        assert_eq!(outbox.pieces().count(), 8, "four large ones, four runs of small ones");
        while !outbox.is_empty() {
            let all: Vec<u8> = outbox.pieces().flatten().copied().collect();
            let n = all.len().min(7001);
            left.extend_from_slice(&all[..n]);
            outbox.advance(n);
        }
        assert_eq!(left, wanted);
    }
}
