//! Flaws of leases and clocks.

use crate::flaw::{Flaw, Life};
use ringkv_shard::host::Host;
use ringkv_wire::ids::{Now, ShardId, StoreId};
use ringkv_wire::msg::peer::{PeerBody, PeerMessage};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Counts its lease from when an answer comes, not from when the round was sent: an answer waits for the next round and
/// passes for an answer to that one.
pub struct LeaseFromTheAnswer {
    life: Life,
    /// Answers are used once, or again for every later round.
    once: bool,
    waiting: RefCell<Vec<(StoreId, PeerMessage)>>,
    due: RefCell<Vec<(StoreId, PeerMessage)>>,
}

impl LeaseFromTheAnswer {
    /// `once`: an answer renews the lease once; else for as long as the term lasts.
    pub fn new(life: Life, once: bool) -> LeaseFromTheAnswer {
        LeaseFromTheAnswer { life, once, waiting: RefCell::default(), due: RefCell::default() }
    }

    fn sent(&self, beat: &PeerMessage, newest: u64) {
        let mut waiting = self.waiting.borrow_mut();
        let same = |message: &PeerMessage| (message.shard, message.term) == (beat.shard, beat.term);
        let mut due = Vec::new();
        for (from, message) in waiting.iter_mut().filter(|(_, message)| same(message)) {
            let PeerBody::HeartbeatReply { round, .. } = &mut message.body else { continue };
            if *round < newest {
                *round = newest;
                due.push((*from, message.clone()));
            }
        }
        if self.once {
            waiting.retain(|(_, message)| !same(message));
        }
        if !due.is_empty() {
            self.due.borrow_mut().extend(due);
            self.life.host.wake();
        }
    }
}

impl Flaw for LeaseFromTheAnswer {
    fn heard(&self, from: StoreId, messages: &mut Vec<PeerMessage>) {
        let answers = |message: &PeerMessage| matches!(message.body, PeerBody::HeartbeatReply { follows: true, .. });
        let mut waiting = self.waiting.borrow_mut();
        for message in messages.iter().filter(|message| answers(message)) {
            waiting.retain(|(who, old)| (*who, old.shard) != (from, message.shard));
            waiting.push((from, message.clone()));
        }
        messages.retain(|message| !answers(message));
    }

    fn said(&self, _: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            if let PeerBody::Heartbeat { round, .. } = message.body {
                self.sent(message, round);
            }
        }
    }

    fn forged(&self) -> Vec<(StoreId, PeerMessage)> {
        self.due.take()
    }
}

/// A gap this long between two looks at the clock is a pause, ns: a store looks every 10 ms.
const PAUSE_NS: u64 = 100_000_000;

/// The clock of the lease stands still while the process is stopped.
#[derive(Default)]
pub struct ClockStopsInPauses {
    last_ns: Cell<u64>,
    lost_ns: Cell<u64>,
}

impl Flaw for ClockStopsInPauses {
    fn now(&self, now: Now) -> Now {
        let last = self.last_ns.replace(now.boot_ns);
        let gap = now.boot_ns.saturating_sub(last);
        if last != 0 && gap > PAUSE_NS {
            self.lost_ns.set(self.lost_ns.get() + gap);
        }
        Now { boot_ns: now.boot_ns - self.lost_ns.get(), ..now }
    }

    fn wakes_ns(&self, shown_ns: u64) -> u64 {
        shown_ns.saturating_add(self.lost_ns.get())
    }
}

/// The clock of one node runs at a fraction of its rate: far beyond the bound that leases allow for.
pub struct SlowClock {
    begun_ns: u64,
    part: u64,
}

impl SlowClock {
    /// A clock that shows one of `part` nanoseconds, on the node with number 1; the others' are right.
    pub fn new(life: &Life, part: u64) -> SlowClock {
        let part = if life.config.id.node.0 == 1 { part } else { 1 };
        SlowClock { begun_ns: life.host.now().boot_ns, part }
    }
}

impl Flaw for SlowClock {
    fn now(&self, now: Now) -> Now {
        Now { boot_ns: self.begun_ns + (now.boot_ns - self.begun_ns) / self.part, ..now }
    }

    fn wakes_ns(&self, shown_ns: u64) -> u64 {
        self.begun_ns.saturating_add(shown_ns.saturating_sub(self.begun_ns).saturating_mul(self.part))
    }
}

/// Answers to appends say more than is asked: they always name the newest round, so that an old one renews a lease.
#[derive(Default)]
pub struct OldAnswersAreNew {
    newest: RefCell<BTreeMap<(ShardId, u64), u64>>,
}

impl Flaw for OldAnswersAreNew {
    fn heard(&self, _: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            let Some(newest) = self.newest.borrow().get(&(message.shard, message.term)).copied() else { continue };
            if let PeerBody::AppendReply { round, .. } | PeerBody::HeartbeatReply { round, .. } = &mut message.body {
                *round = newest;
            }
        }
    }

    fn said(&self, _: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            if let PeerBody::Heartbeat { round, .. } = message.body {
                self.newest.borrow_mut().insert((message.shard, message.term), round);
            }
        }
    }
}
