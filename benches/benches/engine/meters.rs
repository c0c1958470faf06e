//! What the machine does beside the soak, so that its stalls are not mistaken for the engine's: on each CPU a pinned
//! thread that sleeps 1 ms and records how late it woke, and a probe that writes 4 KiB and calls fdatasync. All by
//! windows of time, to be laid beside the waits of puts.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a window is.
pub const WINDOW: Duration = Duration::from_millis(50);
const NAP: Duration = Duration::from_millis(1);
const PROBE_EVERY: Duration = Duration::from_millis(100);
const PROBE_BYTES: usize = 4096;

/// The longest of something in each window since the start.
#[derive(Default)]
pub struct Windows(Vec<Duration>);

impl Windows {
    /// Something took `took` and touched all windows between two times.
    pub fn note(&mut self, from: Duration, to: Duration, took: Duration) {
        let last = window(to);
        if self.0.len() <= last {
            self.0.resize(last + 1, Duration::ZERO);
        }
        self.0[window(from)..=last].iter_mut().for_each(|longest| *longest = took.max(*longest));
    }

    /// The longest in all windows that two times touch.
    pub fn longest(&self, from: Duration, to: Duration) -> Duration {
        let (from, to) = (window(from), window(to).min(self.0.len().saturating_sub(1)));
        self.0.get(from..=to).unwrap_or_default().iter().copied().max().unwrap_or_default()
    }

    fn merge(&mut self, other: &Windows) {
        self.0.resize(self.0.len().max(other.0.len()), Duration::ZERO);
        self.0.iter_mut().zip(&other.0).for_each(|(longest, other)| *longest = (*other).max(*longest));
    }
}

fn window(at: Duration) -> usize {
    (at.as_nanos() / WINDOW.as_nanos()) as usize
}

/// The threads beside the soak.
pub struct Meters {
    stop: Arc<AtomicBool>,
    hiccups: Vec<JoinHandle<Windows>>,
    probe: JoinHandle<io::Result<Windows>>,
}

impl Meters {
    /// Starts them; times count from `begun`.
    pub fn start(begun: Instant, dir: &Path) -> Meters {
        let stop = Arc::new(AtomicBool::new(false));
        let hiccups = allowed_cpus().into_iter().map(|cpu| {
            let stop = stop.clone();
            thread::spawn(move || hiccups(cpu, begun, &stop))
        });
        let hiccups = hiccups.collect();
        let (stopped, path) = (stop.clone(), dir.join("probe"));
        let probe = thread::spawn(move || probe(&path, begun, &stopped));
        Meters { stop, hiccups, probe }
    }

    /// Ends them: how late threads woke, and how long flushes took.
    pub fn stop(self) -> (Windows, Windows) {
        self.stop.store(true, Ordering::Relaxed);
        let mut hiccups = Windows::default();
        for meter in self.hiccups {
            hiccups.merge(&meter.join().expect("a meter does not panic"));
        }
        let probe = self.probe.join().expect("the probe does not panic");
        (hiccups, probe.expect("the folder can be written to"))
    }
}

fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

fn hiccups(cpu: usize, begun: Instant, stop: &AtomicBool) -> Windows {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("a thread may run where it is allowed to");
    let mut late = Windows::default();
    while !stop.load(Ordering::Relaxed) {
        let from = begun.elapsed();
        thread::sleep(NAP);
        let to = begun.elapsed();
        late.note(from, to, (to - from).saturating_sub(NAP));
    }
    late
}

fn probe(path: &Path, begun: Instant, stop: &AtomicBool) -> io::Result<Windows> {
    let file = File::options().create_new(true).write(true).open(path)?;
    let block = [0x5a; PROBE_BYTES];
    file.write_all_at(&block, 0)?;
    file.sync_all()?;
    let mut flushes = Windows::default();
    while !stop.load(Ordering::Relaxed) {
        let from = begun.elapsed();
        file.write_all_at(&block, 0)?;
        file.sync_data()?;
        let to = begun.elapsed();
        flushes.note(from, to, to - from);
        thread::sleep(PROBE_EVERY);
    }
    Ok(flushes)
}
