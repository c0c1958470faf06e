//! Nodes as child processes of the demo.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};

/// Ports below the range from which systems choose for outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How often a block of ports is looked for.
const PORT_TRIES: usize = 200;
/// How long a node may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of nodes.
    pub nodes: u16,
    /// Replicas of each shard.
    pub replicas: u8,
    /// `auto`, `glommio` or `plain`.
    pub host: String,
    /// Holds all data and logs of this cluster.
    pub dir: PathBuf,
    /// Leave the nodes running when the demo ends.
    pub keep: bool,
}

/// Nodes on loopback. They end when this is dropped, when the demo dies (their standard input closes), or never, when they are
/// to be kept.
pub struct Cluster {
    plan: Plan,
    program: PathBuf,
    id: String,
    nodes: Vec<Node>,
}

struct Node {
    number: u32,
    listen: SocketAddr,
    child: Option<Child>,
}

impl Cluster {
    /// Starts all nodes of `plan`, each with one store.
    pub fn start(plan: Plan) -> anyhow::Result<Cluster> {
        let program = program()?;
        let first = free_ports(plan.nodes * 2)?;
        let id = format!("{:032x}", rand::rng().random_range(1..u128::MAX));
        let nodes = (0..plan.nodes).map(|at| Node {
            number: u32::from(at) + 1,
            listen: SocketAddr::from(([127, 0, 0, 1], first + at * 2)),
            child: None,
        });
        let mut cluster = Cluster { program, id, nodes: nodes.collect(), plan };
        for number in 1..=u32::from(cluster.plan.nodes) {
            cluster.launch(number)?;
        }
        Ok(cluster)
    }

    /// Starts node `number`, which is not running.
    pub fn launch(&mut self, number: u32) -> anyhow::Result<()> {
        let members: Vec<String> = self.nodes.iter().map(|node| format!("{}@{}", node.number, node.listen)).collect();
        let (data, log) = (self.plan.dir.join(format!("node-{number}")), self.log_of(number));
        let log = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(&self.program);
        let (keep, host, replicas) = (self.plan.keep, self.plan.host.clone(), self.plan.replicas.to_string());
        let node = self.node(number)?;
        command.arg("--data-dir").arg(&data).args(["--listen", &node.listen.to_string()]);
        command.args(["--node-id", &number.to_string(), "--stores", "1", "--cores", "1"]);
        command.args(["--pin", "none", "--spin-us", "0", "--host", &host, "--replicas", &replicas]);
        for member in &members {
            command.args(["--member", member]);
        }
        command.stdout(log.try_clone()?).stderr(log);
        if keep {
            command.stdin(Stdio::null()).process_group(0);
        } else {
            command.arg("--exit-with-stdin").stdin(Stdio::piped());
        }
        let cluster = self.id.clone();
        command.args(["--cluster", &cluster]);
        let child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        self.node(number)?.child = Some(child);
        Ok(())
    }

    fn node(&mut self, number: u32) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.number == number).with_context(|| format!("there is no node {number}"))
    }

    /// Where the nodes listen.
    pub fn seeds(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.listen).collect()
    }

    /// Process ids of the nodes that run.
    pub fn pids(&self) -> Vec<String> {
        self.nodes.iter().filter_map(|node| node.child.as_ref()).map(|child| child.id().to_string()).collect()
    }

    /// Where node `number` writes what it has to say.
    pub fn log_of(&self, number: u32) -> PathBuf {
        self.plan.dir.join(format!("node-{number}.log"))
    }

    /// The folder of data and logs.
    pub fn dir(&self) -> &Path {
        &self.plan.dir
    }

    /// SIGKILL, and the moment after which the node is certainly dead.
    pub fn kill(&mut self, number: u32) -> anyhow::Result<Instant> {
        let mut child = self.node(number)?.child.take().with_context(|| format!("node {number} does not run"))?;
        child.kill().with_context(|| format!("killing node {number}"))?;
        let killed = Instant::now();
        child.wait()?;
        Ok(killed)
    }

    /// Says so when a node has ended by itself, with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            let Some(child) = node.child.as_mut() else { continue };
            if let Some(status) = child.try_wait()? {
                node.child = None;
                let log = self.plan.dir.join(format!("node-{}.log", node.number));
                bail!("node {} ended by itself ({status}); its log ends with:\n{}", node.number, tail(&log));
            }
        }
        Ok(())
    }

    /// Which host the nodes chose, from the line they log at their start.
    pub fn host(&self) -> String {
        let log = self.nodes.first().map(|node| fs::read_to_string(self.log_of(node.number)).unwrap_or_default());
        let log = log.unwrap_or_default();
        let word = log.split("; host ").nth(1).and_then(|rest| rest.split([' ', '\n', ';']).next());
        word.unwrap_or("unknown").to_owned()
    }

    /// Asks every node to end; those that do not are killed. Gives the nodes that did not end well.
    pub fn stop(&mut self) -> Vec<u32> {
        let mut unwell = Vec::new();
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child {
                terminate(child);
            }
        }
        let until = Instant::now() + PATIENCE;
        for node in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            if !ends_well(&mut child, until) {
                unwell.push(node.number);
            }
        }
        unwell
    }

    /// Lets the nodes live on.
    pub fn release(mut self) {
        for node in &mut self.nodes {
            node.child = None;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn terminate(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _gone_already = kill_process(pid, Signal::TERM);
    }
}

fn ends_well(child: &mut Child, until: Instant) -> bool {
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => break,
        }
    }
    let _gone_already = child.kill();
    let _reaped = child.wait();
    false
}

/// `kvnode` beside this executable.
fn program() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("finding this executable")?;
    let program = exe.with_file_name("kvnode");
    if !program.is_file() {
        bail!("{} is not there: build it with `cargo build --release -p kvnode`", program.display());
    }
    Ok(program)
}

/// The first port of `count` that are free now, one after the other.
fn free_ports(count: u16) -> anyhow::Result<u16> {
    for _ in 0..PORT_TRIES {
        let first = rand::rng().random_range(PORTS.start..PORTS.end - count);
        let bind = |port| TcpListener::bind(("127.0.0.1", port));
        if (first..first + count).map(bind).collect::<io::Result<Vec<_>>>().is_ok() {
            return Ok(first);
        }
    }
    bail!("no block of {count} free ports between {} and {}", PORTS.start, PORTS.end)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_ports_is_free() {
        let first = free_ports(6).unwrap();
        let taken: Vec<_> = (first..first + 6).map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap()).collect();
        assert_eq!(taken.len(), 6);
        assert!(PORTS.contains(&first));
    }

    #[test]
    fn the_tail_of_a_log_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, (0..100).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        assert_eq!(tail(&log).lines().count(), 8);
        assert!(tail(&log).ends_with("99"));
        assert_eq!(tail(&dir.path().join("none")), "");
    }
}
