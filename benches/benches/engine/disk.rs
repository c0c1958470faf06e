//! Lookups of ten million entries beside a cache of a twentieth of them, and the same disk read by fio.

use crate::Bench;
use crate::counting::Kind;
use crate::data::{Key, USER_BYTES, Values, absent, keys, present, shuffled};
use crate::drive::{Drive, tables};
use crate::fio::{Fio, random_reads};
use crate::host::process_cpu;
use crate::memory::median;
use crate::report::Asked;
use hdrhistogram::Histogram;
use ringkv_benches::KEYSPACE;
use ringkv_storage::gate::yield_now;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

const ENTRIES: u64 = 10_000_000;
/// Keys that are looked for in one round.
const PRESENT: usize = 300_000;
const ABSENT: usize = 1_000_000;
/// Lookups in flight.
const DEPTH: usize = 32;
/// How long the thread looks for completions before it sleeps, as with kvnode's `--spin-us`: what a processor needs to wake up it needs
/// in front of each lookup of a batch.
const SPIN: Duration = Duration::from_micros(50);
/// Turns of fio and of lookups: the disk of a shared machine is not the same from minute to minute.
const ROUNDS: usize = 3;
const FIO_SECONDS: u64 = 5;

const READS_PER_KEY_ASKED: f64 = 1.02;
const OF_FIO_ASKED: f64 = 90.0;
const READS_PER_ABSENT_ASKED: f64 = 0.0045;

/// Runs the scenario.
pub fn run(bench: &mut Bench) {
    bench.report.begin("disk");
    let dir = bench.fresh_dir();
    let entries = bench.scaled(ENTRIES);
    let mut drive = Drive::open(dir.path(), (entries * USER_BYTES / 20) as usize, bench.memtable_bytes());
    let progress = bench.progress("loading", entries);
    drive.load(entries, &Values::new(), 1, &progress);
    progress.finish_and_clear();
    drive.settle();
    bench.report.row("sorted runs", Asked::Nothing, drive.sorted_runs() as f64, "runs");
    present_keys(bench, &drive, &tables(dir.path()));
    absent_keys(bench, &drive);
}

fn present_keys(bench: &mut Bench, drive: &Drive, tables: &[PathBuf]) {
    let order = shuffled(bench.scaled(ENTRIES), 2);
    let (mut gets, mut asleep, mut fios): (Vec<Gets>, Vec<Gets>, Vec<Fio>) = Default::default();
    // Other keys each round: the cache does not know them from the round before.
    let mut parts = order.chunks(PRESENT.min(order.len() / ROUNDS / 2));
    for (spinning, sleeping) in std::iter::from_fn(|| parts.next().zip(parts.next())).take(ROUNDS) {
        match random_reads(tables, DEPTH, FIO_SECONDS) {
            Ok(fio) => fios.push(fio),
            Err(why) => bench.report.note(why),
        }
        gets.push(get_all(drive, keys(spinning, present), true, SPIN));
        asleep.push(get_all(drive, keys(sleeping, present), true, Duration::ZERO));
    }
    let middle = |figure: fn(&Gets) -> f64| median(gets.iter().map(figure));
    let of_fio =
        |gets: &[Gets]| median(gets.iter().zip(&fios).map(|(gets, fio)| gets.rate() / fio.reads_per_s * 100.0));
    let report = &mut bench.report;
    let asked = Asked::AtMost(READS_PER_KEY_ASKED);
    report.row("present: disk reads a key", asked, middle(Gets::reads_per_key), "reads");
    report.row("present: rate", Asked::Nothing, middle(Gets::rate), "keys/s");
    if fios.len() == gets.len() {
        report.row("fio: rate", Asked::Nothing, median(fios.iter().map(|fio| fio.reads_per_s)), "reads/s");
        report.row("fio: p99", Asked::Nothing, median(fios.iter().map(|fio| fio.p99_us)), "us");
        report.row("present: rate beside fio's", Asked::AtLeast(OF_FIO_ASKED), of_fio(&gets), "%");
        report.row("present: the same, the thread sleeping at once", Asked::Nothing, of_fio(&asleep), "%");
    }
    report.row("present: p50", Asked::Nothing, middle(|gets| gets.latency_us(0.5)), "us");
    report.row("present: p99", Asked::Nothing, middle(|gets| gets.latency_us(0.99)), "us");
    report.row("present: CPU a key", Asked::Nothing, middle(Gets::cpu_us_per_key), "us");
}

