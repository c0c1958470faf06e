//! The engines, behind one face.

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "heed")]
mod lmdb;
mod null;
mod ringkv;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use crate::data::Key;
use crate::error::{Error, Failed};
use crate::turn::Turn;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// What is done with every engine. One thread calls; what an engine does besides is its own matter.
pub trait Peer {
    /// Puts an entry: in memory that the kernel owns when this returns, so that it outlives the process, not the machine.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failed>;

    /// Puts entries together: on the disk when this returns.
    fn put_synced(&mut self, entries: &[(Key, &[u8])]) -> Result<(), Failed>;

    /// Shows `found` the value of a key, if there is one.
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Failed>;

    /// Shows `seen` up to `most` entries from `from` on, in order.
    fn scan(&mut self, from: &[u8], most: usize, seen: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Failed>;

    /// Brings what is in memory into the engine's files.
    fn flush(&mut self) -> Result<(), Failed>;

    /// Whether something is flushed or compacted, or waits to be.
    fn is_busy(&mut self) -> Result<bool, Failed> {
        Ok(false)
    }

    /// How long it must not be busy until it is settled.
    fn quiet(&self) -> Duration {
        Duration::ZERO
    }

    /// Counts what is written from here on.
    fn mark(&mut self) {}

    /// Closes the engine, and tells what it counted since the mark.
    fn close(self: Box<Self>) -> Result<Counted, Failed>;

    /// Whether it gives back what it was given: only then is that looked at.
    fn remembers(&self) -> bool {
        true
    }
}

/// Bytes that an engine wrote by its own count, where it has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Tables from memory.
    pub flushed_bytes: Option<u64>,
    /// Tables from tables.
    pub compacted_bytes: Option<u64>,
    /// Its log.
    pub log_bytes: Option<u64>,
}

impl Counted {
    /// Tables from memory and from tables.
    pub fn tables(&self) -> Option<u64> {
        Some(self.flushed_bytes? + self.compacted_bytes?)
    }
}

/// Whose work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The engine of ringkv.
    Ringkv,
    /// A log-structured store in Rust.
    Fjall,
    /// A copy-on-write B-tree in a mapped file.
    Lmdb,
    /// The log-structured store that others are measured by.
    Rocksdb,
    /// Nothing at all: what measuring costs.
    Null,
}

/// What a file of an engine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Sorted entries; never changed, but deleted.
    Table,
    /// Entries as they came.
    Log,
    /// Anything else.
    Other,
}

impl Engine {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Ringkv => "ringkv",
            Engine::Fjall => "fjall",
            Engine::Lmdb => "LMDB",
            Engine::Rocksdb => "RocksDB",
            Engine::Null => "null",
        }
    }

    /// The cargo feature that it is behind.
    pub fn feature(self) -> Option<&'static str> {
        match self {
            Engine::Fjall => Some("fjall"),
            Engine::Lmdb => Some("heed"),
            Engine::Rocksdb => Some("rocksdb"),
            Engine::Ringkv | Engine::Null => None,
        }
    }

    /// Whether this program has it.
    pub fn is_built(self) -> bool {
        match self {
            Engine::Fjall => cfg!(feature = "fjall"),
            Engine::Lmdb => cfg!(feature = "heed"),
            Engine::Rocksdb => cfg!(feature = "rocksdb"),
            Engine::Ringkv | Engine::Null => true,
        }
    }

    /// What a file of its is, by its path.
    pub fn holds(self, path: &Path) -> Holds {
        let ends = |with: &str| path.extension().is_some_and(|extension| extension == with);
        match self {
            Engine::Rocksdb if ends("sst") => Holds::Table,
            Engine::Rocksdb if self.is_log(path) => Holds::Log,
            Engine::Fjall if path.components().any(|part| part.as_os_str() == "tables") => Holds::Table,
            _ => Holds::Other,
        }
    }

    /// Whether a file is a log, kept ahead or in use: room that does not grow with what is stored.
    pub fn is_log(self, path: &Path) -> bool {
        let ends = |with: &str| path.extension().is_some_and(|extension| extension == with);
        match self {
            Engine::Rocksdb => ends("log"),
            Engine::Fjall => ends("jnl"),
            Engine::Ringkv => ends("wal"),
            Engine::Lmdb | Engine::Null => false,
        }
    }

    /// Opens it in the folder of this turn, which may hold what an earlier turn wrote.
    pub fn open(self, turn: &Turn) -> Result<Box<dyn Peer>, Error> {
        if let Some(feature) = self.feature().filter(|_| !self.is_built()) {
            return Err(Error::NotBuilt { engine: self, feature });
        }
        let opened: Result<Box<dyn Peer>, Failed> = match self {
            Engine::Ringkv => ringkv::open(turn),
            #[cfg(feature = "fjall")]
            Engine::Fjall => fjall::open(turn),
            #[cfg(feature = "heed")]
            Engine::Lmdb => lmdb::open(turn),
            #[cfg(feature = "rocksdb")]
            Engine::Rocksdb => rocksdb::open(turn),
            _ => Ok(null::open(turn)),
        };
        opened.map_err(Error::engine(self, "being opened"))
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
