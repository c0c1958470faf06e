//! The fast disk: files past the page cache, through the core's own io_uring ring.
//!
//! A commit is one write with `RWF_DSYNC`, which completes when the data is durable: of a write linked to an fdatasync the second
//! half only starts once this thread has run and heard of the first, which on a busy machine is most of its time. It counts only
//! when it took every byte. Every buffer in flight belongs to the ring until its completion ([`ring`]). Names are made, renamed and
//! removed through the ring too, because each may wait for the file system's journal; listing, making directories and mapping
//! are rare and block.

pub mod provided;
pub mod ring;

use crate::disk::files::{OpenFile, Root, ZERO_STEP_BYTES};
use crate::disk::section::{Section, Unread};
use crate::disk::{ALIGN, Disk, DiskBuf, Mapped, OpenMode};
use crate::error::DiskError;
use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{opcode, types};
use ring::{Op, Ring, to_result};
use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// Most bytes of one read or write entry.
const IO_BYTES_MAX: usize = 1 << 30;

/// A disk below one directory, on one thread's ring. Cheap to clone. Its futures complete while somebody turns the ring.
#[derive(Clone)]
pub struct UringDisk {
    root: Rc<Root>,
    ring: Ring,
}

/// An open file of a [`UringDisk`].
pub type UringFile = Rc<OpenFile>;

type InFlight = (UringFile, DiskBuf);

impl UringDisk {
    /// The disk rooted at `dir`, made when it is not there.
    pub fn open(dir: &Path, ring: Ring) -> Result<UringDisk, DiskError> {
        Ok(UringDisk::over(Root::open(dir)?, ring))
    }

    /// The disk over a root that was opened before.
    pub fn over(root: Root, ring: Ring) -> UringDisk {
        UringDisk { root: Rc::new(root), ring }
    }

    /// Whether files go past the page cache.
    pub fn direct(&self) -> bool {
        self.root.direct()
    }

    fn read(&self, file: &UringFile, offset: u64, buf: DiskBuf, at: usize) -> Op<InFlight> {
        // SAFETY: `at` lies in the buffer, whose heap memory the operation owns, as it owns the descriptor.
        let op = unsafe {
            self.ring.op((file.clone(), buf), |(file, buf)| {
                let part = &mut buf[at..];
                let bytes = part.len().min(IO_BYTES_MAX) as u32;
                opcode::Read::new(fd(file), part.as_mut_ptr(), bytes).offset(offset + at as u64).build()
            })
        };
        self.ring.submit_some();
        op
    }

    fn write(&self, file: &UringFile, offset: u64, buf: DiskBuf, part: Range<usize>) -> Op<InFlight> {
        // SAFETY: as in `read`.
        unsafe { self.ring.op((file.clone(), buf), |(file, buf)| write_entry(file, offset, buf, part, 0)) }
    }

    /// Writes `part` of the buffer at `offset` + its start; what the system leaves over is tried again to learn why.
    async fn write_part(
        &self,
        file: &UringFile,
        offset: u64,
        mut buf: DiskBuf,
        part: Range<usize>,
    ) -> (Result<(), DiskError>, DiskBuf) {
        let mut at = part.start;
        while at < part.end {
            let done = self.write(file, offset, buf, at..part.end).await;
            buf = done.keep.1;
            match to_result(done.result) {
                Ok(n) if n == 0 || !(n as usize).is_multiple_of(ALIGN) => {
                    let got = at + n as usize - part.start;
                    return (Err(file.short(offset + part.start as u64, part.len(), got)), buf);
                }
                Ok(n) => at += n as usize,
                Err(error) if again(&error) => {}
                Err(error) => return (Err(file.error("write", error)), buf),
            }
        }
        (Ok(()), buf)
    }

