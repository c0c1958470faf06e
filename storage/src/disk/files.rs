//! What the real disks share: names and files below one root, by blocking system calls. How reads and writes are
//! submitted is each disk's own; this module knows nothing of it.

use crate::disk::{ALIGN, OpenMode};
use crate::error::DiskError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of zeros written at once by [`OpenFile::zero_step`].
pub const ZERO_STEP_BYTES: u64 = 1 << 20;

#[repr(C, align(4096))]
struct Zeros([u8; ZERO_STEP_BYTES as usize]);
static ZEROS: Zeros = Zeros([0; ZERO_STEP_BYTES as usize]);

/// A directory that every path of a disk lies in.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    direct: bool,
    read_only: bool,
}

/// An open file with the name it was opened by. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct OpenFile {
    /// The file; O_DIRECT when `direct`.
    pub file: File,
    /// Relative to the root, for errors.
    pub path: String,
    /// Whether it goes past the page cache.
    pub direct: bool,
}

impl Root {
    /// The directory `path`, made when it is not there. Finds out by a real write whether it takes O_DIRECT.
    pub fn open(path: &Path) -> Result<Root, DiskError> {
        let shown = path.display().to_string();
        std::fs::create_dir_all(path).map_err(|e| DiskError::io(&shown, "create directory", e))?;
        let path = path.canonicalize().map_err(|e| DiskError::io(&shown, "resolve", e))?;
        let direct = takes_direct(&path);
        Ok(Root { path, direct, read_only: false })
    }

    /// The directory `path`, which must be there, for one who only looks: nothing is probed, and what would change
    /// anything is refused. Files go past the page cache where they can, so that what is read is what the disk holds.
    pub fn read_only(path: &Path) -> Result<Root, DiskError> {
        let resolved = path.canonicalize().map_err(|e| DiskError::io(&path.display().to_string(), "resolve", e))?;
        Ok(Root { path: resolved, direct: true, read_only: true })
    }

    /// The same root with every file in the page cache: for directories on which O_DIRECT lies, and for tests.
    pub fn buffered(mut self) -> Root {
        self.direct = false;
        self
    }

    /// Whether files are opened O_DIRECT.
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `path` below the root. Refuses what would lead out of it: absolute paths, `..`, `.`, empty parts.
    pub fn join(&self, path: &str) -> Result<PathBuf, DiskError> {
        if path.is_empty() {
            return Ok(self.path.clone());
        }
        let inside = path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
        if !inside {
            let e = io::Error::new(io::ErrorKind::InvalidInput, "not a path inside the disk's root");
            return Err(DiskError::io(path, "open", e));
        }
        Ok(self.path.join(path))
    }

    /// `path` below the root, to be changed.
    fn join_to_change(&self, path: &str, what: &'static str) -> Result<PathBuf, DiskError> {
        if self.read_only {
            return Err(DiskError::io(path, what, io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        self.join(path)
    }

    /// Opens a file as [`crate::disk::Disk::open`] says.
    pub fn open_file(&self, path: &str, mode: OpenMode) -> Result<OpenFile, DiskError> {
        let place = if mode == OpenMode::Read { self.join(path)? } else { self.join_to_change(path, "open")? };
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).create_new(mode == OpenMode::Create);
        let mut open = |direct: bool| {
            options.custom_flags(libc::O_NOFOLLOW | if direct { libc::O_DIRECT } else { 0 });
            options.open(&place)
        };
        let opened = match open(self.direct) {
            // Nobody could find out before by a write.
            Err(e) if self.read_only && e.raw_os_error() == Some(libc::EINVAL) => open(false).map(|file| (file, false)),
            opened => opened.map(|file| (file, self.direct)),
        };
        let (file, direct) = opened.map_err(|e| DiskError::io(path, "open", e))?;
        Ok(OpenFile { file, path: path.to_owned(), direct })
    }

    /// Makes the names in a directory durable. `""` is the root.
    pub fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        let dir = File::open(self.join(path)?).map_err(|e| DiskError::io(path, "open directory", e))?;
        dir.sync_all().map_err(|e| DiskError::io(path, "sync directory", e))
    }

    /// Makes a directory and its parents; an existing one is no error.
    pub fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        std::fs::create_dir_all(self.join_to_change(path, "create directory")?)
            .map_err(|e| DiskError::io(path, "create directory", e))
    }

    /// Renames, replacing `to`.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (old, new) = (self.join_to_change(from, "rename")?, self.join_to_change(to, "rename")?);
        std::fs::rename(old, new).map_err(|e| DiskError::io(from, "rename", e))
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) -> Result<(), DiskError> {
        std::fs::remove_file(self.join_to_change(path, "remove")?).map_err(|e| DiskError::io(path, "remove", e))
    }

    /// Names in a directory, sorted. A name that is not UTF-8 is not ours and is left out.
    pub fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        let failed = |e| DiskError::io(path, "list", e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.join(path)?).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Whether a file in `dir` can be written and read with O_DIRECT, by doing it.
