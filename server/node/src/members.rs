//! Who the members of the cluster are, and what follows for this node.

use crate::config::{self, Config, ConfigError};
use crate::dir::Asker;
use crate::{plan, seeds};
use ringkv_wire::ids::ClusterId;
use ringkv_wire::ring::topology::{ClusterMap, Member};
use std::time::Duration;

/// How long a node without a member list asks its seeds.
const SEEDS_PATIENCE: Duration = Duration::from_secs(60);

/// Where a node knows its cluster from.
#[derive(Debug)]
pub enum Members {
    /// The configuration lists them.
    Listed(Vec<Member>),
    /// A seed gave the map.
    Asked(ClusterMap),
    /// There is only this node.
    Alone,
}

impl Members {
    /// Finds them; asks the seeds when none are listed. May block for a minute.
    pub fn find(config: &Config) -> Result<Members, ConfigError> {
        let members = if !config.members.is_empty() {
            Members::Listed(config.members.clone())
        } else if config.seeds.is_empty() {
            return Ok(Members::Alone);
        } else {
            tracing::info!("no members are listed: asking {} seeds for the cluster map", config.seeds.len());
            Members::Asked(seeds::fetch(&config.seeds, SEEDS_PATIENCE)?)
        };
        match members.own(config) {
            Some(_) => Ok(members),
            None => Err(ConfigError(format!("node {} is not among the cluster's members", config.node.0))),
        }
    }

    fn own(&self, config: &Config) -> Option<&Member> {
        let listed = match self {
            Members::Listed(members) => members,
            Members::Asked(map) => &map.nodes,
            Members::Alone => return None,
        };
        listed.iter().find(|m| m.id == config.node)
    }

    /// This node's entry; without a list, one on the ports behind the common one.
    pub fn own_or_alone(&self, config: &Config, stores: u16) -> Result<Member, ConfigError> {
        if let Some(own) = self.own(config) {
            return Ok(own.clone());
        }
        let stores = config::store_addresses(config.listen, stores)?;
        Ok(Member { id: config.node, address: config.listen, weight: 100, rack: String::new(), stores })
    }

    /// The cluster map; `own` when there is only this node.
    pub fn map(&self, config: &Config, cluster: ClusterId, own: &Member) -> ClusterMap {
        let from = |members: &[Member]| ClusterMap::from_members(cluster, members, &config.keyspaces, &config.pools);
        match self {
            Members::Listed(members) => from(members),
            Members::Asked(map) => map.clone(),
            Members::Alone => from(std::slice::from_ref(own)),
        }
    }

    /// What the data directory must fit.
    pub fn asker(&self, config: &Config, allowed: &[usize]) -> Result<Asker, ConfigError> {
        let listed = self.own(config).map(|m| m.stores.len() as u16);
        if let (Some(stores), Some(listed)) = (config.stores, listed)
            && stores != listed
        {
            return Err(ConfigError(format!("{stores} stores asked for, but this node's member entry has {listed}")));
        }
        let cluster = match (config.cluster, self) {
            (Some(ours), Members::Asked(map)) if ours != map.cluster => {
                return Err(ConfigError(format!("the seeds are of cluster {}, this is {ours}", map.cluster)));
            }
            (None, Members::Asked(map)) => Some(map.cluster),
            (ours, _) => ours,
        };
        let cores = u16::try_from(plan::wanted_cores(config, allowed)).unwrap_or(1);
        Ok(Asker { node: config.node, cluster, stores: listed.or(config.stores), stores_if_new: cores.max(1) })
    }
}
