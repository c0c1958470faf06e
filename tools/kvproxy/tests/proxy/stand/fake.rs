//! A Redis server of a test's own making: it answers probes, and leaves every other connection to the test.

use crate::stand::{Client, PATIENCE};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{sleep, spawn};
use std::time::Duration;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A server that is well until it is told to be silent.
pub struct Fake {
    pub address: SocketAddr,
    silent: Arc<AtomicBool>,
    links: Receiver<TcpStream>,
}

impl Fake {
    pub fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, (out, links)) = (listener.local_addr().unwrap(), channel());
        let silent = Arc::new(AtomicBool::new(false));
        let told = silent.clone();
        spawn(move || {
            for stream in listener.incoming() {
                let (out, told) = (out.clone(), told.clone());
                spawn(move || drop(answer_probes(stream.unwrap(), &out, &told)));
            }
        });
        Fake { address, silent, links }
    }

    /// Whether it answers probes.
    pub fn be_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
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

fn answer_probes(mut stream: TcpStream, links: &Sender<TcpStream>, silent: &AtomicBool) -> std::io::Result<()> {
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
        if bytes == PING.len() && !silent.load(Ordering::Relaxed) {
            stream.read_exact(&mut first)?;
            stream.write_all(b"+PONG\r\n")?;
        } else {
            sleep(Duration::from_millis(1));
        }
    }
}
