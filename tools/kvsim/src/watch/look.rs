//! What the checks ask a replica.

use ringkv_core::raft::{Raft, Role};
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::config::{Configuration, Replica};

/// A replica between two steps, but for its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its role.
    pub role: Role,
    /// Term and vote.
    pub hard: (u64, Option<StoreId>),
    /// Commit index.
    pub commit: u64,
    /// Index and term behind which its log begins.
    pub floor: (u64, u64),
    /// Index and term of its last entry.
    pub last: (u64, u64),
}

/// A replica, as a check sees it.
pub trait Look {
    /// All but the log.
    fn seen(&self) -> Seen;
    /// The term of an entry, from the floor to the last one.
    fn term_at(&self, index: u64) -> Option<u64>;
    /// Checksum of an entry's body, when memory holds the entry: always of what was just appended.
    fn crc_at(&self, index: u64) -> Option<u32>;
    /// The active configuration.
    fn config(&self) -> &Configuration;
}

impl Look for Raft {
    fn seen(&self) -> Seen {
        let last = self.last_index();
        Seen {
            role: self.role(),
            hard: self.hard_state(),
            commit: self.commit(),
            floor: self.floor(),
            last: (last, self.term_at(last).unwrap_or_default()),
        }
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        Raft::term_at(self, index)
    }

    fn crc_at(&self, index: u64) -> Option<u32> {
        self.entry(index).map(|entry| entry.body_crc)
    }

    fn config(&self) -> &Configuration {
        &Raft::config(self).1
    }
}

/// Whether those for whom `yes` holds are a majority; of both halves while a joint configuration holds (Raft §6).
pub fn majority(config: &Configuration, yes: impl Fn(StoreId) -> bool) -> bool {
    let most = |half: &[Replica]| half.iter().filter(|replica| yes(replica.store)).count() * 2 > half.len();
    most(&config.voters) && (config.outgoing.is_empty() || most(&config.outgoing))
}
