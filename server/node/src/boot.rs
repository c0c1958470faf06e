//! From a configuration to a serving node, and to its end.

use crate::config::{Config, ConfigError};
use crate::dir::{DataDir, DirError};
use crate::front::Front;
use crate::host::HostKind;
use crate::host::core::{CoreConfig, Ended, Limits, ToCore};
use crate::host::mailbox::Mailbox;
use crate::members::Members;
use crate::pin;
use crate::plan::{self, CorePlan, HostPlan};
use crate::probe::{self, Probes};
use crate::tenant::Stores;
use ringkv_wire::ids::ClusterId;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Why a node does not serve, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error("data directory: {0}")]
    Dir(#[from] DirError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// A core cannot be started, or the main thread's own runtime.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What.
        what: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// No store is left.
    #[error("no store is left: {0}")]
    NoStores(String),
}

impl NodeError {
    /// The process's exit code: see the flags' help.
    pub fn exit_code(&self) -> u8 {
        match self {
            NodeError::Config(_) => 2,
            NodeError::Dir(_) => 3,
            NodeError::Listen { .. } | NodeError::Start { .. } | NodeError::NoStores(_) => 1,
        }
    }
}

/// Boots the node and serves until it is asked to end. Blocks; signals are taken while it runs.
pub fn run(config: Config) -> Result<(), NodeError> {
    let open_files = probe::raise_open_files();
    let allowed = pin::allowed();
    let members = Members::find(&config)?;
    let dir = DataDir::open(&config.data_dir, &members.asker(&config, &allowed)?)?;
    let stores = dir.identity().stores;
    let own = members.own_or_alone(&config, stores)?;
    let map = members.map(&config, dir.identity().cluster, &own);

    let probes = Probes::take(dir.path());
    let cores = plan::cores(&config, stores, &allowed)?;
    let ring_bytes = plan::ring_bytes(&probes, &map.nodes, &own, cores.len());
    let host = plan::host(config.host, &probes, ring_bytes)?;
    let common = listen(config.listen, LISTEN_PATIENCE)?;
    let mut listeners = Vec::new();
    for address in &own.stores {
        listeners.push(listen(SocketAddr::new(config.listen.ip(), address.port()), LISTEN_PATIENCE)?);
    }
    announce(&config, &dir, &probes, &host, &cores);

    let (opened, opened_stores) = unbounded_channel();
    let (ended, ended_stores) = unbounded_channel();
    let limits = plan::limits(open_files, stores);
    let starter = Starter {
        tenant: Stores {
            node: config.node,
            incarnation: dir.identity().incarnation,
            map: Arc::new(map),
            made: dir.identity().made,
            budgets: config.budgets,
            opened,
        },
        data_dir: dir.path(),
        host,
        spin: config.spin,
        ring_bytes: usize::try_from(ring_bytes).unwrap_or(usize::MAX),
        limits,
        ended,
    };
    let mut mails: Vec<Mailbox<ToCore>> = Vec::new();
    for (number, core) in cores.iter().enumerate() {
        let started = starter.start(number, core, &listeners);
        mails.push(started.map_err(|source| NodeError::Start { what: "a core", source })?);
    }
    // Each core has descriptors of its own.
    drop((starter, listeners));
    let front = Front { dir, common, cores, mails, limits, exit_with_stdin: config.exit_with_stdin };
    front.run(opened_stores, ended_stores)
}

/// What all cores are started with.
struct Starter<'a> {
    tenant: Stores,
    data_dir: &'a Path,
    host: HostPlan,
    spin: Duration,
    ring_bytes: usize,
    limits: Limits,
    ended: UnboundedSender<Ended>,
}

impl Starter<'_> {
    /// Starts a core; on the plain host when it cannot start on the picked one and nobody insisted.
    fn start(&self, number: usize, core: &CorePlan, listeners: &[TcpListener]) -> io::Result<Mailbox<ToCore>> {
        match self.start_on(self.host.kind, number, core, listeners) {
            Err(e) if self.host.may_fall_back => {
                tracing::warn!("core {number} cannot start on host {}, so it starts on plain: {e}", self.host.kind);
                self.start_on(HostKind::Plain, number, core, listeners)
            }
            started => started,
        }
    }

    fn start_on(
        &self,
        kind: HostKind,
        number: usize,
        core: &CorePlan,
        listeners: &[TcpListener],
    ) -> io::Result<Mailbox<ToCore>> {
        let mut stores = Vec::new();
        for store in &core.stores {
            stores.push((*store, listeners[usize::from(*store)].try_clone()?));
        }
        let mail = Mailbox::default();
        let core = CoreConfig {
            number,
            cpu: core.cpu,
            spin: self.spin,
            data_dir: self.data_dir.to_owned(),
            stores,
            mail: mail.clone(),
            limits: self.limits,
            ring_bytes: self.ring_bytes,
        };
        crate::host::start(kind, core, self.tenant.clone(), self.ended.clone())?;
        Ok(mail)
    }
}

/// How long a node waits for an address that is taken. A process that was killed is gone before the kernel has torn
/// its rings down, and until then they hold its sockets: a supervisor that restarts it at once would meet itself.
const LISTEN_PATIENCE: Duration = Duration::from_secs(5);

/// Listens on `address`, trying again while somebody else does, for at most `patience`. Blocks.
fn listen(address: SocketAddr, patience: Duration) -> Result<TcpListener, NodeError> {
    let since = Instant::now();
    let mut told = false;
    loop {
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match listener {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && since.elapsed() < patience => {
                if !told {
                    tracing::info!("{address} is in use: trying again for {} s", patience.as_secs());
                    told = true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other.map_err(|source| NodeError::Listen { address, source }),
        }
    }
}

/// The one line that says what was found and chosen.
fn announce(config: &Config, dir: &DataDir, probes: &Probes, host: &HostPlan, cores: &[CorePlan]) {
    let cpus: Vec<String> = cores.iter().filter_map(|c| c.cpu).map(|cpu| cpu.to_string()).collect();
    let pinned = if cpus.is_empty() { "not pinned".to_owned() } else { format!("pinned to CPU {}", cpus.join(",")) };
    let cluster: ClusterId = dir.identity().cluster;
    tracing::info!(
        "node {} of cluster {cluster}: {} stores on {} cores, {pinned}, spin {} us; host {host} ({probes}); data in {}; \
         listening on {}",
        config.node.0,
        dir.identity().stores,
        cores.len(),
        config.spin.as_micros(),
        dir.path().display(),
        config.listen,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_given_back_is_waited_for() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let waiting = std::thread::spawn(move || listen(address, Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(50));
        drop(held);
        assert_eq!(waiting.join().unwrap().unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn an_address_that_stays_taken_is_an_error_with_its_name() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let error = listen(address, Duration::from_millis(30)).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}
