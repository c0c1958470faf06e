//! Death by SIGKILL: every write that returned is there.

use super::child::{LANES, Process, Told, begun, counted, last_of, open, promised};
use rand::RngExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Deaths in one directory.
const ROUNDS: usize = 20;

fn newest_segment(dir: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(dir.join("log")) else { return 0 };
    let number = |name: &str| u64::from_str_radix(name.get(..16)?, 16).ok();
    files.filter_map(|file| number(file.unwrap().file_name().to_str()?)).max().unwrap_or(0)
}

/// Nothing that was acknowledged is lost, no batch is there by half, nothing is there that nobody wrote: while memtables are flushed,
/// tables merged, segments of the log begun and used again.
#[test]
fn what_returned_survives_kill_9_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (db_dir, told_path) = (dir.path().join("db"), dir.path().join("told"));
    let told = Told::open(&told_path);
    let (mut writes, mut rotations) = (0, 0);
    for round in 0..ROUNDS {
        let segments = newest_segment(&db_dir);
        let before: Vec<u64> = (0..LANES).map(|lane| told.get(promised(lane))).collect();
        let mut process = Process::start("lanes", &db_dir, &told_path);
        // Sometimes it dies while it opens.
        if !round.is_multiple_of(5) {
            process.until("wrote", || (0..LANES).all(|lane| told.get(promised(lane)) > before[lane]));
        }
        let most_ms = if round.is_multiple_of(4) { 30 } else { 500 };
        std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..most_ms * 1000)));
        if round % 7 == 6 {
            // Now and then the log goes on in its next file before; a slow disk is not waited for.
            let patience = Instant::now() + Duration::from_secs(3);
            while newest_segment(&db_dir) < segments + 4 && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        process.kill();
        // The opening took one, and one was made ready.
        rotations += newest_segment(&db_dir).saturating_sub(segments + 2);
        let db = open(&db_dir);
        for (lane, before) in before.iter().enumerate() {
            let (last, least, most) = (last_of(&db, lane), told.get(promised(lane)), told.get(begun(lane)));
            assert!((least..=most.max(least)).contains(&last), "round {round}: {last} of {least} to {most}");
            writes += last - before;
            told.set(promised(lane), last);
        }
        if round.is_multiple_of(3) {
            db.compact().unwrap();
            (0..LANES).for_each(|lane| assert_eq!(last_of(&db, lane), told.get(promised(lane))));
        }
    }
    assert!(writes > 1000, "too slow to say anything: {writes} writes");
    eprintln!("{writes} writes, {rotations} log segments begun while they went on");
}

#[test]
fn a_million_puts_survive_kill_9() {
    let count = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let (db_dir, told_path) = (dir.path().join("db"), dir.path().join("told"));
    let told = Told::open(&told_path);
    told.set(1, count);
    let mut process = Process::start("count", &db_dir, &told_path);
    process.until("wrote all", || told.get(0) == count);
    process.kill();
    for _ in 0..2 {
        assert_eq!(counted(&db_dir), count);
    }
}
