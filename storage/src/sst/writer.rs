//! Writes a table to the disk: slice by slice, each while the next one is made; synced before anybody names it.

use crate::disk::started::Started;
use crate::disk::{Disk, DiskBuf, OpenMode};
use crate::error::{DiskError, StorageError};
use crate::gate::Pace;
use crate::sst::builder::TableBuilder;
use crate::sst::reader::{TableRef, Trash};
use crate::sst::{Record, TableId, TreeKey};

/// Bytes written at once.
const WRITE_BYTES: usize = 128 << 10;

/// A file being made: unless kept, its name goes to the trash.
pub struct Unborn {
    path: Option<String>,
    trash: Trash,
}

impl Unborn {
    /// Guards `path`.
    pub fn new(path: String, trash: Trash) -> Unborn {
        Unborn { path: Some(path), trash }
    }
    /// The file stays.
    pub fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            self.trash.push(path);
        }
    }
}

/// A table on its way to the disk.
pub struct TableWriter<D: Disk> {
    disk: D,
    file: D::File,
    id: TableId,
    number: u64,
    builder: TableBuilder,
    /// The last write.
    writing: Started<(Result<(), DiskError>, DiskBuf)>,
    written: u64,
    pace: Pace,
    unborn: Unborn,
}

impl<D: Disk> TableWriter<D> {
    /// Makes the file at `path`; its work is cut into slices by `pace`.
    pub async fn create(
        disk: D,
        path: String,
        number: u64,
        id: TableId,
        builder: TableBuilder,
        (trash, pace): (Trash, Pace),
    ) -> Result<TableWriter<D>, StorageError> {
        let unborn = Unborn::new(path.clone(), trash);
        let file = disk.open(&path, OpenMode::Create).await?;
        let writing = Started::Done((Ok(()), DiskBuf::zeroed(WRITE_BYTES)));
        Ok(TableWriter { disk, file, id, number, builder, writing, written: 0, pace, unborn })
    }

    /// Adds a record; its key is greater than the one before.
    pub async fn add(&mut self, key: TreeKey<'_>, record: &Record<'_>) -> Result<(), StorageError> {
        self.builder.add(key, record);
        while self.builder.pending() >= WRITE_BYTES {
            self.write().await?;
        }
        self.pace.step(key.1.len() + record.value.map_or(0, <[u8]>::len)).await;
        Ok(())
    }

    /// Bytes of its blocks so far, without those still open.
    pub fn bytes(&self) -> u64 {
        self.builder.bytes()
    }

    /// Begins the next write, when the one before is done.
    async fn write(&mut self) -> Result<(), StorageError> {
        let buf = self.write_ended().await?;
        let bytes = self.builder.pending().min(WRITE_BYTES);
        let mut buf = if buf.len() <= bytes { buf } else { DiskBuf::zeroed(bytes) };
        let taken = self.builder.take(&mut buf);
        assert_eq!(taken, buf.len(), "whole pages are left to write");
        let (disk, file, at) = (self.disk.clone(), self.file.clone(), self.written);
        self.writing = Started::begin(async move { disk.write_at(&file, at, buf).await }).await;
        self.written += taken as u64;
        Ok(())
    }

    /// The last write is done; its buffer.
    async fn write_ended(&mut self) -> Result<DiskBuf, StorageError> {
        let nothing = Started::Done((Ok(()), DiskBuf::zeroed(0)));
        let (written, buf) = std::mem::replace(&mut self.writing, nothing).end().await;
        written?;
        Ok(buf)
    }

    /// Writes the rest and begins to sync the file.
    pub async fn finish(mut self) -> Result<Finished, StorageError> {
        while self.builder.step() {
            self.pace.rest().await;
        }
        let footer = self.builder.finish();
        while self.builder.pending() > 0 {
            self.write().await?;
        }
        self.write_ended().await?;
        assert_eq!(self.written, footer.file_bytes, "the file ends with its footer");
        let (disk, file) = (self.disk, self.file);
        let syncing = Started::begin(async move { disk.sync(&file).await }).await;
        let place = TableRef { id: self.id, number: self.number, bytes: footer.file_bytes };
        Ok(Finished { place, syncing, unborn: self.unborn })
    }
}

/// A table that is written, and being synced.
pub struct Finished {
    place: TableRef,
    syncing: Started<Result<(), DiskError>>,
    unborn: Unborn,
}

impl Finished {
    /// Waits until the file is synced. Its name is not yet durable: the guard says what becomes of it.
    pub async fn synced(self) -> Result<(TableRef, Unborn), StorageError> {
        self.syncing.end().await?;
        Ok((self.place, self.unborn))
    }
}
