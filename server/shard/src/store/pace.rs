//! Answers to writes wait while flushes and merges are behind: clients, who wait for them, then write no faster than the store can
//! sort. What a write asks for is long done by then.

use super::Store;
use crate::host::Host;
use crate::replica::Asker;
use ringkv_wire::ids::{Now, ShardId};
use ringkv_wire::msg::client::WriteResult;
use std::collections::VecDeque;

/// An answer goes at once when it need not wait for longer than this, ns.
const SLACK_NS: u64 = 200_000;
/// No answer waits for longer, ns.
const HELD_MAX_NS: u64 = 100_000_000;

struct Held {
    due_ns: u64,
    shard: ShardId,
    asker: Asker,
    results: Vec<WriteResult>,
}

/// Answers that wait; as many at most as clients may have requests in flight.
#[derive(Default)]
pub(super) struct Pacer {
    held: VecDeque<Held>,
    /// When all that was written so far will have had its time, boot ns.
    until_ns: u64,
    /// What each byte gets, in this turn.
    ns_per_byte: f64,
}

impl Pacer {
    /// The next answer is due, boot ns.
    pub(super) fn next_ns(&self) -> u64 {
        self.held.front().map_or(u64::MAX, |held| held.due_ns)
    }

    /// When a write of so many bytes may be answered, boot ns.
    fn due_ns(&mut self, now_ns: u64, bytes: usize) -> u64 {
        let own_ns = (bytes as f64 * self.ns_per_byte) as u64;
        self.until_ns = self.until_ns.max(now_ns).saturating_add(own_ns).min(now_ns + HELD_MAX_NS);
        self.until_ns
    }
}

impl<H: Host> Store<H> {
    /// A turn begins: how far behind flushes and merges are is asked once.
    pub(super) fn set_pace(&mut self) {
        self.pacer.ns_per_byte = self.engine.wait_ns_per_byte(self.config.budgets.memtable_bytes);
    }

    /// Answers a write of so many bytes that was applied: now, or when it is due.
    pub(super) fn answer_paced(&mut self, slot: usize, asker: Asker, results: Vec<WriteResult>, bytes: usize) {
        let now_ns = self.last_turn_ns;
        let due_ns = self.pacer.due_ns(now_ns, bytes);
        if due_ns <= now_ns + SLACK_NS {
            return self.answer_write(slot, asker, &results);
        }
        self.counters.paced += 1;
        self.pacer.held.push_back(Held { due_ns, shard: self.replicas[slot].shard, asker, results });
    }

    /// Sends the answers that are due.
    pub(super) fn release(&mut self, now: Now) {
        while self.pacer.next_ns() <= now.boot_ns {
            let Some(held) = self.pacer.held.pop_front() else { return };
            let Some(slot) = self.slot(held.shard) else { continue };
            self.answer_write(slot, held.asker, &held.results);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_takes_its_time_and_a_rest_is_not_saved_up() {
        let mut pacer = Pacer { ns_per_byte: 10.0, ..Pacer::default() };
        assert_eq!(pacer.due_ns(1_000, 100), 2_000);
        assert_eq!(pacer.due_ns(1_000, 100), 3_000, "behind the one before");
        assert_eq!(pacer.due_ns(50_000, 100), 51_000, "time that nobody used is gone");
        pacer.ns_per_byte = f64::from(u32::MAX);
        assert_eq!(pacer.due_ns(60_000, 1 << 30), 60_000 + HELD_MAX_NS, "none waits for ever");
        pacer.ns_per_byte = 0.0;
        assert_eq!(pacer.due_ns(1 << 40, 1 << 20), 1 << 40);
    }
}
