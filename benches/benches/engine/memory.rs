//! Lookups of a million entries that memory knows: in the memtable, in tables whose blocks are all in the cache, and
//! with the budgets that a store has by default.

use crate::Bench;
use crate::data::{Key, VALUE_BYTES, Values, absent, keys, present, shuffled};
use crate::drive::{Drive, MEMTABLE_NO_LIMIT};
use crate::report::Asked;
use ringkv_benches::KEYSPACE;
use ringkv_storage::tree::{Lookup, Sought};
use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

const ENTRIES: u64 = 1_000_000;
/// A cache that holds a block of each key, though a block takes whole pages.
pub const CACHE_OF_ALL_BYTES: usize = 256 << 20;
/// Keys of one call.
pub const BATCH: usize = 64;
/// Measurements of one figure, of which the median counts.
const ROUNDS: usize = 5;

const BATCHED_ASKED: f64 = 5e6;
const SINGLE_ASKED: f64 = 1.5e6;
const ABSENT_ASKED: f64 = 2.5e6;

/// Runs the scenario.
pub fn run(bench: &mut Bench) {
    bench.report.begin("memory");
    in_the_memtable(bench);
    in_the_cache(bench);
    with_default_budgets(bench);
}

fn in_the_memtable(bench: &mut Bench) {
    let dir = bench.fresh_dir();
    let drive = loaded(bench, Drive::open(dir.path(), bench.cache_bytes(), MEMTABLE_NO_LIMIT));
    measure(bench, "memtable", &drive);
}

fn in_the_cache(bench: &mut Bench) {
    let dir = bench.fresh_dir();
    let drive = loaded(bench, Drive::open(dir.path(), CACHE_OF_ALL_BYTES, bench.memtable_bytes()));
    drive.settle();
    for number in 0..bench.scaled(ENTRIES) {
        let got = drive.tasks.block_on(drive.tree.get(KEYSPACE, &present(number)));
        assert!(got.expect("a sound disk").is_some(), "key {number} was put");
    }
    measure(bench, "cache", &drive);
    bench.report.row("cache: sorted runs", Asked::Nothing, drive.sorted_runs() as f64, "runs");
}

/// What the cache does not know is asked from the disk, all keys of a call side by side.
fn with_default_budgets(bench: &mut Bench) {
    let dir = bench.fresh_dir();
    let drive = loaded(bench, Drive::open(dir.path(), bench.cache_bytes(), bench.memtable_bytes()));
    drive.tasks.run();
    let wanted = keys(&shuffled(bench.scaled(ENTRIES), 2), present);
    let mut asked_disk = 0;
    let begun = Instant::now();
    for batch in wanted.chunks(BATCH) {
        let mut unknown = Vec::new();
        let mut at = 0;
        drive.tree.look(batch.iter().map(|key| Sought::new(KEYSPACE, key)), |lookup| {
            match lookup {
                Lookup::Disk => unknown.push(at),
                found => assert!(found != Lookup::Absent, "every key was put"),
            }
            at += 1;
        });
        asked_disk += unknown.len();
        for at in unknown {
            let get = drive.tree.get(KEYSPACE, &batch[at]);
            drive.tasks.spawn(async move { assert!(get.await.expect("a sound disk").is_some(), "every key was put") });
        }
        drive.tasks.run();
    }
    let rate = wanted.len() as f64 / begun.elapsed().as_secs_f64();
    bench.report.row("default budgets: batches of 64", Asked::Nothing, rate, "keys/s");
    let share = asked_disk as f64 / wanted.len() as f64 * 100.0;
    bench.report.row("default budgets: asked from the disk", Asked::Nothing, share, "% of keys");
}

fn loaded(bench: &Bench, mut drive: Drive) -> Drive {
    let entries = bench.scaled(ENTRIES);
    let progress = bench.progress("loading", entries);
    drive.load(entries, &Values::new(), 1, &progress);
    progress.finish_and_clear();
    drive
}

/// The four figures of lookups that never wait.
fn measure(bench: &mut Bench, place: &str, drive: &Drive) {
    let order = shuffled(bench.scaled(ENTRIES), 2);
    let unknown = Rc::new(Cell::new(0));
    for (what, name, batch, asked) in [
        ("present", present as fn(u64) -> Key, BATCH, BATCHED_ASKED),
        ("present", present, 1, SINGLE_ASKED),
        ("absent", absent, BATCH, ABSENT_ASKED),
        ("absent", absent, 1, ABSENT_ASKED),
    ] {
        let wanted = keys(&order, name);
        let expected = if what == "present" { wanted.len() } else { 0 };
        let rate = median((0..ROUNDS).map(|_| {
            let begun = Instant::now();
            let (found, disk) = look(drive, &wanted, batch);
            let took = begun.elapsed();
            assert!(found + disk >= expected && found <= expected, "{found} of {expected} keys found");
            unknown.set(unknown.get().max(disk));
            wanted.len() as f64 / took.as_secs_f64()
        }));
        let batch = if batch == 1 { "one by one".to_owned() } else { format!("batches of {batch}") };
        bench.report.row(format!("{place}: {what}, {batch}"), Asked::AtLeast(asked), rate, "keys/s");
    }
    let share = unknown.get() as f64 / order.len() as f64 * 100.0;
    bench.report.row(format!("{place}: not known to memory, at most"), Asked::Nothing, share, "% of keys");
}

/// Looks keys up, `batch` at once, and copies their values as an answer would. How many were found, and how many only
/// the disk knows.
pub fn look(drive: &Drive, wanted: &[Key], batch: usize) -> (usize, usize) {
    let (mut found, mut disk) = (0, 0);
    let mut answer = Vec::with_capacity(batch * VALUE_BYTES);
    for keys in wanted.chunks(batch) {
        answer.clear();
        drive.tree.look(keys.iter().map(|key| Sought::new(KEYSPACE, key)), |lookup| match lookup {
            Lookup::Found { value, .. } => {
                answer.extend_from_slice(value);
                found += 1;
            }
            Lookup::Absent => {}
            Lookup::Disk => disk += 1,
        });
        black_box(&answer);
    }
    (found, disk)
}

/// The middle one of an odd number of figures.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
