//! Segment files: made, used again, mapped.

use super::head::{Born, HEAD_BYTES, Head};
use crate::db::driver::give_way;
use crate::disk::OpenMode;
use crate::disk::files::{OpenFile, Root};
use crate::error::DiskError;
use memmap2::{Advice, MmapRaw};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The log's directory, below the database's.
pub(super) const DIR: &str = "log";
const NEW: &str = ".new";
const PAGE_BYTES: usize = 4096;
/// After so many bytes that were made ready, whoever waits for the processor may have it: a writer, for milliseconds otherwise.
const STEP_BYTES: usize = 2 << 20;

/// Path of a segment.
pub(super) fn path(number: u64) -> String {
    format!("{DIR}/{number:016x}.wal")
}

/// Path of a file that is not a segment yet.
pub(super) fn unfinished_path(number: u64) -> String {
    path(number) + NEW
}

/// The number in a file's name below [`DIR`], and whether it is finished; none when the file is not ours.
pub(super) fn number_of(name: &str) -> Option<(u64, bool)> {
    let finished = name.strip_suffix(NEW);
    let digits = finished.unwrap_or(name).strip_suffix(".wal")?;
    let lower = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let number = u64::from_str_radix(digits, 16).ok().filter(|number| lower && *number > 0)?;
    Some((number, finished.is_none()))
}

/// An open segment in memory. Every block of it is reserved, durably, before it is mapped, and its file is never cut while it is: so
/// no store to it meets a full disk or the file's end, which would be a SIGBUS.
pub(crate) struct Segment {
    pub path: String,
    pub number: u64,
    pub salt: u32,
    map: MmapRaw,
    file: OpenFile,
    /// Where its frames end; only the writer moves it.
    pub end: AtomicUsize,
    /// What lies before is durable; moved under the lock of syncing.
    pub synced: AtomicUsize,
    /// How often some of it was made durable.
    pub syncs: AtomicUsize,
    /// Its blocks were written before, not only reserved: see [`Shared::write_out`](super::Shared).
    pub is_written: AtomicBool,
}

/// How bytes of a segment become durable; tests put a failing one here.
pub(crate) type SyncPages = Box<dyn Fn(&Segment, Range<usize>) -> io::Result<()> + Send + Sync>;

impl Segment {
    fn map(file: OpenFile, number: u64, salt: u32, is_written: bool) -> Result<Segment, DiskError> {
        let map = MmapRaw::map_raw(&file.file).map_err(|e| file.error("map", e))?;
        assert!(map.len() >= HEAD_BYTES, "a segment without room for its head");
        // Else the system reads ahead in large folios: see `fill`.
        drop(map.advise(Advice::Random));
        Ok(Segment {
            path: file.path.clone(),
            number,
            salt,
            map,
            file,
            end: AtomicUsize::new(HEAD_BYTES),
            synced: AtomicUsize::new(0),
            syncs: AtomicUsize::new(0),
            is_written: AtomicBool::new(is_written),
        })
    }

    /// Makes segment `number` of `bytes` zeros, durable with its name; they are reserved, not written: that would be a second write of
    /// all that is logged. After an error nothing is left of it.
    pub fn make(root: &Root, number: u64, salt: u32, bytes: u64) -> Result<Segment, DiskError> {
        let unfinished = unfinished_path(number);
        let made = Segment::make_as(root, &unfinished, number, salt, bytes);
        if made.is_err() {
            // What cannot be removed either is removed at the next opening.
            let _ = root.remove(&unfinished);
        }
        made
    }

    fn make_as(root: &Root, unfinished: &str, number: u64, salt: u32, bytes: u64) -> Result<Segment, DiskError> {
        let file = root.open_file(unfinished, OpenMode::Create)?;
        file.reserve(bytes)?;
        file.file.set_len(bytes).map_err(|e| file.error("lengthen", e))?;
        file.write_at(0, &Head { number, salt, born: None }.encode())?;
        file.sync()?;
        Segment::name(root, file, number, salt, false)
    }

    /// Makes segment `number` from the file of one that is not needed any more, whatever it holds. After an error nothing is left
    /// of either.
    pub fn reuse(root: &Root, old: &str, number: u64, salt: u32) -> Result<Segment, DiskError> {
        let reused = Segment::reuse_as(root, old, number, salt);
        if reused.is_err() {
            // It has one of the two names. What cannot be removed either is removed at the next opening.
            let _ = root.remove(old);
            let _ = root.remove(&path(number));
        }
        reused
    }

