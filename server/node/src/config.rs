//! What a node is told: a TOML file, and flags that win over it.

mod file;
mod flags;
mod parse;

pub use flags::Flags;
pub use parse::store_addresses;

use ringkv_shard::config::Budgets;
use ringkv_wire::ids::{ClusterId, NodeId};
use ringkv_wire::ring::topology::{KeyspaceInfo, Member, PoolInfo};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A configuration that cannot be served, in words for whoever wrote it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Which host is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostChoice {
    /// The fastest that works here.
    #[default]
    Auto,
    /// glommio, or an error.
    Glommio,
    /// Ordinary system calls.
    Plain,
}

/// How many executor threads, or on which CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// So many.
    Count(usize),
    /// One on each of these CPUs.
    Cpus(Vec<usize>),
}

/// Whether executor threads are bound to CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// When they fit the allowed CPUs.
    #[default]
    Auto,
    /// Never.
    None,
    /// To these, in order.
    Cpus(Vec<usize>),
}

/// A node's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything the node keeps.
    pub data_dir: PathBuf,
    /// Its number.
    pub node: NodeId,
    /// Its common port; store i listens on port + 1 + i unless the member list says otherwise.
    pub listen: SocketAddr,
    /// Stores to make at the first boot; afterwards the data directory says.
    pub stores: Option<u16>,
    /// Executor threads.
    pub cores: Option<Cores>,
    /// Binding to CPUs.
    pub pin: Pin,
    /// How long an idle executor looks for work before it sleeps.
    pub spin: Duration,
    /// The host.
    pub host: HostChoice,
    /// Other nodes, to ask for the map when no members are listed.
    pub seeds: Vec<SocketAddr>,
    /// May listen beyond loopback, without encryption.
    pub insecure: bool,
    /// End when standard input does.
    pub exit_with_stdin: bool,
    /// The cluster; `None`: of this node alone, named at its first boot.
    pub cluster: Option<ClusterId>,
    /// All members, this node among them; empty: this node alone.
    pub members: Vec<Member>,
    /// The keyspaces.
    pub keyspaces: Vec<KeyspaceInfo>,
    /// The pools.
    pub pools: Vec<PoolInfo>,
    /// Memory and file sizes of each store.
    pub budgets: Budgets,
}

impl Config {
    /// Reads the file that `flags` names, lays the flags over it, checks the whole.
    pub fn load(flags: Flags) -> Result<Config, ConfigError> {
        let file = match &flags.config {
            Some(path) => file::File::read(path)?,
            None => file::File::default(),
        };
        let config = merge(flags, file)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |what: String| Err(ConfigError(what));
        if self.node.0 == 0 {
            return refuse("node ids count from 1".into());
        }
        if !self.insecure && !self.listen.ip().is_loopback() {
            return refuse(format!(
                "listening on {} without encryption lets anyone who reaches it read and write: listen on 127.0.0.1, or say \
                 --insecure",
                self.listen
            ));
        }
        if self.listen.port() == 0 {
            return refuse("listen needs a port: clients and other nodes must know it".into());
        }
        if !self.members.is_empty() {
            if self.cluster.is_none() {
                return refuse("a member list needs a cluster id: 32 hex digits, the same on every member".into());
            }
            if self.members.iter().all(|m| m.id != self.node) {
                return refuse(format!("node {} is not among the members", self.node.0));
            }
        }
        unique("member", self.members.iter().map(|m| m.id.0))?;
        unique("pool", self.pools.iter().map(|p| u32::from(p.id)))?;
        unique("keyspace", self.keyspaces.iter().map(|k| k.id.0))?;
        for pool in &self.pools {
            if pool.replicas == 0 || pool.shard_bits > 16 {
                return refuse(format!("pool {}: replicas count from 1, shard_bits go up to 16", pool.id));
            }
        }
        for keyspace in &self.keyspaces {
            if keyspace.id.0 == 0 || self.pools.iter().all(|p| p.id != keyspace.pool) {
                return refuse(format!("keyspace {}: ids count from 1 and its pool must exist", keyspace.name));
            }
        }
        if self.budgets.segment_bytes < 4 << 20 {
            return refuse("memory.segment_mib: at least 4".into());
        }
        Ok(())
    }
}

fn unique(what: &str, ids: impl Iterator<Item = u32>) -> Result<(), ConfigError> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ConfigError(format!("{what} {} is listed twice", pair[0]))),
        None => Ok(()),
    }
}

fn merge(flags: Flags, file: file::File) -> Result<Config, ConfigError> {
    let need = |what: &str| ConfigError(format!("{what} is missing: give --{what} or set it in the --config file"));
    let text = |flag: Option<String>, in_file: Option<String>| flag.or(in_file);
    let listen = flags.listen.or(file.listen).ok_or_else(|| need("listen"))?;
    let members = match flags.member.is_empty() {
        false => flags.member.iter().map(|m| parse::member(m)).collect::<Result<Vec<_>, _>>()?,
        true => file.member.into_iter().map(file::MemberEntry::resolve).collect::<Result<Vec<_>, _>>()?,
    };
    let mut pools: Vec<PoolInfo> = file.pool.iter().map(file::PoolEntry::resolve).collect();
    if pools.is_empty() {
        pools.push(PoolInfo { id: 1, replicas: 3, shard_bits: 4 });
    }
    if let Some(replicas) = flags.replicas {
        pools[0].replicas = replicas;
    }
    if let Some(shard_bits) = flags.shard_bits {
        pools[0].shard_bits = shard_bits;
    }
    let mut keyspaces = file.keyspace.into_iter().map(file::KeyspaceEntry::resolve).collect::<Result<Vec<_>, _>>()?;
    if keyspaces.is_empty() {
        keyspaces.push(file::default_keyspace(pools[0].id));
    }
    Ok(Config {
        data_dir: flags.data_dir.or(file.data_dir).ok_or_else(|| need("data-dir"))?,
        node: NodeId(flags.node_id.or(file.node).ok_or_else(|| need("node-id"))?),
        listen,
        stores: flags.stores.or(file.stores),
        cores: match (text(flags.cores, None), file.cores) {
            (Some(flag), _) => Some(parse::cores(&flag)?),
            (None, Some(entry)) => Some(entry.resolve()?),
            (None, None) => None,
        },
        pin: text(flags.pin, file.pin).map_or(Ok(Pin::Auto), |p| parse::pin(&p))?,
        spin: Duration::from_micros(flags.spin_us.or(file.spin_us).unwrap_or(0)),
        host: text(flags.host, file.host).map_or(Ok(HostChoice::Auto), |h| parse::host(&h))?,
        seeds: if flags.seeds.is_empty() { file.seeds } else { flags.seeds },
        insecure: flags.insecure || file.insecure,
        exit_with_stdin: flags.exit_with_stdin,
        cluster: text(flags.cluster, file.cluster).map(|c| parse::cluster(&c)).transpose()?,
        members,
        keyspaces,
        pools,
        budgets: file.tables.apply(file.memory.resolve()),
    })
}

#[cfg(test)]
mod tests;
