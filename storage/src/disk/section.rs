//! Sections of finished files in memory: a locked mapping of the file, or a copy where memory may not be locked.

use crate::disk::files::OpenFile;
use crate::disk::{ALIGN, Mapped};
use crate::error::DiskError;
use memmap2::{Advice, Mmap, MmapMut, MmapOptions};
use std::ops::{Deref, Range};

/// Bytes of a file in memory that nobody has checked yet. The only way to them is [`Section::verify`].
#[derive(Debug)]
pub struct Section {
    bytes: Pages,
    path: String,
    offset: u64,
}

#[derive(Debug)]
struct Pages {
    map: Option<Mmap>,
    skip: usize,
    length: usize,
    locked: bool,
}

impl Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.map.as_deref().map_or(&[], |map| &map[self.skip..self.skip + self.length])
    }
}

/// What is asked to be read at once, bytes: the system reads no less than this for one request, whatever its settings are.
const ASKED_BYTES: usize = 128 << 10;

/// A mapping of a file whose pages are not in memory yet.
pub struct Unread {
    map: Mmap,
    path: String,
    offset: u64,
}

impl Unread {
    /// Maps `range` of a file that is never written again; none when it does not lie in the file, or is empty.
    pub fn map(file: &OpenFile, range: &Range<u64>) -> Option<Unread> {
        let map = mapped(file, range)?;
        // Else a touched page has the system read what surrounds it too: blocks, up to megabytes where a disk is set to read far
        // ahead. Where it cannot be said, too much is read.
        let _ = map.advise(Advice::Random);
        Some(Unread { map, path: file.path.clone(), offset: range.start })
    }

    /// The pages it stands in: where they begin, and their bytes.
    pub fn pages(&self) -> (*const u8, usize) {
        let skip = self.map.as_ptr().addr() % ALIGN;
        (self.map.as_ptr().wrapping_sub(skip), (skip + self.map.len()).next_multiple_of(ALIGN))
    }

    /// Its pages in parts that are each to be asked for at once.
    pub fn parts(&self) -> impl Iterator<Item = (*const u8, usize)> + use<> {
        let (start, bytes) = self.pages();
        let part = move |from: usize| (start.wrapping_add(from), ASKED_BYTES.min(bytes - from));
        (0..bytes).step_by(ASKED_BYTES).map(part)
    }

    /// Asks the system to read it, without waiting.
    fn asked(self) -> Unread {
        let parts = (0..self.map.len()).step_by(ASKED_BYTES);
        // Where it cannot be asked, locking reads page by page.
        parts.for_each(|at| drop(self.map.advise_range(Advice::WillNeed, at, ASKED_BYTES.min(self.map.len() - at))));
        self
    }

    /// Locks what has been read meanwhile; none when it may not be, or cannot be read.
    pub fn lock(self) -> Option<Section> {
        self.map.lock().ok()?;
        let length = self.map.len();
        let bytes = Pages { map: Some(self.map), skip: 0, length, locked: true };
        Some(Section { bytes, path: self.path, offset: self.offset })
    }
}

impl Section {
    /// Brings `range` of a file that is never written again into memory, to stay there. Blocking.
    ///
    /// First choice is a mapping of the file whose pages are locked: locking reads them all and answers an error of the
    /// disk as an error, where a touch of an unlocked page would be a SIGBUS, and no page is dropped and read again after
    /// the check. Where that many bytes may not be locked, or locking fails, an anonymous mapping filled by `pread` and made
    /// read-only holds a copy.
    pub fn load(file: &OpenFile, range: Range<u64>) -> Result<Section, DiskError> {
        Unread::map(file, &range)
            .and_then(|unread| unread.asked().lock())
            .map_or_else(|| Section::load_copy(file, range), Ok)
    }

    /// The second choice of [`Section::load`] alone. Blocking.
    pub fn load_copy(file: &OpenFile, range: Range<u64>) -> Result<Section, DiskError> {
        let size = file.size()?;
        if range.start > range.end || range.end > size {
            let got = size.saturating_sub(range.start);
            return Err(outside(file, &range, got));
        }
        let (path, offset) = (file.path.clone(), range.start);
        if range.is_empty() {
            let bytes = Pages { map: None, skip: 0, length: 0, locked: false };
            return Ok(Section { bytes, path, offset });
        }
        let bytes = copied(file, &range)?;
        Ok(Section { bytes, path, offset })
    }

    /// Whether the bytes are the file's own locked pages (else they are a copy).
    pub fn is_locked(&self) -> bool {
        self.bytes.locked
    }

    /// The bytes, when `check` says they are what was written.
    pub fn verify(self, check: &dyn Fn(&[u8]) -> bool) -> Result<Mapped, DiskError> {
        if check(&self.bytes) {
            return Ok(Mapped::new(self.bytes));
        }
        Err(DiskError::Section { path: self.path, offset: self.offset, bytes: self.bytes.length as u64 })
    }
}

fn mapped(file: &OpenFile, range: &Range<u64>) -> Option<Mmap> {
    let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
    // A page behind the file's end cannot be touched.
    if length == 0 || range.end > file.size().ok()? {
        return None;
    }
    let mut options = MmapOptions::new();
    options.offset(range.start).len(length);
    // SAFETY: the range lies in the file, and files of this disk are never written, cut or replaced in place once they are
    // mapped. An outsider who does it ends the process by SIGBUS; recovery at restart finds what was done.
    unsafe { options.map(&file.file) }.ok()
}

fn copied(file: &OpenFile, range: &Range<u64>) -> Result<Pages, DiskError> {
    // Whole blocks, because the file may be direct.
    let from = range.start - range.start % ALIGN as u64;
    let skip = (range.start - from) as usize;
    let wanted = (range.end - from) as usize;
    let mut map = MmapMut::map_anon(wanted.next_multiple_of(ALIGN)).map_err(|e| file.error("map", e))?;
    let got = file.read_at(from, &mut map)?;
    if got < wanted {
        return Err(outside(file, range, got.saturating_sub(skip) as u64));
    }
    let map = map.make_read_only().map_err(|e| file.error("map", e))?;
    Ok(Pages { map: Some(map), skip, length: wanted - skip, locked: false })
}

fn outside(file: &OpenFile, range: &Range<u64>, got: u64) -> DiskError {
    let what = format!("the file ends inside the section {}..{}: {got} bytes are there", range.start, range.end);
    file.error("map", std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what))
}
