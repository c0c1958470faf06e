//! Flaws of elections and of leading: votes, acknowledgements and commit indices that are not what they say.

use crate::flaw::{Flaw, Life};
use ringkv_shard::host::Host;
use ringkv_wire::ids::{ShardId, StoreId};
use ringkv_wire::msg::peer::{PeerBody, PeerMessage};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Votes for everybody who asks in a term in which it has voted.
#[derive(Default)]
pub struct VotesTwice {
    /// The term in which each candidate asked.
    asked: RefCell<BTreeMap<(ShardId, StoreId), u64>>,
    /// Terms in which this store has voted, for itself or another.
    voted: RefCell<BTreeSet<(ShardId, u64)>>,
}

impl Flaw for VotesTwice {
    fn heard(&self, from: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages.iter().filter(|message| matches!(message.body, PeerBody::Vote { .. })) {
            self.asked.borrow_mut().insert((message.shard, from), message.term);
        }
    }

    fn said(&self, to: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            let term = (message.shard, message.term);
            match &mut message.body {
                PeerBody::Vote { .. } | PeerBody::VoteReply { granted: true } => {
                    self.voted.borrow_mut().insert(term);
                }
                PeerBody::VoteReply { granted } => {
                    let asked = self.asked.borrow().get(&(message.shard, to)) == Some(&message.term);
                    *granted = asked && self.voted.borrow().contains(&term);
                }
                _ => {}
            }
        }
    }
}

/// Votes for candidates whose log is behind its own (Raft §5.4.1 forbids it).
pub struct VotesForAnyLog;

impl Flaw for VotesForAnyLog {
    fn heard(&self, _: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            if let PeerBody::PreVote { last_term, .. } | PeerBody::Vote { last_term, .. } = &mut message.body {
                *last_term = u64::MAX;
            }
        }
    }
}

/// Counts a follower's acknowledgement when the entries leave.
pub struct CountsTheUnanswered {
    life: Life,
    acknowledged: RefCell<Vec<(StoreId, PeerMessage)>>,
}

impl CountsTheUnanswered {
    /// In this life.
    pub fn new(life: Life) -> CountsTheUnanswered {
        CountsTheUnanswered { life, acknowledged: RefCell::default() }
    }
}

impl Flaw for CountsTheUnanswered {
    fn said(&self, to: StoreId, messages: &mut Vec<PeerMessage>) {
        let wall_ms = self.life.host.now().wall_ms;
        for message in messages {
            let PeerBody::Append { round, entries, .. } = &message.body else { continue };
            let Some(last) = entries.last() else { continue };
            let body = PeerBody::AppendReply { round: *round, accepted: true, index: last.index, term: 0, wall_ms };
            self.acknowledged.borrow_mut().push((to, PeerMessage { body, ..message.clone() }));
            self.life.host.wake();
        }
    }

    fn forged(&self) -> Vec<(StoreId, PeerMessage)> {
        self.acknowledged.take()
    }
}

/// Tells followers its own commit index, whatever they have acknowledged.
#[derive(Default)]
pub struct CommitsWhatIsNotMatched {
    /// The highest commit index that was told, by shard and term.
    commit: RefCell<BTreeMap<(ShardId, u64), u64>>,
}

impl Flaw for CommitsWhatIsNotMatched {
    fn said(&self, _: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            let mut known = self.commit.borrow_mut();
            let known = known.entry((message.shard, message.term)).or_default();
            match &mut message.body {
                PeerBody::Append { commit, .. } => *known = (*known).max(*commit),
                PeerBody::Heartbeat { commit, .. } => *commit = (*commit).max(*known),
                _ => {}
            }
        }
    }
}

/// One node takes two operations that travel together in the other order.
#[derive(Clone, Copy)]
pub struct SwapsNeighbours;

impl Flaw for SwapsNeighbours {
    fn heard(&self, _: StoreId, messages: &mut Vec<PeerMessage>) {
        for message in messages {
            let PeerBody::Append { entries, .. } = &mut message.body else { continue };
            let [.., a, b] = &mut entries[..] else { continue };
            if a.kind == b.kind {
                std::mem::swap(&mut a.body, &mut b.body);
                std::mem::swap(&mut a.body_crc, &mut b.body_crc);
            }
        }
    }
}

/// Hears each message of a peer twice. A right store bears it.
pub struct HearsTwice;

impl Flaw for HearsTwice {
    fn heard(&self, _: StoreId, messages: &mut Vec<PeerMessage>) {
        let again = messages.clone();
        messages.extend(again);
    }
}

/// What a store heard last, over all its lives.
pub type Heard = std::rc::Rc<RefCell<BTreeMap<StoreId, Vec<(StoreId, PeerMessage)>>>>;

/// Hears again, after a restart, what it had heard before.
pub struct HearsThePast {
    me: StoreId,
    heard: Heard,
    again: RefCell<Vec<(StoreId, PeerMessage)>>,
}

/// Messages of a life that come again in the next one.
const PAST_MESSAGES: usize = 300;

impl HearsThePast {
    /// A store that begins a life.
    pub fn new(life: &Life, heard: &Heard) -> HearsThePast {
        let me = life.config.id;
        let past = heard.borrow_mut().remove(&me).unwrap_or_default();
        HearsThePast { me, heard: heard.clone(), again: RefCell::new(past) }
    }
}

impl Flaw for HearsThePast {
    fn heard(&self, from: StoreId, messages: &mut Vec<PeerMessage>) {
        let mut heard = self.heard.borrow_mut();
        let kept = heard.entry(self.me).or_default();
        kept.extend(messages.iter().map(|message| (from, message.clone())));
        kept.drain(..kept.len().saturating_sub(PAST_MESSAGES));
        // One old message behind each frame of that peer.
        let mut again = self.again.borrow_mut();
        if let Some(at) = again.iter().position(|(past, _)| *past == from) {
            messages.push(again.remove(at).1);
        }
    }
}
