//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Parser, ValueEnum};
use kvbench::{Climb, Crew, Distribution, Kind, Pace, Phase, Workload, Ycsb};

/// Measures ringkv, or a peer of it: loads keys and reads them, writes, mixes both, as fast as answers come or at a fixed rate.
///
/// Exit code: 0 when every call went well, 1 when some did not, 2 when the run could not be made.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Args {
    /// What is done, in this order. `mixed` has --reads-percent; `verify` reads every key once; YCSB's E would need scans.
    #[arg(value_enum, default_values_t = [Work::Load, Work::Get], value_name = "WORK")]
    pub work: Vec<Work>,
    /// Addresses of any nodes of a ringkv cluster, separated by commas.
    #[arg(long, required_unless_present_any = ["target", "with"], value_delimiter = ',', value_name = "HOST:PORT")]
    pub seeds: Vec<String>,
    /// Something else than ringkv: `redis://HOST:PORT`, `etcd://HOST:PORT` (a cargo feature), or `nothing`, which measures kvbench itself.
    #[arg(long, conflicts_with = "seeds", value_name = "URL")]
    pub target: Option<String>,
    /// The keyspace of ringkv.
    #[arg(long, default_value = "default")]
    pub keyspace: String,

    /// Distinct keys, of 16 bytes each.
    #[arg(long, default_value_t = 100_000, help_heading = "Work")]
    pub keys: u64,
    /// First bytes of every key, at most 8. With --history the default is fresh for each run: its keys must start absent.
    #[arg(long, help_heading = "Work")]
    pub prefix: Option<String>,
    /// Bytes of every value.
    #[arg(long, default_value_t = 100, help_heading = "Work")]
    pub value_bytes: usize,
    /// Keys in one call: 1 is get and put, more is get_many and put_many.
    #[arg(long, default_value_t = 1, help_heading = "Work")]
    pub batch: usize,
    /// How keys are chosen [default: zipfian for YCSB, latest for its D, uniform else].
    #[arg(long, value_enum, help_heading = "Work")]
    pub distribution: Option<DistributionName>,
    /// Skew of zipfian and latest.
    #[arg(long, default_value_t = 0.99, help_heading = "Work")]
    pub theta: f64,
    /// hotspot: share of the keys that is hot.
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", help_heading = "Work")]
    pub hot_keys: f64,
    /// hotspot: share of the calls that goes to hot keys.
    #[arg(long, default_value_t = 0.8, value_name = "SHARE", help_heading = "Work")]
    pub hot_calls: f64,
    /// mixed: reads of 100 calls.
    #[arg(long, default_value_t = 95, value_parser = clap::value_parser!(u8).range(0..=100), help_heading = "Work")]
    pub reads_percent: u8,
    /// mixed: of 100 writing calls so many delete a key.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100), help_heading = "Work")]
    pub deletes_percent: u8,
    /// Seed of all choices.
    #[arg(long, default_value_t = 1, help_heading = "Work")]
    pub seed: u64,

    /// Ends each phase but load and verify after so many seconds [default: 10, of a search 3 at each rate; none with --ops].
    #[arg(long, value_name = "S", help_heading = "Pace")]
    pub seconds: Option<f64>,
    /// Ends each phase but load and verify after so many keys.
    #[arg(long, value_name = "KEYS", help_heading = "Pace")]
    pub ops: Option<u64>,
    /// Runs each phase but load and verify so long before it counts [default: 1; 0 with --ops or --history].
    #[arg(long, value_name = "S", help_heading = "Pace")]
    pub warmup: Option<f64>,
    /// An open loop: so many keys a second, such as 50000, 50k or 1.5m; latencies count from when a call was meant to be made.
    #[arg(long, value_name = "KEYS/S", value_parser = number, help_heading = "Pace")]
    pub rate: Option<f64>,
    /// Searches for the knee: raises the rate from --rate [default: 1k] until it is not served well.
    #[arg(long, help_heading = "Pace")]
    pub find_knee: bool,
    /// --find-knee: a rate is not served well when its p99 is beyond this, when less than 95% is answered, or on errors.
    #[arg(long, default_value_t = 10.0, value_name = "MS", help_heading = "Pace")]
    pub p99_ms: f64,
    /// Callers at the same time, over all clients [default: 64; 1024 in an open loop].
    #[arg(long, help_heading = "Pace")]
    pub tasks: Option<usize>,
    /// How long a caller rests between two calls, ms.
    #[arg(long, default_value_t = 0, value_name = "MS", help_heading = "Pace")]
    pub rest_ms: u64,

    /// Threads that make calls, each with clients of its own [default: one, or one for each CPU of --pin].
    #[arg(long, help_heading = "Client")]
    pub threads: Option<usize>,
    /// CPUs to pin them to, in turn.
    #[arg(long, value_delimiter = ',', value_name = "CPU", help_heading = "Client")]
    pub pin: Vec<usize>,
    /// Clients over all threads, each with its own connections [default: one for each thread].
    #[arg(long, help_heading = "Client")]
    pub clients: Option<usize>,
    /// What reads lean on: the leader's lease where it has one, or always a round to its followers. Both are linearizable.
    #[arg(long, value_enum, default_value_t = ReadBy::Lease, help_heading = "Client")]
    pub read_level: ReadBy,
    /// How long a client looks for answers before its thread sleeps, us; for clients with a core of their own.
    #[arg(long, default_value_t = 0, value_name = "US", help_heading = "Client")]
    pub spin_us: u64,
    /// How long a call may take, ms.
    #[arg(long, default_value_t = 10_000, value_name = "MS", help_heading = "Client")]
    pub timeout_ms: u64,

    /// Prints a line for each second.
    #[arg(long, help_heading = "Output")]
    pub per_second: bool,
    /// Tells where the time of a key went on average: in the client, on the way, in the store.
    #[arg(long, help_heading = "Output")]
    pub breakdown: bool,
    /// Writes the figures and their conditions here as JSON; `-` is standard output.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Writes all latencies here, as HdrHistogram's tools plot them; of several phases each into a file of its own.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hgrm: Option<PathBuf>,
    /// Draws latency by percentile, throughput over time, and latency by rate.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub svg: Option<PathBuf>,
    /// Compares with an earlier --json; of a file with several runs, such as JSON lines, with their medians.
    #[arg(long, value_name = "OLD.json", help_heading = "Output")]
    pub compare: Option<PathBuf>,
    /// Runs nothing: compares OLD.json with this.
    #[arg(long, value_name = "NEW.json", requires = "compare", conflicts_with_all = ["seeds", "target"], help_heading = "Output")]
    pub with: Option<PathBuf>,
    /// Writes every call here as JSON lines, for lincheck.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub history: Option<PathBuf>,
    /// Folder of the fdatasync probe: should lie on the disk of the nodes.
    #[arg(long, default_value = ".", value_name = "DIR", help_heading = "Output")]
    pub probe_dir: PathBuf,
    /// A condition for the record, such as `servers=pinned to CPU 0`; may be given several times.
    #[arg(long = "condition", value_name = "NAME=TEXT", value_parser = condition, help_heading = "Output")]
    pub conditions: Vec<(String, String)>,
}

