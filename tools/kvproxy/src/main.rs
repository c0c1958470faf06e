//! `kvproxy`: the Redis protocol in front of Redis servers or of a ringkv cluster.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use kvproxy::cluster::Cluster;
use kvproxy::door::{self, Backend, Shared};
use kvproxy::limits::Limits;
use kvproxy::metrics::Metrics;
use kvproxy::ring::servers::Server;
use kvproxy::ring::{Router, show};
use kvproxy::scrape;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lets every Redis client talk to independent Redis servers on a consistent-hash ring, or to a ringkv cluster.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a ring: each server's share, and what a leave or a join would move, beside what `hash % N` would.
    Ring(RingArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Redis servers, separated by commas, each with a weight if you like: 100 is ordinary, 200 takes twice as many keys.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT[*WEIGHT]", conflicts_with = "seeds")]
    redis: Vec<Server>,
    /// Addresses of any nodes of a ringkv cluster, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    seeds: Vec<String>,
    /// Keyspace of the cluster.
    #[arg(long, default_value = "default", conflicts_with = "redis")]
    keyspace: String,
    /// How long a call to the cluster may take before its answer is an error, ms.
    #[arg(long, default_value_t = 10_000, value_name = "MS", conflicts_with = "redis")]
    timeout_ms: u64,
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:6380", value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Allows addresses beyond loopback: nothing is encrypted, nobody is asked for a password.
    #[arg(long)]
    insecure: bool,
    /// Counters for Prometheus over HTTP here.
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
    /// Clients at a time.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    connections_max: usize,
    /// A client that sends no whole command and takes no bytes for so long is cut off, s.
    #[arg(long, default_value_t = 300, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    idle_s: u64,
    /// Answers that may wait for one client, MiB; one with more is cut off.
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    output_mib: u32,
    /// What may be held for all clients together, MiB.
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    total_mib: u32,
    /// How long clients may take to get their answers after SIGTERM, s.
    #[arg(long, default_value_t = 10, value_name = "S")]
    drain_s: u64,
}

#[derive(Debug, Args)]
struct RingArgs {
    /// Servers, as when serving.
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT[*WEIGHT]")]
    redis: Vec<Server>,
    /// Who joins; one more ordinary server when not said.
    #[arg(long, value_name = "HOST:PORT[*WEIGHT]")]
    join: Option<Server>,
    /// Every virtual node too.
    #[arg(long)]
    tokens: bool,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Ring(args)) => ring(args),
        None => serve(cli.serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvproxy: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn ring(args: RingArgs) -> anyhow::Result<()> {
    let tale = show::tell(&args.redis, args.join, args.tokens)?;
    if args.json {
        say(serde_json::to_string_pretty(&tale)?)
    } else {
        say(tale)
    }
    Ok(())
}

fn serve(args: ServeArgs) -> anyhow::Result<()> {
    ensure!(!(args.redis.is_empty() && args.seeds.is_empty()), "say --redis or --seeds: who holds the keys?");
    for address in [Some(args.listen), args.metrics].into_iter().flatten() {
        let safe = address.ip().is_loopback() || args.insecure;
        ensure!(safe, "{address} is beyond loopback, and nothing is encrypted: say --insecure to allow it");
    }
    raise_file_limit(args.connections_max);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    LocalSet::new().block_on(&runtime, run(args))
}

async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let mib = |mib: u32| mib as usize * (1 << 20);
    let limits = Limits {
        connections: args.connections_max,
        idle: Duration::from_secs(args.idle_s),
        output_bytes: mib(args.output_mib),
        total_bytes: mib(args.total_mib),
        drain: Duration::from_secs(args.drain_s),
    };
    let (metrics, registry) = Metrics::new();
    // Before the first client, so that none of the signals is missed.
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    let backend = if args.seeds.is_empty() {
        Backend::Ring(Router::start(&args.redis, &metrics).await?)
    } else {
        let builder = ringkv::Client::builder().seeds(&args.seeds).keyspace(args.keyspace);
        let client = builder.call_timeout(Duration::from_millis(args.timeout_ms)).connect().await;
        Backend::Cluster(Cluster::new(
            client.context("connecting to the cluster")?,
            limits.output_bytes,
            metrics.clone(),
        ))
    };
    if let Some(address) = args.metrics {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
        say(format_args!("counters at http://{}/metrics", listener.local_addr()?));
        spawn_local(scrape::serve(listener, Rc::new(registry)));
    }
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    say(format_args!("listening on {}", listener.local_addr()?));
    door::serve(listener, Shared::new(backend, limits, metrics), stop).await;
    Ok(())
}

/// A client takes a file descriptor: asks for as many as may be needed, and goes on with what it gets.
fn raise_file_limit(connections: usize) {
    let now = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + 256;
    if now.current.is_some_and(|current| current < wanted) {
        let current = Some(now.maximum.map_or(wanted, |most| most.min(wanted)));
        if setrlimit(Resource::Nofile, Rlimit { current, maximum: now.maximum }).is_err() || current < Some(wanted) {
            tracing::warn!(wanted, ?current, "there are fewer file descriptors than clients allowed");
        }
    }
}

/// Prints a line on standard output. A reader that has gone away is no error: nobody wants the rest.
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _nobody_reads = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_checked() {
        Cli::command().debug_assert();
        let parsed = |line: &str| Cli::try_parse_from(std::iter::once("kvproxy").chain(line.split_whitespace()));
        for bad in ["", "--redis a", "--redis a:1 --seeds b:1", "ring", "ring --redis a:1*0", "--redis a:1 --idle-s 0"]
        {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        for good in
            ["--redis a:1,b:2*50,c:3", "--seeds a:1,b:1 --listen 127.0.0.1:0", "ring --redis a:1 --join b:1 --json"]
        {
            assert!(parsed(good).is_ok(), "{good}");
        }
    }
}
