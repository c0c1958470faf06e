//! `kvctl`: administration, demonstration and inspection of ringkv.

mod calls;
mod demo;
mod status;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Talks to a ringkv cluster, shows one at work, or looks into the files of a store.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts nodes on loopback, loads and reads a text, kills the busiest leader in the middle of writes, checks that nothing
    /// acknowledged was lost, and heals the cluster. Less than a minute.
    Demo(demo::DemoArgs),
    /// Prints the value of a key. Exit code 1 when it is absent.
    Get {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// The key.
        key: String,
    },
    /// Sets a key.
    Put {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// The key.
        key: String,
        /// The value; `-` reads it from standard input.
        value: String,
    },
    /// Removes a key.
    #[command(visible_alias = "delete")]
    Del {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// The key.
        key: String,
    },
    /// Shows every store: its shards, who leads them, how far they are.
    Status {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Prints the stores' own JSON instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        what: status::Shown,
    },
    /// Looks into the log of a store whose node is not running.
    #[command(subcommand)]
    Wal(store::wal::WalCommand),
    /// Looks into tables.
    #[command(subcommand)]
    Sst(store::sst::SstCommand),
    /// Tells what a damaged store of a lone replica would lose, and rewrites its trees from what is readable when told
    /// to.
    Repair(store::repair::RepairArgs),
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
struct ClusterArgs {
    /// Addresses of any nodes, separated by commas.
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT")]
    seeds: Vec<SocketAddr>,
    /// The keyspace.
    #[arg(long, default_value = "default")]
    keyspace: String,
    /// How long to try, ms.
    #[arg(long, default_value_t = 5_000, value_name = "MS")]
    timeout_ms: u64,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("kvctl: starting the runtime: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kvctl: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Get { cluster, key } => calls::get(&cluster, key).await,
        Command::Put { cluster, key, value } => calls::put(&cluster, key, value).await,
        Command::Del { cluster, key } => calls::delete(&cluster, key).await,
        Command::Status { cluster, json, what } => status::show(&cluster, json, &what).await,
        Command::Wal(command) => store::wal::run(command).await,
        Command::Sst(command) => store::sst::run(command).await,
        Command::Repair(args) => store::repair::run(args).await,
    }
}

/// Prints a line on standard output. A reader that has gone away (`kvctl status | head`) is no error: nobody wants the rest.
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _nobody_reads = writeln!(std::io::stdout(), "{line}");
}

/// The folder of build output that holds this executable, for instance `target`; the system's temporary folder when nothing can
/// be written there.
fn build_folder() -> PathBuf {
    let exe = std::env::current_exe().ok();
    let folder = exe.as_deref().and_then(|exe| exe.parent()?.parent()).map(PathBuf::from);
    folder.filter(|folder| takes_files(folder)).unwrap_or_else(std::env::temp_dir)
}

fn takes_files(folder: &std::path::Path) -> bool {
    let probe = folder.join(format!(".kvctl-{}", std::process::id()));
    let made = std::fs::File::create(&probe).is_ok();
    made && std::fs::remove_file(&probe).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("kvctl").chain(line.split_whitespace()))
    }

    #[test]
    fn arguments_are_checked() {
        Cli::command().debug_assert();
        for bad in [
            "",
            "get key",
            "get --seeds nowhere key",
            "put --seeds 127.0.0.1:1 key",
            "demo --nodes 0",
            "demo --nodes 99",
            "demo --host windows",
            "status",
            "wal dump",
            "wal dump dir --shard seven",
            "sst stats",
            "repair --accept-loss",
            "wal verify dir --incarnation 12",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        for good in [
            "get --seeds 127.0.0.1:1,127.0.0.1:2 key",
            "put --seeds 127.0.0.1:1 key -",
            "delete --seeds 127.0.0.1:1 key",
            "demo --nodes 5 --replicas 5 --keep --json -",
            "wal dump dir --shard s1.7 --from 5 --limit 10 --json",
            "sst dump a.sst dir --values --limit 3",
            "repair --store dir --accept-loss --json",
            "wal verify dir --node 1 --store 0 --incarnation 00000000000000ff",
        ] {
            assert!(parsed(good).is_ok(), "{good}");
        }
    }
}
