//! Why a block has the size it has, and why values stand with their keys: the same work at several sizes.

use crate::Bench;
use crate::counting::Kind;
use crate::data::{KEY_BYTES, USER_BYTES, Values, keys, present, shuffled};
use crate::disk::get_all;
use crate::drive::Drive;
use crate::memory::{BATCH, CACHE_OF_ALL_BYTES, look};
use crate::report::Asked;
use ringkv_benches::KEYSPACE;
use ringkv_storage::engine::EngineOptions;
use std::time::{Duration, Instant};

const ENTRIES: u64 = 2_000_000;
const BLOCKS: [usize; 4] = [4096, 8192, 16_384, 32_768];
/// Keys that are looked for on the disk.
const SOUGHT: usize = 200_000;

/// Bytes of what is overwritten, and how often.
const LIVE_BYTES: u64 = 232 << 20;
const PASSES: u64 = 5;
const VALUES: [usize; 5] = [100, 1024, 4096, 16_384, 65_536];

/// Runs the scenario.
pub fn run(bench: &mut Bench) {
    bench.report.begin("sizes");
    BLOCKS.into_iter().for_each(|bytes| blocks_of(bench, bytes));
    VALUES.into_iter().for_each(|bytes| values_of(bench, bytes));
    bench.report.note(
        "written a user byte: by flushes and merges, without the log. Values apart from their keys would be written",
    );
    bench
        .report
        .note("  once, and once more for each time that their garbage is collected: twice in all at twice the space.");
}

/// Reads from the disk beside a cache of a twentieth, and from a cache of all.
fn blocks_of(bench: &mut Bench, block_bytes: usize) {
    let entries = bench.scaled(ENTRIES);
    let order = shuffled(entries, 2);
    for cache_bytes in [(entries * USER_BYTES / 20) as usize, 2 * CACHE_OF_ALL_BYTES] {
        let dir = bench.fresh_dir();
        let options = EngineOptions { cache_bytes, block_bytes, seed: 1, ..EngineOptions::default() };
        let mut drive = Drive::open_with(dir.path(), bench.memtable_bytes(), options);
        let progress = bench.progress("loading", entries);
        drive.load(entries, &Values::new(), 1, &progress);
        progress.finish_and_clear();
        drive.settle();
        let mut row = |what: &str, got, unit| {
            bench.report.row(format!("blocks of {block_bytes}: {what}"), Asked::Nothing, got, unit);
        };
        if cache_bytes < CACHE_OF_ALL_BYTES {
            let gets = get_all(&drive, keys(&order[..SOUGHT.min(order.len())], present), true, Duration::ZERO);
            row("disk reads a key", gets.reads_per_key(), "reads");
            row("rate from the disk", gets.rate(), "keys/s");
            row("CPU a key", gets.cpu_us_per_key(), "us");
            row("index and filter a key", drive.engine.stats().mapped_bytes as f64 / entries as f64, "bytes");
            continue;
        }
        // Each key once: then every block is in the cache.
        for number in 0..entries {
            let got = drive.tasks.block_on(drive.tree.get(KEYSPACE, &present(number)));
            assert!(got.expect("a sound disk").is_some(), "key {number} was put");
        }
        let wanted = keys(&order, present);
        let begun = Instant::now();
        let (found, disk) = look(&drive, &wanted, BATCH);
        assert_eq!((found, disk), (wanted.len(), 0), "all keys are in the cache");
        row("rate from the cache, batches of 64", wanted.len() as f64 / begun.elapsed().as_secs_f64(), "keys/s");
    }
}

/// The same bytes overwritten, in values of another size.
fn values_of(bench: &mut Bench, value_bytes: usize) {
    let user_bytes = (KEY_BYTES + value_bytes) as u64;
    let (dir, entries, values) =
        (bench.fresh_dir(), bench.scaled(LIVE_BYTES / user_bytes), Values::of_bytes(value_bytes));
    let mut drive = Drive::open(dir.path(), bench.cache_bytes(), bench.memtable_bytes());
    let progress = bench.progress("overwriting", entries * (PASSES + 1));
    drive.load(entries, &values, 0, &progress);
    drive.settle();
    drive.disk.forget_peaks();
    let (written, begun) = (drive.bytes_written(), Instant::now());
    (1..=PASSES).for_each(|pass| drive.load(entries, &values, pass, &progress));
    let took = begun.elapsed();
    drive.settle();
    progress.finish_and_clear();
    let (live, user) = ((entries * user_bytes) as f64, (entries * user_bytes * PASSES) as f64);
    let mut row = |what: &str, got, unit| {
        bench.report.row(format!("values of {value_bytes}: {what}"), Asked::Nothing, got, unit);
    };
    row("written a user byte", (drive.bytes_written() - written) as f64 / user, "bytes");
    row("peak space a live byte", drive.disk.counts(Kind::Table).bytes_peak as f64 / live, "bytes");
    row("puts", user / 1e6 / took.as_secs_f64(), "MB/s");
}
