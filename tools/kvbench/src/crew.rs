//! The threads that make the calls, and a run of them.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::conduct::Conductor;
use crate::lane::{Lane, LaneHandle};
use crate::store::Source;
use crate::{Conditions, Recorder, Report, Surroundings, Workload, WorkloadError};

/// How many threads and clients there shall be.
#[derive(Debug, Clone)]
pub struct Crew {
    /// Threads, at least 1, each with a runtime and clients of its own.
    pub threads: usize,
    /// Clients over all threads; each thread has at least one.
    pub clients: usize,
    /// CPUs to which the threads are pinned in turn; none when empty.
    pub pin: Vec<usize>,
}

/// Lanes that wait for work, with their clients connected.
pub struct Bench {
    lanes: Vec<LaneHandle>,
    clients: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Bench {
    pub(crate) fn of_lanes(lanes: Vec<LaneHandle>, clients: usize) -> Bench {
        Bench { lanes, clients, threads: Vec::new() }
    }

    /// Starts the threads and connects their clients.
    ///
    /// # Errors
    /// When a thread cannot be started or pinned, or a client does not connect.
    pub async fn start<S: Source>(source: &S, crew: &Crew) -> anyhow::Result<Bench> {
        let mut starting = Vec::new();
        for number in 0..crew.threads.max(1) {
            let (ready, is_ready) = oneshot::channel();
            let (source, crew) = (source.clone(), crew.clone());
            let named = thread::Builder::new().name(format!("kvbench-{number}"));
            let thread = named.spawn(move || member(number, &source, &crew, ready)).context("starting a thread")?;
            starting.push((thread, is_ready));
        }
        let clients = crew.clients.max(crew.threads);
        let mut bench = Bench { lanes: Vec::new(), clients, threads: Vec::new() };
        for (thread, is_ready) in starting {
            bench.lanes.push(is_ready.await.context("a thread ended early")??);
            bench.threads.push(thread);
        }
        Ok(bench)
    }

    /// Runs the phases of `workload` and gives what was measured.
    ///
    /// Failing calls are counted, not errors of the run. `recorder` receives every call when it is given.
    pub async fn run(
        &self,
        workload: &Workload,
        surroundings: &Surroundings,
        recorder: Option<&mut Recorder>,
    ) -> Result<Report, WorkloadError> {
        workload.check()?;
        if workload.tasks < self.lanes.len() {
            return Err(WorkloadError::Idle { tasks: workload.tasks, threads: self.lanes.len() });
        }
        let shared = Arc::new(workload.clone());
        let mut conductor = Conductor { lanes: &self.lanes, workload: shared, surroundings, recorder, serial: 0 };
        let mut phases = Vec::new();
        for phase in &workload.phases {
            phases.push(conductor.phase(phase).await);
        }
        let conditions = Conditions::of_this_machine(self.clients, self.lanes.len(), workload, surroundings);
        Ok(Report { phases, history: None, conditions })
    }

    /// Ends the threads, and waits for them.
    pub fn end(self) {
        drop(self.lanes);
        for thread in self.threads {
            // One that panicked has been missed, and counted, while it had work.
            drop(thread.join());
        }
    }
}

/// One thread: pins itself, connects, and serves.
fn member<S: Source>(number: usize, source: &S, crew: &Crew, ready: oneshot::Sender<anyhow::Result<LaneHandle>>) {
    let runtime =
        pin(number, crew).and_then(|()| Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        // Nobody waits for an answer when another thread has failed before.
        Err(error) => return drop(ready.send(Err(error))),
    };
    let threads = crew.threads.max(1);
    let own = (0..crew.clients.max(threads)).skip(number).step_by(threads).count();
    let serve = async move {
        let mut targets = Vec::new();
        for _ in 0..own {
            match source.connect().await {
                Ok(target) => targets.push(target),
                Err(error) => return drop(ready.send(Err(error))),
            }
        }
        let (handle, lane) = Lane::new(number, threads, targets);
        drop(ready.send(Ok(handle)));
        lane.serve().await;
    };
    LocalSet::new().block_on(&runtime, serve);
}

fn pin(number: usize, crew: &Crew) -> anyhow::Result<()> {
    let Some(cpu) = crew.pin.iter().cycle().nth(number).copied() else { return Ok(()) };
    let mut only = CpuSet::new();
    anyhow::ensure!(cpu < CpuSet::MAX_CPU, "there is no CPU {cpu}");
    only.set(cpu);
    sched_setaffinity(None, &only).with_context(|| format!("pinning a thread to CPU {cpu}"))
}
