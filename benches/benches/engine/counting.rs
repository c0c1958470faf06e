//! A disk that counts what passes, so that amplification is known independently of what the engine says of itself.

use ringkv_storage::disk::{Disk, DiskBuf, Mapped, OpenMode};
use ringkv_storage::error::DiskError;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// What a file is for, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tables.
    Table,
    /// Manifests, and what names the current one.
    Manifest,
    /// The log, and whatever else there is.
    Other,
}

impl Kind {
    fn of(path: &str) -> Kind {
        if path.contains("tables/") {
            return Kind::Table;
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.starts_with("MANIFEST") || name.starts_with("CURRENT") { Kind::Manifest } else { Kind::Other }
    }
}

/// What passed to and from the files of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Bytes written, zeros of allocations included.
    pub bytes_written: u64,
    /// Calls of `read_at`.
    pub reads: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Bytes that all named files have now.
    pub bytes_now: u64,
    /// The most they had since [`CountingDisk::forget_peaks`].
    pub bytes_peak: u64,
}

impl Counts {
    fn resize(&mut self, from: u64, to: u64) {
        self.bytes_now = self.bytes_now - from + to;
        self.bytes_peak = self.bytes_peak.max(self.bytes_now);
    }
}

#[derive(Default)]
struct State {
    counts: [Counts; 3],
    /// Length of each named file that was made through this disk.
    sizes: BTreeMap<String, u64>,
}

impl State {
    fn of(&mut self, path: &str) -> &mut Counts {
        &mut self.counts[Kind::of(path) as usize]
    }

    /// A file was written up to `end`. Answers by how much it grew.
    fn reached(&mut self, path: &str, end: u64) -> u64 {
        let Some(size) = self.sizes.get_mut(path) else { return 0 };
        let (from, to) = (*size, end.max(*size));
        *size = to;
        self.of(path).resize(from, to);
        to - from
    }

    fn removed(&mut self, path: &str) {
        if let Some(size) = self.sizes.remove(path) {
            self.of(path).resize(size, 0);
        }
    }
}

/// Counts and passes on. Clones count together.
#[derive(Clone)]
pub struct CountingDisk<D> {
    disk: D,
    state: Rc<RefCell<State>>,
}

/// An open file and its path.
#[derive(Clone)]
pub struct CountedFile<F> {
    file: F,
    path: Rc<str>,
}

impl<D: Disk> CountingDisk<D> {
    /// Counts from zero. Files that are there already do not count as space.
    pub fn over(disk: D) -> CountingDisk<D> {
        CountingDisk { disk, state: Rc::default() }
    }

    /// What passed so far.
    pub fn counts(&self, kind: Kind) -> Counts {
        self.state.borrow().counts[kind as usize]
    }

    /// Peaks are those from now on.
    pub fn forget_peaks(&self) {
        self.state.borrow_mut().counts.iter_mut().for_each(|counts| counts.bytes_peak = counts.bytes_now);
    }

    fn wrote(&self, path: &str, offset: u64, bytes: usize) {
        let mut state = self.state.borrow_mut();
        state.of(path).bytes_written += bytes as u64;
        state.reached(path, offset + bytes as u64);
    }
}

impl<D: Disk> Disk for CountingDisk<D> {
    type File = CountedFile<D::File>;

    async fn open(&self, path: &str, mode: OpenMode) -> Result<Self::File, DiskError> {
        let file = self.disk.open(path, mode).await?;
        if mode == OpenMode::Create {
            self.state.borrow_mut().sizes.insert(path.to_owned(), 0);
        }
        Ok(CountedFile { file, path: path.into() })
    }

    async fn size(&self, file: &Self::File) -> Result<u64, DiskError> {
        self.disk.size(&file.file).await
    }

    async fn read_at(&self, file: &Self::File, offset: u64, buf: DiskBuf) -> (Result<usize, DiskError>, DiskBuf) {
        let (read, buf) = self.disk.read_at(&file.file, offset, buf).await;
        let mut state = self.state.borrow_mut();
        let counts = state.of(&file.path);
        counts.reads += 1;
        counts.bytes_read += *read.as_ref().unwrap_or(&0) as u64;
        (read, buf)
    }

    async fn write_at(&self, file: &Self::File, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        self.wrote(&file.path, offset, buf.len());
        self.disk.write_at(&file.file, offset, buf).await
    }

    async fn commit(&self, file: &Self::File, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        self.wrote(&file.path, offset, buf.len());
        self.disk.commit(&file.file, offset, buf).await
    }

    async fn sync(&self, file: &Self::File) -> Result<(), DiskError> {
        self.disk.sync(&file.file).await
    }

    async fn allocate(&self, file: &Self::File, bytes: u64) -> Result<(), DiskError> {
        self.disk.allocate(&file.file, bytes).await?;
        let mut state = self.state.borrow_mut();
        let zeros = state.reached(&file.path, bytes);
        state.of(&file.path).bytes_written += zeros;
        Ok(())
    }

    async fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        self.disk.sync_dir(path).await
    }

    async fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        self.disk.create_dir(path).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to).await?;
        let mut state = self.state.borrow_mut();
        let size = state.sizes.get(from).copied();
        state.removed(from);
        state.removed(to);
        if let Some(size) = size {
            state.sizes.insert(to.to_owned(), 0);
            state.reached(to, size);
        }
        Ok(())
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path).await?;
        self.state.borrow_mut().removed(path);
        Ok(())
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(path).await
    }

    async fn map(
        &self,
        file: &Self::File,
        range: Range<u64>,
        verify: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Mapped, DiskError> {
        self.disk.map(&file.file, range, verify).await
    }
}
