//! Redis servers on loopback.

use crate::stand::{Client, Process, free_ports, wait_until};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// A Redis server without persistence.
pub struct Redis {
    pub process: Process,
    pub address: SocketAddr,
}

impl Redis {
    pub fn start() -> Redis {
        Redis::start_on(free_ports(1))
    }

    pub fn start_on(port: u16) -> Redis {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let process = Process::start(command.stdout(Stdio::null()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until("a Redis server", || TcpStream::connect(address).is_ok());
        Redis { process, address }
    }

    pub fn ask(&self, line: &str) -> String {
        Client::connect(self.address).say(line)
    }

    /// Keys it holds.
    pub fn keys(&self) -> usize {
        self.ask("DBSIZE")[1..].parse().unwrap()
    }

    /// GETs and SETs it has carried out.
    pub fn served(&self) -> u64 {
        let mut client = Client::connect(self.address);
        client.send(b"INFO commandstats\r\nQUIT\r\n");
        let text = client.rest();
        let calls = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
            found.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
        };
        calls("get") + calls("set")
    }
}

/// Three of them, and how they are listed.
pub fn three() -> ([Redis; 3], String) {
    let servers = [(); 3].map(|()| Redis::start());
    let list = servers.each_ref().map(|server| server.address.to_string()).join(",");
    (servers, list)
}
