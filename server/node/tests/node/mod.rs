//! A kvnode process on loopback, ended by its id whatever the test does.

#![expect(clippy::unwrap_used, reason = "only tests stand here: what fails is their failure")]

use ringkv_wire::hello::{HELLO_BYTES, Hello};
use ringkv_wire::ids::{ClientId, StoreId};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// Both hosts, where io_uring is allowed; else the plain one twice.
pub const HOSTS: [&str; 2] = ["plain", "auto"];

pub const CLUSTER: &str = "000102030405060708090a0b0c0d0e0f";

/// A data directory and a free block of ports.
pub struct Place {
    dir: Rc<tempfile::TempDir>,
    port: u16,
    stores: u16,
}

impl Place {
    pub fn new(stores: u16) -> Place {
        // Below the ports that the system gives out by itself.
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let port = std::iter::repeat_with(|| rand::random_range(10_000..30_000u16))
            .find(|port| (0..=stores).all(|i| free(port + i)))
            .unwrap();
        Place { dir: Rc::new(tempfile::tempdir().unwrap()), port, stores }
    }

    /// The same directory, other ports.
    pub fn elsewhere(&self) -> Place {
        Place { dir: self.dir.clone(), ..Place::new(self.stores) }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn common(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn store(&self, store: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port + 1 + store))
    }
}

/// A running process.
pub struct Node {
    child: Child,
    log: PathBuf,
}

impl Node {
    /// Node 1, the only one of its cluster; waits until its stores answer.
    pub fn start(place: &Place, more: &[&str]) -> Node {
        Node::spawn(place, more).ready(place)
    }

    pub fn spawn(place: &Place, more: &[&str]) -> Node {
        let member = format!("1@{}/{}", place.common(), place.stores);
        let mut args = vec!["--cluster", CLUSTER, "--member", &member];
        args.extend(more);
        Node::spawn_plain(place, &args)
    }

    /// Without a member list.
    pub fn spawn_plain(place: &Place, more: &[&str]) -> Node {
        Node::run(Command::new(env!("CARGO_BIN_EXE_kvnode")), place, more)
    }

    /// Another node, as it is told.
    pub fn spawn_as(place: &Place, args: &[&str]) -> Node {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvnode"));
        command.args(["--listen", &place.common().to_string()]).arg("--data-dir").arg(place.data());
        command.args(args).args(["--host", "plain", "--pin", "none", "--spin-us", "0"]);
        Node::start_process(command, place)
    }

    /// With a limit of open files.
    pub fn start_with_files(place: &Place, files: u32) -> Node {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_kvnode")]);
        let member = format!("1@{}/{}", place.common(), place.stores);
        Node::run(shell, place, &["--cluster", CLUSTER, "--member", &member]).ready(place)
    }

    fn run(mut command: Command, place: &Place, more: &[&str]) -> Node {
        command.arg("--data-dir").arg(place.data());
        command.args(["--node-id", "1", "--pin", "none", "--spin-us", "0"]);
        if !more.contains(&"--host") {
            command.args(["--host", "plain"]);
        }
        if !more.contains(&"--listen") {
            command.arg("--listen").arg(place.common().to_string());
        }
        command.args(more);
        Node::start_process(command, place)
    }

    fn start_process(mut command: Command, place: &Place) -> Node {
        command.env_remove("RUST_LOG").env("NO_COLOR", "1");
        let log = place.dir.path().join(format!("log-{}", place.port));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        Node { child: command.spawn().unwrap(), log }
    }

    fn ready(mut self, place: &Place) -> Node {
        for _ in 0..1000 {
            let up = |store| greet(place.store(store), StoreId::new(1, store)).is_some();
            if (0..place.stores).all(up) && place.data().join("identity").exists() && self.made(place) {
                return self;
            }
            if self.child.try_wait().unwrap().is_some() {
                panic!("it ended: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it never came up: {}", self.log());
    }

    fn made(&self, place: &Place) -> bool {
        std::fs::read_to_string(place.data().join("identity")).unwrap().contains("made = true")
    }

    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends SIGTERM; gives exit code and log. All its stores must end by themselves.
    pub fn terminate(self) -> (i32, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let (code, log) = self.wait();
        assert!(!log.contains("did not end"), "{log}");
        (code, log)
    }

    /// Waits for its end; gives exit code (-1: a signal) and log.
    pub fn wait(mut self) -> (i32, String) {
        for _ in 0..2000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not end: {}", self.log());
    }

    /// CPU time used so far, in ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Already ended, in most cases.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a client's hello; gives the answer, if there is one.
pub fn greet(to: SocketAddr, wanted: StoreId) -> Option<(TcpStream, Hello)> {
    let mut socket = TcpStream::connect(to).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
    socket.write_all(&Hello::client(ClientId([5; 16]), wanted).encode()).ok()?;
    let mut bytes = [0; HELLO_BYTES];
    socket.read_exact(&mut bytes).ok()?;
    Some((socket, Hello::decode(&bytes).ok()?))
}
