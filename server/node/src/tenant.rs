//! The store as a host's tenant.

use crate::host::core::{Seated, Tenant};
use ringkv_shard::config::{Budgets, Control, StoreConfig};
use ringkv_shard::host::Host;
use ringkv_wire::ids::{Incarnation, NodeId, StoreId};
use ringkv_wire::ring::topology::ClusterMap;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// What all stores of a node have in common.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The node.
    pub node: NodeId,
    /// The incarnation of its data directory.
    pub incarnation: Incarnation,
    /// The cluster map.
    pub map: Arc<ClusterMap>,
    /// Every store's log has existed before.
    pub made: bool,
    /// Memory and file sizes of each store.
    pub budgets: Budgets,
    /// Is told the number of each store that has opened.
    pub opened: UnboundedSender<u16>,
}

impl Tenant for Stores {
    fn seat<H: Host>(&self, host: H, store: u16) -> Seated {
        let control = Control::new();
        let config = StoreConfig {
            id: StoreId { node: self.node, store },
            incarnation: self.incarnation,
            map: self.map.clone(),
            dir: format!("store-{store:04}"),
            made: self.made,
            budgets: self.budgets,
        };
        let opened = self.opened.clone();
        control.when_open(move || {
            // Nobody listens when the node is ending already.
            let _ = opened.send(store);
        });
        let life = ringkv_shard::store::run(host, config, control.clone());
        Seated {
            run: Box::pin(async move { life.await.map_err(|e| e.to_string()) }),
            stop: Box::new(move || control.shutdown()),
        }
    }
}
