//! What is done to machines, links and connections.

use super::conn::{Conn, Net, Port, State};
use super::{Machine, Quality};
use crate::exec::Group;
use std::rc::Rc;

impl Conn {
    pub(super) fn touches(&self, machine: Machine) -> bool {
        self.ends.iter().flatten().any(|end| end.machine == machine)
    }
}

impl Net {
    /// A process died. `power`: with its machine, so that nobody is told.
    pub fn process_died(&self, group: Group, power: bool) {
        let mut gone: Vec<Rc<dyn Port>> = Vec::new();
        let mut state = self.0.state.borrow_mut();
        let mut missed = Vec::new();
        let State { conns, listeners, dirty, .. } = &mut *state;
        listeners.retain(|_, listener| listener.group != group);
        for (&id, conn) in conns.iter_mut() {
            for (side, end) in conn.ends.iter_mut().enumerate() {
                let Some(end) = end.as_mut().filter(|end| end.port.as_ref().is_some_and(|p| p.group() == group)) else {
                    continue;
                };
                gone.extend(end.port.take());
                // The kernel sends what it has taken, or resets.
                if power || self.0.dice.chance(1, 2) {
                    end.drop_queue();
                }
                end.lingers_ns = 0;
                end.fin = !power;
                if power {
                    missed.push((id, 1 - side));
                } else {
                    dirty.push((id, side));
                }
            }
        }
        drop(state);
        drop(gone);
        for (id, side) in missed {
            self.missed(id, side);
            self.forget(id);
        }
    }

    /// A machine goes down, and what its kernel had is gone; or it comes up.
    pub fn set_up(&self, machine: Machine, up: bool) {
        let mut state = self.0.state.borrow_mut();
        state.up[machine.0] = up;
        if up {
            drop(state);
            return self.heal(|_, conn| conn.touches(machine));
        }
        let mut touched = Vec::new();
        for (&id, conn) in state.conns.iter_mut() {
            for end in conn.ends.iter_mut().flatten().filter(|end| end.machine == machine) {
                end.drop_queue();
                (end.fin, end.lingers_ns) = (false, 0);
                touched.push(id);
            }
        }
        drop(state);
        touched.into_iter().for_each(|id| self.forget(id));
    }

    /// Cuts one direction between two machines, or heals it: then what waited arrives, with TCP's next attempt.
    pub fn set_cut(&self, from: Machine, to: Machine, cut: bool) {
        let mut state = self.0.state.borrow_mut();
        if cut {
            state.cut.insert((from, to));
        } else if state.cut.remove(&(from, to)) {
            drop(state);
            self.heal(|_, conn| conn.touches(from) && conn.touches(to));
        }
    }

    /// How one direction behaves from now on; `None`: as usual.
    pub fn set_quality(&self, from: Machine, to: Machine, quality: Option<Quality>) {
        let qualities = &mut self.0.state.borrow_mut().qualities;
        match quality {
            Some(quality) => qualities.insert((from, to), quality),
            None => qualities.remove(&(from, to)),
        };
    }

    /// Some connection between two machines.
    fn between(&self, a: Machine, b: Machine) -> Option<u64> {
        let state = self.0.state.borrow();
        let all = state.conns.iter().filter(|(_, c)| c.touches(a) && c.touches(b));
        let ids: Vec<u64> = all.map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| *self.0.dice.pick(&ids))
    }

    /// Ends one connection between the two machines, if there is one. What is under way is lost, or, when one side learns of
    /// the end up to a second before the other, still arrives there: done, and nobody is told.
    pub fn reset_one(&self, a: Machine, b: Machine) {
        let Some(id) = self.between(a, b) else { return };
        let side = self.0.dice.below(2) as usize;
        self.abort(id, side);
        if self.0.dice.chance(1, 2) {
            return self.abort(id, 1 - side);
        }
        let late = self.0.dice.between(100_000, 1_000_000_000);
        self.later(late, move |net| net.abort(id, 1 - side));
    }

    /// One side of a connection between the two machines forgets it; the other thinks that it is open, and for `silent_ns`
    /// nothing answers what it sends, as behind a gateway that lost its table.
    pub fn half_open(&self, a: Machine, b: Machine, silent_ns: u64) {
        let Some(id) = self.between(a, b) else { return };
        let (side, until) = (self.0.dice.below(2) as usize, self.0.exec.now_ns() + silent_ns);
        let whole = {
            let mut state = self.0.state.borrow_mut();
            let Some(conn) = state.conns.get_mut(&id) else { return };
            let whole = conn.ends.iter().all(|end| end.as_ref().is_some_and(|end| end.port.is_some()));
            if let Some(end) = conn.ends[side].as_mut().filter(|_| whole) {
                end.silent_ns = until;
            }
            whole
        };
        if whole {
            self.abort(id, side);
            self.missed(id, 1 - side);
            self.later(silent_ns, move |net| net.heal(|other, _| other == id));
        }
    }
}
