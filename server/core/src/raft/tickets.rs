//! What has been given out to be persisted, and what of it is durable.

use ringkv_wire::ids::StoreId;
use std::collections::VecDeque;

/// One ticket that is not durable yet.
#[derive(Debug)]
struct Pending {
    ticket: u64,
    /// Once durable, the log is durable up to here: clipped when entries are truncated, so that an old promise says nothing
    /// about new entries in the same places.
    last_index: u64,
    /// Term and vote, when this ticket changed them.
    hard: Option<(u64, Option<StoreId>)>,
    since_ns: u64,
}

/// Tickets of one replica: numbers of things to persist, in order.
#[derive(Debug)]
pub(super) struct Tickets {
    issued: u64,
    pending: VecDeque<Pending>,
    durable_index: u64,
    durable_hard: (u64, Option<StoreId>),
}

impl Tickets {
    /// Everything restored is durable.
    pub fn new(last_index: u64, hard: (u64, Option<StoreId>)) -> Tickets {
        Tickets { issued: 0, pending: VecDeque::new(), durable_index: last_index, durable_hard: hard }
    }

    /// The newest ticket; 0 when there was none.
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// This replica's own entries are durable up to here.
    pub fn durable_index(&self) -> u64 {
        self.durable_index
    }

    /// Term and vote that are durable.
    pub fn durable_hard(&self) -> (u64, Option<StoreId>) {
        self.durable_hard
    }

    /// Since when the oldest ticket waits, boot ns.
    pub fn oldest_ns(&self) -> Option<u64> {
        self.pending.front().map(|pending| pending.since_ns)
    }

    /// A step gave something out: the log then ended at `last_index`; `hard` when term or vote changed.
    pub fn issue(&mut self, last_index: u64, hard: Option<(u64, Option<StoreId>)>, now_ns: u64) {
        self.issued += 1;
        self.pending.push_back(Pending { ticket: self.issued, last_index, hard, since_ns: now_ns });
    }

    /// Everything up to `ticket` is durable. A ticket that was never issued counts as the newest one.
    pub fn persisted(&mut self, ticket: u64) {
        while self.pending.front().is_some_and(|pending| pending.ticket <= ticket) {
            let Some(done) = self.pending.pop_front() else { break };
            self.durable_index = self.durable_index.max(done.last_index);
            self.durable_hard = done.hard.unwrap_or(self.durable_hard);
        }
    }

    /// The entries behind `index` are gone from the log: neither what is durable nor what will be says anything about them.
    pub fn truncated(&mut self, index: u64) {
        self.durable_index = self.durable_index.min(index);
        for pending in &mut self.pending {
            pending.last_index = pending.last_index.min(index);
        }
    }

    /// A snapshot at `index` was installed, and is durable.
    pub fn installed(&mut self, index: u64) {
        self.durable_index = self.durable_index.max(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_from_before_a_truncation_says_nothing_about_what_came_after() {
        let mut tickets = Tickets::new(4, (1, None));
        tickets.issue(6, None, 10);
        tickets.truncated(4);
        tickets.issue(5, Some((2, None)), 20);
        tickets.issue(6, None, 30);
        tickets.persisted(1);
        assert_eq!(tickets.durable_index(), 4);
        assert_eq!((tickets.oldest_ns(), tickets.durable_hard()), (Some(20), (1, None)));
        tickets.persisted(2);
        assert_eq!((tickets.durable_index(), tickets.durable_hard()), (5, (2, None)));
        tickets.persisted(3);
        assert_eq!((tickets.durable_index(), tickets.oldest_ns()), (6, None));
    }
}
