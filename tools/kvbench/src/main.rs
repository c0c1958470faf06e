//! `kvbench`: load and latency of a ringkv cluster, or of a peer.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use kvbench::{
    Bench, Crew, Nowhere, Recorder, RedisSource, Report, SecondReport, Source, Surroundings, Workload, thousands,
};
use ringkv::{Client, ReadLevel};
use ringkv_wire::ring::topology::ClusterMap;
use serde_json::Value;
use tracing_subscriber::EnvFilter;

mod args;
mod output;

use args::{Args, ReadBy};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

/// Runs and tells; gives how many keys did not go well.
fn measure(args: &Args) -> anyhow::Result<u64> {
    // Before the run: what cannot be read should not cost one.
    let old = args.compare.as_deref().map(output::read).transpose()?;
    if let (Some((then, old)), Some(with)) = (&old, &args.with) {
        let (now, new) = output::read(with)?;
        print!("{}", kvbench::compare::compare((then, old), (&now, &new)));
        return Ok(0);
    }
    let (workload, crew) = (args.workload()?, args.crew()?);
    let mut recorder = args.history.is_some().then(Recorder::default);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let mut report = runtime.block_on(run(&Asked { args, workload, crew }, recorder.as_mut()))?;
    report
        .conditions
        .more
        .extend(args.conditions.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))));
    output::tell(args, &report, recorder, old)?;
    Ok(report.errors())
}

/// What is to be run.
struct Asked<'a> {
    args: &'a Args,
    workload: Workload,
    crew: Crew,
}

async fn run(asked: &Asked<'_>, recorder: Option<&mut Recorder>) -> anyhow::Result<Report> {
    let Some(target) = asked.args.target.as_deref() else { return ringkv(asked, recorder).await };
    let (mut report, told) = match target {
        "nothing" => {
            let source = Nowhere(asked.workload.prefix.clone(), asked.workload.value_bytes);
            (on(&source, asked, recorder).await?, BTreeMap::new())
        }
        url if url.starts_with("redis://") => {
            let source = RedisSource::new(url, asked.args.timeout())?;
            let told = source.survey().await?;
            (on(&source, asked, recorder).await?, told)
        }
        url if url.starts_with("etcd://") => etcd(url, asked, recorder).await?,
        other => bail!("what is {other}? `redis://HOST:PORT`, `etcd://HOST:PORT` or `nothing`"),
    };
    report.conditions.more.extend(told.into_iter().map(|(name, text)| (name, Value::from(text))));
    report.conditions.more.insert("target".to_owned(), Value::from(target));
    Ok(report)
}

type Told = (Report, BTreeMap<String, String>);

#[cfg(feature = "etcd")]
async fn etcd(url: &str, asked: &Asked<'_>, recorder: Option<&mut Recorder>) -> anyhow::Result<Told> {
    let source = kvbench::EtcdSource::new(url.trim_start_matches("etcd://"), asked.args.timeout());
    let told = source.survey().await?;
    Ok((on(&source, asked, recorder).await?, told))
}

#[cfg(not(feature = "etcd"))]
async fn etcd(_url: &str, _asked: &Asked<'_>, _recorder: Option<&mut Recorder>) -> anyhow::Result<Told> {
    bail!(
        "this kvbench was built without etcd: cargo build --release -p kvbench --features etcd (needs protobuf-compiler and libprotobuf-dev)"
    )
}

async fn ringkv(asked: &Asked<'_>, mut recorder: Option<&mut Recorder>) -> anyhow::Result<Report> {
    let (keyspace, timeout) = (asked.args.keyspace.as_str(), asked.args.timeout());
    let builder = Client::builder().seeds(&asked.args.seeds).keyspace(keyspace);
    let builder = builder.connect_timeout(timeout).call_timeout(timeout);
    let level = match asked.args.read_level {
        ReadBy::Lease => ReadLevel::Linearizable,
        ReadBy::ReadIndex => ReadLevel::ReadIndex,
    };
    let builder = builder.spin(Duration::from_micros(asked.args.spin_us)).read_level(level);
    let client = builder.clone().connect().await.context("connecting to the cluster")?;
    let map = client.map().await.context("asking for the cluster's map")?;
    drop(client);
    let mut report = on(&builder, asked, recorder.as_deref_mut()).await?;
    report.conditions.more.extend(cluster(&map, asked.crew.clients));
    report.conditions.more.insert("read_level".to_owned(), Value::from(level as u8));
    report.conditions.more.insert("spin_us".to_owned(), Value::from(asked.args.spin_us));
    report.conditions.more.insert("keyspace".to_owned(), Value::from(keyspace));
    if let Some(recorder) = recorder {
        let keyspace = map.keyspace(keyspace).map(|keyspace| keyspace.id);
        recorder.place(|key| Some(u64::from(map.shard_of(keyspace?, key)?.id.0)));
        report.history = Some(recorder.answers());
    }
    Ok(report)
}

/// The run itself, on whatever it is.
async fn on<S: Source>(source: &S, asked: &Asked<'_>, recorder: Option<&mut Recorder>) -> anyhow::Result<Report> {
    let bar = bar();
    let each_second = asked.args.per_second.then(|| {
        let (bar, to_stderr) = (bar.clone(), output::is_json_alone(asked.args));
        let tell = move |name: &str, rate: Option<f64>, second: &SecondReport| {
            let line = line(name, rate, second);
            bar.suspend(|| if to_stderr { eprintln!("{line}") } else { println!("{line}") });
        };
        Box::new(tell) as kvbench::EachSecond
    });
    let probe_dir = Some(asked.args.probe_dir.clone());
    let surroundings = Surroundings { probe_dir, progress: Some(bar), each_second };
    let bench = Bench::start(source, &asked.crew).await.context("connecting")?;
    let report = bench.run(&asked.workload, &surroundings, recorder).await;
    bench.end();
    Ok(report?)
}

/// One second, on one line.
fn line(name: &str, rate: Option<f64>, second: &SecondReport) -> String {
    let rate = rate.map(|rate| format!(" of {}", thousands(rate))).unwrap_or_default();
    let [p50, p99, max] = [second.p50_us, second.p99_us, second.max_us].map(kvbench::micros);
    let errors = if second.errors > 0 { format!("  {} errors", second.errors) } else { String::new() };
    format!(
        "{:6.1} s  {name:<7} {:>11}{rate} keys/s  p50 {p50:>8}  p99 {p99:>8}  max {max:>8}{errors}",
        second.second,
        thousands(second.keys_per_s)
    )
}

/// What the cluster's map says about it. A client has one connection to each store.
fn cluster(map: &ClusterMap, clients: usize) -> BTreeMap<String, Value> {
    let stores: usize = map.nodes.iter().map(|node| node.stores.len()).sum();
    let figures = [
        ("nodes", map.nodes.len()),
        ("stores", stores),
        ("shards", map.shards.len()),
        ("connections_at_most", clients * stores),
    ];
    figures.map(|(name, figure)| (name.to_owned(), Value::from(figure))).into()
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:<32} {wide_bar} {percent}% {eta} left") {
        bar.set_style(style);
    }
    bar
}
