//! The TOML file, as written.

use crate::config::{ConfigError, Cores, parse};
use ringkv_shard::config::Budgets;
use ringkv_storage::sst::compress::Compression;
use ringkv_wire::ids::{KeyspaceId, NodeId};
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::topology::{KeyspaceInfo, Member, PoolInfo};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// All of it; every key is optional, an unknown one is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub data_dir: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub node: Option<u32>,
    pub stores: Option<u16>,
    pub cores: Option<CoresEntry>,
    pub pin: Option<String>,
    pub spin_us: Option<u64>,
    pub host: Option<String>,
    pub seeds: Vec<SocketAddr>,
    pub insecure: bool,
    pub cluster: Option<String>,
    pub member: Vec<MemberEntry>,
    pub pool: Vec<PoolEntry>,
    pub keyspace: Vec<KeyspaceEntry>,
    pub memory: MemoryEntry,
    pub tables: TablesEntry,
}

/// `cores = 2` or `cores = "0,2"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum CoresEntry {
    Count(usize),
    List(String),
}

/// `[[member]]`: `stores = 2` (ports after the common one) or `store_addresses = [..]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberEntry {
    id: u32,
    address: SocketAddr,
    stores: Option<u16>,
    #[serde(default)]
    store_addresses: Vec<SocketAddr>,
    weight: Option<u16>,
    #[serde(default)]
    rack: String,
}

/// `[[pool]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolEntry {
    id: u8,
    replicas: u8,
    shard_bits: u8,
}

/// `[[keyspace]]`: `routing` is `whole`, `hashtag` or `prefix:` and one character.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyspaceEntry {
    id: u32,
    name: String,
    pool: u8,
    routing: Option<String>,
}

/// `[memory]`, per store.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryEntry {
    memtable_mib: Option<usize>,
    cache_mib: Option<usize>,
    session_mib: Option<usize>,
    segment_mib: Option<u64>,
    log_keep_mib: Option<u64>,
}

/// `[tables]`, per store.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TablesEntry {
    compression: Option<CompressionEntry>,
}

/// How tables of the last level are made smaller.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CompressionEntry {
    None,
    Lz4,
    Zstd,
}

impl TablesEntry {
    /// The same budgets with these tables.
    pub fn apply(&self, budgets: Budgets) -> Budgets {
        let compression = match self.compression {
            None => budgets.compression,
            Some(CompressionEntry::None) => Compression::None,
            Some(CompressionEntry::Lz4) => Compression::Lz4,
            Some(CompressionEntry::Zstd) => Compression::Zstd,
        };
        Budgets { compression, ..budgets }
    }
}

impl File {
    pub fn read(path: &Path) -> Result<File, ConfigError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError(format!("{shown}: {e}")))?;
        toml::from_str(&text).map_err(|e| ConfigError(format!("{shown}: {e}")))
    }
}

impl CoresEntry {
    pub fn resolve(self) -> Result<Cores, ConfigError> {
        match self {
            CoresEntry::Count(n) => parse::cores(&n.to_string()),
            CoresEntry::List(list) => parse::cores(&list),
        }
    }
}

impl MemberEntry {
    pub fn resolve(self) -> Result<Member, ConfigError> {
        let stores = match (self.stores, self.store_addresses.is_empty()) {
            (_, false) => self.store_addresses,
            (Some(stores), true) => parse::store_addresses(self.address, stores)?,
            (None, true) => parse::store_addresses(self.address, 1)?,
        };
        let weight = self.weight.unwrap_or(100);
        Ok(Member { id: NodeId(self.id), address: self.address, weight, rack: self.rack, stores })
    }
}

impl PoolEntry {
    pub fn resolve(&self) -> PoolInfo {
        PoolInfo { id: self.id, replicas: self.replicas, shard_bits: self.shard_bits }
    }
}

impl KeyspaceEntry {
    pub fn resolve(self) -> Result<KeyspaceInfo, ConfigError> {
        let routing = match self.routing.as_deref() {
            None | Some("whole") => Routing::Whole,
            Some("hashtag") => Routing::HashTag,
            Some(other) => match other.strip_prefix("prefix:").map(str::as_bytes) {
                Some([delimiter]) => Routing::Prefix(*delimiter),
                _ => {
                    let what = format!("keyspace {}: routing {other:?} is none of whole, hashtag, prefix:C", self.name);
                    return Err(ConfigError(what));
                }
            },
        };
        Ok(KeyspaceInfo { id: KeyspaceId(self.id), name: self.name, pool: self.pool, routing })
    }
}

/// What there is when the file names no keyspace.
pub fn default_keyspace(pool: u8) -> KeyspaceInfo {
    KeyspaceInfo { id: KeyspaceId(1), name: "default".into(), pool, routing: Routing::Whole }
}

impl MemoryEntry {
    pub fn resolve(&self) -> Budgets {
        let mut budgets = Budgets::default();
        let set = |to: &mut usize, mib: Option<usize>| *to = mib.map_or(*to, |n| n << 20);
        set(&mut budgets.memtable_bytes, self.memtable_mib);
        set(&mut budgets.cache_bytes, self.cache_mib);
        set(&mut budgets.session_bytes, self.session_mib);
        budgets.segment_bytes = self.segment_mib.map_or(budgets.segment_bytes, |n| n << 20);
        budgets.log_keep_bytes = self.log_keep_mib.map_or(Budgets::log_keep_for(budgets.memtable_bytes), |n| n << 20);
        budgets
    }
}
