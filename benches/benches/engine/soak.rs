//! Overwrites at a fixed rate for minutes, an open loop: how long puts wait for the jobs beside them, and how much of
//! that the machine did.

use crate::Bench;
use crate::data::{Values, present};
use crate::drive::{Drive, PUTS_A_TURN};
use crate::meters::{Meters, Windows};
use crate::report::Asked;
use hdrhistogram::Histogram;
use ringkv_benches::scattered;
use std::time::{Duration, Instant};

const ENTRIES: u64 = 2_000_000;
/// How long the highest rate is looked for.
const PEAK_FOR: Duration = Duration::from_secs(20);
const SHARE_OF_PEAK: f64 = 0.7;
/// Puts between two turns of the jobs when many are due: a store takes what calls have come, not one call a turn.
const PUTS_AT_ONCE: u64 = 1024;
/// Longest sleep when no put is due.
const NAP: Duration = Duration::from_micros(100);
/// Waits below this need no explanation.
const STALL: Duration = Duration::from_millis(1);
/// More than the machine's own stall, ms.
const BEYOND_ASKED_MS: f64 = 20.0;

/// Runs the scenario.
pub fn run(bench: &mut Bench, length: Duration) {
    bench.report.begin("soak");
    let (dir, entries, values) = (bench.fresh_dir(), bench.scaled(ENTRIES), Values::new());
    let mut drive = Drive::open(dir.path(), bench.cache_bytes(), bench.memtable_bytes());
    let progress = bench.progress("loading", entries);
    drive.load(entries, &values, 0, &progress);
    progress.finish_and_clear();
    let peak = peak(&mut drive, entries, &values, PEAK_FOR.mul_f64(bench.scale.min(1.0)));
    let (begun, waited) = (Instant::now(), drive.waited());
    let mut soak = Soak { drive, values, entries, begun, waited, waits: histogram(), stalls: Vec::new() };
    let meters = Meters::start(soak.begun, dir.path());
    let progress = bench.progress("soaking", length.as_secs());
    let puts = soak.go_on(peak * SHARE_OF_PEAK, length, |second| progress.set_position(second));
    progress.finish_and_clear();
    let (hiccups, flushes) = meters.stop();
    bench.report.row("highest rate, flushes and merges included", Asked::Nothing, peak, "puts/s");
    bench.report.row("rate of the soak", Asked::Nothing, puts as f64 / length.as_secs_f64(), "puts/s");
    soak.tell(bench, &hiccups, &flushes);
}

/// Puts a second as fast as they are taken.
fn peak(drive: &mut Drive, entries: u64, values: &Values, length: Duration) -> f64 {
    let (begun, mut puts, mut numbers) = (Instant::now(), 0, scattered(entries));
    while begun.elapsed() < length {
        for number in numbers.by_ref().take(PUTS_A_TURN as usize) {
            drive.put(&present(number), values.of(number, puts));
        }
        puts += PUTS_A_TURN;
    }
    puts as f64 / begun.elapsed().as_secs_f64()
}

/// A wait that needs an explanation: when the put was due, and when it was done.
struct Stall {
    due: Duration,
    done: Duration,
}

impl Stall {
    fn wait(&self) -> Duration {
        self.done - self.due
    }
}

struct Soak {
    drive: Drive,
    values: Values,
    entries: u64,
    begun: Instant,
    /// What [`Drive::waited`] said then.
    waited: Duration,
    /// Nanoseconds.
    waits: Histogram<u64>,
    /// The first put of each turn that came late: those behind it in the turn waited for the same, and less.
    stalls: Vec<Stall>,
}

impl Soak {
    /// Puts at `rate` for `length`. How many.
    fn go_on(&mut self, rate: f64, length: Duration, mut each_second: impl FnMut(u64)) -> u64 {
        let (mut puts, mut numbers, mut second) = (0, scattered(self.entries), 0);
        loop {
            let now = self.begun.elapsed();
            if now >= length {
                return puts;
            }
            if now.as_secs() > second {
                second = now.as_secs();
                each_second(second);
            }
            let due = (now.as_secs_f64() * rate) as u64 + 1 - puts;
            if due == 0 {
                self.drive.tend_within(NAP);
                continue;
            }
            let first = puts;
            for number in numbers.by_ref().take(due.min(PUTS_AT_ONCE) as usize) {
                self.drive.write(&present(number), self.values.of(number, puts));
                puts += 1;
            }
            self.record(first..puts, rate);
            self.drive.tend();
        }
    }

    /// The puts with these numbers are done now.
    fn record(&mut self, puts: std::ops::Range<u64>, rate: f64) {
        let done = self.begun.elapsed();
        let due = |put: u64| Duration::from_secs_f64(put as f64 / rate).min(done);
        for put in puts.clone() {
            self.waits.saturating_record((done - due(put)).as_nanos() as u64);
        }
        let stall = Stall { due: due(puts.start), done };
        if stall.wait() >= STALL {
            self.stalls.push(stall);
        }
    }

    fn tell(&self, bench: &mut Bench, hiccups: &Windows, flushes: &Windows) {
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        let report = &mut bench.report;
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("longest", 1.0)] {
            let wait = Duration::from_nanos(self.waits.value_at_quantile(quantile));
            report.row(format!("wait of a put: {name}"), Asked::Nothing, ms(wait), "ms");
        }
        let seen = |stall: &Stall, meter: &Windows| meter.longest(stall.due, stall.done);
        let beyond = |stall: &Stall| stall.wait().saturating_sub(seen(stall, hiccups).max(seen(stall, flushes)));
        if let Some(longest) = self.stalls.iter().max_by_key(|stall| stall.wait()) {
            report.row("meanwhile: a thread woke late by", Asked::Nothing, ms(seen(longest, hiccups)), "ms");
            report.row("meanwhile: 4 KiB flushed in", Asked::Nothing, ms(seen(longest, flushes)), "ms");
        }
        let worst = self.stalls.iter().map(beyond).max().unwrap_or_default();
        let asked = Asked::AtMost(BEYOND_ASKED_MS);
        report.row("longest wait beyond what either meter saw", asked, ms(worst), "ms");
        report.row("two memtables were full for", Asked::Nothing, ms(self.drive.waited() - self.waited), "ms");
        let all = self.begun.elapsed();
        report.row("all along: a thread woke late by", Asked::Nothing, ms(hiccups.longest(Duration::ZERO, all)), "ms");
        report.row("all along: 4 KiB flushed in", Asked::Nothing, ms(flushes.longest(Duration::ZERO, all)), "ms");
        self.tell_histogram(bench);
    }

    fn tell_histogram(&self, bench: &mut Bench) {
        bench.report.note("puts that waited, by milliseconds:");
        let mut below = 0;
        let bounds = std::iter::once(0).chain((0..).map(|power| 1 << power));
        for (from, to) in bounds.clone().zip(bounds.skip(1)) {
            let upto = self.waits.count_between(0, to * 1_000_000 - 1);
            bench.report.note(format!("{from:>6} to {to:<6} {:>12}", upto - below));
            below = upto;
            if upto == self.waits.len() {
                return;
            }
        }
    }
}

/// Up to ten minutes.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("these bounds are valid")
}
