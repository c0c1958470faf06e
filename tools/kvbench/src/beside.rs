//! What runs beside a phase, so that a slow machine is not mistaken for a slow store: per CPU a pinned thread that sleeps 1 ms
//! and records how late it woke, and a probe that writes 4 KiB and calls fdatasync. A meter that was held up for several
//! milliseconds records all the wake-ups it missed, as a load at a fixed rate would: its percentiles are of time, not of naps.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::latency::{Latencies, Percentiles};

/// How long the meter sleeps.
const NAP: Duration = Duration::from_millis(1);
/// How long the probe rests between two flushes: few enough to cost the stores little.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// Bytes of one probe.
const PROBE_BYTES: usize = 4096;
/// CPUs that get a meter, at most.
const METERS_MAX: usize = 8;

/// The threads beside a phase.
pub struct Beside {
    stop: Arc<AtomicBool>,
    meters: Vec<JoinHandle<Latencies>>,
    probe: Option<JoinHandle<io::Result<Latencies>>>,
}

/// What they measured, microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BesideReport {
    /// Lateness of a thread that wants to wake every millisecond.
    pub hiccup_us: Percentiles,
    /// Time to write 4 KiB and flush it; absent when there was no probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdatasync_us: Option<Percentiles>,
}

impl Beside {
    /// Starts the meters, and the probe when `probe_dir` is given.
    pub fn start(probe_dir: Option<&Path>) -> Beside {
        let stop = Arc::new(AtomicBool::new(false));
        let meters = allowed_cpus().into_iter().take(METERS_MAX).map(|cpu| {
            let stop = stop.clone();
            thread::spawn(move || meter(cpu, &stop))
        });
        let meters = meters.collect();
        let probe = probe_dir.map(|dir| {
            let (stop, dir) = (stop.clone(), dir.to_owned());
            thread::spawn(move || probe(&dir, &stop))
        });
        Beside { stop, meters, probe }
    }

    /// Ends them. A probe that failed tells nothing.
    pub fn stop(self) -> BesideReport {
        self.stop.store(true, Ordering::Relaxed);
        let mut late = Latencies::default();
        for meter in self.meters {
            if let Ok(own) = meter.join() {
                late.merge(&own);
            }
        }
        let flushes = self.probe.and_then(|probe| probe.join().ok()).and_then(Result::ok);
        let flushes = flushes.filter(|flushes| flushes.count() > 0).map(|flushes| flushes.percentiles());
        BesideReport { hiccup_us: late.percentiles(), fdatasync_us: flushes }
    }
}

/// The CPUs this process may run on.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

fn meter(cpu: usize, stop: &AtomicBool) -> Latencies {
    let mut only = CpuSet::new();
    only.set(cpu);
    let _unpinned_is_fine = sched_setaffinity(None, &only);
    let mut late = Latencies::default();
    while !stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        thread::sleep(NAP);
        missed(before.elapsed().saturating_sub(NAP)).for_each(|one| late.record(one));
    }
    late
}

/// How late a wake-up was, and those that were due meanwhile.
fn missed(late: Duration) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(late), |late| late.checked_sub(NAP).filter(|left| !left.is_zero()))
}

fn probe(dir: &Path, stop: &AtomicBool) -> io::Result<Latencies> {
    let path = dir.join(format!("kvbench-probe-{}", std::process::id()));
    let file = File::options().create(true).truncate(true).write(true).open(&path)?;
    std::fs::remove_file(&path)?; // the open file lives on, and nothing is left behind
    let block = [0x5a; PROBE_BYTES];
    file.write_all_at(&block, 0)?;
    file.sync_all()?;
    let mut flushes = Latencies::default();
    while !stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        file.write_all_at(&block, 0)?;
        file.sync_data()?;
        flushes.record(before.elapsed());
        thread::sleep(PROBE_EVERY);
    }
    Ok(flushes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meter_and_probe_measure_something_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::start(Some(dir.path()));
        thread::sleep(Duration::from_millis(30));
        let told = beside.stop();
        assert!(told.hiccup_us.max > 0.0, "{told:?}");
        assert!(told.fdatasync_us.is_some_and(|flush| flush.max > 0.0), "{told:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_long_hiccup_counts_for_all_the_time_it_took() {
        let late: Vec<_> = missed(Duration::from_micros(3_200)).map(|late| late.as_micros()).collect();
        assert_eq!(late, [3_200, 2_200, 1_200, 200]);
        assert_eq!(missed(Duration::from_micros(60)).count(), 1);
        assert_eq!(missed(Duration::ZERO).count(), 1);
    }

    #[test]
    fn a_probe_without_a_folder_tells_nothing() {
        let beside = Beside::start(Some(Path::new("/nonexistent-folder")));
        assert_eq!(beside.stop().fdatasync_us, None);
    }
}
