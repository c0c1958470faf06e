//! Buffers that the kernel picks from when data arrives, so that a waiting receive holds no memory of its own.

use crate::disk::uring::ring::{Completion, Ring};
use bytes::Bytes;
use io_uring::cqueue;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers of one size, known to the ring as a group. Not locked memory. The ring keeps the memory until it is closed.
pub struct Provided {
    memory: Rc<Memory>,
    group: u16,
    count: u16,
    bytes: u32,
    /// Buffers ever given to the kernel, modulo 2^16.
    tail: Cell<u16>,
}

/// Mapped, so page-aligned and never moved. Touched only through raw pointers: the kernel writes into it.
struct Memory {
    ring: *mut BufRingEntry,
    buffers: *mut u8,
    _owned: [MmapMut; 2],
}

impl Provided {
    /// Registers `count` buffers (a power of two) of `bytes` each as group `group` of the ring.
    pub fn new(ring: &Ring, group: u16, count: u16, bytes: u32) -> io::Result<Provided> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "the kernel takes powers of two up to 2^15, not {count}");
        let mut entries = MmapMut::map_anon(usize::from(count) * size_of::<BufRingEntry>())?;
        let mut buffers = MmapMut::map_anon(usize::from(count) * bytes as usize)?;
        let memory = Rc::new(Memory {
            ring: entries.as_mut_ptr().cast(),
            buffers: buffers.as_mut_ptr(),
            _owned: [entries, buffers],
        });
        let address = memory.ring as u64;
        // SAFETY: the ring of entries is owned by `memory`, which the ring keeps; so are the buffers given below.
        unsafe {
            ring.register(memory.clone(), |submitter| {
                submitter.register_buf_ring_with_flags(address, count, group, 0)
            })?;
        }
        let provided = Provided { memory, group, count, bytes, tail: Cell::new(0) };
        for id in 0..count {
            provided.give(id);
        }
        Ok(provided)
    }

    /// The group's number, for entries that select from it.
    pub fn group(&self) -> u16 {
        self.group
    }

    /// Copies out what arrived and gives the buffer back to the kernel. None when the completion used no buffer.
    ///
    /// # Safety
    /// `done` was just handed out by the ring for an entry that selects from this group, and is taken once: until then the
    /// buffer it names belongs to us.
    pub unsafe fn take(&self, done: &Completion) -> Option<Bytes> {
        let id = cqueue::buffer_select(done.flags)?;
        assert!(id < self.count, "the kernel names a buffer of this group, not {id}");
        let filled = done.result.max(0) as usize;
        assert!(filled <= self.bytes as usize, "no more than a buffer holds");
        let at = usize::from(id) * self.bytes as usize;
        // SAFETY: the range lies in the mapping; the kernel does not write to a buffer between its completion and `give`.
        let arrived = unsafe { std::slice::from_raw_parts(self.memory.buffers.add(at), filled) };
        let copy = Bytes::copy_from_slice(arrived);
        self.give(id);
        Some(copy)
    }

    /// Hands a buffer to the kernel.
    fn give(&self, id: u16) {
        let tail = self.tail.get();
        let (slot, at) = (usize::from(tail & (self.count - 1)), usize::from(id) * self.bytes as usize);
        // SAFETY: the slot lies in the mapped ring of `count` entries; the kernel reads it only after the tail says so. The
        // setters leave the first entry's reserved field alone, which is the tail.
        unsafe {
            let entry = &mut *self.memory.ring.add(slot);
            entry.set_addr(self.memory.buffers.add(at) as u64);
            entry.set_len(self.bytes);
            entry.set_bid(id);
        }
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        // SAFETY: the tail is an aligned u16 in the mapping; this thread alone writes it, the kernel reads it.
        unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.memory.ring).cast_mut()).store(tail, Ordering::Release) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::uring::ring::{Owner, RingOptions};
    use io_uring::squeue::Flags;
    use io_uring::{opcode, types};
    use std::cell::RefCell;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    struct Receiver {
        from: UnixStream,
        provided: Provided,
        got: RefCell<Vec<u8>>,
        last: Cell<Option<i32>>,
    }
    impl Owner for Receiver {
        fn complete(self: Rc<Self>, _: u32, done: Completion) {
            // SAFETY: each completion is taken here, once.
            if let Some(bytes) = unsafe { self.provided.take(&done) } {
                self.got.borrow_mut().extend_from_slice(&bytes);
            }
            self.last.set(done.last.then_some(done.result));
        }
    }

    #[test]
    fn buffers_go_around() {
        let ring = match Ring::new(RingOptions::default()) {
            Ok(ring) => ring,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let provided = Provided::new(&ring, 3, 4, 64).unwrap();
        let (mut to, from) = UnixStream::pair().unwrap();
        let receiver = Rc::new(Receiver { from, provided, got: RefCell::default(), last: Cell::new(None) });
        let mut sent = Vec::new();
        for round in 0..100u8 {
            let entry = opcode::Recv::new(types::Fd(receiver.from.as_raw_fd()), std::ptr::null_mut(), 0)
                .buf_group(receiver.provided.group())
                .build()
                .flags(Flags::BUFFER_SELECT);
            // SAFETY: the descriptor is the owner's, the buffers are the ring's.
            unsafe { ring.push(entry, receiver.clone(), 0) };
            to.write_all(&[round; 50]).unwrap();
            sent.extend_from_slice(&[round; 50]);
            while ring.in_flight() > 0 {
                ring.turn_waiting().unwrap();
            }
            assert_eq!(receiver.last.get(), Some(50));
        }
        assert_eq!(*receiver.got.borrow(), sent);
    }
}
