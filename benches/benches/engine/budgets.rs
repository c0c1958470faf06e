//! What each large table costs in memory for a key, and how often its filter is wrong. The files themselves are asked.

use crate::Bench;
use crate::data::{Key, Values, absent, absent_random, keys, present, present_random, shuffled};
use crate::drive::{BenchDisk, Drive, TABLES_DIR};
use crate::report::Asked;
use ringkv_benches::KEYSPACE;
use ringkv_storage::engine::EngineOptions;
use ringkv_storage::sst::footer::{FOOTER_BYTES, Footer};
use ringkv_storage::sst::reader::{Table, TableRef, Trash, table_number};
use ringkv_wire::ring::hash::key_hash;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

const ENTRIES: u64 = 2_000_000;
const ABSENT: usize = 1_000_000;
/// A table with fewer keys may cost more.
const LARGE_KEYS: u64 = 100_000;
/// What merges aim at: three times as many keys.
const TABLE_BYTES: u64 = 36 << 20;

const FILTER_BITS_ASKED: f64 = 10.0;
const INDEX_BYTES_ASKED: f64 = 1.2;

/// Runs the scenario.
pub fn run(bench: &mut Bench) {
    bench.report.begin("budgets");
    keys_of_one_shape(bench, "keys with a common prefix", present, absent);
    keys_of_one_shape(bench, "random keys", present_random, absent_random);
}

/// What a table costs.
struct Cost {
    keys: u64,
    filter_bits: f64,
    index_bytes: f64,
    /// Of keys that are not there but lie between its least and its greatest.
    wrong: usize,
    tried: usize,
}

fn keys_of_one_shape(bench: &mut Bench, shape: &str, there: fn(u64) -> Key, not_there: fn(u64) -> Key) {
    let (dir, entries) = (bench.fresh_dir(), bench.scaled(ENTRIES));
    // Tables as those of a tree that is larger than this one.
    let table_bytes = bench.scaled(TABLE_BYTES);
    let options = EngineOptions { table_bytes, seed: 1, ..EngineOptions::default() };
    let mut drive = Drive::open_with(dir.path(), bench.memtable_bytes(), options);
    let (progress, values) = (bench.progress("loading", entries), Values::new());
    drive.load_named(entries, &values, 0, there, &progress);
    progress.finish_and_clear();
    drive.settle();
    let order = shuffled(entries, 3);
    let absent = keys(&order[..ABSENT.min(order.len())], not_there);
    let least = bench.scaled(LARGE_KEYS);
    let costs: Vec<Cost> = tables(&drive, dir.path()).iter().map(|table| cost(table, dir.path(), &absent)).collect();
    let large: Vec<&Cost> = costs.iter().filter(|cost| cost.keys >= least).collect();
    assert!(!large.is_empty(), "no table has {least} keys");
    let worst = |figure: fn(&Cost) -> f64| large.iter().map(|cost| figure(cost)).fold(0.0, f64::max);
    let report = &mut bench.report;
    let mut row = |name: &str, asked, got, unit| report.row(format!("{shape}: {name}"), asked, got, unit);
    row("large tables", Asked::Nothing, large.len() as f64, "tables");
    row("keys of the largest", Asked::Nothing, worst(|cost| cost.keys as f64), "keys");
    row("filter a key, at most", Asked::AtMost(FILTER_BITS_ASKED), worst(|cost| cost.filter_bits), "bits");
    row("index a key, at most", Asked::AtMost(INDEX_BYTES_ASKED), worst(|cost| cost.index_bytes), "bytes");
    let (wrong, tried) = large.iter().fold((0, 0), |sum, cost| (sum.0 + cost.wrong, sum.1 + cost.tried));
    row("filter says yes to an absent key", Asked::Nothing, wrong as f64 / tried.max(1) as f64 * 100.0, "%");
}

/// Opens all table files once more.
fn tables(drive: &Drive, dir: &Path) -> Vec<Arc<Table<BenchDisk>>> {
    let names = drive.tasks.block_on(ringkv_storage::disk::Disk::list(&drive.disk, TABLES_DIR)).expect("a sound disk");
    let open = |name: &String| {
        let footer = footer(&dir.join(TABLES_DIR).join(name));
        let number = table_number(name).expect("nothing else is there when all is settled");
        let place = TableRef { id: footer.id, number, bytes: footer.file_bytes };
        let path = format!("{TABLES_DIR}/{name}");
        let opened = Table::open(drive.disk.clone(), path, place, number, Trash::default());
        drive.tasks.block_on(opened).expect("a sound disk")
    };
    names.iter().map(open).collect()
}

fn footer(path: &Path) -> Footer {
    let file = File::open(path).expect("it was listed");
    let bytes = file.metadata().expect("it is open").len();
    let mut last = [0; FOOTER_BYTES];
    file.read_exact_at(&mut last, bytes - FOOTER_BYTES as u64).expect("a table has a footer");
    Footer::decode(&last, bytes, "a table").expect("a sound disk")
}

fn cost(table: &Table<BenchDisk>, dir: &Path, absent: &[Key]) -> Cost {
    let footer = footer(&dir.join(table.path()));
    let keys = table.properties().entries;
    let inside = absent.iter().filter(|key| table.properties().covers((KEYSPACE, *key)));
    let (mut wrong, mut tried) = (0, 0);
    for key in inside {
        tried += 1;
        wrong += usize::from(table.locate((KEYSPACE, key), key_hash(KEYSPACE, key)).is_some());
    }
    let bytes = |range: &std::ops::Range<u64>| (range.end - range.start) as f64;
    let filter_bits = bytes(&footer.filter.range) * 8.0 / keys as f64;
    Cost { keys, filter_bits, index_bytes: bytes(&footer.index.range) / keys as f64, wrong, tried }
}
