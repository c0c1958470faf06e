//! What a turn has shown, and what is told of it.

mod median;

pub use median::Spread;

use crate::peer::{Counted, Engine};
use crate::row::Row;
use serde::{Deserialize, Serialize};

/// How long calls took, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// Half were no slower.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// 9,999 of 10,000.
    pub p9999: f64,
    /// All.
    pub max: f64,
}

/// What one turn has shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Whose.
    pub engine: Engine,
    /// Of which work.
    pub row: Row,
    /// Calls that were timed.
    pub calls: u64,
    /// Entries of a call that the rate counts, on average.
    pub entries_each: f64,
    /// Until the last call was answered, seconds.
    pub acked_s: f64,
    /// Until nothing was left to flush or compact.
    pub settled_s: f64,
    /// Of calls.
    pub latency_us: Latencies,
    /// CPU time of all its threads until it was settled, without the harness's meters.
    pub cpu_s: f64,
    /// Most that was resident at once, mapped files with it.
    pub peak_rss_bytes: u64,
    /// Most that was resident and no file's.
    pub peak_anonymous_bytes: u64,
    /// Bytes that the puts brought.
    pub user_bytes: u64,
    /// Bytes of all entries that are there.
    pub live_bytes: u64,
    /// Bytes that were written, log and all, by the kernel's count.
    pub kernel_written_bytes: u64,
    /// Bytes read from the disk, by the kernel's count.
    pub kernel_read_bytes: u64,
    /// Bytes written by the engine's count.
    pub counted: Counted,
    /// Lengths of tables that came, as they were seen in its folder.
    pub tables_seen_bytes: u64,
    /// By how much its logs became longer.
    pub logs_seen_bytes: u64,
    /// Most room that its files took at once.
    pub space_peak_bytes: u64,
    /// Room that they took when it was settled.
    pub space_settled_bytes: u64,
    /// Of that, the logs'.
    pub space_settled_logs_bytes: u64,
    /// How late a thread woke that slept 1 ms: the machine's hiccups, not the engine's.
    pub hiccup_p99_us: f64,
    /// The latest.
    pub hiccup_max_us: f64,
}

impl Figures {
    fn entries(&self) -> f64 {
        self.calls as f64 * self.entries_each
    }

    fn writes(&self) -> Option<&Figures> {
        self.row.writes().then_some(self)
    }
}

/// A figure that is told.
pub struct Metric {
    /// Its name, with its unit.
    pub name: &'static str,
    /// Its name in files.
    pub key: &'static str,
    /// Whether more of it is better.
    pub more_is_better: bool,
    /// Its value, where a row has it.
    pub of: fn(&Figures) -> Option<f64>,
}

const MIB: f64 = 1_048_576.0;

const fn more(name: &'static str, key: &'static str, of: fn(&Figures) -> Option<f64>) -> Metric {
    Metric { name, key, more_is_better: true, of }
}

const fn less(name: &'static str, key: &'static str, of: fn(&Figures) -> Option<f64>) -> Metric {
    Metric { name, key, more_is_better: false, of }
}

