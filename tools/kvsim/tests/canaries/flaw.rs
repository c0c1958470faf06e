//! What can be wrong with a store: edits of what it sees of the world and of what the world sees of it.

use kvsim::host::VirtualHost;
use ringkv_shard::config::StoreConfig;
use ringkv_wire::frame::Message;
use ringkv_wire::ids::{Now, StoreId};
use ringkv_wire::msg::peer::PeerMessage;
use ringkv_wire::msg::snapshot::SnapshotMessage;
use std::rc::Rc;

/// One life of a store, before it opens.
pub struct Life {
    /// Its host, as it is in truth.
    pub host: VirtualHost,
    /// What it is told.
    pub config: StoreConfig,
}

/// Edits in one life of a store. Each does nothing unless a canary says so.
pub trait Flaw {
    /// What the store's clocks show when they should show `now`.
    fn now(&self, now: Now) -> Now {
        now
    }
    /// The boot time at which this store's clock shows `shown_ns`.
    fn wakes_ns(&self, shown_ns: u64) -> u64 {
        shown_ns
    }
    /// Messages of one frame from a peer, before the store sees them.
    fn heard(&self, _from: StoreId, _messages: &mut Vec<PeerMessage>) {}
    /// Messages of one frame to a peer, before they leave.
    fn said(&self, _to: StoreId, _messages: &mut Vec<PeerMessage>) {}
    /// A message about a snapshot, before it leaves.
    fn shipped(&self, _message: &mut SnapshotMessage) {}
    /// A client's request, before the store sees it.
    fn asked(&self, _request: &mut Message) {}
    /// Whether what peers sent is to be heard one turn later than what clients sent.
    fn peers_wait(&self) -> bool {
        false
    }
    /// Messages that the store is to see although nobody sent them now. Asked for after each turn's events.
    fn forged(&self) -> Vec<(StoreId, PeerMessage)> {
        Vec::new()
    }
    /// What the store's disk makes of being asked for durability.
    fn syncs(&self) -> Syncs {
        Syncs::Honest
    }
}

/// What a disk makes of being asked for durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// It does what it says.
    Honest,
    /// A commit to the log is answered when it is written, and synced so much later, ns.
    Late(u64),
    /// An error of a commit or a sync is called success.
    Deaf,
    /// Names are never made durable.
    Nameless,
}

/// Nothing is wrong.
pub struct Right;
impl Flaw for Right {}

/// Makes the flaw of each life, within one run. May edit the life's disk.
pub type Make = Box<dyn Fn(&Life) -> Rc<dyn Flaw>>;

/// Wraps a flaw that needs to know nothing of its life.
pub fn always<F: Flaw + 'static>(flaw: impl Fn() -> F + 'static) -> Make {
    Box::new(move |_| Rc::new(flaw()))
}
