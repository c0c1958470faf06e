//! Reading tables in the thread that asks: what the thread waits for is its own read, never somebody else's work.

use crate::disk::files::{OpenFile, Root};
use crate::disk::{Disk, DiskBuf, Mapped, OpenMode};
use crate::error::DiskError;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A disk for readers on any thread. Its futures are ready when they are first asked. Whoever wants to change something is
/// refused.
#[derive(Clone, Debug)]
pub(crate) struct CallerDisk(Arc<Root>);

impl CallerDisk {
    /// Below this root.
    pub fn new(root: Root) -> CallerDisk {
        CallerDisk(Arc::new(root))
    }

    /// Opens a file to be read.
    pub fn open_now(&self, path: &str) -> Result<Arc<OpenFile>, DiskError> {
        Ok(Arc::new(self.0.open_file(path, OpenMode::Read)?))
    }
}

/// The result of a future that waits for nothing but other turns.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let (mut future, mut cx) = (pin!(future), Context::from_waker(Waker::noop()));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

fn refused<T>(path: &str) -> Result<T, DiskError> {
    Err(DiskError::io(path, "change", io::ErrorKind::ReadOnlyFilesystem.into()))
}

impl Disk for CallerDisk {
    type File = Arc<OpenFile>;

    async fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<OpenFile>, DiskError> {
        if mode == OpenMode::Read { self.open_now(path) } else { refused(path) }
    }
    async fn size(&self, file: &Arc<OpenFile>) -> Result<u64, DiskError> {
        file.size()
    }
    async fn read_at(
        &self,
        file: &Arc<OpenFile>,
        offset: u64,
        mut buf: DiskBuf,
    ) -> (Result<usize, DiskError>, DiskBuf) {
        (file.read_at(offset, &mut buf), buf)
    }
    async fn write_at(&self, file: &Arc<OpenFile>, _: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        (refused(&file.path), buf)
    }
    async fn commit(&self, file: &Arc<OpenFile>, _: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        (refused(&file.path), buf)
    }
    async fn sync(&self, file: &Arc<OpenFile>) -> Result<(), DiskError> {
        refused(&file.path)
    }
    async fn allocate(&self, file: &Arc<OpenFile>, _: u64) -> Result<(), DiskError> {
        refused(&file.path)
    }
    async fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        refused(path)
    }
    async fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        refused(path)
    }
    async fn rename(&self, from: &str, _: &str) -> Result<(), DiskError> {
        refused(from)
    }
    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        refused(path)
    }
    async fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        self.0.list(path)
    }
    async fn map(&self, file: &Arc<OpenFile>, _: Range<u64>, _: &dyn Fn(&[u8]) -> bool) -> Result<Mapped, DiskError> {
        refused(&file.path)
    }
}