    /// Runs an entry over an open file.
    async fn on_file(&self, file: &UringFile, what: &'static str, entry: Entry) -> Result<(), DiskError> {
        // SAFETY: the callers build entries that point at nothing but the file's descriptor, which the operation owns.
        let done = unsafe { self.ring.op(file.clone(), |_| entry) }.await;
        done.ok().map(drop).map_err(|error| file.error(what, error))
    }

    /// Runs an entry over one or two absolute names.
    async fn on_names(
        &self,
        names: [&str; 2],
        what: &'static str,
        make: impl FnOnce(&[CString; 2]) -> Entry,
    ) -> Result<(), DiskError> {
        let paths = [self.name(names[0])?, self.name(names[1])?];
        // SAFETY: the names' bytes are on the heap, owned by the operation.
        let done = unsafe { self.ring.op(paths, |paths| make(paths)) }.await;
        done.ok().map(drop).map_err(|error| DiskError::io(names[0], what, error))
    }

    fn name(&self, path: &str) -> Result<CString, DiskError> {
        let absolute = self.root.join(path)?;
        CString::new(absolute.as_os_str().as_bytes()).map_err(|error| DiskError::io(path, "name", error.into()))
    }

    /// Brings a mapping's pages into memory: asks for all of them, then waits. What cannot be read is told when they are locked.
    async fn populate(&self, mut unread: Unread) -> Unread {
        let all = std::iter::once((unread.pages(), libc::MADV_POPULATE_READ));
        let parts: Vec<_> = unread.parts().map(|part| (part, libc::MADV_WILLNEED)).chain(all).collect();
        for ((start, bytes), advice) in parts {
            let entry = opcode::Madvise::new(start.cast(), bytes as libc::off_t, advice).build();
            // SAFETY: the pages are those of a mapping that the operation owns, however it ends; it is only read.
            unread = unsafe { self.ring.op(unread, |_| entry) }.await.keep;
        }
        unread
    }

    async fn open_raw(&self, path: &str, flags: i32) -> Result<OpenFile, DiskError> {
        let name = self.name(path)?;
        // SAFETY: the name's bytes are on the heap, owned by the operation.
        let opened = unsafe {
            self.ring.op_opening(name, |name| {
                opcode::OpenAt::new(Fd(libc::AT_FDCWD), name.as_ptr()).flags(flags).mode(0o644).build()
            })
        };
        let raw = opened.await.ok().map_err(|error| DiskError::io(path, "open", error))?;
        // SAFETY: the descriptor is new and nobody else's; there was no await since it was taken.
        let file = unsafe { std::fs::File::from_raw_fd(raw) };
        Ok(OpenFile { file, path: path.to_owned(), direct: flags & libc::O_DIRECT != 0 })
    }

    async fn zero(&self, file: &UringFile, bytes: u64) -> Result<(), DiskError> {
        let mut at = file.reserve(bytes)?;
        let mut zeros = DiskBuf::zeroed(ZERO_STEP_BYTES as usize);
        while at < bytes {
            let step = (bytes.next_multiple_of(ALIGN as u64) - at).min(ZERO_STEP_BYTES);
            let (written, back) = self.write_part(file, at, zeros, 0..step as usize).await;
            written?;
            zeros = back;
            at += step;
        }
        self.sync(file).await
    }
}

impl Disk for UringDisk {
    type File = UringFile;

    async fn open(&self, path: &str, mode: OpenMode) -> Result<UringFile, DiskError> {
        let how = match mode {
            OpenMode::Read => libc::O_RDONLY,
            OpenMode::Write => libc::O_RDWR,
            OpenMode::Create => libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
        };
        let direct = if self.direct() { libc::O_DIRECT } else { 0 };
        Ok(Rc::new(self.open_raw(path, how | direct | libc::O_CLOEXEC | libc::O_NOFOLLOW).await?))
    }

    async fn size(&self, file: &UringFile) -> Result<u64, DiskError> {
        file.size()
    }

