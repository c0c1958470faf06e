//! The storage engine of ringkv: log, memtable, SSTables, merged in levels.
//!
//! Two ways in:
//! - [`db`] is the engine as a library: an embedded, ordered key-value store for one process, which any thread may call. An application
//!   needs nothing else of this crate, and [`error`] for what a [`db::Error::Storage`] holds.
//! - The other modules are what a ringkv server builds a store of: [`engine`] and [`tree`] over any [`disk::Disk`], beside [`wal`], one log
//!   for many shards. Apart from the real disks they never spawn, sleep or read a clock: whoever uses them drives their futures, so that
//!   a simulator runs the code that ships.
//!
//! Every byte that rests is in `FORMAT.md`.

mod cache;
pub mod compaction;
pub mod db;
pub mod disk;
pub mod engine;
pub mod error;
pub mod gate;
mod iter;
pub mod manifest;
mod memory;
mod memtable;
mod mix;
pub mod sst;
pub mod tree;
pub mod wal;

/// The programs on the crate's page run, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
