//! What the commands share: the shape of a run, and running it.

pub mod fuzz;
pub mod replay;
pub mod run;
pub mod shrink;

use clap::Args;
use kvsim::ordinals::Ordinals;
use kvsim::plan::{FaultKind, Options};
use kvsim::sim::{self, Outcome};

/// What is fixed; the seed decides the rest.
#[derive(Debug, Clone, Args)]
pub struct Shape {
    /// Nodes; the seed decides when not given.
    #[arg(long)]
    nodes: Option<usize>,
    /// Shards, rounded up to a power of two; the seed decides when not given.
    #[arg(long)]
    shards: Option<usize>,
    /// Virtual minutes of load and faults; 2 when nothing is said.
    #[arg(long)]
    minutes: Option<u64>,
    /// The same in virtual seconds.
    #[arg(long, conflicts_with = "minutes")]
    virtual_seconds: Option<u64>,
    /// Operations per virtual second of all clients together; the seed decides when not given.
    #[arg(long)]
    ops: Option<u64>,
    /// No faults.
    #[arg(long)]
    calm: bool,
    /// Also faults beyond what is promised: answers may then be errors, never wrong.
    #[arg(long)]
    beyond: bool,
    /// Kinds of faults, instead of those that the seed chooses.
    #[arg(long, value_delimiter = ',', conflicts_with = "calm")]
    faults: Option<Vec<FaultKind>>,
    /// Faults to leave out, by their ordinals: `3,7,9-20,40-`. The others stay as they are.
    #[arg(long, default_value_t, hide_default_value = true)]
    skip_faults: Ordinals,
    /// At most so many clients.
    #[arg(long)]
    clients: Option<usize>,
}

impl Shape {
    pub fn options(&self) -> Options {
        let minutes = self.minutes.map(|minutes| minutes * 60);
        Options {
            nodes: self.nodes,
            shards: self.shards,
            seconds: self.virtual_seconds.or(minutes),
            ops_per_s: self.ops,
            calm: self.calm,
            beyond: self.beyond,
            faults: self.faults.clone(),
            skip_faults: self.skip_faults.clone(),
            clients: self.clients,
            ..Options::default()
        }
    }
}

/// One seed and its shape.
#[derive(Debug, Clone, Args)]
pub struct Chosen {
    /// The seed.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    shape: Shape,
    /// Short for `--virtual-seconds`.
    #[arg(long, conflicts_with_all = ["minutes", "virtual_seconds"])]
    seconds: Option<u64>,
}

impl Chosen {
    pub fn options(&self) -> Options {
        let options = self.shape.options();
        Options { seconds: self.seconds.or(options.seconds), ..options }
    }
}

/// Runs a seed, twice unless `once`: equal traces, or that is what is wrong. Also the processor time it took, ns.
pub fn run_seed(seed: u64, options: &Options, once: bool) -> (Outcome, u64) {
    let begun = cpu_ns();
    let mut first = sim::run(seed, options);
    if !once {
        let second = sim::run(seed, options);
        if first.trace != second.trace {
            let what = format!("two runs of one seed differ: traces {:016x} and {:016x}", first.trace, second.trace);
            first.wrong.push(what);
        }
    }
    (first, cpu_ns().saturating_sub(begun))
}

/// Processor time of this thread, ns: a busy machine makes a run late, not slow.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Prints a line on standard output. A reader that has gone away is no error: nobody wants the rest.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _nobody_reads = writeln!(std::io::stdout(), "{line}");
}
