//! The disk: what the log and the tables ask of it, with its guarantees per method.

#[cfg(test)]
mod conformance;
pub mod files;
pub mod helper;
pub mod plain;
pub mod section;
pub(crate) mod started;
pub mod uring;

use crate::error::DiskError;
use std::cell::RefCell;
use std::ops::{Deref, Range};
use zerocopy::FromZeros;

pub mod fault;

/// Buffers, offsets and lengths of direct files are multiples of this.
pub const ALIGN: usize = 4096;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, read only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file for reading and writing; an existing one is an error.
    Create,
}

/// A place for bytes and names. Paths are relative to its root, with `/` between parts.
///
/// A dropped future leaves its buffer with the disk until the operation completes; the operation may still take effect.
/// Operations on one file that are in flight together may take effect in any order. Futures need not be `Send`.
#[expect(async_fn_in_trait, reason = "one core drives one disk: its futures never leave the thread")]
pub trait Disk: Clone + 'static {
    /// An open file; closed with its last clone.
    type File: Clone + 'static;

    /// Opens a file, past the page cache (O_DIRECT) where the disk can. A new name is durable only after
    /// [`Disk::sync_dir`].
    async fn open(&self, path: &str, mode: OpenMode) -> Result<Self::File, DiskError>;
    /// The file's length in bytes.
    async fn size(&self, file: &Self::File) -> Result<u64, DiskError>;
    /// Fills `buf` (its whole length) from `offset`; both aligned to [`ALIGN`]. Answers the number of bytes read, smaller
    /// only at the file's end.
    async fn read_at(&self, file: &Self::File, offset: u64, buf: DiskBuf) -> (Result<usize, DiskError>, DiskBuf);
    /// Writes all of `buf` at `offset`; both aligned. Not durable before [`Disk::sync`]. A short write is an error.
    async fn write_at(&self, file: &Self::File, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf);
    /// Writes all of `buf`, then makes the file's data durable. `Ok` only when both were. Nothing is said about other
    /// writes in flight. The file's size must already cover the range.
    async fn commit(&self, file: &Self::File, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf);
    /// Makes every completed write to the file durable, and its size. After an error nothing is known of any of them;
    /// asking again proves nothing.
    async fn sync(&self, file: &Self::File) -> Result<(), DiskError>;
    /// Makes the file at least `bytes` long; what is new is written zeros, durable with the size.
    async fn allocate(&self, file: &Self::File, bytes: u64) -> Result<(), DiskError>;
    /// Makes names made, renamed or removed in a directory durable. `""` is the root.
    async fn sync_dir(&self, path: &str) -> Result<(), DiskError>;
    /// Makes a directory, and its parents; an existing one is no error.
    async fn create_dir(&self, path: &str) -> Result<(), DiskError>;
    /// Renames a file, replacing `to` atomically. Durable after `sync_dir` of the directory.
    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file. Open handles keep reading.
    async fn remove(&self, path: &str) -> Result<(), DiskError>;
    /// Names in a directory, sorted, without `.` and `..`.
    async fn list(&self, path: &str) -> Result<Vec<String>, DiskError>;
    /// A section of a file that is never written again, in memory: read once, checked once by `verify`, locked there, so
    /// that no page is dropped and read again unverified. `range` may start anywhere; the bytes begin at `range.start`.
    async fn map(
        &self,
        file: &Self::File,
        range: Range<u64>,
        verify: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Mapped, DiskError>;
}

/// A verified section of a file, in memory until dropped.
pub struct Mapped(Box<dyn Deref<Target = [u8]> + Send + Sync>);

impl Mapped {
    /// Wraps whatever holds the bytes.
    pub fn new(bytes: impl Deref<Target = [u8]> + Send + Sync + 'static) -> Mapped {
        Mapped(Box::new(bytes))
    }
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapped({} bytes)", self.len())
    }
}

/// An owned buffer whose start and length are multiples of [`ALIGN`].
pub struct DiskBuf {
    chunks: Vec<Chunk>,
}

#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(4096))]
struct Chunk([u8; ALIGN]);

