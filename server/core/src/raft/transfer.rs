//! Handing leadership over (Raft thesis §3.10). The lease is dropped before TimeoutNow is sent, and never taken again in
//! that term.

use super::leader::Transfer;
use super::{Raft, Role, quorum};
use crate::effects::Effects;
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::peer::PeerBody;

impl Raft {
    pub(super) fn on_transfer(&mut self, to: Option<StoreId>, out: &mut Effects) {
        if self.role != Role::Leader || self.lead.transfer.is_some() {
            return;
        }
        let config = &self.active().1;
        let best = || {
            let voting = self.lead.peers.iter().filter(|(store, _)| quorum::votes(config, **store));
            voting.max_by_key(|(_, peer)| (peer.matched, peer.heard_ns)).map(|(&store, _)| store)
        };
        let Some(to) = to.or_else(best) else { return };
        if to == self.me || !quorum::votes(config, to) {
            return;
        }
        let deadline_ns = self.now.boot_ns.saturating_add(2 * self.timer.base_ns());
        self.lead.transfer = Some(Transfer { to, deadline_ns, told: false });
        self.maybe_time_out(out);
    }

    /// Tells the receiver to stand, once it holds the whole log.
    pub(super) fn maybe_time_out(&mut self, out: &mut Effects) {
        let last = self.log.last_index();
        let Some(transfer) = self.lead.transfer.as_mut().filter(|transfer| !transfer.told) else { return };
        let to = transfer.to;
        if self.lead.peers.get(&to).is_none_or(|peer| peer.matched < last) {
            return;
        }
        transfer.told = true;
        self.lead.lease_dropped = true;
        self.lead.lease_until_ns = 0;
        self.send(to, PeerBody::TimeoutNow, out);
    }

    pub(super) fn tick_transfer(&mut self, out: &mut Effects) {
        let Some(transfer) = self.lead.transfer else { return };
        if self.now.boot_ns < transfer.deadline_ns {
            return;
        }
        self.lead.transfer = None;
        if transfer.told {
            // The lease of this term is gone for good: a new term brings a new one.
            self.resign(out);
            self.campaign(true, out);
        }
    }

    pub(super) fn on_timeout_now(&mut self, from: StoreId, term: u64, out: &mut Effects) {
        let starting = self.now.boot_ns < self.timer.started_ns.saturating_add(super::election::ELECTION_NS);
        let asked = term == self.term && self.leader == Some(from) && self.role == Role::Follower;
        if asked && !starting && !self.stalled() && quorum::votes(&self.active().1, self.me) {
            self.counters.transfers_taken += 1;
            self.campaign(true, out);
        }
    }
}