/// All of them, in the order in which they are told.
pub const METRICS: [Metric; 18] = [
    more("rate, 1/s", "rate", |f| Some(f.entries() / f.acked_s)),
    more("rate until settled, 1/s", "rate-settled", |f| Some(f.writes()?.entries() / f.settled_s)),
    less("p50, us", "p50", |f| Some(f.latency_us.p50)),
    less("p99, us", "p99", |f| Some(f.latency_us.p99)),
    less("p99.9, us", "p99.9", |f| Some(f.latency_us.p999)),
    less("p99.99, us", "p99.99", |f| Some(f.latency_us.p9999)),
    less("max, us", "max", |f| Some(f.latency_us.max)),
    less("CPU of each, us", "cpu", |f| Some(f.cpu_s * 1e6 / f.entries())),
    less("peak memory, MiB", "anonymous", |f| Some(f.peak_anonymous_bytes as f64 / MIB)),
    less("peak memory with mapped files, MiB", "rss", |f| Some(f.peak_rss_bytes as f64 / MIB)),
    less("written a user byte, all", "written", |f| {
        Some(f.writes()?.kernel_written_bytes as f64 / f.user_bytes as f64)
    }),
    less("written a user byte, tables", "written-tables", |f| {
        let tables = f.counted.tables().unwrap_or(f.writes()?.tables_seen_bytes);
        (tables > 0).then(|| tables as f64 / f.user_bytes as f64)
    }),
    less("peak space a live byte", "space-peak", |f| Some(f.writes()?.space_peak_bytes as f64 / f.live_bytes as f64)),
    less("settled space a live byte", "space-settled", |f| {
        Some(f.writes()?.space_settled_bytes as f64 / f.live_bytes as f64)
    }),
    less("the same, logs apart", "space-settled-tables", |f| {
        Some(f.writes()?.space_settled_bytes.saturating_sub(f.space_settled_logs_bytes) as f64 / f.live_bytes as f64)
    }),
    less("read from disk a call, bytes", "read", |f| {
        (f.row == Row::GetDisk).then(|| f.kernel_read_bytes as f64 / f.calls as f64)
    }),
    less("machine's hiccups, p99, us", "hiccup-p99", |f| Some(f.hiccup_p99_us)),
    less("machine's hiccups, max, us", "hiccup-max", |f| Some(f.hiccup_max_us)),
];

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Figures with round numbers.
    pub fn figures(engine: Engine, row: Row, acked_s: f64) -> Figures {
        Figures {
            engine,
            row,
            calls: 1000,
            entries_each: 1.0,
            acked_s,
            settled_s: 2.0 * acked_s,
            latency_us: Latencies { p50: 1.0, p99: 2.0, p999: 3.0, p9999: 4.0, max: 5000.0 },
            cpu_s: 0.1,
            peak_rss_bytes: 100 << 20,
            peak_anonymous_bytes: 50 << 20,
            user_bytes: 116_000,
            live_bytes: 116_000,
            kernel_written_bytes: 232_000,
            kernel_read_bytes: 4_096_000,
            counted: Counted::default(),
            tables_seen_bytes: 116_000,
            logs_seen_bytes: 116_000,
            space_peak_bytes: 232_000,
            space_settled_bytes: 116_000,
            space_settled_logs_bytes: 16_000,
            hiccup_p99_us: 60.0,
            hiccup_max_us: 900.0,
        }
    }

    fn of(figures: &Figures, key: &str) -> Option<f64> {
        let metric = METRICS.iter().find(|metric| metric.key == key).unwrap();
        (metric.of)(figures)
    }

    #[test]
    fn rows_that_read_have_nothing_to_settle() {
        let wrote = figures(Engine::Fjall, Row::LoadRandom, 0.5);
        assert_eq!((of(&wrote, "rate"), of(&wrote, "rate-settled")), (Some(2000.0), Some(1000.0)));
        assert_eq!((of(&wrote, "written"), of(&wrote, "written-tables")), (Some(2.0), Some(1.0)));
        assert_eq!((of(&wrote, "cpu"), of(&wrote, "read")), (Some(100.0), None));
        let read = figures(Engine::Fjall, Row::GetDisk, 0.5);
        assert_eq!((of(&read, "rate-settled"), of(&read, "written-tables")), (None, None));
        assert_eq!(of(&read, "read"), Some(4096.0));
    }

    #[test]
    fn an_engine_that_counts_is_believed() {
        let mut wrote = figures(Engine::Rocksdb, Row::Overwrite, 1.0);
        wrote.counted = Counted { flushed_bytes: Some(116_000), compacted_bytes: Some(232_000), log_bytes: None };
        assert_eq!(of(&wrote, "written-tables"), Some(3.0));
    }
}
