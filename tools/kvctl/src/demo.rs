//! `kvctl demo`: the life of a small cluster in less than a minute.

mod cluster;
mod input;
mod kills;
mod prober;
mod story;
mod summary;
mod tale;
mod writers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use cluster::{Cluster, Plan};
use input::Input;
use story::Story;

/// What the demo shows.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Nodes to start, all on this machine.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=15))]
    nodes: u16,
    /// Replicas of each shard. With more than three the demo kills the leader of the key `key`, which it has set to 10.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=15))]
    replicas: u8,
    /// How the nodes do their I/O.
    #[arg(long, value_enum, default_value_t = Host::Auto)]
    host: Host,
    /// Lines of key<TAB>value to load [default: the Apache licence].
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Writes the outcome here as JSON; `-` is standard output, the story then goes to standard error.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Instead of the tale: kills the busiest leader so many times, one after the other, starts it again each time, and tells
    /// how long it took until every shard was served again.
    #[arg(long, value_name = "N", conflicts_with_all = ["input", "keep"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: Option<u32>,
    /// Leaves the cluster running, and says what to try.
    #[arg(long)]
    keep: bool,
    /// Where the nodes keep their data [default: a folder of its own beside the build's output].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Host {
    /// The fastest that works here.
    Auto,
    /// io_uring.
    Glommio,
    /// Ordinary system calls.
    Plain,
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Host::Auto => "auto",
            Host::Glommio => "glommio",
            Host::Plain => "plain",
        }
    }
}

/// Runs the demo. Exit code 0 only when nothing was lost and everything healed, 1 when not, 2 when it could not be shown.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    if u16::from(args.replicas) > args.nodes {
        bail!("{} replicas need as many nodes, there are {}", args.replicas, args.nodes);
    }
    if args.replicas < 3 {
        bail!("with fewer than 3 replicas nothing survives the loss of a leader");
    }
    let input = args.input.as_deref().map_or_else(|| Ok(Input::licence()), Input::read)?;
    let dir = data_dir(&args)?;
    let story = Story::begin(args.json.as_deref() == Some(Path::new("-")));
    let plan = Plan {
        nodes: args.nodes,
        replicas: args.replicas,
        host: args.host.name().to_owned(),
        dir: dir.clone(),
        keep: args.keep,
    };
    let mut cluster = Cluster::start(plan)?;
    if let Some(kills) = args.kills {
        return kills::run(cluster, kills, &args, story).await;
    }
    let told = tale::tell(&mut cluster, &input, &args, &story).await;
    story.end();
    let mut summary = match told {
        Ok(summary) => summary,
        Err(error) => {
            let gone = cluster.check();
            cluster.stop();
            story.line(&format!("\n  The data and logs of the nodes are in {}", dir.display()));
            gone?;
            return Err(error);
        }
    };
    if !args.keep {
        summary.ended_badly = cluster.stop();
    }
    summary.seconds = story.seconds();
    story.line(&format!("\n{}\n", summary.last_words()));
    if args.keep {
        story.line(&kept(&cluster));
        cluster.release();
    } else if summary.is_well() {
        let _what_cannot_be_removed_stays = fs::remove_dir_all(&dir);
    } else {
        story.line(&format!("  The data and logs of the nodes are in {}\n", dir.display()));
    }
    write_json(&args, &summary)?;
    Ok(if summary.is_well() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Writes what came out where `--json` wants it.
fn write_json(args: &DemoArgs, told: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = args.json.as_deref() else { return Ok(()) };
    let text = serde_json::to_string_pretty(told)?;
    if path == Path::new("-") {
        crate::say(text);
        return Ok(());
    }
    fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

/// An empty folder for this cluster. Folders of demos that were interrupted are removed.
fn data_dir(args: &DemoArgs) -> anyhow::Result<PathBuf> {
    let dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => {
            let demos = crate::build_folder().join("demo");
            sweep(&demos);
            demos.join(format!("{}{}", if args.keep { "kept-" } else { "" }, std::process::id()))
        }
    };
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    if fs::read_dir(&dir)?.next().is_some() {
        bail!("{} is not empty", dir.display());
    }
    Ok(dir)
}

/// Removes what demos left behind that are no longer running; kept ones have a name that is no process id.
fn sweep(demos: &Path) {
    let Ok(entries) = fs::read_dir(demos) else { return };
    for entry in entries.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _somebody_elses = fs::remove_dir_all(entry.path());
        }
    }
}

/// What to try with a cluster that was left running.
fn kept(cluster: &Cluster) -> String {
    let seeds: Vec<String> = cluster.seeds().iter().map(ToString::to_string).collect();
    let exe = std::env::current_exe().map_or_else(|_| "kvctl".to_owned(), |exe| exe.display().to_string());
    let first = seeds.first().cloned().unwrap_or_default();
    format!(
        "  The nodes keep running, their data and logs are in {}. Try:\n\n    \
         {exe} status --seeds {}\n    \
         {exe} get --seeds {first} line/0001\n    \
         {exe} put --seeds {first} greeting hello\n    \
         kill -9 {}        # one of them; `status` shows the others taking over\n    \
         kill {}        # ends all of them\n",
        cluster.dir().display(),
        seeds.join(","),
        cluster.pids().first().cloned().unwrap_or_default(),
        cluster.pids().join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_dead_demos_are_swept_and_nothing_else() {
        let demos = tempfile::tempdir().unwrap();
        let own = std::process::id().to_string();
        for name in ["4294967295", own.as_str(), "kept-4294967295"] {
            fs::create_dir(demos.path().join(name)).unwrap();
        }
        sweep(demos.path());
        let mut left: Vec<_> = fs::read_dir(demos.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = vec![own, "kept-4294967295".to_owned()];
        expected.sort();
        assert_eq!(left, expected);
    }
}
