//! Someone who sees what a store does while it does it: the simulator's checks of Raft's invariants.

use ringkv_core::raft::Raft;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::ShardId;
use ringkv_wire::msg::client::WriteResult;

/// Looks on, and changes nothing. Called on the store's own thread, from inside its turn: it must not call back into the
/// store. A store in production has none, and pays one look at an `Option` for each step.
pub trait Witness {
    /// A replica was opened: this is what its files gave back. Nothing has been said or persisted in this life.
    fn opened(&self, raft: &Raft);

    /// A replica took one step. What the step wants persisted, sent and applied has not been done yet.
    fn stepped(&self, raft: &Raft);

    /// An entry was applied, with these results of its operations.
    fn applied(&self, entry: &Entry, results: &[WriteResult]);

    /// The tables say that they durably hold everything applied up to `index`; a snapshot's too.
    fn flushed(&self, shard: ShardId, index: u64);
}