impl DiskBuf {
    /// A zeroed buffer of at least `bytes`, rounded up to [`ALIGN`].
    pub fn zeroed(bytes: usize) -> DiskBuf {
        // Cleared where it is, not copied from one that is clear.
        DiskBuf { chunks: Chunk::new_vec_zeroed(bytes.div_ceil(ALIGN)).expect("memory for a buffer") }
    }
    /// A buffer of at least `bytes`, rounded up to [`ALIGN`], to be read into: what it holds was read before, or zeros. Small ones
    /// come from those that this thread dropped.
    pub fn for_reading(bytes: usize) -> DiskBuf {
        let chunks = bytes.div_ceil(ALIGN);
        SPARE.with_borrow_mut(|spare| spare.take(chunks)).unwrap_or_else(|| DiskBuf::zeroed(bytes))
    }
    /// Its length in bytes, a multiple of [`ALIGN`].
    pub fn len(&self) -> usize {
        self.chunks.len() * ALIGN
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// Most chunks of a buffer that is kept for the next read: blocks of tables lie across two pages.
const SPARE_CHUNKS_MAX: usize = 2;
/// Most of them, of each length: as many as reads are in flight.
const SPARE_MAX: usize = 64;

/// Buffers that were dropped, by their chunks: memory for each read, cleared, costs more than looking a key up in it.
struct Spare([Vec<Vec<Chunk>>; SPARE_CHUNKS_MAX]);

impl Spare {
    fn of(&mut self, chunks: usize) -> Option<&mut Vec<Vec<Chunk>>> {
        self.0.get_mut(chunks.checked_sub(1)?)
    }
    fn take(&mut self, chunks: usize) -> Option<DiskBuf> {
        Some(DiskBuf { chunks: self.of(chunks)?.pop()? })
    }
    fn give(&mut self, chunks: Vec<Chunk>) {
        if let Some(spare) = self.of(chunks.len()).filter(|spare| spare.len() < SPARE_MAX) {
            spare.push(chunks);
        }
    }
}

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare([const { Vec::new() }; SPARE_CHUNKS_MAX])) };
}

impl Drop for DiskBuf {
    fn drop(&mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        if (1..=SPARE_CHUNKS_MAX).contains(&chunks.len()) {
            // A thread that ends has no use for it.
            let _ended = SPARE.try_with(|spare| spare.borrow_mut().give(chunks));
        }
    }
}

impl Deref for DiskBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `Chunk` is a plain array of bytes without padding; the vector's chunks are contiguous and initialised.
        unsafe { std::slice::from_raw_parts(self.chunks.as_ptr().cast(), self.len()) }
    }
}

impl std::ops::DerefMut for DiskBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = self.len();
        // SAFETY: as in `deref`; the borrow of self is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.chunks.as_mut_ptr().cast(), bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_for_reading_come_back_one_at_a_time_and_as_many_as_are_kept() {
        let small = |with: u8| {
            let mut buf = DiskBuf::for_reading(ALIGN + 1);
            assert_eq!(buf.len(), 2 * ALIGN);
            buf.fill(with);
            buf
        };
        let held: Vec<_> = (0..=SPARE_MAX as u8).map(small).collect();
        for (with, buf) in held.iter().enumerate() {
            assert!(buf.iter().all(|byte| usize::from(*byte) == with), "two hold the same memory");
        }
        let of: Vec<_> = held.iter().map(|buf| buf.as_ptr()).collect();
        drop(held);
        let again: Vec<_> = (0..SPARE_MAX).map(|_| DiskBuf::for_reading(2 * ALIGN)).collect();
        assert!(again.iter().all(|buf| of.contains(&buf.as_ptr())), "memory that was not kept");
        assert_eq!(SPARE.with_borrow(|spare| spare.0[1].len()), 0, "more are kept than are wanted");
        assert!(DiskBuf::zeroed(2 * ALIGN).iter().all(|byte| *byte == 0));
        // What is larger is not kept, and of one page there are others.
        assert_eq!([0, 1, 3 * ALIGN].map(|bytes| DiskBuf::for_reading(bytes).len()), [0, ALIGN, 3 * ALIGN]);
        assert_eq!(SPARE.with_borrow(|spare| spare.0.each_ref().map(Vec::len)), [1, 1]);
    }
}
