//! How long a kernel tries: bytes that nobody acknowledges are sent again ever less often, then the connection is over
//! (TCP_USER_TIMEOUT); a store's host finds out that an idle connection's other side is gone (keepalive).
//!
//! An acknowledgement comes at once with the bytes' arrival, unless the way back is slow or cut. Bytes behind one that was
//! lost go on arriving, if the way there is open: harsher than TCP, which would go on with its oldest segment alone.

use super::Machine;
use super::conn::{Conn, End, Net, State};
use ringkv_wire::hello::Role;
use std::collections::VecDeque;

/// What is not acknowledged for so long ends the connection (`server/node/src/host/socket.rs`), ns of the sender's machine.
pub const USER_TIMEOUT_NS: u64 = 5_000_000_000;
/// From the first attempt to the second, ns; then twice as long each time. Linux takes no less, and links are quicker.
const RESEND_NS: u64 = 200_000_000;
/// When a store's host asks whether an idle peer is there, ns.
const KEEPALIVE_NS: u64 = 10_000_000_000;
/// An acknowledgement that is on its way for less counts at once, ns.
const SOON_NS: u64 = 50_000_000;

/// What one end sent and nobody acknowledged.
#[derive(Default)]
pub struct Unacked {
    /// When each left, oldest first, ns.
    left_ns: VecDeque<u64>,
    /// Of all that left: how many arrived, how many of these were acknowledged.
    arrived: u64,
    acked: u64,
    /// What is queued was sent in vain, first at this time, ns: it leaves with the next attempt.
    lost_ns: Option<u64>,
    /// A look at the oldest is due.
    watched: bool,
}

impl Unacked {
    /// Something left; what is behind other bytes leaves after them.
    pub fn left(&mut self, at_ns: u64) {
        self.left_ns.push_back(self.left_ns.back().map_or(at_ns, |last| at_ns.max(*last)));
    }

    /// The next one has arrived. Gives its number.
    pub fn arrived(&mut self) -> u64 {
        self.arrived += 1;
        self.arrived
    }

    /// All up to a number are acknowledged.
    pub fn acked(&mut self, number: u64) {
        while self.acked < number.min(self.arrived) {
            self.acked += 1;
            self.left_ns.pop_front();
        }
    }

    /// What is queued was sent in vain, first at this time.
    pub fn lost(&mut self, first_ns: u64) {
        self.lost_ns = Some(first_ns);
    }

    /// Nothing is queued any more.
    pub fn nothing_is_queued(&mut self) {
        self.lost_ns = None;
    }

    /// Whether what is queued waits for the next attempt.
    pub fn is_waiting(&self) -> bool {
        self.lost_ns.is_some()
    }

    /// Whether anything is not acknowledged.
    pub fn is_some(&self) -> bool {
        self.oldest_ns().is_some()
    }

    /// When the oldest was first sent, ns.
    fn oldest_ns(&self) -> Option<u64> {
        self.left_ns.front().copied().or(self.lost_ns)
    }
}

/// When what was first sent at `first_ns` is sent again after `now_ns`.
fn attempt_ns(first_ns: u64, now_ns: u64) -> u64 {
    let (mut at_ns, mut wait_ns) = (first_ns + RESEND_NS, RESEND_NS);
    while at_ns <= now_ns {
        wait_ns *= 2;
        at_ns += wait_ns;
    }
    at_ns
}

impl End {
    fn own_ns(&self, ns: u64) -> u64 {
        self.port.as_ref().map_or(ns, |port| port.lasts_ns(ns))
    }
}

impl State {
    /// Whether a packet gets from one machine to the other.
    pub fn reaches(&self, from: Machine, to: Machine) -> bool {
        self.up[from.0] && self.up[to.0] && !self.cut.contains(&(from, to))
    }
}

impl Conn {
    /// This end, and the other one.
    fn pair(&self, side: usize) -> Option<(&End, &End)> {
        Some((self.ends[side].as_ref()?, self.ends[1 - side].as_ref()?))
    }
}

