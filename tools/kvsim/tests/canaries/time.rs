//! Flaws of leases and clocks.

use crate::flaw::{Flaw, Life};
use ringkv_shard::host::Host;
use ringkv_wire::ids::{Now, ShardId, StoreId};
use ringkv_wire::msg::peer::{PeerBody, PeerMessage};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

/// How long answers to heartbeats are under way, ns: longer than a lease.
const ANSWER_NS: u64 = 200_000_000;

/// Answers to heartbeats come late. A right store then has no lease, and loses nothing.
pub struct LateAnswers {
    life: Life,
    /// What passes for the time at which an answered round was sent.
    lease: Lease,
    /// The newest round, by shard and term.
    newest: RefCell<BTreeMap<(ShardId, u64), u64>>,
    /// Answers, and when they are to be heard, virtual ns.
    waiting: RefCell<VecDeque<(u64, StoreId, PeerMessage)>>,
}

/// From when a lease is counted.
#[derive(Clone, Copy, PartialEq)]
pub enum Lease {
    /// From the sending of the round that was answered.
    FromTheRound,
    /// From when the answer comes: it passes for one to the newest round.
    FromTheAnswer,
}

impl LateAnswers {
    /// In this life.
    pub fn new(life: Life, lease: Lease) -> LateAnswers {
        LateAnswers { life, lease, newest: RefCell::default(), waiting: RefCell::default() }
    }
}

impl Flaw for LateAnswers {
    fn heard(&self, from: StoreId, messages: &mut Vec<PeerMessage>) {
        let exec = self.life.host.exec();
        let due_ns = exec.now_ns() + ANSWER_NS;
        messages.retain(|message| {
            let answer = matches!(message.body, PeerBody::HeartbeatReply { .. });
            if answer {
                self.waiting.borrow_mut().push_back((due_ns, from, message.clone()));
                let host = self.life.host.clone();
                exec.at(due_ns, move || host.wake());
            }
            !answer
        });
    }

    fn said(&self, _: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            if let PeerBody::Heartbeat { round, .. } = message.body {
                self.newest.borrow_mut().insert((message.shard, message.term), round);
            }
        }
    }

    fn forged(&self) -> Vec<(StoreId, PeerMessage)> {
        let (now_ns, mut out) = (self.life.host.exec().now_ns(), Vec::new());
        let mut waiting = self.waiting.borrow_mut();
        while let Some((_, from, mut message)) = waiting.pop_front_if(|(due_ns, ..)| *due_ns <= now_ns) {
            let newest = self.newest.borrow().get(&(message.shard, message.term)).copied();
            if let (PeerBody::HeartbeatReply { round, .. }, Some(newest)) = (&mut message.body, newest)
                && self.lease == Lease::FromTheAnswer
            {
                *round = newest;
            }
            out.push((from, message));
        }
        out
    }
}

/// A leader that takes its followers' last answers again for each of its rounds: its lease never ends.
pub struct EndlessLease {
    life: Life,
    answers: RefCell<BTreeMap<(StoreId, ShardId), PeerMessage>>,
    due: RefCell<Vec<(StoreId, PeerMessage)>>,
}

impl EndlessLease {
    /// In this life.
    pub fn new(life: Life) -> EndlessLease {
        EndlessLease { life, answers: RefCell::default(), due: RefCell::default() }
    }
}

impl Flaw for EndlessLease {
    fn heard(&self, from: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            if matches!(message.body, PeerBody::HeartbeatReply { follows: true, .. }) {
                self.answers.borrow_mut().insert((from, message.shard), message.clone());
            }
        }
    }

    fn said(&self, to: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            let PeerBody::Heartbeat { round: newest, .. } = message.body else { continue };
            let answers = self.answers.borrow();
            let answer = answers.get(&(to, message.shard)).filter(|answer| answer.term == message.term);
            let Some(PeerBody::HeartbeatReply { wall_ms, .. }) = answer.map(|answer| answer.body.clone()) else {
                continue;
            };
            let body = PeerBody::HeartbeatReply { round: newest, follows: true, wall_ms };
            self.due.borrow_mut().push((to, PeerMessage { body, ..message.clone() }));
            self.life.host.wake();
        }
    }

    fn forged(&self) -> Vec<(StoreId, PeerMessage)> {
        self.due.take()
    }
}

/// A gap this long between two looks at the clock is a pause, ns: a store looks every 10 ms.
const PAUSE_NS: u64 = 100_000_000;

/// A process that was stopped hears its clients before its peers. A right store answers no read in between.
#[derive(Default)]
pub struct ClientsFirst {
    /// The clock of the lease stood still while the process was stopped.
    clock_stops: bool,
    last_ns: Cell<u64>,
    lost_ns: Cell<u64>,
    resumed: Cell<bool>,
}

impl ClientsFirst {
    /// `clock_stops`: the clock of the lease stands still in a pause.
    pub fn new(clock_stops: bool) -> ClientsFirst {
        ClientsFirst { clock_stops, ..ClientsFirst::default() }
    }
}

impl Flaw for ClientsFirst {
    fn now(&self, now: Now) -> Now {
        let last = self.last_ns.replace(now.boot_ns);
        let gap = now.boot_ns.saturating_sub(last);
        if last != 0 && gap > PAUSE_NS {
            self.resumed.set(true);
            if self.clock_stops {
                self.lost_ns.set(self.lost_ns.get() + gap);
            }
        }
        Now { boot_ns: now.boot_ns - self.lost_ns.get(), ..now }
    }

    fn wakes_ns(&self, shown_ns: u64) -> u64 {
        shown_ns.saturating_add(self.lost_ns.get())
    }

    fn peers_wait(&self) -> bool {
        self.resumed.take()
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
