//! The storage engine of ringkv: log, memtable, SSTables, over an asynchronous disk.
//!
//! Generic over [`disk::Disk`]. Never spawns, sleeps or reads a clock: whoever uses it drives its futures. Every byte that
//! rests is in `FORMAT.md`.

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
