//! What a run tells: JSON for machines, a table for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, TableStyle};
use ringkv::Stages;
use serde::{Deserialize, Serialize};

use crate::beside::BesideReport;
use crate::choose::Distribution;
use crate::conditions::Conditions;
use crate::conduct::Stretch;
use crate::history::Answers;
use crate::latency::{Latencies, Percentiles};
use crate::tally::{Errors, Tally};
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

/// One phase. Of a search for the knee it tells what the best rate came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// `load`, `get`, `put`, `delete`, `mixed`, `ycsb-a` and so on, or `verify`.
    pub phase: String,
    /// How keys were chosen: `uniform`, `zipfian 0.99`; `in order` where each was taken once.
    #[serde(default)]
    pub distribution: String,
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
    /// In an open loop: keys a second that were to be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_keys_per_s: Option<f64>,
    /// Latency of a call, microseconds. In an open loop it counts from when the call was meant to be made.
    pub latency_us: Percentiles,
    /// In an open loop: how late calls were made, microseconds. What the callers, all waiting, could not make in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_us: Option<Percentiles>,
    /// In an open loop: calls that were due and could not be made before the end. Their latencies count, up to the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unmade: u64,
    /// Where the time of a key went on average, when the client can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakdown_us: Option<Breakdown>,
    /// Of a search: the highest rate that was served well, keys a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knee_keys_per_s: Option<f64>,
    /// Of a search: every rate that was tried, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateStep>,
    /// Second by second; the last is a part of one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_second: Vec<SecondReport>,
    /// All latencies.
    #[serde(skip)]
    pub latencies: Latencies,
    /// Calls and keys that did not go well.
    pub errors: Errors,
    /// The machine at the same time.
    #[serde(flatten)]
    pub beside: BesideReport,
}

/// Where the time of a key went on average, microseconds. Keys of one call travel in several requests and end at different
/// times: the call takes as long as its slowest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Breakdown {
    /// In the client, until it was sent.
    pub queued: f64,
    /// On the way there and back: kernels on both sides, and sockets' buffers.
    pub way: f64,
    /// In the store, from the turn that took it in to its answer.
    pub store: f64,
    /// Keys that were sent once more.
    #[serde(default)]
    pub again: u64,
}

impl Breakdown {
    fn of(stages: Stages, again: u64) -> Option<Breakdown> {
        let mean = |sum_ns: u64| sum_ns as f64 / stages.keys as f64 / 1_000.0;
        (stages.keys > 0).then(|| Breakdown {
            queued: mean(stages.queued_ns),
            way: mean(stages.away_ns - stages.store_ns),
            store: mean(stages.store_ns),
            again,
        })
    }

