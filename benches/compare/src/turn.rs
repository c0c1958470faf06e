//! A turn: one engine does one row's work in a process of its own, which tells its figures and ends.

mod work;

use crate::data::{USER_BYTES, Values};
use crate::error::Error;
use crate::figures::Figures;
use crate::meters::{Meters, Usage, forget_pages, peak_rss_bytes, space_bytes};
use crate::peer::Engine;
use crate::row::Row;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Instant;
use work::Work;

/// How tables are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all; values are random bytes.
    None,
    /// By LZ4; half of each value is random bytes, half is zeros.
    Lz4,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// By whom.
    pub engine: Engine,
    /// Which work.
    pub row: Row,
    /// Its folder: empty, or with what [`Row::LoadRandom`] left.
    pub dir: PathBuf,
    /// Keys that there are.
    pub entries: u64,
    /// Passes of [`Row::Overwrite`].
    pub passes: u64,
    /// Gets of the rows that get; scans are a twentieth of it.
    pub gets: u64,
    /// On all sides.
    pub compression: Compression,
    /// Memory for entries that are not in tables.
    pub write_buffer_bytes: u64,
    /// Memory for what was read from tables.
    pub cache_bytes: u64,
}

impl Turn {
    /// What the user has stored when each key is there once.
    pub fn live_bytes(&self) -> u64 {
        self.entries * USER_BYTES
    }

    /// The values of this turn.
    pub fn values(&self) -> Values {
        Values::new(self.compression == Compression::Lz4)
    }

    /// Calls that are timed.
    pub fn calls(&self) -> u64 {
        match self.row {
            Row::LoadRandom | Row::LoadSequential => self.entries,
            Row::Synced => self.entries.div_ceil(work::BATCH),
            Row::GetCached | Row::GetMissing | Row::Mixed => self.gets,
            Row::Scan => (self.gets / 20).max(1),
            // Few enough that hardly one meets what another has brought.
            Row::GetDisk => (self.entries / 50).min(self.gets).max(1),
            Row::Overwrite => self.entries * self.passes,
        }
    }
}

/// What such a process says, one line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// So many calls are done.
    Done(u64),
    /// All are.
    Figures(Box<Figures>),
    /// It could not be.
    Failed(String),
}

impl Word {
    /// Says it.
    pub fn say(&self) {
        println!("{}", serde_json::to_string(self).expect("it is made of what JSON has"));
    }
}

/// Does the work.
///
/// # Errors
/// What the engine says, or what it answered wrongly.
pub fn run(turn: &Turn) -> Result<Figures, Error> {
    let engine = turn.engine;
    let values = turn.values();
    let mut work = Work::new(turn, &values, engine.open(turn)?);
    work.prepare()?;
    if turn.row == Row::GetDisk {
        forget_pages(&turn.dir)?;
    }
    let meters = Meters::start(engine, &turn.dir, work.laps.done.clone(), |done| Word::Done(done).say());
    work.peer.mark();
    let before = Usage::now();
    work.laps.begin();
    work.timed()?;
    let acked_s = work.laps.elapsed().as_secs_f64();
    let settling = Instant::now();
    let settled_at = if turn.row.writes() { work.settle()? } else { settling };
    let settled_s = acked_s + settled_at.saturating_duration_since(settling).as_secs_f64();
    let usage = Usage::now() - before;
    let (hiccups, seen, meters_cpu) = meters.stop();
    let settled_bytes = space_bytes(&turn.dir, |_| true);
    let settled_logs_bytes = space_bytes(&turn.dir, |path| engine.is_log(path));
    work.check()?;
    let peak_rss = peak_rss_bytes();
    let Work { peer, laps, .. } = work;
    let counted = peer.close().map_err(Error::engine(engine, "being closed"))?;
    Ok(Figures {
        engine,
        row: turn.row,
        calls: laps.calls(),
        entries_each: if turn.row == Row::Synced { turn.entries as f64 / turn.calls() as f64 } else { 1.0 },
        acked_s,
        settled_s,
        latency_us: laps.latencies(),
        cpu_s: usage.cpu.saturating_sub(meters_cpu).as_secs_f64(),
        peak_rss_bytes: peak_rss,
        peak_anonymous_bytes: seen.anonymous_bytes,
        user_bytes: work::user_bytes(turn),
        live_bytes: turn.live_bytes(),
        kernel_written_bytes: usage.write_bytes,
        kernel_read_bytes: usage.read_bytes,
        counted,
        tables_seen_bytes: seen.tables_written(),
        logs_seen_bytes: seen.logs_written(),
        space_peak_bytes: seen.peak_bytes,
        space_settled_bytes: settled_bytes,
        space_settled_logs_bytes: settled_logs_bytes,
        hiccup_p99_us: hiccups.p99.as_secs_f64() * 1e6,
        hiccup_max_us: hiccups.max.as_secs_f64() * 1e6,
    })
}