    fn reuse_as(root: &Root, old: &str, number: u64, salt: u32) -> Result<Segment, DiskError> {
        let file = root.open_file(old, OpenMode::Write)?;
        // A copy of the directory may have left out what was zero.
        file.back(0, file.size()?)?;
        // The old records are void before the file has a name under which it could be taken for the new segment.
        file.write_at(0, &Head { number, salt, born: None }.encode())?;
        sync_head(&file)?;
        fill(&file, PAGE_BYTES as u64, file.size()?)?;
        // Where nobody had synced it, not all: that is not worth a second write of all that is logged from then on.
        Segment::name(root, file, number, salt, true)
    }

    fn name(root: &Root, mut file: OpenFile, number: u64, salt: u32, is_written: bool) -> Result<Segment, DiskError> {
        let path = path(number);
        root.rename(&file.path, &path)?;
        root.sync_dir(DIR)?;
        file.path = path;
        Segment::map(file, number, salt, is_written)
    }

    /// The same segment, unused yet, with at least `bytes`. After an error it is as long as before.
    pub fn grown(&self, root: &Root, bytes: u64) -> Result<Segment, DiskError> {
        let file = root.open_file(&self.path, OpenMode::Write)?;
        file.allocate(bytes.next_multiple_of(4096))?;
        Segment::map(file, self.number, self.salt, false)
    }

    /// Makes every page present and writable, so that appends do not fault. Only a matter of speed: where the system
    /// cannot, they fault.
    pub fn populate(&self) {
        for at in (0..self.bytes()).step_by(STEP_BYTES) {
            let step = STEP_BYTES.min(self.bytes() - at);
            if let Err(e) = self.map.advise_range(Advice::PopulateWrite, at, step) {
                tracing::debug!(path = self.path, error = %e, "the pages of a segment are not populated");
                return;
            }
            give_way();
        }
    }

    /// Writes a frame by a system call: no page of the mapping is touched, so a sync has none to take the right to write away from, which
    /// interrupts every processor that runs a thread of this process.
    fn write(&self, at: usize, frame: &[u8]) -> Result<(), DiskError> {
        assert!(at + frame.len() <= self.bytes(), "outside of the segment");
        self.file.write_at(at as u64, frame)
    }

    /// Length of the file.
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Makes `range` durable, and nothing else: pages ahead of it are dirty too since they were populated, and an
    /// fdatasync would write them all.
    pub fn sync_pages(&self, range: Range<usize>) -> io::Result<()> {
        self.map.flush_range(range.start, range.len())
    }
}

/// Makes the head durable, but not the old records behind it, which the system may never have written.
fn sync_head(file: &OpenFile) -> Result<(), DiskError> {
    let map = MmapRaw::map_raw(&file.file).map_err(|e| file.error("map", e))?;
    map.flush_range(0, HEAD_BYTES).map_err(|e| file.error("sync", e))
}

/// Writes zeros page by page. In the page cache each page then stands alone: of a large write the system makes large folios,
/// and it syncs, and write-protects, folios as a whole.
fn fill(file: &OpenFile, from: u64, to: u64) -> Result<(), DiskError> {
    (from..to).step_by(PAGE_BYTES).try_for_each(|at| {
        if at % STEP_BYTES as u64 == 0 {
            give_way();
        }
        file.write_at(at, &[0; PAGE_BYTES])
    })
}

/// The right to write a segment. There is one for each.
pub(super) struct Tail {
    pub segment: std::sync::Arc<Segment>,
    /// Where the next frame begins.
    pub at: usize,
}

impl Tail {
    /// Puts a prepared segment into use.
    pub fn begin(segment: Segment, born: Born) -> Tail {
        let head = Head { number: segment.number, salt: segment.salt, born: Some(born) };
        let mut tail = Tail { segment: std::sync::Arc::new(segment), at: HEAD_BYTES };
        tail.slice(0..HEAD_BYTES).copy_from_slice(&head.encode());
        tail
    }

    /// Bytes left.
    pub fn room(&self) -> usize {
        self.segment.bytes() - self.at
    }

    /// Bytes of the segment, to be written.
    pub fn slice(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.segment.bytes(), "outside of the segment");
        // SAFETY: the range lies in the mapping, which lives as long as the segment that `self` holds. `Tail::begin` takes
        // the segment whole, so there is one tail for each, and the slice borrows it mutably: nobody else in this process
        // reads or writes these bytes (who syncs passes their address to the kernel only). The file is never cut while it
        // is mapped; another process that writes it breaks the lock of the directory.
        unsafe { std::slice::from_raw_parts_mut(self.segment.map.as_mut_ptr().add(range.start), range.len()) }
    }

    /// Writes a frame where the next one begins, past the mapping: see [`Segment::write`].
    pub fn write(&mut self, frame: &[u8]) -> Result<(), DiskError> {
        self.segment.write(self.at, frame)
    }

    /// Moves behind a frame of `bytes` that was written at `at`.
    pub fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.segment.end.store(self.at, Ordering::Release);
    }
}
