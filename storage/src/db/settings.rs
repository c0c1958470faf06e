//! How a database is set up, and who has it open.

use crate::db::error::Error;
use crate::db::log::{self, Segment, SyncPages};
use crate::db::{AsyncDb, Db};
use crate::disk::files::Root;
use crate::engine::EngineOptions;
use crate::sst::compress::Compression;
use rand::RngExt;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::driver::system_ms;
use super::state::MEMTABLES;

const LOCK: &str = "LOCK";
/// The least that memtables and the cache work with.
const MEMORY_BYTES_MIN: usize = 1 << 20;
/// The most: places in a memtable are counted in 32 bits.
const MEMTABLE_BYTES_MAX: usize = 64 << 30;
/// The most that reads have.
const CACHE_BYTES_MAX: usize = 1 << 40;
/// The block cache gets at least this part of what reads have.
const CACHE_LEAST_PART: usize = 8;

/// Settings of a database. They may be other ones at each opening.
#[derive(Clone, Debug)]
pub struct Builder {
    memtable_bytes: usize,
    cache_bytes: usize,
    block_bytes: usize,
    compression: Compression,
    last_compression: Compression,
    segment_bytes: u64,
    direct: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            memtable_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            block_bytes: 4096,
            compression: Compression::Lz4,
            last_compression: Compression::Lz4,
            segment_bytes: 32 << 20,
            direct: true,
        }
    }
}

impl Builder {
    /// What memtables take together, those being flushed included; 64 MiB unless said, from 1 MiB to 64 GiB. Their indexes
    /// come on top, up to a quarter of it; what snapshots and walks still look at is not counted, nor a batch that is larger.
    pub fn memtable_bytes(mut self, bytes: usize) -> Builder {
        self.memtable_bytes = bytes;
        self
    }

    /// What reads have: indexes and filters of all tables, and the block cache, which gets the rest, an eighth at least; 64 MiB
    /// unless said, from 1 MiB to 1 TiB.
    pub fn cache_bytes(mut self, bytes: usize) -> Builder {
        self.cache_bytes = bytes;
        self
    }

    /// Target size of a block, 512 to 32,768; 4,096 unless said.
    pub fn block_bytes(mut self, bytes: usize) -> Builder {
        self.block_bytes = bytes;
        self
    }

    /// How blocks are made smaller, in the last level too; LZ4 unless said. What is written stays as it is until it is merged.
    pub fn compression(mut self, compression: Compression) -> Builder {
        (self.compression, self.last_compression) = (compression, compression);
        self
    }

    /// How blocks of the last level are made smaller, where most of the data is.
    pub fn last_compression(mut self, compression: Compression) -> Builder {
        self.last_compression = compression;
        self
    }

    /// Whether tables are read and written past the page cache where the file system can; yes unless said. Then `cache_bytes` is all
    /// the memory that reads have.
    pub fn direct(mut self, direct: bool) -> Builder {
        self.direct = direct;
        self
    }

    /// Size of the log's segments.
    #[cfg(test)]
    pub(super) fn segment_bytes(mut self, bytes: u64) -> Builder {
        self.segment_bytes = bytes;
        self
    }

    /// Opens the database in a directory, made when it is not there.
    ///
    /// # Errors
    /// [`Error::Setting`]; [`Error::InUse`]; what disk, log or tables say.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db, Error> {
        self.open_through(path.as_ref(), Box::new(Segment::sync_pages))
    }

    /// [`Builder::open`] as a future.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub async fn open_async(self, path: impl AsRef<Path>) -> Result<AsyncDb, Error> {
        AsyncDb::open_with(self, path.as_ref().to_path_buf()).await
    }

    /// [`Builder::open`], with `sync_pages` for the syncs of the log.
    pub(super) fn open_through(self, path: &Path, sync_pages: SyncPages) -> Result<Db, Error> {
        let limits = [
            ("memtable_bytes", self.memtable_bytes, MEMTABLE_BYTES_MAX),
            ("cache_bytes", self.cache_bytes, CACHE_BYTES_MAX),
        ];
        for (what, bytes, most) in limits {
            if !(MEMORY_BYTES_MIN..=most).contains(&bytes) {
                return Err(Error::Setting { what: format!("{what} of {bytes}: from {MEMORY_BYTES_MIN} to {most}") });
            }
        }
        if !(512..=32_768).contains(&self.block_bytes) {
            return Err(Error::Setting { what: format!("block_bytes of {}: from 512 to 32,768", self.block_bytes) });
        }
        let root = Root::open(path)?;
        let lock = Lock::take(root.path())?;
        let root = if self.direct { root } else { root.buffered() };
        let settings = Settings { seed: rand::rng().random(), path: root.path().to_path_buf(), given: self };
        Db::start(settings, root, lock, sync_pages)
    }
}

/// Settings of an open database.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    given: Builder,
    pub path: PathBuf,
    /// A secret of this opening.
    pub seed: u64,
}

impl Settings {
    /// What one memtable takes, bytes.
    pub fn memtable_bytes(&self) -> usize {
        self.given.memtable_bytes / MEMTABLES
    }

    /// What blocks may take in memory when indexes and filters take so much, bytes.
    pub fn blocks_bytes(&self, mapped_bytes: u64) -> usize {
        let all = self.given.cache_bytes;
        all.saturating_sub(mapped_bytes as usize).max(all / CACHE_LEAST_PART)
    }

    /// The engine behind: it keeps neither blocks nor memtables in memory.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            cache_bytes: 0,
            memtable_bytes: 0,
            block_bytes: self.given.block_bytes,
            compression: self.given.compression,
            last_compression: self.given.last_compression,
            seed: self.seed,
            ..EngineOptions::default()
        }
    }

    pub fn log_options(&self) -> log::LogOptions {
        log::LogOptions { segment_bytes: self.given.segment_bytes, ahead: 1, seed: self.seed }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        system_ms()
    }
}

/// Keeps others from opening the database, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// Not by closing the file alone: a child that another thread is starting has it open too, until it becomes its program.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Lock {
    fn take(dir: &Path) -> Result<Lock, Error> {
        let failed = |what| move |error| crate::error::DiskError::io(LOCK, what, error);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(dir.join(LOCK)).map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path: dir.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(failed("lock")(error).into()),
        }
    }
}
