//! `kvbench`: load and latency of a ringkv cluster, through the public client.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use kvbench::{Distribution, Kind, Phase, Recorder, Surroundings, Workload};
use ringkv::Client;
use ringkv_wire::ring::topology::ClusterMap;
use tracing_subscriber::EnvFilter;

/// Measures a ringkv cluster: phases of load, reads and mixed work, with latency percentiles.
///
/// Exit code: 0 when every call went well, 1 when some did not, 2 when the run could not be made.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Addresses of any nodes, separated by commas.
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT")]
    seeds: Vec<SocketAddr>,
    /// The keyspace.
    #[arg(long, default_value = "default")]
    keyspace: String,
    /// Distinct keys, of 16 bytes each.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// First bytes of every key, at most 8. With --history the default is fresh for each run: its keys must start absent.
    #[arg(long)]
    prefix: Option<String>,
    /// Bytes of every value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Keys in one call: 1 is get and put, more is get_many and put_many.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Clients: each has its own connections to every store.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Callers at the same time, spread over the clients.
    #[arg(long, default_value_t = 64)]
    tasks: usize,
    /// What is done, in this order.
    #[arg(long, value_delimiter = ',', default_value = "load,read")]
    phases: Vec<PhaseName>,
    /// Keys asked for in each phase but load and sweep [default: as many as there are keys].
    #[arg(long)]
    ops: Option<u64>,
    /// Ends each phase but load and sweep after so many seconds; without --ops only then.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Reads of 100 calls in the mixed phase.
    #[arg(long, default_value_t = 95, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads_percent: u8,
    /// How keys are chosen.
    #[arg(long, value_enum, default_value_t = DistributionName::Uniform)]
    distribution: DistributionName,
    /// Skew of the Zipfian distribution.
    #[arg(long, default_value_t = 0.99)]
    theta: f64,
    /// Seed of all choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of the client's runtime.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How long a call may take, ms.
    #[arg(long, default_value_t = 10_000)]
    timeout_ms: u64,
    /// Of 100 writing calls in the mixed phase so many delete a key.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    deletes_percent: u8,
    /// How long a caller rests between two calls, ms.
    #[arg(long, default_value_t = 0)]
    rest_ms: u64,
    /// Writes the figures and their conditions here as JSON; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes every call here as JSON lines, for lincheck.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Folder of the fdatasync probe: should lie on the disk of the nodes.
    #[arg(long, default_value = ".", value_name = "DIR")]
    probe_dir: PathBuf,
    /// A condition for the record, such as `servers=pinned to CPU 0`; may be given several times.
    #[arg(long = "condition", value_name = "NAME=TEXT", value_parser = condition)]
    conditions: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PhaseName {
    Load,
    Read,
    Write,
    Mixed,
    Sweep,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DistributionName {
    Uniform,
    Zipfian,
}

fn condition(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=TEXT")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match measure(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(errors) => {
            eprintln!("kvbench: {errors} keys did not go well");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("kvbench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &Args) -> anyhow::Result<u64> {
    let workload = workload(args)?;
    workload.check()?;
    if args.clients == 0 || args.threads == 0 {
        bail!("clients and threads must be at least 1");
    }
    let mut runtime = match args.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let runtime = runtime.enable_all().build().context("starting the runtime")?;
    let mut recorder = args.history.is_some().then(Recorder::default);
    let mut report = runtime.block_on(async {
        let clients = connect(args).await?;
        let surroundings = Surroundings { probe_dir: Some(args.probe_dir.clone()), progress: Some(bar()) };
        let client = clients.first().context("a run needs a client")?;
        let map = client.map().await.context("asking for the cluster's map")?;
        let mut report = kvbench::run(&clients, &workload, &surroundings, recorder.as_mut()).await?;
        report.conditions.more.extend(cluster(&map, clients.len()));
        if let Some(recorder) = recorder.as_mut() {
            let keyspace = map.keyspace(&args.keyspace).map(|keyspace| keyspace.id);
            recorder.place(|key| Some(u64::from(map.shard_of(keyspace?, key)?.id.0)));
            report.history = Some(recorder.answers());
        }
        anyhow::Ok(report)
    })?;
    let record = |name: &str, text: String| (name.to_owned(), serde_json::Value::from(text));
    report.conditions.more.extend(args.conditions.iter().map(|(name, text)| record(name, text.clone())));
    report
        .conditions
        .more
        .extend([record("threads", args.threads.to_string()), record("keyspace", args.keyspace.clone())]);
    if let (Some(path), Some(recorder)) = (&args.history, recorder) {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        recorder.write(BufWriter::new(file)).with_context(|| format!("writing {}", path.display()))?;
    }
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{}", serde_json::to_string_pretty(&report)?),
        Some(path) => {
            println!("{report}");
            let mut text = serde_json::to_string_pretty(&report)?;
            text.push('\n');
            let mut file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
            file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
        }
        None => println!("{report}"),
    }
    Ok(report.errors())
}

/// What the cluster's map says about it. A client has one connection to each store.
fn cluster(map: &ClusterMap, clients: usize) -> [(String, serde_json::Value); 4] {
    let stores: usize = map.nodes.iter().map(|node| node.stores.len()).sum();
    let figures = [
        ("nodes", map.nodes.len()),
        ("stores", stores),
        ("shards", map.shards.len()),
        ("connections_at_most", clients * stores),
    ];
    figures.map(|(name, figure)| (name.to_owned(), serde_json::Value::from(figure)))
}

async fn connect(args: &Args) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..args.clients {
        let builder = Client::builder().seeds(args.seeds.iter().copied()).keyspace(args.keyspace.as_str());
        let timeout = Duration::from_millis(args.timeout_ms);
        let client = builder.connect_timeout(timeout).call_timeout(timeout).connect().await;
        clients.push(client.context("connecting to the cluster")?);
    }
    Ok(clients)
}