impl Net {
    /// Something is on the way from this end: it will be looked whether it was acknowledged.
    pub(super) fn watch(&self, id: u64, side: usize) {
        let due_ns = {
            let mut state = self.0.state.borrow_mut();
            let end = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut());
            let Some(end) = end.filter(|end| !end.unacked.watched) else { return };
            let Some(oldest_ns) = end.unacked.oldest_ns() else { return };
            end.unacked.watched = true;
            oldest_ns + end.own_ns(USER_TIMEOUT_NS)
        };
        self.later(due_ns.saturating_sub(self.0.exec.now_ns()), move |net| net.look(id, side));
    }

    fn look(&self, id: u64, side: usize) {
        let late = {
            let mut state = self.0.state.borrow_mut();
            let Some(end) = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut()) else { return };
            end.unacked.watched = false;
            let timeout_ns = end.own_ns(USER_TIMEOUT_NS);
            end.unacked.oldest_ns().is_some_and(|oldest_ns| oldest_ns + timeout_ns <= self.0.exec.now_ns())
        };
        if late {
            self.abort(id, side);
            self.missed(id, 1 - side);
        } else {
            self.watch(id, side);
        }
    }

    /// Bytes from `side` have arrived, and an acknowledgement goes back, or is lost.
    pub(super) fn acknowledge(&self, id: u64, side: usize) {
        let mut state = self.0.state.borrow_mut();
        let Some((there, back)) = state.conns.get(&id).and_then(|conn| conn.pair(side)) else { return };
        let (there, back) = (there.machine, back.machine);
        let reaches = state.reaches(back, there);
        let way_ns = state.quality(back, there).delay_ns.0;
        let Some(end) = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut()) else { return };
        let number = end.unacked.arrived();
        if reaches && way_ns < SOON_NS {
            end.unacked.acked(number);
        } else if reaches {
            drop(state);
            self.later(way_ns, move |net| net.acked(id, side, number));
        }
    }

    fn acked(&self, id: u64, side: usize, number: u64) {
        let mut state = self.0.state.borrow_mut();
        if let Some(end) = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut()) {
            end.unacked.acked(number);
        }
    }

    /// A way is open again, or a machine is up: the ends of the connections concerned learn of it with their next attempts.
    pub(super) fn heal(&self, concerned: impl Fn(u64, &Conn) -> bool) {
        let now_ns = self.0.exec.now_ns();
        let mut attempts = Vec::new();
        for (&id, conn) in self.0.state.borrow().conns.iter().filter(|(id, conn)| concerned(**id, conn)) {
            for (side, end) in conn.ends.iter().enumerate() {
                let oldest_ns = end.as_ref().and_then(|end| end.unacked.oldest_ns());
                attempts.extend(oldest_ns.map(|first_ns| (id, side, attempt_ns(first_ns, now_ns))));
            }
        }
        for (id, side, at_ns) in attempts {
            self.later(at_ns - now_ns, move |net| net.attempt(id, side));
        }
    }

    /// An end sends again what was not acknowledged.
    fn attempt(&self, id: u64, side: usize) {
        let mut state = self.0.state.borrow_mut();
        let Some((end, other)) = state.conns.get(&id).and_then(|conn| conn.pair(side)) else { return };
        let (there, back) = (state.reaches(end.machine, other.machine), state.reaches(other.machine, end.machine));
        if !there || !end.unacked.is_some() {
            return;
        }
        if !other.is_known(self.0.exec.now_ns()) {
            drop(state);
            return self.reset_by_kernel(id, side);
        }
        let Some(end) = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut()) else { return };
        if back {
            end.unacked.acked(end.unacked.arrived);
        }
        let first_ns = end.unacked.lost_ns.take();
        drop(state);
        if let Some(first_ns) = first_ns {
            self.ship(id, side, first_ns);
        }
    }

    /// The other end went without a word. If this one is a store's, its host asks now and then whether anybody is there.
    pub(super) fn missed(&self, id: u64, side: usize) {
        let wait_ns = {
            let state = self.0.state.borrow();
            let Some(conn) = state.conns.get(&id) else { return };
            let end = conn.ends[side].as_ref().filter(|_| side == 1 || conn.hello.role == Role::Store);
            end.filter(|end| end.port.is_some()).map(|end| end.own_ns(KEEPALIVE_NS))
        };
        if let Some(wait_ns) = wait_ns {
            self.later(wait_ns, move |net| net.probe(id, side));
        }
    }

    /// A machine that does not know the connection answers with a reset; none that answers ends it a little later.
    fn probe(&self, id: u64, side: usize) {
        let wait_ns = {
            let state = self.0.state.borrow();
            let Some((end, other)) = state.conns.get(&id).and_then(|conn| conn.pair(side)) else { return };
            let now_ns = self.0.exec.now_ns();
            let (a, b) = (end.machine, other.machine);
            let answered = state.reaches(a, b) && state.reaches(b, a) && other.silent_ns <= now_ns;
            if answered { 0 } else { end.own_ns(USER_TIMEOUT_NS) }
        };
        self.later(wait_ns, move |net| net.abort(id, side));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_ever_less_often() {
        let second = |now_ms: u64| attempt_ns(1_000, 1_000 + now_ms * 1_000_000) - 1_000;
        let ms: Vec<u64> = [0, 199, 200, 700, 1_400, 3_000].iter().map(|now| second(*now) / 1_000_000).collect();
        assert_eq!(ms, [200, 200, 600, 1_400, 3_000, 6_200]);
    }

    #[test]
    fn the_oldest_is_what_counts() {
        let mut unacked = Unacked::default();
        assert_eq!(unacked.oldest_ns(), None);
        unacked.left(30);
        unacked.left(20);
        unacked.lost(50);
        assert_eq!(unacked.oldest_ns(), Some(30));
        unacked.acked(2);
        assert_eq!(unacked.oldest_ns(), Some(30), "nothing has arrived");
        assert_eq!((unacked.arrived(), unacked.arrived()), (1, 2));
        unacked.acked(1);
        assert_eq!(unacked.oldest_ns(), Some(30), "the second left behind the first");
        unacked.acked(2);
        assert_eq!(unacked.oldest_ns(), Some(50));
    }
}
