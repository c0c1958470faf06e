//! `kvsim`: runs seeds.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use kvsim::ordinals::Ordinals;
use kvsim::plan::{FaultKind, Options, Plan};
use kvsim::sim::{Outcome, quiet_panics, run};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Whole ringkv clusters from one seed, on a virtual clock, network and disk. Exit code 1 when something is wrong.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed, twice (once when verbose), and says what happened.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        shape: Shape,
        /// Writes the clients' history there, as `lincheck` reads it.
        #[arg(long)]
        history: Option<PathBuf>,
        /// Says how the cluster was laid out and what the stores log.
        #[arg(short, long)]
        verbose: bool,
    },
    /// Runs many seeds, each twice.
    Fuzz {
        /// For so long, in real seconds.
        #[arg(long, conflicts_with = "seeds")]
        for_seconds: Option<u64>,
        /// So many.
        #[arg(long)]
        seeds: Option<u64>,
        /// The first.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Threads.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Runs each seed once: faster, but the traces are not compared.
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        shape: Shape,
    },
}

#[derive(Args, Clone)]
struct Shape {
    /// Nodes; the seed decides when not given.
    #[arg(long)]
    nodes: Option<usize>,
    /// Shards; the seed decides when not given.
    #[arg(long)]
    shards: Option<usize>,
    /// Virtual seconds of load and faults.
    #[arg(long)]
    seconds: Option<u64>,
    /// No faults.
    #[arg(long)]
    calm: bool,
    /// Kinds of faults, instead of those that the seed chooses.
    #[arg(long, value_delimiter = ',', conflicts_with = "calm")]
    faults: Option<Vec<FaultKind>>,
    /// Faults to leave out, by their ordinals: `3,7,9-20,40-`.
    #[arg(long, default_value_t)]
    skip_faults: Ordinals,
    /// At most so many clients.
    #[arg(long)]
    clients: Option<usize>,
}

impl Shape {
    fn options(&self) -> Options {
        Options {
            nodes: self.nodes,
            shards: self.shards,
            seconds: self.seconds,
            calm: self.calm,
            faults: self.faults.clone(),
            skip_faults: self.skip_faults.clone(),
            clients: self.clients,
            ..Options::default()
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run { seed, shape, history, verbose } => one(seed, &shape.options(), history, verbose),
        Command::Fuzz { for_seconds, seeds, from, jobs, once, shape } => {
            let until = for_seconds.map(|s| Instant::now() + Duration::from_secs(s));
            let end = seeds.map_or(u64::MAX, |n| from + n);
            Ok(many(from, end, until, jobs, once, &shape.options()))
        }
    }
}

fn one(seed: u64, options: &Options, history: Option<PathBuf>, verbose: bool) -> anyhow::Result<ExitCode> {
    if verbose {
        tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).without_time().init();
        println!("{:#?}", Plan::new(seed, options));
    }
    let outcome = twice(seed, &Options { verbose, ..options.clone() }, verbose);
    println!("{}", line(seed, &outcome));
    if let Some(path) = history {
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        lincheck::write(&outcome.history, BufWriter::new(file))?;
    }
    Ok(ExitCode::from(u8::from(!outcome.wrong.is_empty())))
}

/// Runs a seed twice: equal traces, or that is what is wrong.
fn twice(seed: u64, options: &Options, once: bool) -> Outcome {
    let mut first = run(seed, options);
    if once {
        return first;
    }
    let second = run(seed, options);
    if first.trace != second.trace {
        let what = format!("two runs of one seed differ: traces {:016x} and {:016x}", first.trace, second.trace);
        first.wrong.push(what);
    }
    first
}

fn line(seed: u64, outcome: &Outcome) -> String {
    let (asked, acknowledged) = outcome.operations;
    let mut text = format!(
        "seed {seed}: trace {:016x}, {:.1} virtual s, {asked} operations, {acknowledged} acknowledged, {} elections, {} polls: {}",
        outcome.trace,
        outcome.virtual_ns as f64 / 1e9,
        outcome.elections,
        outcome.polls,
        if outcome.wrong.is_empty() { "ok" } else { "WRONG" },
    );
    for what in &outcome.wrong {
        text.push_str("\n  ");
        text.push_str(what.trim_end());
    }
    text
}

fn many(from: u64, end: u64, until: Option<Instant>, jobs: usize, once: bool, options: &Options) -> ExitCode {
    quiet_panics();
    let begun = Instant::now();
    let next = std::sync::atomic::AtomicU64::new(from);
    let bad = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            // Panics of a run are reported with its seed; threads cost a run nothing: it never leaves its own.
            scope.spawn(|| {
                while until.is_none_or(|until| Instant::now() < until) {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = twice(seed, options, once);
                    if !outcome.wrong.is_empty() {
                        println!("{}", line(seed, &outcome));
                        bad.lock().unwrap_or_else(|e| e.into_inner()).push(seed);
                    }
                    let done = seed - from + 1;
                    if done.is_multiple_of(100) {
                        eprintln!("{done} seeds, {:.1}/s", done as f64 / begun.elapsed().as_secs_f64());
                        let _ = std::io::stderr().flush();
                    }
                }
            });
        }
    });
    let ran = next.into_inner().min(end) - from;
    let bad = bad.into_inner().unwrap_or_else(|e| e.into_inner());
    println!("{ran} seeds, {:.2} seeds/s, {} wrong {bad:?}", ran as f64 / begun.elapsed().as_secs_f64(), bad.len());
    ExitCode::from(u8::from(!bad.is_empty()))
}
