//! The door: takes clients in, counts them, and closes when told.

use crate::budget::Budget;
use crate::cluster::{Batch, Cluster};
use crate::conn::{self, End};
use crate::limits::{Limits, READ_BYTES};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::resp::Version;
use crate::resp::requests::Command;
use crate::ring::Router;
use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pause after a failed accept: mostly there are no file descriptors left, and the next would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who holds the keys.
pub enum Backend {
    /// Independent Redis servers.
    Ring(Rc<Router>),
    /// A ringkv cluster.
    Cluster(Rc<Cluster>),
}

/// The commands of one client that came together.
pub enum Together<'a> {
    /// Each is sent as it is taken.
    Ring(&'a Router, Version),
    /// They are sent as one.
    Cluster(Batch),
}

impl Backend {
    /// Whether commands of this client can be taken: a cluster takes the next batch after the one before.
    pub fn is_free(&self, outbox: &Outbox) -> bool {
        match self {
            Backend::Ring(_) => true,
            Backend::Cluster(_) => outbox.pending() == 0,
        }
    }

    /// For commands that came together, to be answered in this version.
    pub fn batch(&self, version: Version, budget: &Rc<Budget>) -> Together<'_> {
        match self {
            Backend::Ring(router) => Together::Ring(router, version),
            Backend::Cluster(cluster) => Together::Cluster(cluster.batch(version, budget)),
        }
    }
}

impl Together<'_> {
    /// Takes a command about keys.
    pub fn take(&mut self, command: &Command<'_>, outbox: &Rc<Outbox>) {
        match self {
            Together::Ring(router, version) => router.take(command, *version, outbox),
            Together::Cluster(batch) => batch.take(command, outbox),
        }
    }

    /// No more commands came with these.
    pub fn send(self, outbox: &Rc<Outbox>) {
        if let Together::Cluster(batch) = self {
            batch.send(outbox);
        }
    }
}

/// What all clients share.
pub struct Shared {
    /// Who holds the keys.
    pub backend: Backend,
    /// What clients may cost.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Rc<Metrics>,
    /// Bytes held for all.
    pub budget: Rc<Budget>,
    /// Where every socket is read into.
    pub scratch: RefCell<Vec<u8>>,
    started: Instant,
}

impl Shared {
    /// For this backend.
    pub fn new(backend: Backend, limits: Limits, metrics: Rc<Metrics>) -> Rc<Shared> {
        let (budget, scratch) = (Budget::new(limits.total_bytes), RefCell::new(vec![0; READ_BYTES]));
        Rc::new(Shared { backend, limits, metrics, budget, scratch, started: Instant::now() })
    }

    /// What `INFO` tells.
    pub fn info(&self) -> String {
        let mode = match &self.backend {
            Backend::Ring(_) => "ring",
            Backend::Cluster(_) => "cluster",
        };
        let mut text = format!("# Server\r\nkvproxy_version:{}\r\nmode:{mode}\r\n", env!("CARGO_PKG_VERSION"));
        let numbers = [
            ("uptime_in_seconds", self.started.elapsed().as_secs()),
            ("process_id", u64::from(std::process::id())),
            ("connected_clients", u64::try_from(self.metrics.clients.get()).unwrap_or(0)),
            ("maxclients", self.limits.connections as u64),
            ("held_bytes", self.budget.held() as u64),
            ("total_connections_received", self.metrics.connections.get()),
            ("rejected_connections", self.metrics.refused.get()),
            ("total_commands_processed", self.metrics.commands.get()),
        ];
        for (name, number) in numbers {
            // Writing into a string does not fail.
            let _ = write!(text, "{name}:{number}\r\n");
        }
        if let Backend::Ring(router) = &self.backend {
            text.push_str("# Servers\r\n");
            for (name, up) in router.states() {
                let _ = write!(text, "{name}={}\r\n", if up { "up" } else { "down" });
            }
        }
        text
    }
}

/// Serves clients until `stop` says so; then lets them have their answers, for as long as the limits allow.
pub async fn serve(listener: TcpListener, shared: Rc<Shared>, stop: impl Future<Output = ()>) {
    let (drain, draining) = watch::channel(false);
    let mut clients = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let mut next = 1;
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if clients.len() >= shared.limits.connections => refuse(&stream, &shared),
                Ok((stream, from)) => {
                    tracing::debug!(client = next, %from, "taken in");
                    shared.metrics.connections.inc();
                    clients.spawn_local(client(stream, next, shared.clone(), draining.clone()));
                    next += 1;
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a client failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
        }
        shared.metrics.clients.set(clients.len() as i64);
        shared.metrics.held.set(shared.budget.held() as i64);
    }
    drop(listener);
    tracing::info!(clients = clients.len(), "draining");
    drain.send_replace(true);
    let all = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(shared.limits.drain, all).await.is_err() {
        tracing::warn!(clients = clients.len(), "cut off before they had all their answers");
    }
}

async fn client(stream: TcpStream, id: u64, shared: Rc<Shared>, draining: watch::Receiver<bool>) {
    let end = conn::serve(stream, id, shared.clone(), draining).await;
    tracing::debug!(client = id, ?end, "left");
    match end {
        End::Done => {}
        End::Protocol => shared.metrics.cut("protocol"),
        End::Idle => shared.metrics.cut("idle"),
        End::Memory => shared.metrics.cut("memory"),
        End::Socket => shared.metrics.cut("socket"),
    }
}

fn refuse(stream: &TcpStream, shared: &Shared) {
    shared.metrics.refused.inc();
    if let Err(error) = conn::turn_away(stream) {
        tracing::debug!(%error, "a client that was turned away did not hear it");
    }
}
