//! A run as a picture: latency by percentile, throughput over time, latency by rate.

use std::io;

use svg::Document;
use svg::node::element::{Group, Rectangle, Style, Text};

use crate::report::{PhaseReport, Report, thousands, whole};

mod chart;
mod scale;

use chart::{Axis, Chart, HEIGHT, Series, WIDTH};
use scale::Scale;

/// Height of the title above all charts.
const HEAD: f64 = 64.0;
/// Steps of the percentile plot for each halving of the distance to 100%.
const TICKS: u32 = 8;
const STYLE: &str = "
text { font: 13px system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif; fill: #333 }
.head { font-size: 20px; font-weight: 600; fill: #111 } .sub { fill: #666 }
.title { font-size: 15px; font-weight: 600; fill: #111 } .axis { fill: #666 }
.grid { stroke: #dedede; stroke-width: 1 } .fine { stroke: #f1f1f1; stroke-width: 1 }
.frame { fill: none; stroke: #9a9a9a; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
.mark { stroke: #111; stroke-width: 1.2; stroke-dasharray: 5 4 } .mark-name { font-weight: 600 }
";

/// Draws `report`.
///
/// # Errors
/// Those of writing.
pub fn write(report: &Report, to: impl io::Write) -> io::Result<()> {
    let charts: Vec<Chart> =
        [by_percentile(report), over_time(report)].into_iter().flatten().chain(by_rate(report)).collect();
    let height = HEAD + charts.len() as f64 * HEIGHT;
    let conditions = &report.conditions;
    let more = |name: &str| conditions.more.get(name).map(|value| value.to_string().trim_matches('"').to_owned());
    let who = match (more("target"), more("nodes")) {
        (Some(target), _) => target,
        (None, Some(nodes)) => format!("ringkv, {nodes} nodes"),
        (None, None) => "ringkv".to_owned(),
    };
    let plural = if conditions.batch == 1 { "" } else { "s" };
    let what = format!(
        "{}; {} keys, {} B values, {} key{plural} a call, {} callers; loop: {}; choice of keys: {}",
        conditions.cpu,
        thousands(conditions.keys as f64),
        conditions.value_bytes,
        conditions.batch,
        conditions.tasks,
        conditions.r#loop,
        conditions.distribution,
    );
    let mut document = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#fff"))
        .add(Text::new(who).set("x", 24).set("y", 34).set("class", "head"))
        .add(Text::new(what).set("x", 24).set("y", 56).set("class", "sub"));
    for (place, chart) in charts.iter().enumerate() {
        let down = HEAD + place as f64 * HEIGHT;
        document = document.add(Group::new().set("transform", format!("translate(0 {down})")).add(chart.draw()));
    }
    svg::write(to, &document)
}

/// The phases with their numbers and names, told apart where there are several of one kind.
fn named(report: &Report) -> impl Iterator<Item = (usize, (&PhaseReport, String))> {
    let name = |(place, phase): (usize, &'_ PhaseReport)| {
        let alike = |other: &&PhaseReport| other.phase == phase.phase;
        match report.phases.iter().filter(alike).count() {
            1 => phase.phase.clone(),
            _ => format!("{} {}", phase.phase, report.phases.iter().take(place + 1).filter(alike).count()),
        }
    };
    let names: Vec<String> = report.phases.iter().enumerate().map(name).collect();
    report.phases.iter().zip(names).enumerate()
}

fn by_percentile(report: &Report) -> Option<Chart> {
    let curve = |(colour, (phase, name)): (usize, (&PhaseReport, String))| {
        let histogram = phase.latencies.histogram();
        let steps = histogram.iter_quantiles(TICKS);
        let mut points: Vec<(f64, f64)> =
            steps.map(|step| (step.quantile_iterated_to(), step.value_iterated_to() as f64 / 1e3)).collect();
        // The slowest call stands for itself, not for every quantile there could be.
        let last = 1.0 - 1.0 / histogram.len().max(1) as f64;
        points.retain(|(quantile, _)| *quantile <= last);
        points.push((last, histogram.max() as f64 / 1e3));
        Series { name, points, colour }
    };
    let measured = named(report).filter(|(_, (phase, _))| phase.latencies.count() > 0);
    let series: Vec<Series> = measured.map(curve).collect();
    let most = report.phases.iter().map(|phase| phase.latencies.count()).max().filter(|most| *most > 0)?;
    let title = match report.phases.iter().any(|phase| phase.knee_keys_per_s.is_some()) {
        true => "Latency by percentile, at the knee".to_owned(),
        false => "Latency by percentile".to_owned(),
    };
    Some(Chart {
        title,
        x: Axis { title: "percentile of calls", scale: Scale::nines(most), written: percent },
        y: Axis { title: "latency", scale: Scale::logarithmic(heights(&series)), written: time },
        series,
        mark: None,
    })
}

fn over_time(report: &Report) -> Option<Chart> {
    let line = |(colour, (phase, name)): (usize, (&PhaseReport, String))| {
        let points = whole(&phase.per_second).map(|second| (second.second, second.keys_per_s)).collect();
        Series { name, points, colour }
    };
    let series: Vec<Series> = named(report).map(line).filter(|series| series.points.len() > 1).collect();
    let last = series.iter().flat_map(|series| &series.points).map(|point| point.0).reduce(f64::max)?;
    Some(Chart {
        title: "Throughput".to_owned(),
        x: Axis { title: "seconds into the phase", scale: Scale::linear_to(last), written: plain },
        y: Axis { title: "keys/s", scale: Scale::linear(heights(&series)), written: count },
        series,
        mark: None,
    })
}

fn by_rate(report: &Report) -> Vec<Chart> {
    let phases = named(report).filter(|(_, (phase, _))| !phase.rates.is_empty());
    let chart = |(_, (phase, name)): (usize, (&PhaseReport, String))| {
        let line = |colour: usize, name: &str, of: fn(&crate::RateStep) -> f64| {
            let points = phase.rates.iter().map(|step| (step.offered_keys_per_s, of(step))).collect();
            Series { name: name.to_owned(), points, colour }
        };
        let series = vec![
            line(0, "p50", |step| step.latency_us.p50),
            line(1, "p99", |step| step.latency_us.p99),
            line(2, "p99.9", |step| step.latency_us.p999),
            line(3, "max", |step| step.latency_us.max),
        ];
        let offered = || phase.rates.iter().map(|step| step.offered_keys_per_s);
        let wide = offered().fold(f64::MIN, f64::max) > 20.0 * offered().fold(f64::MAX, f64::min);
        let scale = if wide { Scale::logarithmic(offered()) } else { Scale::linear(offered()) };
        Chart {
            title: format!("Latency by rate: {name}"),
            x: Axis { title: "offered keys/s", scale, written: count },
            y: Axis {
                title: "latency from the intended start",
                scale: Scale::logarithmic(heights(&series)),
                written: time,
            },
            mark: phase.knee_keys_per_s.map(|knee| (knee, format!("knee: {} keys/s", thousands(knee)))),
            series,
        }
    };
    phases.map(chart).collect()
}

fn heights(series: &[Series]) -> impl Iterator<Item = f64> {
    series.iter().flat_map(|series| &series.points).map(|point| point.1)
}

/// A number without needless digits.
fn plain(number: f64) -> String {
    format!("{}", (number * 1e6).round() / 1e6)
}

/// `250000` as `250k`.
fn count(number: f64) -> String {
    match number {
        number if number >= 1e6 => format!("{}M", plain(number / 1e6)),
        number if number >= 1e3 => format!("{}k", plain(number / 1e3)),
        number => plain(number),
    }
}

/// Microseconds in the unit that reads best.
fn time(us: f64) -> String {
    match us {
        us if us < 0.9 => format!("{} ns", plain(us * 1e3)),
        us if us < 1e3 => format!("{} \u{b5}s", plain(us)),
        us if us < 1e6 => format!("{} ms", plain(us / 1e3)),
        us => format!("{} s", plain(us / 1e6)),
    }
}

/// A quantile as a percentage.
fn percent(quantile: f64) -> String {
    format!("{}%", plain(quantile * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(0.0), count(250_000.0), count(1_200_000.0)], ["0", "250k", "1.2M"]);
        assert_eq!([time(50.0), time(2_000.0), time(1e6)], ["50 \u{b5}s", "2 ms", "1 s"]);
        assert_eq!([percent(0.5), percent(0.999), percent(1.0 - 1e-5)], ["50%", "99.9%", "99.999%"]);
    }
}
