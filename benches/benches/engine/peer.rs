//! The same overwrites on fjall, another log-structured store in Rust. Its log cannot be switched off; what it writes
//! there is not counted, since the engine's own log is not part of these benches either.

use crate::Bench;
use crate::data::{USER_BYTES, Values, present, shuffled};
use crate::overwrite::{ENTRIES, Overwritten, PASSES};
use crate::report::Asked;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Everything but its log lies below this folder.
const TABLES: &str = "keyspaces";
/// How often its files are looked at: a table lives for longer.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Without a compaction for so long, it is settled.
const QUIET: Duration = Duration::from_millis(500);

/// Runs it, and tells how it was counted.
pub fn overwrite(bench: &mut Bench) {
    let (dir, entries, values) = (bench.fresh_dir(), bench.scaled(ENTRIES), Values::new());
    let database = Database::builder(dir.path()).cache_size(bench.cache_bytes() as u64).manual_journal_persist(true);
    let database = database.open().expect("an empty folder opens");
    let options = || KeyspaceCreateOptions::default().max_memtable_size(bench.memtable_bytes() as u64);
    let keyspace = database.keyspace("bench", options).expect("a sound disk");
    put_all(&keyspace, entries, &values, 0);
    settle(&database, &keyspace);
    let (watch, io) = (Watch::start(dir.path().join(TABLES)), bytes_to_disk());
    let begun = Instant::now();
    (1..=PASSES).for_each(|pass| put_all(&keyspace, entries, &values, pass));
    let put = begun.elapsed();
    settle(&database, &keyspace);
    let settled = begun.elapsed();
    let (io, seen) = (bytes_to_disk() - io, watch.stop());
    let done = Overwritten {
        live_bytes: entries * USER_BYTES,
        bytes_written: seen.written,
        bytes_peak: seen.peak,
        bytes_settled: seen.now,
        took: [put, settled],
        waited: None,
        cpu: None,
    };
    done.tell(bench, "fjall: ", false);
    let all = io as f64 / (entries * PASSES * USER_BYTES) as f64;
    bench.report.row("fjall: written a user byte, with its log", Asked::Nothing, all, "bytes");
    bench
        .report
        .note("fjall: no compression, its log left to the system, jobs on threads of its own; bytes are the greatest");
    bench.report.note(
        "  lengths of all files below its tables' folder, looked at every 10 ms; with its log: what the kernel says",
    );
    bench.report.note("  this process wrote (write_bytes in /proc/self/io)");
}

fn put_all(keyspace: &Keyspace, entries: u64, values: &Values, pass: u64) {
    for number in shuffled(entries, pass).into_iter().map(u64::from) {
        keyspace.insert(present(number), &values.of(number, pass)[..]).expect("a sound disk");
    }
}

/// Flushes, and waits until it compacts no more.
fn settle(database: &Database, keyspace: &Keyspace) {
    keyspace.rotate_memtable_and_wait().expect("a sound disk");
    let mut quiet = Instant::now();
    while quiet.elapsed() < QUIET {
        thread::sleep(LOOK_EVERY);
        if database.active_compactions() > 0 || database.outstanding_flushes() > 0 {
            quiet = Instant::now();
        }
    }
}

/// Bytes that this process caused to be written.
fn bytes_to_disk() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or_default()
}

/// What was seen of a folder.
#[derive(Default)]
struct Seen {
    /// Bytes that were not there at the start.
    written: u64,
    peak: u64,
    now: u64,
}

/// A thread that looks at a folder.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    fn start(folder: PathBuf) -> Watch {
        let (mut lengths, mut before) = (BTreeMap::new(), 0);
        look(&folder, &mut lengths, &mut before);
        let at_first: u64 = lengths.values().sum();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            loop {
                // One look is taken after the stop, so that the end is seen.
                let last = stopped.load(Ordering::Relaxed);
                seen.now = 0;
                look(&folder, &mut lengths, &mut seen.now);
                seen.peak = seen.peak.max(seen.now);
                if last {
                    seen.written = lengths.values().sum::<u64>() - at_first;
                    return seen;
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        Watch { stop, thread }
    }

    fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic")
    }
}

/// Notes the greatest length of each file, and adds up those of now. Files may go meanwhile.
fn look(folder: &Path, lengths: &mut BTreeMap<PathBuf, u64>, now: &mut u64) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            look(&entry.path(), lengths, now);
            continue;
        }
        *now += metadata.len();
        let longest = lengths.entry(entry.path()).or_default();
        *longest = metadata.len().max(*longest);
    }
}
