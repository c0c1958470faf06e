//! What is measured: one kind of work each.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One kind of work. In this order they run, so that those that read find what the first has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// A put each, in random order, each key once; not synced.
    LoadRandom,
    /// Gets of keys that are there, the engine's cache large enough for all of them.
    GetCached,
    /// Gets of keys that are not there.
    GetMissing,
    /// Scans of 100 entries from random keys.
    Scan,
    /// Gets of keys that are there beside a cache of 5% of the data; all else comes from the disk.
    GetDisk,
    /// Gets and puts of random keys, half of each.
    Mixed,
    /// A put each, in the order of keys; not synced.
    LoadSequential,
    /// Batches of 128 puts in random order, each batch synced.
    Synced,
    /// Puts of keys that are there, each pass over all of them in an order of its own; not synced.
    Overwrite,
}

impl Row {
    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Row::LoadRandom => "load-random",
            Row::GetCached => "get-cached",
            Row::GetMissing => "get-missing",
            Row::Scan => "scan",
            Row::GetDisk => "get-disk",
            Row::Mixed => "mixed",
            Row::LoadSequential => "load-sequential",
            Row::Synced => "synced",
            Row::Overwrite => "overwrite",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Row::LoadRandom => "put, random order, buffered",
            Row::GetCached => "get, present, cached",
            Row::GetMissing => "get, missing",
            Row::Scan => "scan of 100",
            Row::GetDisk => "get, present, cache of 5%, from disk",
            Row::Mixed => "get and put, half of each, buffered",
            Row::LoadSequential => "put, sequential order, buffered",
            Row::Synced => "put, batches of 128, synced",
            Row::Overwrite => "overwrite, random order, buffered",
        }
    }

    /// Whether something is written that must settle.
    pub fn writes(self) -> bool {
        !self.only_reads()
    }

    /// Whether nothing is written.
    pub fn only_reads(self) -> bool {
        matches!(self, Row::GetCached | Row::GetMissing | Row::Scan | Row::GetDisk)
    }

    /// Whether it works on what [`Row::LoadRandom`] has written.
    pub fn needs_data(self) -> bool {
        self.only_reads() || self == Row::Mixed
    }

    /// What its rate counts.
    pub fn counts(self) -> &'static str {
        match self {
            Row::Scan => "scans/s",
            Row::Mixed => "calls/s",
            row if row.only_reads() => "gets/s",
            _ => "entries/s",
        }
    }

    /// What its latencies are of.
    pub fn call(self) -> &'static str {
        match self {
            Row::Scan => "a scan",
            Row::Synced => "a batch",
            Row::Mixed => "a call",
            row if row.only_reads() => "a get",
            _ => "a put",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
