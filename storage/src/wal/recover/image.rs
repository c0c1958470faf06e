//! A segment file, read from its start piece by piece, as far as needed.

use crate::disk::{Disk, DiskBuf, OpenMode};
use crate::error::{DiskError, StorageError};
use crate::wal::segment;
use crate::wal::segment::batch::{self, Batch, Opened, PAGE_BYTES, VERSION};
use crate::wal::segment::sector::Seed;

/// What is read at once: little of a file of which only the head is wanted, then more and more.
const READ_BYTES: (usize, usize) = (64 << 10, 1 << 20);

/// Where segments are read.
pub(super) struct Source<'a, D: Disk> {
    pub(super) disk: &'a D,
    pub(super) dir: &'a str,
    pub(super) seed: Seed,
    /// Who goes on with the log opens its files for writing.
    pub(super) mode: OpenMode,
}

impl<D: Disk> Source<'_, D> {
    /// The sequences of the segment files, ascending.
    pub(super) async fn list(&self) -> Result<Vec<u64>, DiskError> {
        let names = self.disk.list(self.dir).await?;
        let mut files: Vec<u64> = names.iter().filter_map(|name| segment::sequence_of(name)).collect();
        files.sort_unstable();
        Ok(files)
    }

    pub(super) async fn open(&self, sequence: u64) -> Result<Image<D>, DiskError> {
        let path = format!("{}/{}", self.dir, segment::name(sequence));
        let file = self.disk.open(&path, self.mode).await?;
        let size = self.disk.size(&file).await?;
        let (disk, seed) = (self.disk.clone(), self.seed);
        Ok(Image { disk, file, path, sequence, size, bytes: Vec::new(), base: 0, seed })
    }
}

/// One segment.
pub(super) struct Image<D: Disk> {
    disk: D,
    pub(super) file: D::File,
    pub(super) path: String,
    pub(super) sequence: u64,
    /// Length of the file.
    pub(super) size: u64,
    /// Bytes from `base` on; those before have been taken.
    bytes: Vec<u8>,
    base: u64,
    pub(super) seed: Seed,
}

impl<D: Disk> Image<D> {
    /// Reads at `at` into `buf`; the bytes that the file holds there, none behind its end.
    pub(super) async fn read(&self, at: u64, buf: DiskBuf) -> Result<(usize, DiskBuf), DiskError> {
        if at >= self.size || !at.is_multiple_of(PAGE_BYTES as u64) {
            return Ok((0, buf));
        }
        let (got, buf) = self.disk.read_at(&self.file, at, buf).await;
        let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
        Ok((got?.min(left).min(buf.len()), buf))
    }

    /// Reads the next piece and forgets what stands before `offset`. `false`: there is no more.
    async fn read_on(&mut self, offset: u64) -> Result<bool, DiskError> {
        let at = self.base + self.bytes.len() as u64;
        let (least, most) = READ_BYTES;
        let wanted = self.size.saturating_sub(at).min(at.clamp(least as u64, most as u64));
        let (got, buf) = self.read(at, DiskBuf::zeroed(wanted as usize)).await?;
        let taken = self.bytes.len().min((offset - self.base) as usize);
        self.bytes.drain(..taken);
        self.base += taken as u64;
        self.bytes.extend_from_slice(&buf[..got]);
        Ok(got > 0)
    }

    /// The batch at `offset`, verified by itself; `None` when no whole one stands there. Never before one asked for earlier.
    pub(super) async fn batch(&mut self, offset: u64) -> Result<Option<Batch>, StorageError> {
        loop {
            let image = self.bytes.get((offset - self.base) as usize..).unwrap_or_default();
            let opened = if image.len() < PAGE_BYTES {
                Opened::More
            } else {
                batch::open(image, offset, self.sequence, self.seed)
            };
            return match opened {
                Opened::More if self.read_on(offset).await? => continue,
                Opened::Batch(batch) => Ok(Some(batch)),
                Opened::Nothing | Opened::More => Ok(None),
                Opened::Newer(got) => {
                    Err(StorageError::Newer { path: self.path.clone(), got: u32::from(got), known: u32::from(VERSION) })
                }
                Opened::Broken { expected, got } => {
                    Err(self.damaged(offset, format!("chain {expected:#010x}"), format!("{got:#010x}")))
                }
            };
        }
    }

    pub(super) fn damaged(&self, offset: u64, expected: impl Into<String>, got: impl Into<String>) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), offset, expected: expected.into(), got: got.into() }
    }
}
