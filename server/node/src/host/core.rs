//! What a core does, whatever its host: seat its stores, take what other threads send, end when the stores have ended.

use crate::host::mailbox::Mailbox;
use ringkv_shard::host::Host;
use ringkv_wire::hello::Hello;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// What one client's connection may give the store per turn: what is given at once is answered at once.
pub const SHARE_BYTES: usize = 16 << 10;

/// What a core's thread is told at its start.
#[derive(Debug)]
pub struct CoreConfig {
    /// Its number in this node, from 0.
    pub number: usize,
    /// The CPU to pin the thread to.
    pub cpu: Option<usize>,
    /// How long to look for work before sleeping.
    pub spin: Duration,
    /// The root of every store's disk.
    pub data_dir: PathBuf,
    /// The stores that live here: number and listening socket, non-blocking.
    pub stores: Vec<(u16, TcpListener)>,
    /// Where other threads reach it.
    pub mail: Mailbox<ToCore>,
    /// Bounds of its connections.
    pub limits: Limits,
    /// Memory that a host on io_uring may have locked for this core, bytes.
    pub ring_bytes: usize,
}

/// Bounds of one store's connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that have not said hello; above it the oldest of them is closed.
    pub silent_max: usize,
    /// Connections of clients; above it a newcomer is told that the store is busy. Stores and administrators are not counted.
    pub clients_max: usize,
    /// Bytes queued for one connection; above it the connection is closed.
    pub backlog_bytes_max: usize,
    /// Bytes queued for one client above which nothing more is read from it.
    pub backlog_bytes_pause: usize,
    /// Bytes received and not yet taken by the store above which nothing more is read from anyone.
    pub received_bytes_pause: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            silent_max: 256,
            clients_max: 8192,
            backlog_bytes_max: 64 << 20,
            backlog_bytes_pause: 4 << 20,
            received_bytes_pause: 16 << 20,
        }
    }
}

/// What other threads tell a core.
#[derive(Debug)]
pub enum ToCore {
    /// A connection that said hello on the node's common port. The socket is non-blocking; nothing behind the hello was read.
    Adopt {
        /// The store it goes to.
        store: u16,
        /// The connection.
        socket: TcpStream,
        /// What the other side said.
        hello: Hello,
    },
    /// End all stores in good order.
    Shutdown,
    /// From the core itself: a store has ended.
    Ended(Ended),
}

/// How a store ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The store's number.
    pub store: u16,
    /// Why, in words, when it was not asked to.
    pub result: Result<(), String>,
}

/// Reports the stores of a core whose thread dies of a panic. Kept on that thread, outside its executor.
pub struct Obituary {
    stores: Vec<u16>,
    report: tokio::sync::mpsc::UnboundedSender<Ended>,
}

impl Obituary {
    /// For the stores of `core`.
    pub fn new(core: &CoreConfig, report: tokio::sync::mpsc::UnboundedSender<Ended>) -> Obituary {
        Obituary { stores: core.stores.iter().map(|(store, _)| *store).collect(), report }
    }

    /// Reports that all stores of the core have ended, and why.
    pub fn publish(&self, why: &str) {
        for store in &self.stores {
            // Nobody listens any more when the node itself is ending.
            let _ = self.report.send(Ended { store: *store, result: Err(why.to_owned()) });
        }
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.publish("the core's thread panicked");
        }
    }
}

/// A store that was given its host: its life as a future, and how to ask it to end.
pub struct Seated {
    /// Runs the store.
    pub run: Pin<Box<dyn Future<Output = Result<(), String>>>>,
    /// Asks it to end. May be called at any time, more than once.
    pub stop: Box<dyn Fn()>,
}

/// What lives on a host: the store, or a test's stand-in.
pub trait Tenant: Clone + Send + 'static {
    /// Gives store number `store` its host. Called on the core's thread.
    fn seat<H: Host>(&self, host: H, store: u16) -> Seated;
}

/// What a real host adds to [`Host`].
pub trait RealHost: Host {
    /// Takes over a connection whose hello was read elsewhere.
    fn adopt(&self, socket: TcpStream, hello: Hello);
    /// Stops listening, lets what is queued leave for a bounded time, closes all connections.
    fn finish(&self) -> impl Future<Output = ()> + 'static;
}

/// The life of a core: runs until all its stores have ended, and reports each.
pub async fn run<H: RealHost, T: Tenant>(
    hosts: Vec<(u16, H)>,
    tenant: T,
    mail: Mailbox<ToCore>,
    report: tokio::sync::mpsc::UnboundedSender<Ended>,
) {
    let mut living = Vec::new();
    for (store, host) in hosts {
        let seated = tenant.seat(host.clone(), store);
        let (mail, at) = (mail.clone(), Rc::new(host.clone()));
        host.spawn(async move {
            let result = seated.run.await;
            at.finish().await;
            mail.post(ToCore::Ended(Ended { store, result }));
        });
        living.push((store, host, seated.stop));
    }
    while !living.is_empty() {
        match mail.next().await {
            // A store that is gone takes no connection: dropping the socket closes it.
            ToCore::Adopt { store, socket, hello } => {
                if let Some((_, host, _)) = living.iter().find(|(s, _, _)| *s == store) {
                    host.adopt(socket, hello);
                }
            }
            ToCore::Shutdown => living.iter().for_each(|(_, _, stop)| stop()),
            ToCore::Ended(ended) => {
                living.retain(|(s, _, _)| *s != ended.store);
                // Nobody listens any more when the node itself is ending.
                let _ = report.send(ended);
            }
        }
    }
}
