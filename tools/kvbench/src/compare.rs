//! Two sets of reports, side by side: medians and their ratios.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, TableStyle};

use crate::report::{FAR_CALLS, PhaseReport, Report, micros, thousands, whole};

/// Reads one report after the other: JSON text, lines or not.
///
/// # Errors
/// When it is not that.
pub fn read(text: &str) -> serde_json::Result<Vec<Report>> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

/// One figure of a phase, and how it is written.
type Figure = (&'static str, fn(&PhaseReport) -> f64, fn(f64) -> String);

const FIGURES: [Figure; 8] = [
    ("keys/s", keys_per_s, thousands),
    ("p50", |phase| phase.latency_us.p50, micros),
    ("p90", |phase| phase.latency_us.p90, micros),
    ("p99", |phase| phase.latency_us.p99, micros),
    ("p99.9", |phase| phase.latency_us.p999, micros),
    ("p99.99", |phase| if phase.calls < FAR_CALLS { 0.0 } else { phase.latency_us.p9999 }, micros),
    ("max", |phase| phase.latency_us.max, micros),
    ("knee", |phase| phase.knee_keys_per_s.unwrap_or_default(), thousands),
];

/// Seconds from which on their median says more than the mean over the phase.
const SECONDS_LEAST: usize = 3;

/// Median of the whole seconds, since one bad second shall not decide; of a short phase the mean.
fn keys_per_s(phase: &PhaseReport) -> f64 {
    let rates: Vec<f64> = whole(&phase.per_second).map(|second| second.keys_per_s).collect();
    if rates.len() < SECONDS_LEAST { phase.keys_per_s } else { median(rates) }
}

/// The median; 0 of nothing.
fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let (upper, lower) = (of.get(of.len() / 2), of.get(of.len().saturating_sub(1) / 2));
    upper.zip(lower).map_or(0.0, |(upper, lower)| (upper + lower) / 2.0)
}

/// The phases of several runs, by name and by which of that name they are.
fn phases(reports: &[Report]) -> BTreeMap<(String, usize), Vec<&PhaseReport>> {
    let mut all: BTreeMap<(String, usize), Vec<&PhaseReport>> = BTreeMap::new();
    for report in reports {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for phase in &report.phases {
            let name = match phase.phase.as_str() {
                "read" => "get",
                "write" => "put",
                "sweep" => "verify",
                name => name,
            };
            let place = seen.entry(name).or_default();
            all.entry((name.to_owned(), *place)).or_default().push(phase);
            *place += 1;
        }
    }
    all
}

/// One side of a comparison: its name and its runs.
pub type Side<'a> = (&'a str, &'a [Report]);

/// A table of medians and ratios for each phase that both have, and the conditions in which they differ.
pub fn compare((then_name, old): Side<'_>, (now_name, new): Side<'_>) -> String {
    let (before, after) = (phases(old), phases(new));
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(["", "", then_name, now_name, &format!("{now_name} / {then_name}")]);
    for ((name, place), now) in &after {
        let Some(then) = before.get(&(name.clone(), *place)) else { continue };
        let mut title = name.clone();
        for (figure, of, written) in FIGURES {
            let figures = |phases: &[&PhaseReport]| median(phases.iter().map(|phase| of(phase)).collect());
            let (then, now) = (figures(then), figures(now));
            if then > 0.0 && now > 0.0 {
                let ratio = format!("{:.2}", now / then);
                table.add_row([std::mem::take(&mut title), figure.to_owned(), written(then), written(now), ratio]);
            }
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("medians of {} and {} runs\n", old.len(), new.len());
    if before.keys().all(|phase| !after.contains_key(phase)) {
        text.push_str("  they have no phase in common\n");
    } else {
        text.push_str(&format!("{table}\n"));
    }
    for (name, then, now) in differences(old, new) {
        text.push_str(&format!("  not alike: {name}: {then}, then {now}\n"));
    }
    text
}

/// Conditions of the last of both that are not the same.
fn differences(old: &[Report], new: &[Report]) -> Vec<(String, String, String)> {
    let of = |reports: &[Report]| {
        let conditions = reports.last().and_then(|report| serde_json::to_value(&report.conditions).ok());
        conditions.and_then(|value| value.as_object().cloned()).unwrap_or_default()
    };
    let (then, now) = (of(old), of(new));
    let both = then.iter().filter_map(|(name, then)| Some((name, then, now.get(name)?)));
    both.filter(|(_, then, now)| then != now).map(|(name, a, b)| (name.clone(), a.to_string(), b.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SecondReport;
    use crate::{Conditions, Percentiles, Surroundings, Workload};

    fn report(name: &str, rates: &[f64], p50: f64) -> Report {
        let second = |(at, rate): (usize, &f64)| SecondReport {
            second: at as f64 + 1.0,
            keys_per_s: *rate,
            ..SecondReport::default()
        };
        let phase = PhaseReport {
            phase: name.to_owned(),
            keys_per_s: 1.0,
            latency_us: Percentiles { p50, ..Percentiles::default() },
            per_second: rates.iter().enumerate().map(second).collect(),
            ..PhaseReport::default()
        };
        let conditions = Conditions::of_this_machine(1, 1, &Workload::default(), &Surroundings::default());
        Report { phases: vec![phase], history: None, conditions }
    }

    #[test]
    fn medians_are_compared_and_differences_named() {
        let old = [report("read", &[100.0, 200.0, 900.0], 10.0), report("get", &[100.0, 300.0, 900.0], 30.0)];
        let mut new = report("get", &[500.0, 400.0, 1.0], 10.0);
        new.conditions.tasks = 7;
        let text = compare(("then", &old), ("now", &[new]));
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(rows.contains(&vec!["get", "keys/s", "250", "400", "1.60"]), "{text}");
        assert!(rows.contains(&vec!["p50", "20", "us", "10", "us", "0.50"]), "{text}");
        assert!(text.contains("not alike: tasks: 64, then 7"), "{text}");
        assert!(!text.contains("p99"), "what neither measured is not compared: {text}");
    }

    #[test]
    fn what_has_nothing_in_common_says_so() {
        let text = compare(("then", &[report("get", &[], 1.0)]), ("now", &[report("put", &[], 1.0)]));
        assert!(text.contains("no phase in common"), "{text}");
    }

    #[test]
    fn results_on_record_can_still_be_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/results");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let runs: Vec<&str> = text.lines().filter(|line| line.contains("\"phases\":")).collect();
            if runs.is_empty() {
                continue;
            }
            let reports = read(&runs.join("\n"));
            let reports = reports.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(
                !reports.is_empty() && compare(("a", &reports), ("b", &reports)).contains("1.00"),
                "{}",
                path.display()
            );
        }
    }
}