    /// As a line of text.
    pub fn line(&self, phase: &str) -> String {
        let all = self.queued + self.way + self.store;
        let part = |name: &str, us: f64| format!("{name} {} ({:.0}%)", micros(us), 100.0 * us / all);
        let parts =
            [part("queued in the client", self.queued), part("on the way", self.way), part("in the store", self.store)];
        let again = if self.again > 0 { format!("; sent again: {} keys", self.again) } else { String::new() };
        format!("{phase}, mean of a key: {}: {}{again}", micros(all), parts.join(", "))
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One second of a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondReport {
    /// When it was over, seconds from the start of the phase.
    pub second: f64,
    /// Keys a second.
    pub keys_per_s: f64,
    /// Median latency of the calls answered in it, microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// Keys that did not go well.
    pub errors: u64,
}

impl SecondReport {
    /// Of a tally of `width` seconds that ended at `second`.
    pub fn new(second: f64, width: f64, tally: &Tally) -> SecondReport {
        let latency = tally.latencies.percentiles();
        SecondReport {
            second,
            keys_per_s: tally.keys as f64 / width,
            p50_us: latency.p50,
            p99_us: latency.p99,
            max_us: latency.max,
            errors: tally.errors.total(),
        }
    }
}

/// The seconds that are whole, or nearly. (The last may be a part of one, in which callers stop one after the other.)
pub(crate) fn whole(seconds: &[SecondReport]) -> impl Iterator<Item = &SecondReport> {
    let mut before = 0.0;
    seconds.iter().filter(move |second| second.second - std::mem::replace(&mut before, second.second) > 0.9)
}

/// One rate of a search for the knee.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RateStep {
    /// Keys a second that were to be asked for.
    pub offered_keys_per_s: f64,
    /// Keys a second that were answered.
    pub keys_per_s: f64,
    /// Latency of a call from when it was meant to be made, microseconds.
    pub latency_us: Percentiles,
    /// Calls that could not be made before the end.
    pub unmade: u64,
    /// Keys that did not go well.
    pub errors: u64,
    /// Whether the rate was served well.
    pub well: bool,
}

impl RateStep {
    /// What came of one rate.
    pub fn new(report: &PhaseReport, offered_keys_per_s: f64, well: bool) -> RateStep {
        RateStep {
            offered_keys_per_s,
            keys_per_s: report.keys_per_s,
            latency_us: report.latency_us,
            unmade: report.unmade,
            errors: report.errors.total(),
            well,
        }
    }
}

impl PhaseReport {
    /// Rates and percentiles of a stretch; what ran beside it is filled in by the caller.
    pub(crate) fn new(kind: Kind, distribution: Distribution, stretch: Stretch) -> PhaseReport {
        let seconds = stretch.took.as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let Tally { latencies, calls, keys, errors, stages, again } = stretch.tally;
        let in_order = kind.takes_each_once();
        PhaseReport {
            phase: kind.name().to_owned(),
            distribution: if in_order { "in order".to_owned() } else { distribution.to_string() },
            seconds,
            calls,
            keys,
            ops_per_s: rate(calls),
            keys_per_s: rate(keys),
            latency_us: latencies.percentiles(),
            breakdown_us: Breakdown::of(stages, again),
            latencies,
            per_second: stretch.seconds,
            errors,
            ..PhaseReport::default()
        }
    }
}

impl Report {
    /// Keys that did not go well, over all phases.
    pub fn errors(&self) -> u64 {
        self.phases.iter().map(|phase| phase.errors.total()).sum()
    }
}

/// Calls from which on the farthest percentiles mean something.
pub(crate) const FAR_CALLS: u64 = 100_000;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let far = self.phases.iter().any(|phase| phase.calls >= FAR_CALLS);
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        let (near, farther) = (["", "keys/s", "calls/s", "p50", "p90", "p99", "p99.9"], ["p99.99", "p99.999"]);
        let farther = farther.into_iter().filter(|_| far);
        table.set_header(near.into_iter().chain(farther).chain(["max", "errors"]));
        for phase in &self.phases {
            let mut row = vec![phase.phase.clone(), thousands(phase.keys_per_s), thousands(phase.ops_per_s)];
            row.extend(times(&phase.latency_us, far));
            row.push(phase.errors.total().to_string());
            table.add_row(row);
            if let Some(offered) = phase.offered_keys_per_s {
                let mut row = vec!["  offered, late by".to_owned(), thousands(offered), String::new()];
                row.extend(times(&phase.late_us.unwrap_or_default(), far));
                table.add_row(row);
            }
            for (name, beside) in [("hiccups", Some(phase.beside.hiccup_us)), ("fdatasync", phase.beside.fdatasync_us)]
            {
                let Some(beside) = beside else { continue };
                let mut row = vec![format!("  {name}"), String::new(), String::new()];
                row.extend(times(&beside, far));
                table.add_row(row);
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")?;
        self.phases.iter().filter(|phase| !phase.rates.is_empty()).try_for_each(|phase| knee(phase, f))
    }
}

/// The percentiles of one row.
fn times(times: &Percentiles, far: bool) -> Vec<String> {
    let near = [times.p50, times.p90, times.p99, times.p999];
    let far = [times.p9999, times.p99999].into_iter().filter(|_| far);
    near.into_iter().chain(far).chain([times.max]).map(micros).collect()
}

/// The rates of a search.
fn knee(phase: &PhaseReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header([phase.phase.as_str(), "offered/s", "answered/s", "p50", "p99", "p99.9", "max", "unmade", ""]);
    for step in &phase.rates {
        let [p50, p99, p999, max] =
            [step.latency_us.p50, step.latency_us.p99, step.latency_us.p999, step.latency_us.max].map(micros);
        let is_knee = phase.knee_keys_per_s == Some(step.offered_keys_per_s);
        let verdict = if is_knee {
            "the knee"
        } else if step.well {
            ""
        } else {
            "too much"
        };
        let [offered, answered] = [step.offered_keys_per_s, step.keys_per_s].map(thousands);
        let cells =
            [String::new(), offered, answered, p50, p99, p999, max, step.unmade.to_string(), verdict.to_owned()];
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1).take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    write!(f, "\n\n{table}")?;
    match phase.knee_keys_per_s {
        Some(rate) => write!(f, "\nknee of {}: {} keys/s", phase.phase, thousands(rate)),
        None => write!(f, "\n{}: no rate was served well", phase.phase),
    }
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
pub fn micros(us: f64) -> String {
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

    #[test]
    fn where_the_time_went_adds_up() {
        let stages = Stages { keys: 4, queued_ns: 40_000, away_ns: 360_000, store_ns: 160_000 };
        let breakdown = Breakdown::of(stages, 3).unwrap();
        assert_eq!(breakdown, Breakdown { queued: 10.0, way: 50.0, store: 40.0, again: 3 });
        let line = breakdown.line("get");
        assert!(line.contains("100 us") && line.contains("on the way 50 us (50%)"), "{line}");
        assert!(line.ends_with("sent again: 3 keys"), "{line}");
        assert_eq!(Breakdown::of(Stages::default(), 0), None);
    }
}
