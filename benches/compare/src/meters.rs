//! What is measured of a process from outside its engine: CPU, memory, bytes, files, and how late threads wake.

mod proc;
mod watch;

pub use proc::{Usage, peak_rss_bytes};
pub use watch::{Seen, forget_pages, space_bytes};

use crate::peer::Engine;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const NAP: Duration = Duration::from_millis(1);
/// How often files and memory are looked at: a table lives for longer.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Looks between two words about progress.
const LOOKS_A_WORD: u64 = 10;

/// How late a thread woke that slept 1 ms.
#[derive(Debug, Clone, Copy)]
pub struct Hiccups {
    /// 99 of 100 were no later.
    pub p99: Duration,
    /// The latest.
    pub max: Duration,
}

/// The threads beside a row.
pub struct Meters {
    stop: Arc<AtomicBool>,
    hiccups: JoinHandle<(Hiccups, Duration)>,
    watch: JoinHandle<(Seen, Duration)>,
}

impl Meters {
    /// Starts them: `say` is told now and then how many calls are `done`.
    pub fn start(engine: Engine, dir: &Path, done: Arc<AtomicU64>, say: fn(u64)) -> Meters {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, napping) = (stop.clone(), stop.clone());
        let dir = dir.to_owned();
        let watch = thread::spawn(move || (watch(engine, dir, &stopped, &done, say), thread_cpu()));
        let hiccups = thread::spawn(move || (hiccups(&napping), thread_cpu()));
        Meters { stop, hiccups, watch }
    }

    /// Ends them; the last is the CPU time that they took themselves.
    pub fn stop(self) -> (Hiccups, Seen, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (hiccups, napped) = self.hiccups.join().expect("a meter does not panic");
        let (seen, watched) = self.watch.join().expect("a meter does not panic");
        (hiccups, seen, napped + watched)
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn hiccups(stop: &AtomicBool) -> Hiccups {
    let mut late = histogram();
    while !stop.load(Ordering::Relaxed) {
        let from = Instant::now();
        thread::sleep(NAP);
        late.saturating_record(from.elapsed().saturating_sub(NAP).as_nanos() as u64);
    }
    Hiccups { p99: Duration::from_nanos(late.value_at_quantile(0.99)), max: Duration::from_nanos(late.max()) }
}

fn watch(engine: Engine, dir: PathBuf, stop: &AtomicBool, done: &AtomicU64, say: fn(u64)) -> Seen {
    let mut seen = Seen::of_before(engine, &dir);
    for look in 0.. {
        // One look is taken after the stop, so that the end is seen.
        let last = stop.load(Ordering::Relaxed);
        seen.look();
        if look % LOOKS_A_WORD == 0 {
            say(done.load(Ordering::Relaxed));
        }
        if last {
            break;
        }
        thread::sleep(LOOK_EVERY);
    }
    seen
}

/// Nanoseconds, up to a minute, three digits that count.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are sound")
}
