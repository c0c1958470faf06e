//! A Redis server of a test's own making: it answers probes, and leaves every other connection to the test.

use crate::stand::{Client, PATIENCE};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// What probes are answered; `None`: nothing.
type ToProbes = Arc<Mutex<Option<&'static str>>>;

/// A server that is well until it is told otherwise.
pub struct Fake {
    pub address: SocketAddr,
    to_probes: ToProbes,
    links: Receiver<TcpStream>,
}

impl Fake {
    pub fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, (out, links)) = (listener.local_addr().unwrap(), channel());
        let to_probes = ToProbes::new(Mutex::new(Some("+PONG")));
        let told = to_probes.clone();
        spawn(move || {
            for stream in listener.incoming() {
                let (out, told) = (out.clone(), told.clone());
                spawn(move || drop(serve(stream.unwrap(), &out, &told)));
            }
        });
        Fake { address, to_probes, links }
    }

    /// What it answers probes from now on; `None`: nothing.
    pub fn answer_probes(&self, line: Option<&'static str>) {
        *self.to_probes.lock().unwrap() = line;
    }

    /// The next connection that carries commands, none of them read.
    pub fn link(&self) -> Client {
        let stream = self.links.recv_timeout(PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    /// No connection with commands comes for a while.
    pub fn is_left_alone(&self) -> bool {
        self.links.recv_timeout(Duration::from_millis(500)).is_err()
    }
}

fn serve(mut stream: TcpStream, links: &Sender<TcpStream>, to_probes: &ToProbes) -> std::io::Result<()> {
    let mut first = [0; PING.len()];
    loop {
        let bytes = stream.peek(&mut first)?;
        if bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if !PING.starts_with(&first[..bytes]) {
            // A test that has ended wants no more.
            let _ = links.send(stream);
            return Ok(());
        }
        let line = to_probes.lock().unwrap().filter(|_| bytes == PING.len());
        let Some(line) = line else {
            sleep(Duration::from_millis(1));
            continue;
        };
        stream.read_exact(&mut first)?;
        stream.write_all(format!("{line}\r\n").as_bytes())?;
    }
}