fn absent_keys(bench: &mut Bench, drive: &Drive) {
    let order = shuffled(bench.scaled(ENTRIES), 3);
    let gets = get_all(drive, keys(&order[..ABSENT.min(order.len())], absent), false, SPIN);
    let per_run = gets.reads_per_key() / drive.sorted_runs() as f64;
    let report = &mut bench.report;
    report.row("absent: disk reads a key", Asked::Nothing, gets.reads_per_key(), "reads");
    let asked = Asked::AtMost(READS_PER_ABSENT_ASKED);
    report.row("absent: disk reads a key and sorted run", asked, per_run, "reads");
    report.row("absent: rate", Asked::Nothing, gets.rate(), "keys/s");
    report.row("absent: p50", Asked::Nothing, gets.latency_us(0.5), "us");
    report.row("absent: p99", Asked::Nothing, gets.latency_us(0.99), "us");
    report.row("absent: CPU a key", Asked::Nothing, gets.cpu_us_per_key(), "us");
}

/// What looking some keys up took.
pub struct Gets {
    keys: usize,
    took: Duration,
    cpu: Duration,
    reads: u64,
    /// Nanoseconds.
    latencies: Histogram<u64>,
}

impl Gets {
    pub fn rate(&self) -> f64 {
        self.keys as f64 / self.took.as_secs_f64()
    }
    pub fn reads_per_key(&self) -> f64 {
        self.reads as f64 / self.keys as f64
    }
    pub fn cpu_us_per_key(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.keys as f64
    }
    fn latency_us(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// Of nanoseconds, up to a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds are valid")
}

/// What a future gives, and whether it had to wait.
async fn watched<T>(future: impl Future<Output = T>) -> (T, bool) {
    let (mut future, mut waited) = (pin!(future), false);
    let output = poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        waited |= polled.is_pending();
        polled
    });
    (output.await, waited)
}

/// Looks all keys up, [`DEPTH`] at once, by a thread that spins for so long before it sleeps.
pub fn get_all(drive: &Drive, wanted: Vec<Key>, there: bool, spin: Duration) -> Gets {
    let (keys, wanted, next) = (wanted.len(), Rc::new(wanted), Rc::new(Cell::new(0)));
    let latencies = Rc::new(RefCell::new(histogram()));
    let reads = drive.disk.counts(Kind::Table).reads;
    let (begun, cpu) = (Instant::now(), process_cpu());
    for _ in 0..DEPTH {
        let (tree, wanted, next, latencies) = (drive.tree.clone(), wanted.clone(), next.clone(), latencies.clone());
        drive.tasks.spawn(async move {
            while let Some(key) = wanted.get(next.replace(next.get() + 1)) {
                let begun = Instant::now();
                let (got, waited) = watched(tree.get(KEYSPACE, key)).await;
                let got = got.expect("a sound disk");
                latencies.borrow_mut().saturating_record(begun.elapsed().as_nanos() as u64);
                assert_eq!(got.is_some(), there);
                if !waited {
                    // Those that need no disk would keep the others from theirs.
                    yield_now().await;
                }
            }
        });
    }
    drive.tasks.run_spinning(spin);
    let (took, cpu) = (begun.elapsed(), process_cpu() - cpu);
    let reads = drive.disk.counts(Kind::Table).reads - reads;
    let latencies = latencies.replace(histogram());
    Gets { keys, took, cpu, reads, latencies }
}
