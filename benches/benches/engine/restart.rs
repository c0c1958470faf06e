//! How long a database takes to open that was killed with all that memtables may hold in its log alone.

use crate::Bench;
use crate::data::{USER_BYTES, Values, present, shuffled};
use crate::memory::median;
use crate::report::Asked;
use ringkv_storage::db::{Builder, Db};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

const SECONDS_ASKED: f64 = 2.0;
/// Openings, of which the median counts.
const ROUNDS: usize = 5;
/// No budget is smaller.
const BUDGET_LEAST: usize = 1 << 20;

/// Runs the scenario.
pub fn run(bench: &mut Bench) {
    bench.report.begin("restart");
    let (dir, budget) = (bench.fresh_dir(), bench.memtable_bytes().max(BUDGET_LEAST));
    let open = |builder: Builder, path: &Path| builder.open(path).expect("a sound database");
    // With room, so that nothing of it comes into a table before it is killed.
    let path = dir.path().join("filled");
    let db = open(Db::builder().memtable_bytes(4 * budget), &path);
    let (tree, values) = (db.tree("t").expect("a name"), Values::new());
    let entries = budget as u64 / USER_BYTES;
    for number in shuffled(entries, 1) {
        let number = u64::from(number);
        tree.put(&present(number), &values.of(number, 0)).expect("room on the disk");
    }
    let mut longest = 0.0_f64;
    let seconds = median((0..ROUNDS).map(|round| {
        // What is there now is what a process leaves that is killed now.
        let killed = copied(&path, dir.path().join(format!("killed-{round}")));
        let begun = Instant::now();
        let db = open(Db::builder().memtable_bytes(budget), &killed);
        let got = db.tree("t").and_then(|tree| tree.get(&present(entries - 1))).expect("a sound disk");
        let took = begun.elapsed().as_secs_f64();
        assert!(got.is_some(), "the last of {entries} keys was put");
        longest = longest.max(took);
        took
    }));
    assert_eq!(db.stats().flushes, 0, "all of it stood in the log alone");
    bench.report.row("entries in the log alone", Asked::Nothing, entries as f64, "entries");
    bench.report.row("killed, opened, and a key read", Asked::AtMost(SECONDS_ASKED), seconds, "s");
    bench.report.row(format!("the longest of {ROUNDS}"), Asked::Nothing, longest, "s");
    bench.report.note("No page of the files was in memory when they were opened.");
}

/// A copy of a folder with no page of it in memory.
fn copied(from: &Path, to: PathBuf) -> PathBuf {
    fs::create_dir(&to).expect("the folder can be written to");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("the folder can be read");
        let copy = to.join(entry.file_name());
        if entry.file_type().expect("it is there").is_dir() {
            copied(&entry.path(), copy);
            continue;
        }
        fs::copy(entry.path(), &copy).expect("room on the disk");
        let file = File::open(&copy).expect("just made");
        file.sync_all().expect("a sound disk");
        fadvise(&file, 0, None, Advice::DontNeed).expect("the system takes advice");
    }
    to
}