fn workload(args: &Args) -> anyhow::Result<Workload> {
    if args.seconds.is_some_and(|seconds| !(seconds > 0.0 && seconds < 1e6)) {
        bail!("seconds must be above 0 and below 1,000,000");
    }
    let phases = args.phases.iter().map(|name| {
        let kind = match name {
            PhaseName::Load => return Phase { kind: Kind::Load, keys: args.keys, seconds: None },
            PhaseName::Sweep => return Phase { kind: Kind::Sweep, keys: args.keys, seconds: None },
            PhaseName::Read => Kind::Read,
            PhaseName::Write => Kind::Write,
            PhaseName::Mixed => Kind::Mixed { reads_percent: args.reads_percent },
        };
        let endless = if args.seconds.is_some() { u64::MAX / 2 } else { args.keys };
        Phase { kind, keys: args.ops.unwrap_or(endless), seconds: args.seconds }
    });
    let prefix = match (&args.prefix, &args.history) {
        (Some(prefix), _) => prefix.clone(),
        (None, None) => "k".to_owned(),
        (None, Some(_)) => format!("{:07x}-", rand::random::<u32>() >> 4),
    };
    Ok(Workload {
        keys: args.keys,
        prefix,
        value_bytes: args.value_bytes,
        batch: args.batch,
        tasks: args.tasks,
        distribution: match args.distribution {
            DistributionName::Uniform => Distribution::Uniform,
            DistributionName::Zipfian => Distribution::Zipfian { theta: args.theta },
        },
        seed: args.seed,
        deletes_percent: args.deletes_percent,
        rest: Duration::from_millis(args.rest_ms),
        phases: phases.collect(),
    })
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:>6} {wide_bar} {human_pos}/{human_len} keys, {per_sec}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("kvbench").chain(line.split_whitespace()))
    }

    #[test]
    fn arguments_are_checked() {
        assert!(parsed("").is_err(), "seeds are needed");
        assert!(parsed("--seeds nowhere").is_err());
        assert!(parsed("--seeds 127.0.0.1:1 --phases load,dance").is_err());
        assert!(parsed("--seeds 127.0.0.1:1 --reads-percent 101").is_err());
        assert!(parsed("--seeds 127.0.0.1:1 --condition bare").is_err());
        let args = parsed("--seeds 127.0.0.1:1,127.0.0.1:2 --batch 64 --distribution zipfian --seconds 2").unwrap();
        let workload = workload(&args).unwrap();
        assert_eq!(args.seeds.len(), 2);
        assert_eq!(workload.distribution, Distribution::Zipfian { theta: 0.99 });
        assert_eq!(workload.phases[0].seconds, None, "loading is not cut short");
        assert_eq!(workload.phases[1].seconds, Some(2.0));
        let negative = parsed("--seeds 127.0.0.1:1 --seconds=-1").unwrap();
        assert!(super::workload(&negative).is_err());
    }

    #[test]
    fn histories_start_on_fresh_keys() {
        let args = parsed("--seeds 127.0.0.1:1 --history h").unwrap();
        let (one, two) = (workload(&args).unwrap().prefix, workload(&args).unwrap().prefix);
        assert_eq!(one.len(), 8);
        assert_ne!(one, two);
    }
}