/// See [`Args::read_level`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadBy {
    Lease,
    #[value(name = "readindex")]
    ReadIndex,
}

const EXAMPLES: &str = "Examples:
  kvbench --seeds 127.0.0.1:7400                                    loads 100,000 keys, reads them for 10 s
  kvbench --seeds 127.0.0.1:7400 load put get --batch 64            batches of 64
  kvbench --seeds 127.0.0.1:7400 ycsb-a --rate 50k --per-second     YCSB A at 50,000 a second
  kvbench --seeds 127.0.0.1:7400 get --find-knee                    how much is served with a p99 of 10 ms?
  kvbench --target redis://127.0.0.1:6379 load get                  the same work on Redis
  kvbench --compare old.json --with new.json                        two runs side by side";

/// What a phase does.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Work {
    Load,
    Get,
    Put,
    Delete,
    Mixed,
    YcsbA,
    YcsbB,
    YcsbC,
    YcsbD,
    YcsbF,
    Verify,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DistributionName {
    Uniform,
    Zipfian,
    Latest,
    Hotspot,
}

fn condition(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=TEXT")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A number, perhaps with `k` or `m` behind it.
fn number(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match (lower.strip_suffix('k'), lower.strip_suffix('m')) {
        (Some(digits), _) => (digits, 1e3),
        (_, Some(digits)) => (digits, 1e6),
        _ => (lower.as_str(), 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| format!("{text} is no number"))?;
    Ok(number * factor)
}

impl Args {
    /// The threads and clients that are asked for.
    pub fn crew(&self) -> anyhow::Result<Crew> {
        let threads = self.threads.unwrap_or(self.pin.len().max(1));
        let clients = self.clients.unwrap_or(threads);
        if threads == 0 || clients == 0 {
            bail!("clients and threads must be at least 1");
        }
        Ok(Crew { threads, clients: clients.max(threads), pin: self.pin.clone() })
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The work that is asked for.
    pub fn workload(&self) -> anyhow::Result<Workload> {
        let seconds = self.seconds.or(match self.ops {
            Some(_) => None,
            None => Some(if self.find_knee { 3.0 } else { 10.0 }),
        });
        if seconds.is_some_and(|seconds| !(seconds > 0.0 && seconds < 1e6)) {
            bail!("seconds must be above 0 and below 1,000,000");
        }
        let warmup = self.warmup.unwrap_or(if self.ops.is_some() || self.history.is_some() { 0.0 } else { 1.0 });
        if !(0.0..1e6).contains(&warmup) {
            bail!("warmup must be a number of seconds below 1,000,000");
        }
        let prefix = match (&self.prefix, &self.history) {
            (Some(prefix), _) => prefix.clone(),
            (None, None) => "k".to_owned(),
            (None, Some(_)) => format!("{:07x}-", rand::random::<u32>() >> 4),
        };
        let pace = match (self.find_knee, self.rate) {
            (true, from) => Pace::Climb(Climb { from: from.unwrap_or(1_000.0), p99_us: self.p99_ms * 1e3 }),
            (false, Some(rate)) => Pace::Rate(rate),
            (false, None) => Pace::Closed,
        };
        let workload = Workload {
            keys: self.keys,
            prefix,
            value_bytes: self.value_bytes,
            batch: self.batch,
            tasks: self.tasks.unwrap_or(if pace == Pace::Closed { 64 } else { 1_024 }),
            distribution: self.distribution(),
            seed: self.seed,
            deletes_percent: self.deletes_percent,
            rest: Duration::from_millis(self.rest_ms),
            warmup: Duration::from_secs_f64(warmup),
            pace,
            phases: self.work.iter().map(|work| self.phase(*work, seconds)).collect(),
        };
        workload.check()?;
        Ok(workload)
    }

    fn phase(&self, work: Work, seconds: Option<f64>) -> Phase {
        let kind = match work {
            Work::Load => Kind::Load,
            Work::Get => Kind::Get,
            Work::Put => Kind::Put,
            Work::Delete => Kind::Delete,
            Work::Mixed => Kind::Mixed { reads_percent: self.reads_percent },
            Work::YcsbA => Kind::Ycsb(Ycsb::A),
            Work::YcsbB => Kind::Ycsb(Ycsb::B),
            Work::YcsbC => Kind::Ycsb(Ycsb::C),
            Work::YcsbD => Kind::Ycsb(Ycsb::D),
            Work::YcsbF => Kind::Ycsb(Ycsb::F),
            Work::Verify => Kind::Verify,
        };
        match kind.takes_each_once() {
            true => Phase { kind, keys: self.keys, seconds: None },
            false => Phase { kind, keys: self.ops.unwrap_or(u64::MAX / 2), seconds },
        }
    }

    fn distribution(&self) -> Option<Distribution> {
        Some(match self.distribution? {
            DistributionName::Uniform => Distribution::Uniform,
            DistributionName::Zipfian => Distribution::Zipfian { theta: self.theta },
            DistributionName::Latest => Distribution::Latest { theta: self.theta },
            DistributionName::Hotspot => Distribution::HotSpot { keys: self.hot_keys, calls: self.hot_calls },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("kvbench").chain(line.split_whitespace()))
    }

    fn workload(line: &str) -> Workload {
        parsed(line).unwrap().workload().unwrap()
    }

    #[test]
    fn arguments_are_checked() {
        assert!(parsed("").is_err(), "seeds are needed");
        assert!(parsed("--seeds 127.0.0.1:1 load dance").is_err());
        assert!(parsed("--seeds 127.0.0.1:1 --reads-percent 101").is_err());
        assert!(parsed("--seeds 127.0.0.1:1 --condition bare").is_err());
        assert!(parsed("--seeds 127.0.0.1:1 --target nothing").is_err());
        assert!(parsed("--seeds 127.0.0.1:1 --rate fast").is_err());
        let args = parsed("--seeds 127.0.0.1:1,127.0.0.1:2 --batch 64 --distribution zipfian --seconds 2").unwrap();
        let workload = args.workload().unwrap();
        assert_eq!(args.seeds.len(), 2);
        assert_eq!(workload.distribution, Some(Distribution::Zipfian { theta: 0.99 }));
        assert_eq!(workload.phases[0].seconds, None, "loading is not cut short");
        assert_eq!(workload.phases[1].seconds, Some(2.0));
        for negative in ["--seconds=-1", "--warmup=-1", "--rate=-1", "--find-knee --p99-ms 0"] {
            let args = parsed(&format!("--target nothing {negative}")).unwrap();
            assert!(args.workload().is_err(), "{negative}");
        }
    }

    #[test]
    fn paces_have_their_defaults() {
        let closed = workload("--target nothing");
        assert_eq!((closed.pace, closed.tasks, closed.warmup), (Pace::Closed, 64, Duration::from_secs(1)));
        let open = workload("--target nothing get --rate 1.5m");
        assert_eq!((open.pace, open.tasks), (Pace::Rate(1.5e6), 1_024));
        let climb = workload("--target nothing get --find-knee --rate 20K");
        assert_eq!(climb.pace, Pace::Climb(Climb { from: 20_000.0, p99_us: 10_000.0 }));
        assert_eq!(climb.phases[0].seconds, Some(3.0));
        let counted = workload("--target nothing get --ops 7");
        assert_eq!((counted.phases[0].keys, counted.phases[0].seconds), (7, None));
        assert_eq!(counted.warmup, Duration::ZERO);
    }

    #[test]
    fn threads_follow_the_pins() {
        let crew = parsed("--target nothing --pin 1,2").unwrap().crew().unwrap();
        assert_eq!((crew.threads, crew.clients), (2, 2));
        let crew = parsed("--target nothing --threads 2 --clients 5").unwrap().crew().unwrap();
        assert_eq!((crew.threads, crew.clients), (2, 5));
    }

    #[test]
    fn histories_start_on_fresh_keys() {
        let (one, two) =
            (workload("--target nothing --history h").prefix, workload("--target nothing --history h").prefix);
        assert_eq!(one.len(), 8);
        assert_ne!(one, two);
    }
}
