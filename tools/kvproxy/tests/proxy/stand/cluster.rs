//! A ringkv cluster of three nodes on loopback.

use crate::stand::{Process, Proxy, built, free_ports, wait_until};
use rustix::process::Signal;
use std::process::{Command, Stdio};

/// Three nodes.
pub struct Cluster {
    nodes: Vec<Process>,
    members: Vec<String>,
    dir: tempfile::TempDir,
    id: String,
}

impl Cluster {
    pub fn start() -> Cluster {
        let port = free_ports(6);
        let members = (0..3).map(|at| format!("{}@127.0.0.1:{}", at + 1, port + at * 2)).collect();
        let id = format!("{:032x}", rand::random_range(1..u128::MAX));
        let mut cluster = Cluster { nodes: Vec::new(), members, dir: tempfile::tempdir().unwrap(), id };
        cluster.nodes = (0..3).map(|at| cluster.launch(at)).collect();
        cluster
    }

    fn launch(&self, at: usize) -> Process {
        let listen = self.members[at].split_once('@').unwrap().1;
        let mut command = Command::new(built("kvnode"));
        command.arg("--data-dir").arg(self.dir.path().join(at.to_string())).args(["--listen", listen]);
        command.args(["--node-id", &(at + 1).to_string(), "--stores", "1", "--cores", "1", "--cluster", &self.id]);
        command.args(["--pin", "none", "--spin-us", "0", "--host", "plain"]);
        for member in &self.members {
            command.args(["--member", member]);
        }
        Process::start(command.env_remove("RUST_LOG").stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        self.nodes[at].kill();
    }

    /// To all nodes.
    pub fn signal(&self, signal: Signal) {
        self.nodes.iter().for_each(|node| node.signal(signal));
    }

    /// Starts a node that was killed.
    pub fn restart(&mut self, at: usize) {
        self.nodes[at] = self.launch(at);
    }

    /// A proxy in front of it, once every shard takes writes.
    pub fn proxy(&self, more: &[&str]) -> Proxy {
        let seeds: Vec<&str> = self.members.iter().map(|member| member.split_once('@').unwrap().1).collect();
        let seeds = seeds.join(",");
        let proxy = Proxy::start(&[&["--seeds", &seeds], more].concat());
        let mut client = proxy.connect();
        let pairs: String = (0..200).map(|key| format!(" warm:{key} x")).collect();
        wait_until("leaders", || client.say(&format!("MSET{pairs}")) == "+OK");
        proxy
    }
}
