//! The command line.

use crate::data::USER_BYTES;
use crate::error::Error;
use crate::peer::Engine;
use crate::row::Row;
use crate::turn::{Compression, Turn};
use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Does the same work on several embedded key-value stores in turn, and tells medians and ratios.
///
/// Each engine does each row in a process of its own, so that CPU time, memory and bytes are its own.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Whose work [default: all that are built in]. The first in the order of this list is compared with each of the others.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub engines: Vec<Engine>,
    /// Which work [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub rows: Vec<Row>,
    /// Distinct keys, 16 bytes each, with values of 100 bytes.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..1 << 32))]
    pub entries: u64,
    /// Distinct keys of the row that overwrites.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1_000..1 << 32))]
    pub overwrite_entries: u64,
    /// How often it overwrites each of them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub overwrites: u64,
    /// Calls of the rows that get [default: as many as entries, at most a million]; scans are a twentieth of it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub gets: Option<u64>,
    /// How often all is done; engines take turns within a run.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: u64,
    /// Of tables, on all sides. With LZ4 half of each value is zeros.
    #[arg(long, value_enum, default_value_t = Compression::None)]
    pub compression: Compression,
    /// Memory of each engine for entries that are not in tables yet.
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub write_buffer_mib: u64,
    /// Memory of each engine for what it read from tables, where the row does not say otherwise.
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub cache_mib: u64,
    /// Where files go: a folder of its own is made there, and removed in the end.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Appends one JSON line a turn to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws a chart of each figure into this folder.
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
    /// What the program says to itself.
    #[command(subcommand)]
    pub inner: Option<Inner>,
}

/// What the program starts itself for.
#[derive(Debug, Subcommand)]
pub enum Inner {
    /// One engine does one row's work.
    #[command(hide = true)]
    Turn {
        /// A [`Turn`] as JSON.
        turn: String,
    },
    /// Removes a folder when standard input ends.
    #[command(hide = true)]
    Sweep {
        /// Which.
        dir: PathBuf,
    },
}

/// Of the data, the cache of the row that reads from disk.
const SMALL_CACHE_PERCENT: u64 = 5;
/// A cache that holds all, with what an engine keeps beside an entry.
const LARGE_CACHE_TIMES: u64 = 4;
const GETS_MAX: u64 = 1_000_000;
/// The smallest cache: an engine needs some to work at all.
const CACHE_BYTES_MIN: u64 = 1 << 20;

impl Args {
    /// The engines that were asked for, in the order of the list; those that were not named must be there.
    pub fn engines(&self) -> Result<Vec<Engine>, Error> {
        let built = || Engine::value_variants().iter().filter(|engine| engine.is_built() && **engine != Engine::Null);
        let mut engines = if self.engines.is_empty() { built().copied().collect() } else { self.engines.clone() };
        engines.sort_unstable();
        engines.dedup();
        if engines.is_empty() {
            let how = "cargo run --release -p ringkv-compare --features peers; RocksDB needs more, see README.md";
            return Err(Error::Asked(format!("no engine is built in: {how}")));
        }
        match engines.iter().find(|engine| !engine.is_built()).map(|engine| (*engine, engine.feature())) {
            Some((engine, feature)) => Err(Error::NotBuilt { engine, feature: feature.unwrap_or_default() }),
            None => Ok(engines),
        }
    }

    /// The rows that were asked for, in the order in which they run.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = if self.rows.is_empty() { Row::value_variants().to_vec() } else { self.rows.clone() };
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// A turn of these arguments.
    pub fn turn(&self, engine: Engine, row: Row, dir: &Path) -> Turn {
        let entries = if row == Row::Overwrite { self.overwrite_entries } else { self.entries };
        let data = entries * USER_BYTES;
        let cache_bytes = match row {
            Row::GetCached => data * LARGE_CACHE_TIMES,
            Row::GetDisk => data * SMALL_CACHE_PERCENT / 100,
            _ => self.cache_mib << 20,
        };
        Turn {
            engine,
            row,
            dir: dir.to_owned(),
            entries,
            passes: self.overwrites,
            gets: self.gets.unwrap_or(entries.min(GETS_MAX)),
            compression: self.compression,
            write_buffer_bytes: self.write_buffer_mib << 20,
            cache_bytes: cache_bytes.max(CACHE_BYTES_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Args {
        Args::try_parse_from([&["ringkv-compare"], words].concat()).unwrap()
    }

    #[test]
    fn rows_and_engines_come_in_their_order() {
        let args = parsed(&["--rows", "mixed,load-random,mixed", "--engines", "null"]);
        assert_eq!(args.rows(), [Row::LoadRandom, Row::Mixed]);
        assert_eq!(args.engines().unwrap(), [Engine::Null]);
    }

    #[test]
    fn caches_are_as_large_as_the_row_says() {
        let args = parsed(&["--entries", "1000000", "--cache-mib", "32"]);
        let cache = |row| args.turn(Engine::Null, row, Path::new("/x")).cache_bytes;
        assert_eq!(cache(Row::Scan), 32 << 20);
        assert_eq!(cache(Row::GetDisk), 5_800_000);
        assert_eq!(cache(Row::GetCached), 464_000_000);
        assert_eq!(args.turn(Engine::Null, Row::Overwrite, Path::new("/x")).calls(), 20_000_000);
    }
}
