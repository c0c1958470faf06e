//! From a configuration to a serving node, and to its end.

use crate::config::{Config, ConfigError};
use crate::dir::{Asker, DataDir, DirError};
use crate::front::Front;
use crate::host::core::{CoreConfig, ToCore};
use crate::host::mailbox::Mailbox;
use crate::plan::{self, CorePlan};
use crate::probe::{self, Probes};
use crate::tenant::Stores;
use crate::{config, pin};
use ringkv_wire::ids::ClusterId;
use ringkv_wire::ring::topology::{ClusterMap, Member};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

/// How long a node without a member list asks its seeds.
const SEEDS_PATIENCE: Duration = Duration::from_secs(60);

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
    let own_entry = members.own(&config)?;
    let dir = DataDir::open(&config.data_dir, &asker(&config, &members, own_entry, &allowed)?)?;
    let stores = dir.identity().stores;
    let own = match own_entry {
        Some(member) => member.clone(),
        None => alone(&config, stores)?,
    };
    let map = members.map(&config, dir.identity().cluster, &own);

    let probes = Probes::take(dir.path());
    let cores = plan::cores(&config, stores, &allowed)?;
    let ring_bytes = plan::ring_bytes(&probes, &map.nodes, &own, cores.len());
    let kind = plan::host(config.host, &probes, ring_bytes)?;
    let common = listen(config.listen)?;
    let mut listeners = Vec::new();
    for address in &own.stores {
        listeners.push(Some(listen(SocketAddr::new(config.listen.ip(), address.port()))?));
    }
    announce(&config, &dir, &probes, kind, &cores);

    let (opened, opened_stores) = unbounded_channel();
    let (ended, ended_stores) = unbounded_channel();
    let tenant = Stores {
        node: config.node,
        incarnation: dir.identity().incarnation,
        map: Arc::new(map),
        made: dir.identity().made,
        budgets: config.budgets,
        opened,
    };
    let limits = plan::limits(open_files, stores);
    let mut mails: Vec<Mailbox<ToCore>> = Vec::new();
    for (number, core) in cores.iter().enumerate() {
        let mail = Mailbox::default();
        let seats = core.stores.iter().filter_map(|s| Some((*s, listeners.get_mut(usize::from(*s))?.take()?)));
        let core = CoreConfig {
            number,
            cpu: core.cpu,
            spin: config.spin,
            data_dir: dir.path().to_owned(),
            stores: seats.collect(),
            mail: mail.clone(),
            limits,
            ring_bytes: usize::try_from(ring_bytes).unwrap_or(usize::MAX),
        };
        let started = crate::host::start(kind, core, tenant.clone(), ended.clone());
        started.map_err(|source| NodeError::Start { what: "a core", source })?;
        mails.push(mail);
    }
    drop((ended, tenant));
    let cores: Vec<CorePlan> = cores;
    let front = Front { dir, common, cores, mails, limits, exit_with_stdin: config.exit_with_stdin };
    front.run(opened_stores, ended_stores)
}

/// Who the members are.
enum Members {
    Listed(Vec<Member>),
    Asked(ClusterMap),
    Alone,
}

impl Members {
    fn find(config: &Config) -> Result<Members, ConfigError> {
        if !config.members.is_empty() {
            return Ok(Members::Listed(config.members.clone()));
        }
        if config.seeds.is_empty() {
            return Ok(Members::Alone);
        }
        tracing::info!("no members are listed: asking {} seeds for the cluster map", config.seeds.len());
        crate::seeds::fetch(&config.seeds, SEEDS_PATIENCE).map(Members::Asked)
    }

    fn own(&self, config: &Config) -> Result<Option<&Member>, ConfigError> {
        let listed = match self {
            Members::Listed(members) => members,
            Members::Asked(map) => &map.nodes,
            Members::Alone => return Ok(None),
        };
        match listed.iter().find(|m| m.id == config.node) {
            Some(own) => Ok(Some(own)),
            None => Err(ConfigError(format!("node {} is not among the cluster's members", config.node.0))),
        }
    }

    fn map(&self, config: &Config, cluster: ClusterId, own: &Member) -> ClusterMap {
        let from = |members: &[Member]| ClusterMap::from_members(cluster, members, &config.keyspaces, &config.pools);
        match self {
            Members::Listed(members) => from(members),
            Members::Asked(map) => map.clone(),
            Members::Alone => from(std::slice::from_ref(own)),
        }
    }
}

fn asker(config: &Config, members: &Members, own: Option<&Member>, allowed: &[usize]) -> Result<Asker, ConfigError> {
    let listed = own.map(|m| m.stores.len() as u16);
    if let (Some(stores), Some(listed)) = (config.stores, listed)
        && stores != listed
    {
        return Err(ConfigError(format!("{stores} stores asked for, but this node's member entry has {listed}")));
    }
    let cluster = match (config.cluster, members) {
        (Some(ours), Members::Asked(map)) if ours != map.cluster => {
            return Err(ConfigError(format!("the seeds are of cluster {}, this is {ours}", map.cluster)));
        }
        (None, Members::Asked(map)) => Some(map.cluster),
        (ours, _) => ours,
    };
    let cores = u16::try_from(plan::wanted_cores(config, allowed)).unwrap_or(1);
    Ok(Asker { node: config.node, cluster, stores: listed.or(config.stores), stores_if_new: cores.max(1) })
}

/// A cluster of this node alone.
fn alone(config: &Config, stores: u16) -> Result<Member, ConfigError> {
    let stores = config::store_addresses(config.listen, stores)?;
    Ok(Member { id: config.node, address: config.listen, weight: 100, rack: String::new(), stores })
}

fn listen(address: SocketAddr) -> Result<TcpListener, NodeError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| NodeError::Listen { address, source })
}

/// The one line that says what was found and chosen.
fn announce(config: &Config, dir: &DataDir, probes: &Probes, kind: crate::host::HostKind, cores: &[CorePlan]) {
    let cpus: Vec<String> = cores.iter().filter_map(|c| c.cpu).map(|cpu| cpu.to_string()).collect();
    let pinned = if cpus.is_empty() { "not pinned".to_owned() } else { format!("pinned to CPU {}", cpus.join(",")) };
    let cluster: ClusterId = dir.identity().cluster;
    tracing::info!(
        "node {} of cluster {cluster}: {} stores on {} cores, {pinned}, spin {} us; host {kind} ({probes}); data in {}; \
         listening on {}",
        config.node.0,
        dir.identity().stores,
        cores.len(),
        config.spin.as_micros(),
        dir.path().display(),
        config.listen,
    );
}
