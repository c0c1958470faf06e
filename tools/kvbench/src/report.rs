//! What a run tells: JSON for machines, a table for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, TableStyle};
use serde::{Deserialize, Serialize};

use crate::beside::BesideReport;
use crate::conditions::Conditions;
use crate::history::Answers;
use crate::latency::{Latencies, Percentiles};
use crate::target::Failure;
use crate::workload::Kind;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In the order in which they ran.
    pub phases: Vec<PhaseReport>,
    /// What the recorded history comes to, when one was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Answers>,
    /// What it was measured on.
    pub conditions: Conditions,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// `load`, `read`, `write`, `mixed` or `sweep`.
    pub phase: String,
    /// How long it took.
    pub seconds: f64,
    /// Calls made.
    pub calls: u64,
    /// Keys asked for in them.
    pub keys: u64,
    /// Calls a second.
    pub ops_per_s: f64,
    /// Keys a second.
    pub keys_per_s: f64,
    /// Latency of a call, microseconds.
    pub latency_us: Percentiles,
    /// Calls and keys that did not go well.
    pub errors: Errors,
    /// The machine at the same time.
    #[serde(flatten)]
    pub beside: BesideReport,
}

/// What did not go well, counted by key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Surely not done.
    pub not_applied: u64,
    /// Done, the answer lost.
    pub applied: u64,
    /// Not known.
    pub unknown: u64,
    /// Read and not there.
    pub absent: u64,
    /// Read, and it is another key's value.
    pub wrong: u64,
    /// Keys for which a call gave no answer at all.
    pub unanswered: u64,
    /// Callers that ended by a panic.
    pub lost_callers: u64,
}

impl Errors {
    /// Counts one failure.
    pub fn count(&mut self, failure: Failure) {
        match failure {
            Failure::NotApplied => self.not_applied += 1,
            Failure::Applied => self.applied += 1,
            Failure::Unknown => self.unknown += 1,
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Errors) {
        self.not_applied += other.not_applied;
        self.applied += other.applied;
        self.unknown += other.unknown;
        self.absent += other.absent;
        self.wrong += other.wrong;
        self.unanswered += other.unanswered;
        self.lost_callers += other.lost_callers;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        let asked = self.not_applied + self.applied + self.unknown;
        asked + self.absent + self.wrong + self.unanswered + self.lost_callers
    }
}

impl PhaseReport {
    /// Rates and percentiles of a phase; what ran beside it is filled in by the caller.
    pub fn new(kind: Kind, seconds: f64, calls: u64, keys: u64, latencies: &Latencies, errors: Errors) -> PhaseReport {
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        PhaseReport {
            phase: kind.name().to_owned(),
            seconds,
            calls,
            keys,
            ops_per_s: rate(calls),
            keys_per_s: rate(keys),
            latency_us: latencies.percentiles(),
            errors,
            beside: BesideReport::default(),
        }
    }
}

impl Report {
    /// Keys that did not go well, over all phases.
    pub fn errors(&self) -> u64 {
        self.phases.iter().map(|phase| phase.errors.total()).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        table.set_header(["", "keys/s", "calls/s", "p50", "p90", "p99", "p99.9", "max", "errors"]);
        for phase in &self.phases {
            table.add_row([
                phase.phase.clone(),
                thousands(phase.keys_per_s),
                thousands(phase.ops_per_s),
                micros(phase.latency_us.p50),
                micros(phase.latency_us.p90),
                micros(phase.latency_us.p99),
                micros(phase.latency_us.p999),
                micros(phase.latency_us.max),
                phase.errors.total().to_string(),
            ]);
            table.add_row(beside_row("  hiccups", &phase.beside.hiccup_us));
            if let Some(flush) = &phase.beside.fdatasync_us {
                table.add_row(beside_row("  fdatasync", flush));
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}

fn beside_row(name: &str, times: &Percentiles) -> [String; 9] {
    let none = String::new;
    let [p50, p90, p99, p999, max] = [times.p50, times.p90, times.p99, times.p999, times.max].map(micros);
    [name.to_owned(), none(), none(), p50, p90, p99, p999, max, none()]
}

/// `1234567.8` as `1,234,568`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds in the unit that reads best.
fn micros(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1_000.0),
        us => format!("{:.1} s", us / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(1_234_567.8), "1,234,568");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(micros(12.4), "12 us");
        assert_eq!(micros(12_400.0), "12.4 ms");
        assert_eq!(micros(12_400_000.0), "12.4 s");
    }
}
