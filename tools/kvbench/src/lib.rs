//! Load and latency measurement for ringkv: phases of loading, reading and mixed work through the public client, latency
//! percentiles, a meter of scheduling hiccups and a probe of the disk beside every phase, histories for `lincheck`.
//!
//! The binary `kvbench` is a thin shell; `kvctl demo` calls [`run`] too.
//!
//! The loop is closed: each of `tasks` callers waits for its answer before it asks again. So a stall of the store delays the
//! calls that would have come in the meantime, and percentiles are of the calls that were made.

mod beside;
mod conditions;
mod drive;
mod history;
mod keys;
mod latency;
mod report;
mod target;
mod workload;

pub use beside::{Beside, BesideReport};
pub use conditions::Conditions;
pub use history::{Answers, Recorder};
pub use keys::{Distribution, Keys};
pub use latency::{Latencies, Percentiles};
pub use report::{Errors, PhaseReport, Report, thousands};
pub use target::{Failure, Found, Target};
pub use workload::{Kind, Phase, Workload, WorkloadError};

use std::path::PathBuf;

use indicatif::ProgressBar;

/// What a run needs beside its workload.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Folder in which the fdatasync probe keeps its file; no probe when `None`. It should lie on the disk of the stores.
    pub probe_dir: Option<PathBuf>,
    /// Told of each phase; hidden when `None`.
    pub progress: Option<ProgressBar>,
}

/// Runs the phases of `workload`, spreading its callers over `targets`, and gives what was measured.
///
/// Failing calls are counted, not errors of the run. `recorder` receives every call when it is given.
///
/// # Panics
/// When `targets` is empty.
pub async fn run<T: Target>(
    targets: &[T],
    workload: &Workload,
    surroundings: &Surroundings,
    mut recorder: Option<&mut Recorder>,
) -> Result<Report, WorkloadError> {
    assert!(!targets.is_empty(), "a run needs a client");
    workload.check()?;
    let mut phases = Vec::new();
    for phase in &workload.phases {
        let bar = surroundings.progress.clone().unwrap_or_else(ProgressBar::hidden);
        let beside = Beside::start(surroundings.probe_dir.as_deref());
        let mut measured = drive::phase(targets, workload, phase, &bar, recorder.as_deref_mut()).await;
        measured.beside = beside.stop();
        phases.push(measured);
    }
    Ok(Report { phases, history: None, conditions: Conditions::of_this_machine(targets.len(), workload, surroundings) })
}
