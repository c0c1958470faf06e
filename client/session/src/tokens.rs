//! Exactly once, the client's half (PROTOCOL.md §8): sequences, the floor, and what time a shard's log is at.

use ringkv_wire::ids::Now;
use ringkv_wire::limits;
use std::collections::VecDeque;

/// One shard's sequences: which are open, and the lowest of them.
#[derive(Debug)]
pub(crate) struct Sequences {
    floor: u64,
    /// Whether each from the floor on is finished; the first never is.
    finished: VecDeque<bool>,
}

impl Sequences {
    pub fn new() -> Sequences {
        Sequences { floor: 1, finished: VecDeque::new() }
    }

    /// The next sequence, now open.
    pub fn take(&mut self) -> u64 {
        self.finished.push_back(false);
        self.floor + self.finished.len() as u64 - 1
    }

    /// The lowest open sequence, or the next to be given.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Closes a sequence: decided, or given up and never to be sent again.
    pub fn finish(&mut self, seq: u64) {
        let at = seq.checked_sub(self.floor).map(|at| at as usize);
        if let Some(finished) = at.and_then(|at| self.finished.get_mut(at)) {
            *finished = true;
        }
        while self.finished.front() == Some(&true) {
            self.finished.pop_front();
            self.floor += 1;
        }
    }
}

/// What a shard's log time is, as far as this client can tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogClock {
    /// Log time and own boot time when it was heard.
    heard: Option<(u64, u64)>,
}

impl LogClock {
    /// Takes a reply's log time; 0 says nothing.
    pub fn hear(&mut self, log_time_ms: u64, now: Now) {
        if log_time_ms != 0 {
            self.heard = Some((log_time_ms, now.boot_ns));
        }
    }

    /// The expiry of an operation first sent now: 60 s after the log time last heard plus own monotonic time since, or
    /// after the own wall clock at first contact.
    pub fn expiry_ms(&self, now: Now) -> u64 {
        let log_time_ms = match self.heard {
            Some((log_time_ms, at_ns)) => log_time_ms.saturating_add(now.boot_ns.saturating_sub(at_ns) / 1_000_000),
            None => now.wall_ms,
        };
        log_time_ms.saturating_add(limits::EXPIRY_DEFAULT_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_lowest_open_sequence() {
        let mut s = Sequences::new();
        assert_eq!(s.floor(), 1);
        assert_eq!([s.take(), s.take(), s.take()], [1, 2, 3]);
        s.finish(2);
        assert_eq!(s.floor(), 1);
        s.finish(1);
        assert_eq!(s.floor(), 3);
        s.finish(1);
        s.finish(3);
        assert_eq!(s.floor(), 4);
        assert_eq!(s.take(), 4);
    }

    #[test]
    fn log_time_goes_on_by_the_own_monotonic_clock() {
        let at = |boot_ms: u64, wall_ms| Now { boot_ns: boot_ms * 1_000_000, wall_ms };
        let mut clock = LogClock::default();
        assert_eq!(clock.expiry_ms(at(0, 500)), 60_500);
        clock.hear(0, at(0, 500));
        assert_eq!(clock.expiry_ms(at(0, 500)), 60_500);
        clock.hear(7_000, at(100, 500));
        assert_eq!(clock.expiry_ms(at(350, 999_999)), 67_250);
    }
}
