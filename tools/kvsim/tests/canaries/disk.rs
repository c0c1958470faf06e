//! A disk that lies about what is durable.

use crate::flaw::Syncs;
use kvsim::host::VirtualHost;
use ringkv_shard::host::Host;
use ringkv_storage::disk::fault::{FaultDisk, FaultFile};
use ringkv_storage::disk::{Disk, DiskBuf, Mapped, OpenMode};
use ringkv_storage::error::DiskError;
use std::ops::Range;
use std::rc::Rc;

/// The fault disk of one life of a store, with a flaw.
#[derive(Clone)]
pub struct WrongDisk {
    inner: FaultDisk,
    host: VirtualHost,
    syncs: Syncs,
}

/// A file of it.
#[derive(Clone)]
pub struct WrongFile {
    inner: FaultFile,
    path: Rc<str>,
}

impl WrongDisk {
    /// The disk of `host`.
    pub fn new(host: VirtualHost, syncs: Syncs) -> WrongDisk {
        WrongDisk { inner: host.disk(), host, syncs }
    }

    fn told(&self, result: Result<(), DiskError>) -> Result<(), DiskError> {
        if self.syncs == Syncs::Deaf { Ok(()) } else { result }
    }
}

impl Disk for WrongDisk {
    type File = WrongFile;

    async fn open(&self, path: &str, mode: OpenMode) -> Result<WrongFile, DiskError> {
        Ok(WrongFile { inner: self.inner.open(path, mode).await?, path: path.into() })
    }

    async fn size(&self, file: &WrongFile) -> Result<u64, DiskError> {
        self.inner.size(&file.inner).await
    }

    async fn read_at(&self, file: &WrongFile, offset: u64, buf: DiskBuf) -> (Result<usize, DiskError>, DiskBuf) {
        self.inner.read_at(&file.inner, offset, buf).await
    }

    async fn write_at(&self, file: &WrongFile, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        self.inner.write_at(&file.inner, offset, buf).await
    }

    async fn commit(&self, file: &WrongFile, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        let Syncs::Late(ns) = self.syncs else {
            let (result, buf) = self.inner.commit(&file.inner, offset, buf).await;
            return (self.told(result), buf);
        };
        let (result, buf) = self.inner.write_at(&file.inner, offset, buf).await;
        if file.path.contains("/log/") && result.is_ok() {
            let (disk, file, exec) = (self.inner.clone(), file.inner.clone(), self.host.exec().clone());
            self.host.spawn(async move {
                exec.sleep(ns).await;
                drop(disk.sync(&file).await);
            });
            return (result, buf);
        }
        let result = match result {
            Ok(()) => self.inner.sync(&file.inner).await,
            failed => failed,
        };
        (result, buf)
    }

    async fn sync(&self, file: &WrongFile) -> Result<(), DiskError> {
        let result = self.inner.sync(&file.inner).await;
        self.told(result)
    }

    async fn allocate(&self, file: &WrongFile, bytes: u64) -> Result<(), DiskError> {
        self.inner.allocate(&file.inner, bytes).await
    }

    async fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        if self.syncs == Syncs::Nameless { Ok(()) } else { self.inner.sync_dir(path).await }
    }

    async fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        self.inner.create_dir(path).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.inner.rename(from, to).await
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.inner.remove(path).await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        self.inner.list(path).await
    }

    async fn map(
        &self,
        file: &WrongFile,
        range: Range<u64>,
        verify: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Mapped, DiskError> {
        self.inner.map(&file.inner, range, verify).await
    }
}