    async fn read_at(&self, file: &UringFile, offset: u64, mut buf: DiskBuf) -> (Result<usize, DiskError>, DiskBuf) {
        check_aligned(file, offset);
        let mut at = 0;
        while at < buf.len() {
            let done = self.read(file, offset, buf, at).await;
            buf = done.keep.1;
            match to_result(done.result) {
                Ok(0) => break,
                Ok(n) => at += n as usize,
                Err(error) if again(&error) => {}
                Err(error) => return (Err(file.error("read", error)), buf),
            }
            // A direct read that ends inside a block has met the file's end; going on from there would be refused.
            if file.direct && !at.is_multiple_of(ALIGN) {
                break;
            }
        }
        (Ok(at), buf)
    }

    async fn write_at(&self, file: &UringFile, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        check_aligned(file, offset);
        let all = 0..buf.len();
        self.write_part(file, offset, buf, all).await
    }

    async fn commit(&self, file: &UringFile, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        check_aligned(file, offset);
        let wanted = buf.len();
        assert!(wanted <= IO_BYTES_MAX, "{}: a commit of {wanted} bytes is not one write", file.path);
        // SAFETY: as in `read`.
        let commit = unsafe {
            self.ring.op((file.clone(), buf), |(file, buf)| write_entry(file, offset, buf, 0..wanted, libc::RWF_DSYNC))
        };
        let done = commit.await;
        (committed(file, offset, wanted, done.result), done.keep.1)
    }

    async fn sync(&self, file: &UringFile) -> Result<(), DiskError> {
        self.on_file(file, "sync", opcode::Fsync::new(fd(file)).build()).await
    }

    async fn allocate(&self, file: &UringFile, bytes: u64) -> Result<(), DiskError> {
        let size = file.size()?;
        let zeroed = self.zero(file, bytes).await;
        if zeroed.is_err() {
            file.give_back(size);
        }
        zeroed
    }

    async fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        let dir = Rc::new(self.open_raw(path, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC).await?);
        self.on_file(&dir, "sync directory", opcode::Fsync::new(fd(&dir)).build()).await
    }

    async fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        self.root.create_dir(path)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let here = Fd(libc::AT_FDCWD);
        let renamed = self.on_names([from, to], "rename", |[from, to]| {
            opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build()
        });
        renamed.await
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        let removed = self.on_names([path, path], "remove", |[path, _]| {
            opcode::UnlinkAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).build()
        });
        removed.await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        self.root.list(path)
    }

    async fn map(
        &self,
        file: &UringFile,
        range: Range<u64>,
        verify: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Mapped, DiskError> {
        // A worker of the kernel reads the pages, not this thread when it touches them.
        let read = match Unread::map(file, &range) {
            Some(unread) => self.populate(unread).await.lock(),
            None => None,
        };
        match read {
            Some(section) => section,
            None => Section::load_copy(file, range)?,
        }
        .verify(verify)
    }
}

/// What a commit's two results mean: durable only when the write took every byte and the sync succeeded.
fn committed(file: &OpenFile, offset: u64, wanted: usize, result: i32) -> Result<(), DiskError> {
    let got = to_result(result).map_err(|error| file.error("write", error))? as usize;
    if got == wanted { Ok(()) } else { Err(file.short(offset, wanted, got)) }
}

fn write_entry(file: &OpenFile, offset: u64, buf: &DiskBuf, part: Range<usize>, flags: i32) -> Entry {
    let at = offset + part.start as u64;
    let part = &buf[part];
    let bytes = part.len().min(IO_BYTES_MAX) as u32;
    opcode::Write::new(fd(file), part.as_ptr(), bytes).offset(at).rw_flags(flags).build()
}

fn fd(file: &OpenFile) -> types::Fd {
    Fd(file.file.as_raw_fd())
}

fn again(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

fn check_aligned(file: &OpenFile, offset: u64) {
    assert!(offset.is_multiple_of(ALIGN as u64), "{}: offset {offset} is not aligned", file.path);
}

#[cfg(test)]
mod tests;