pub fn takes_direct(dir: &Path) -> bool {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!(".probe-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECT);
    let works = options.open(&path).and_then(|file| {
        let mut back = crate::disk::DiskBuf::zeroed(ALIGN);
        file.write_at(&ZEROS.0[..ALIGN], 0)?;
        file.read_at(&mut back, 0)
    });
    // Some file systems take the flag and fail the write; the file may exist all the same.
    let _ = std::fs::remove_file(&path);
    matches!(works, Ok(ALIGN))
}

impl OpenFile {
    /// An error of this file.
    pub fn error(&self, what: &'static str, e: io::Error) -> DiskError {
        DiskError::io(&self.path, what, e)
    }

    /// An error for a write that ended early.
    pub fn short(&self, offset: u64, wanted: usize, got: usize) -> DiskError {
        DiskError::ShortWrite { path: self.path.clone(), offset, wanted, got }
    }

    /// Length in bytes.
    pub fn size(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(|e| self.error("size", e))?.len())
    }

    /// Fills `buf` from `offset`, by `pread`. Answers the bytes read, fewer only at the file's end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("read", e)),
            }
            // A direct read that ends inside a block has met the file's end; going on from there would be refused.
            if self.direct && !done.is_multiple_of(ALIGN) {
                break;
            }
        }
        Ok(done)
    }

    /// Writes all of `buf`, by `pwrite`. What the system leaves over is tried again to learn why, while it is aligned.
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DiskError> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.write_at(&buf[done..], offset + done as u64) {
                Ok(n) if n == 0 || (self.direct && !n.is_multiple_of(ALIGN)) => {
                    return Err(self.short(offset, buf.len(), done + n));
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("write", e)),
            }
        }
        Ok(())
    }

    /// Makes completed writes and the size durable.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_all().map_err(|e| self.error("sync", e))
    }

    /// Makes completed writes inside the file's size durable.
    pub fn sync_data(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(|e| self.error("sync", e))
    }

    /// First step of an allocation: reserves the blocks, so that a full disk is noticed at once. Answers where zeros are to
    /// be written from, a multiple of [`ALIGN`]; then call [`OpenFile::zero_step`] until it answers `bytes` or more, then
    /// [`OpenFile::sync`]. After an error: [`OpenFile::give_back`].
    pub fn reserve(&self, bytes: u64) -> Result<u64, DiskError> {
        let size = self.size()?;
        if size >= bytes {
            return Ok(bytes);
        }
        let from = size.next_multiple_of(ALIGN as u64);
        if from > size {
            self.file.set_len(from).map_err(|e| self.error("allocate", e))?;
        }
        let length = bytes.next_multiple_of(ALIGN as u64).saturating_sub(from);
        if length == 0 {
            return Ok(bytes);
        }
        self.back(from, length)?;
        Ok(from)
    }

    /// Sees to it that blocks stand behind `length` bytes from `from`; those that do are left alone. Not every file system
    /// can: then nothing is done.
    pub fn back(&self, from: u64, length: u64) -> Result<(), DiskError> {
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, from, length) {
            Err(e) if e == rustix::io::Errno::NOSPC || e == rustix::io::Errno::DQUOT => {
                Err(self.error("allocate", e.into()))
            }
            _ => Ok(()),
        }
    }

    /// Writes at most [`ZERO_STEP_BYTES`] zeros at `from`, up to `bytes` rounded up to [`ALIGN`]. Answers where to go on.
    pub fn zero_step(&self, from: u64, bytes: u64) -> Result<u64, DiskError> {
        let left = bytes.next_multiple_of(ALIGN as u64).saturating_sub(from);
        let step = left.min(ZERO_STEP_BYTES) as usize;
        self.write_at(from, &ZEROS.0[..step])?;
        Ok(from + step as u64)
    }

    /// Cuts the file back to `size` after an allocation failed, so that a full disk gets its blocks back.
    pub fn give_back(&self, size: u64) {
        if let Err(e) = self.file.set_len(size) {
            tracing::warn!(path = self.path, error = %e, "blocks of a failed allocation stay taken");
        }
    }

    /// All of an allocation in one go: [`crate::disk::Disk::allocate`].
    pub fn allocate(&self, bytes: u64) -> Result<(), DiskError> {
        let size = self.size()?;
        let zeroed = self.reserve(bytes).and_then(|mut at| {
            while at < bytes {
                at = self.zero_step(at, bytes)?;
            }
            self.sync()
        });
        if zeroed.is_err() {
            self.give_back(size);
        }
        zeroed
    }
}

#[cfg(test)]
mod tests;
