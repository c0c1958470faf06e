//! When which replica is to tick: the earliest first, so that a turn looks at those that are due and at no other.
//!
//! A deadline that moves back, as a follower's does with every heartbeat, costs nothing: that it moved is found out when the
//! earlier one comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One alarm for each replica, by its slot.
pub(super) struct Alarms {
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    /// For when each is set; entries of the queue that say something else are old.
    set_ns: Vec<u64>,
}

impl Alarms {
    /// Set for the deadline of each replica.
    pub(super) fn new(due_ns: impl ExactSizeIterator<Item = u64>) -> Alarms {
        let mut alarms = Alarms { queue: BinaryHeap::new(), set_ns: vec![u64::MAX; due_ns.len()] };
        due_ns.enumerate().for_each(|(slot, due_ns)| alarms.set(slot, due_ns));
        alarms
    }

    /// The replica's deadline is `due_ns` now.
    pub(super) fn set(&mut self, slot: usize, due_ns: u64) {
        if due_ns < self.set_ns[slot] {
            self.set_ns[slot] = due_ns;
            self.queue.push(Reverse((due_ns, slot)));
        }
    }

    /// The earliest deadline, and whose it is. `due_ns` says what a replica's deadline is now.
    pub(super) fn first(&mut self, due_ns: impl Fn(usize) -> u64) -> Option<(u64, usize)> {
        while let Some(&Reverse((at, slot))) = self.queue.peek() {
            let old = at != self.set_ns[slot];
            let due = if old { at } else { due_ns(slot) };
            if !old && due <= at {
                return Some((at, slot));
            }
            self.queue.pop();
            if !old {
                self.set_ns[slot] = u64::MAX;
                self.set(slot, due);
            }
        }
        None
    }

    /// As [`Alarms::first`], when it is due by `now_ns`. Its alarm is off then, until it is set again.
    pub(super) fn take(&mut self, now_ns: u64, due_ns: impl Fn(usize) -> u64) -> Option<usize> {
        let (_, slot) = self.first(due_ns).filter(|(at, _)| *at <= now_ns)?;
        self.queue.pop();
        self.set_ns[slot] = u64::MAX;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_wherever_deadlines_move() {
        let mut due = [30, 10, u64::MAX];
        let mut alarms = Alarms::new(due.into_iter());
        assert_eq!(alarms.first(|slot| due[slot]), Some((10, 1)));
        due[1] = 50;
        assert_eq!(alarms.first(|slot| due[slot]), Some((30, 0)), "moved back without a word");
        due[2] = 20;
        alarms.set(2, 20);
        assert_eq!(alarms.take(19, |slot| due[slot]), None);
        assert_eq!(alarms.take(60, |slot| due[slot]), Some(2));
        assert_eq!(alarms.take(60, |slot| due[slot]), Some(0));
        assert_eq!(alarms.take(60, |slot| due[slot]), Some(1));
        assert_eq!(alarms.take(60, |slot| due[slot]), None, "off until set again");
        alarms.set(1, 50);
        alarms.set(1, 40);
        due[1] = 40;
        assert_eq!(alarms.take(60, |slot| due[slot]), Some(1));
        assert_eq!(alarms.first(|slot| due[slot]), None, "the earlier alarm replaced the later one");
        alarms.set(0, 5);
        due[0] = u64::MAX;
        assert_eq!(alarms.first(|slot| due[slot]), None, "never");
    }
}
