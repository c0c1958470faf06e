//! Load and latency measurement: phases of loading, reading, writing and mixed work, as fast as answers come or at a fixed rate,
//! against ringkv through its public client or against its peers; latency percentiles, a search for the knee, a meter of
//! scheduling hiccups and a probe of the disk beside every phase, histories for `lincheck`.
//!
//! The binary `kvbench` is a thin shell; `kvctl demo` calls [`run`] too.
//!
//! A closed loop ([`Pace::Closed`]): each of `tasks` callers waits for its answer before it asks again. A stall of the store delays
//! the calls that would have come in the meantime, so percentiles are of the calls that were made. An open loop
//! ([`Pace::Rate`]): calls are due at fixed times and their latencies count from then, so that a stall is felt by every call that
//! was due in it.
//!
//! The loop is light, since it shares a machine with what it measures. Work is split over lanes, one thread each, that share
//! nothing while a phase runs; per call a lane locks nothing and allocates nothing beyond what the client's own calls take.

mod beside;
mod choose;
pub mod compare;
mod conditions;
mod conduct;
mod crew;
pub mod hgrm;
mod history;
mod keys;
mod knee;
mod lane;
mod latency;
mod report;
mod store;
pub mod svg;
mod tally;
mod values;
mod workload;

pub use beside::{Beside, BesideReport};
pub use choose::{Distribution, Keys, Turns};
pub use conditions::Conditions;
pub use crew::{Bench, Crew};
pub use history::{Answers, Recorder};
pub use latency::{Latencies, Percentiles};
pub use report::{PhaseReport, RateStep, Report, SecondReport, micros, thousands};
#[cfg(feature = "etcd")]
pub use store::{Etcd, EtcdSource};
pub use store::{Failure, Found, Nothing, Nowhere, Redis, RedisSource, Source, Target};
pub use tally::{Errors, Tally};
pub use workload::{Climb, Kind, Pace, Phase, Workload, WorkloadError, Ycsb};

use std::fmt;
use std::path::PathBuf;

use indicatif::ProgressBar;
use tokio::task::LocalSet;

use lane::Lane;

/// Told of each second of a stretch: its name, its rate in an open loop, and its figures.
pub type EachSecond = Box<dyn Fn(&str, Option<f64>, &SecondReport)>;

/// What a run needs beside its workload.
#[derive(Default)]
pub struct Surroundings {
    /// Folder in which the fdatasync probe keeps its file; no probe when `None`. It should lie on the disk of the stores.
    pub probe_dir: Option<PathBuf>,
    /// Told of each phase; hidden when `None`.
    pub progress: Option<ProgressBar>,
    /// Called when a second is over.
    pub each_second: Option<EachSecond>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("probe_dir", &self.probe_dir).finish_non_exhaustive()
    }
}

/// Runs the phases of `workload` on this thread, spreading its callers over `targets`, and gives what was measured.
///
/// Failing calls are counted, not errors of the run. `recorder` receives every call when it is given.
///
/// # Panics
/// When `targets` is empty.
pub async fn run<T: Target>(
    targets: &[T],
    workload: &Workload,
    surroundings: &Surroundings,
    recorder: Option<&mut Recorder>,
) -> Result<Report, WorkloadError> {
    let (handle, lane) = Lane::new(0, 1, targets.to_vec());
    let here = async {
        let bench = Bench::of_lanes(vec![handle], targets.len());
        let lane = tokio::task::spawn_local(lane.serve());
        let report = bench.run(workload, surroundings, recorder).await;
        drop(bench);
        drop(lane.await);
        report
    };
    LocalSet::new().run_until(here).await
}
