//! A segment file in memory, read piece by piece as far as needed.

use crate::disk::{Disk, DiskBuf, OpenMode};
use crate::error::{DiskError, StorageError};
use crate::wal::segment;
use crate::wal::segment::batch::{self, Batch, Opened, VERSION};
use crate::wal::segment::sector::Seed;

const READ_BYTES: usize = 1 << 20;

/// One segment.
pub(super) struct Image<D: Disk> {
    disk: D,
    pub(super) file: D::File,
    pub(super) path: String,
    pub(super) sequence: u64,
    /// Length of the file.
    pub(super) size: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) seed: Seed,
}

impl<D: Disk> Image<D> {
    pub(super) async fn open(disk: &D, dir: &str, sequence: u64, seed: Seed) -> Result<Image<D>, DiskError> {
        let path = format!("{dir}/{}", segment::name(sequence));
        let file = disk.open(&path, OpenMode::Write).await?;
        let size = disk.size(&file).await?;
        Ok(Image { disk: disk.clone(), file, path, sequence, size, bytes: Vec::new(), seed })
    }

    /// Has at least the bytes up to `end`, or all that the file holds.
    pub(super) async fn read_to(&mut self, end: u64) -> Result<(), DiskError> {
        while (self.bytes.len() as u64) < end.min(self.size) {
            let at = self.bytes.len() as u64;
            let left = (self.size - at).min(READ_BYTES as u64) as usize;
            let (got, buf) = self.disk.read_at(&self.file, at, DiskBuf::zeroed(left)).await;
            let got = got?;
            if got == 0 {
                break;
            }
            self.bytes.extend_from_slice(buf.get(..got.min(left)).unwrap_or_default());
            if !got.is_multiple_of(batch::PAGE_BYTES) {
                break;
            }
        }
        Ok(())
    }

    /// The batch at `offset`, verified by itself; `None` when no whole one stands there.
    pub(super) async fn batch(&mut self, offset: u64) -> Result<Option<Batch>, StorageError> {
        self.read_to(offset + READ_BYTES as u64).await?;
        let image = self.bytes.get(offset as usize..).unwrap_or_default();
        match batch::open(image, offset, self.sequence, self.seed) {
            Opened::Batch(batch) => Ok(Some(batch)),
            Opened::Nothing | Opened::More => Ok(None),
            Opened::Newer(got) => {
                Err(StorageError::Newer { path: self.path.clone(), got: u32::from(got), known: u32::from(VERSION) })
            }
            Opened::Broken { expected, got } => {
                Err(self.damaged(offset, format!("chain {expected:#010x}"), format!("{got:#010x}")))
            }
        }
    }

    pub(super) fn damaged(&self, offset: u64, expected: impl Into<String>, got: impl Into<String>) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), offset, expected: expected.into(), got: got.into() }
    }
}
