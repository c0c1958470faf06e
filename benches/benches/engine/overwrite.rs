//! Ten overwrites of two million entries: what is written for a byte of the user's, and how much room that takes.

use crate::Bench;
use crate::counting::Kind;
use crate::data::{USER_BYTES, Values, present, shuffled};
use crate::drive::{Drive, tables};
use crate::report::Asked;
use ringkv_benches::KEYSPACE;
use std::path::Path;
use std::time::{Duration, Instant};

pub const ENTRIES: u64 = 2_000_000;
pub const PASSES: u64 = 10;
/// Keys that are looked at in the end: that the last pass is what is there.
const CHECKED: usize = 1000;

const WRITTEN_ASKED: f64 = 3.2;
const PEAK_ASKED: f64 = 2.0;
const SETTLED_ASKED: f64 = 1.1;

/// Runs the scenario.
pub fn run(bench: &mut Bench) {
    bench.report.begin("overwrite");
    let done = overwrite(bench);
    done.tell(bench, "", true);
    #[cfg(feature = "peers")]
    crate::peer::overwrite(bench);
}

/// What ten overwrites took.
pub struct Overwritten {
    pub live_bytes: u64,
    /// Files that hold data, without any log.
    pub bytes_written: u64,
    pub bytes_peak: u64,
    pub bytes_settled: u64,
    /// Until the last put was taken, and until all was settled.
    pub took: [Duration; 2],
    /// How long puts waited for room in memory, and for their pace, where it is known.
    pub waited: Option<[Duration; 2]>,
    /// The jobs' CPU time where it is known: flushes, merges.
    pub cpu: Option<[Duration; 2]>,
}

impl Overwritten {
    /// Adds the rows, each name behind `prefix`.
    pub fn tell(&self, bench: &mut Bench, prefix: &str, asked: bool) {
        let asked = |most: f64| if asked { Asked::AtMost(most) } else { Asked::Nothing };
        let (live, user) = (self.live_bytes as f64, (self.live_bytes * PASSES) as f64);
        let mut row = |name: &str, asked, got, unit| bench.report.row(format!("{prefix}{name}"), asked, got, unit);
        row("written a user byte", asked(WRITTEN_ASKED), self.bytes_written as f64 / user, "bytes");
        row("peak space a live byte", asked(PEAK_ASKED), self.bytes_peak as f64 / live, "bytes");
        row("settled space a live byte", asked(SETTLED_ASKED), self.bytes_settled as f64 / live, "bytes");
        let puts = user / USER_BYTES as f64;
        row("puts", Asked::Nothing, puts / self.took[0].as_secs_f64(), "1/s");
        row("puts, with settling", Asked::Nothing, puts / self.took[1].as_secs_f64(), "1/s");
        if let Some([waited, paced]) = self.waited {
            row("puts waited for their pace", Asked::Nothing, paced.as_secs_f64(), "s");
            row("puts waited for room in memory", Asked::Nothing, waited.as_secs_f64(), "s");
        }
        if let Some([flushes, merges]) = self.cpu {
            row("CPU of flushes, without the kernel's", Asked::Nothing, flushes.as_secs_f64(), "s");
            row("CPU of merges, without the kernel's", Asked::Nothing, merges.as_secs_f64(), "s");
        }
    }
}

fn overwrite(bench: &Bench) -> Overwritten {
    let (dir, entries, values) = (bench.fresh_dir(), bench.scaled(ENTRIES), Values::new());
    let mut drive = Drive::open(dir.path(), bench.cache_bytes(), bench.memtable_bytes());
    let progress = bench.progress("overwriting", entries * (PASSES + 1));
    drive.load(entries, &values, 0, &progress);
    drive.settle();
    // From here it counts: the first load has nothing to merge with.
    drive.disk.forget_peaks();
    let (written, (flushes, merges)) = (drive.bytes_written(), drive.jobs_cpu());
    let (begun, waited, paced) = (Instant::now(), drive.waited(), drive.paced());
    (1..=PASSES).for_each(|pass| drive.load(entries, &values, pass, &progress));
    let (put, waited) = (begun.elapsed(), [drive.waited() - waited, drive.paced() - paced]);
    drive.settle();
    let settled = begun.elapsed();
    progress.finish_and_clear();
    check(&drive, dir.path(), entries, &values);
    let tables = drive.disk.counts(Kind::Table);
    let cpu = drive.jobs_cpu();
    Overwritten {
        live_bytes: entries * USER_BYTES,
        bytes_written: drive.bytes_written() - written,
        bytes_peak: tables.bytes_peak,
        bytes_settled: tables.bytes_now,
        took: [put, settled],
        waited: Some(waited),
        cpu: Some([cpu.0 - flushes, cpu.1 - merges]),
    }
}

/// A bench of a store that loses writes measures nothing, nor does one that counts wrong.
fn check(drive: &Drive, dir: &Path, entries: u64, values: &Values) {
    let there: u64 = tables(dir).iter().map(|path| path.metadata().expect("it was listed").len()).sum();
    assert_eq!(drive.disk.counts(Kind::Table).bytes_now, there, "the tables' space is counted as it is");
    for number in shuffled(entries, 99).into_iter().take(CHECKED).map(u64::from) {
        let got = drive.tasks.block_on(drive.tree.get(KEYSPACE, &present(number))).expect("a sound disk");
        assert_eq!(got.expect("it was put").value, values.of(number, PASSES), "key {number}");
    }
}
