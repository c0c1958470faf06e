//! Processes on loopback, ended by their ids whatever a test does, and a plain client.

pub mod cluster;
pub mod fake;
pub mod redis;

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything that must come may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must come.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// So many free ports in a row, below those that the system gives out by itself.
pub fn free_ports(count: u16) -> u16 {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut from = std::iter::repeat_with(|| rand::random_range(10_000..32_000 - count));
    from.find(|first| (0..count).all(|at| free(first + at))).unwrap()
}

/// A process that ends with this.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        Process(command.stdin(Stdio::null()).spawn().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Its exit code, once it has ended by itself.
    pub fn wait(&mut self) -> Option<i32> {
        wait_until("its end", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }

    /// Resident memory now, KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended, in some tests. One that is stopped ends too.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A proxy.
pub struct Proxy {
    pub process: Process,
    pub address: SocketAddr,
    /// Where its counters are, when it was told to show them.
    pub metrics: Option<SocketAddr>,
}

impl Proxy {
    pub fn start(args: &[&str]) -> Proxy {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvproxy"));
        command.args(["--listen", "127.0.0.1:0"]).args(args).env_remove("RUST_LOG").stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let mut metrics = None;
        loop {
            let line = lines.next().expect("it says where it listens").unwrap();
            if let Some(address) = line.strip_prefix("listening on ") {
                return Proxy { process, address: address.parse().unwrap(), metrics };
            }
            let counters = line.strip_prefix("counters at http://").and_then(|rest| rest.strip_suffix("/metrics"));
            metrics = counters.map(|address| address.parse().unwrap());
        }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One counter, by the beginning of its line.
    pub fn counted(&self, line: &str) -> f64 {
        let mut stream = TcpStream::connect(self.metrics.unwrap()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.contains("# EOF"), "{page}");
        // What never happened has no line yet.
        page.lines().find_map(|found| found.strip_prefix(line)).map_or(0.0, |found| found.trim().parse().unwrap())
    }
}

/// A plain blocking client: sends bytes, reads bytes.
pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Exactly these bytes must come.
    pub fn expect(&mut self, bytes: &str) {
        let mut found = vec![0; bytes.len()];
        let read = self.0.read_exact(&mut found);
        assert_eq!(String::from_utf8_lossy(&found), bytes, "{read:?}");
    }

    /// Nothing comes for a while.
    pub fn hears_nothing(&mut self) {
        self.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let error = self.0.peek(&mut [0]).expect_err("something came");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Asks in a line, and compares the answer.
    pub fn ask(&mut self, line: &str, answer: &str) {
        self.send(format!("{line}\r\n").as_bytes());
        self.expect(answer);
    }

    /// A line of an answer, without its end.
    pub fn line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// The same, or as much of it as came before the connection ended.
    pub fn rest_of_line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") && self.0.read(&mut byte).is_ok_and(|bytes| bytes > 0) {
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// Asks in a line; gives the first line of the answer.
    pub fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.line()
    }

    /// The whole answer to a line, on a connection that ends with it.
    pub fn say_all(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\nQUIT\r\n").as_bytes());
        self.rest()
    }

    /// Everything that comes until the other side closes.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.0.read(&mut chunk) {
                Ok(0) => break,
                Ok(bytes) => rest.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("it does not close: {error}"),
            }
        }
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// A program beside this test's own build output.
pub fn built(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let program = exe.parent().unwrap().parent().unwrap().join(name);
    assert!(program.is_file(), "{} is not there: `cargo build -p {name}` first", program.display());
    program
}
