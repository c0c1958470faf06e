//! The door of a listening socket: accepts, reads the hello within its time, bounds how many have not said it.
//!
//! Used by the common port and by host/plain; runs on a tokio `LocalSet`.

use ringkv_wire::hello::{Answer, HELLO_BYTES, Hello};
use ringkv_wire::limits::HELLO_TIMEOUT_MS;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Pause after an accept that failed, for instance for want of descriptors: the listener stays readable, so going on at
/// once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a new connection has for its hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_millis(HELLO_TIMEOUT_MS);

/// Connections that have not said hello, oldest first.
#[derive(Default)]
struct Silent {
    next: u64,
    tasks: BTreeMap<u64, AbortHandle>,
}

impl Silent {
    fn close_oldest(&mut self) -> bool {
        self.tasks.pop_first().map(|(_, task)| task.abort()).is_some()
    }
}

/// Accepts for ever, and hands each connection that said hello to `welcome`; nothing behind the hello was read. Above
/// `silent_max` connections without a hello the oldest of them is closed: a friend says it at once.
pub async fn keep(listener: TcpListener, silent_max: usize, welcome: impl Fn(TcpStream, Hello) + 'static) {
    let silent = Rc::new(RefCell::new(Silent::default()));
    let welcome = Rc::new(welcome);
    let mut failures = 0u64;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The other side was gone before we looked.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(e) => {
                // Once per power of two: under a flood the log must not become the next problem.
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!(error = %e, failures, "cannot accept connections");
                }
                silent.borrow_mut().close_oldest();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let mut list = silent.borrow_mut();
        while list.tasks.len() >= silent_max.max(1) {
            list.close_oldest();
        }
        let number = list.next;
        list.next += 1;
        let (silent, welcome) = (silent.clone(), welcome.clone());
        let task = tokio::task::spawn_local(async move {
            let hello = listen(stream).await;
            silent.borrow_mut().tasks.remove(&number);
            match hello {
                Ok((stream, hello)) => welcome(stream, hello),
                Err(e) => tracing::debug!(error = %e, "a connection without a hello"),
            }
        });
        list.tasks.insert(number, task.abort_handle());
    }
}

async fn listen(mut stream: TcpStream) -> io::Result<(TcpStream, Hello)> {
    let hello = tokio::time::timeout(HELLO_TIMEOUT, read_hello(&mut stream)).await??;
    if hello.answer != Answer::None {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer where a first hello was due"));
    }
    Ok((stream, hello))
}

/// Reads exactly one hello.
pub async fn read_hello(stream: &mut TcpStream) -> io::Result<Hello> {
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes).await?;
    Hello::decode(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
