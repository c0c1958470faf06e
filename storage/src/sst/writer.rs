//! Writes a table to the disk: slice by slice, synced before anybody names it.

use crate::disk::{Disk, DiskBuf, OpenMode};
use crate::error::StorageError;
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
    buf: Option<DiskBuf>,
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
        let buf = Some(DiskBuf::zeroed(WRITE_BYTES));
        Ok(TableWriter { disk, file, id, number, builder, buf, written: 0, pace, unborn })
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

    async fn write(&mut self) -> Result<(), StorageError> {
        let mut buf = self.buf.take().filter(|buf| buf.len() <= self.builder.pending());
        let mut buf = buf.take().unwrap_or_else(|| DiskBuf::zeroed(self.builder.pending().min(WRITE_BYTES)));
        let taken = self.builder.take(&mut buf);
        assert_eq!(taken, buf.len(), "whole pages are left to write");
        let (written, buf) = self.disk.write_at(&self.file, self.written, buf).await;
        written?;
        self.written += taken as u64;
        self.buf = Some(buf);
        Ok(())
    }

    /// Writes the rest and syncs the file. Its name is not yet durable: the guard says what becomes of it.
    pub async fn finish(mut self) -> Result<(TableRef, Unborn), StorageError> {
        while self.builder.step() {
            self.pace.rest().await;
        }
        let footer = self.builder.finish();
        while self.builder.pending() > 0 {
            self.write().await?;
        }
        assert_eq!(self.written, footer.file_bytes, "the file ends with its footer");
        self.disk.sync(&self.file).await?;
        Ok((TableRef { id: self.id, number: self.number, bytes: footer.file_bytes }, self.unborn))
    }
}
