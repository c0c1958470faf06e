//! The storage engine of ringkv: log, memtable, SSTables, over an asynchronous disk.
//!
//! Generic over [`disk::Disk`]. Never spawns, sleeps or reads a clock: whoever uses it drives its futures. Every byte that
//! rests is in `FORMAT.md`.

pub mod disk;
pub mod error;
pub mod wal;
