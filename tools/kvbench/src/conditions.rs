//! What a run was measured on. A number without its conditions is no number.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Surroundings;
use crate::beside::allowed_cpus;
use crate::keys::KEY_BYTES;
use crate::workload::{Pace, Workload};

/// The conditions of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Version of kvbench.
    pub kvbench: String,
    /// Kernel release.
    pub kernel: String,
    /// Model of the processor.
    pub cpu: String,
    /// CPUs that kvbench may run on: where it is pinned, if it is.
    pub cpus: Vec<usize>,
    /// File system under the probe's folder.
    pub file_system: Option<String>,
    /// Clients, each with its own connections.
    pub clients: usize,
    /// Callers at the same time.
    pub tasks: usize,
    /// Keys in one call.
    pub batch: usize,
    /// Keys in flight at most: callers x batch.
    pub keys_in_flight: usize,
    /// Distinct keys.
    pub keys: u64,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Threads that made the calls.
    #[serde(default)]
    pub client_threads: usize,
    /// `uniform`, `zipfian 0.99` and so on; `as each phase has it` when not said.
    pub distribution: String,
    /// Seconds that each phase ran before it counted.
    #[serde(default)]
    pub warmup_s: f64,
    /// Seed of the choices.
    pub seed: u64,
    /// `closed`: a caller waits for its answer; `open, N keys/s`; `open, rising`.
    pub r#loop: String,
    /// What the caller wants on record: nodes, hosts, pinning of the servers, shards.
    #[serde(default, flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

impl Conditions {
    /// Looks at this machine.
    pub fn of_this_machine(
        clients: usize,
        client_threads: usize,
        workload: &Workload,
        surroundings: &Surroundings,
    ) -> Conditions {
        Conditions {
            kvbench: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cpu: cpu_model().unwrap_or_default(),
            cpus: allowed_cpus(),
            file_system: surroundings.probe_dir.as_deref().and_then(file_system),
            clients,
            tasks: workload.tasks,
            batch: workload.batch,
            keys_in_flight: workload.tasks * workload.batch,
            keys: workload.keys,
            key_bytes: KEY_BYTES,
            value_bytes: workload.value_bytes,
            client_threads,
            distribution: match workload.distribution {
                Some(distribution) => distribution.to_string(),
                None => "as each phase has it".to_owned(),
            },
            warmup_s: workload.warmup.as_secs_f64(),
            seed: workload.seed,
            r#loop: match workload.pace {
                Pace::Closed => "closed".to_owned(),
                Pace::Rate(rate) => format!("open, {rate} keys/s"),
                Pace::Climb(_) => "open, rising".to_owned(),
            },
            more: BTreeMap::new(),
        }
    }
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}

/// The type of the file system that holds `dir`: the longest mount point that is its prefix.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(_device), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if dir.starts_with(point) && best.as_ref().is_none_or(|(length, _)| point.len() >= *length) {
            best = Some((point.len(), kind.to_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}
