//! Log time: a shard's own clock, carried by its entries, never going back (PROTOCOL.md §8).
//!
//! A leader stamps max(previous, C), where C is the lower median of the active voters' wall clocks. Until a majority has
//! answered in its term, and while C is behind, log time advances at half the rate of its boot-time clock. So one wrong
//! clock moves nothing and stops nothing.

use super::quorum;
use ringkv_wire::ids::{Now, StoreId};
use ringkv_wire::msg::config::Configuration;
use std::collections::BTreeMap;

const NS_PER_MS: u64 = 1_000_000;

/// A leader's view of log time.
#[derive(Debug, Default)]
pub(super) struct LogTime {
    /// Log time was this ..
    base_ms: u64,
    /// .. at this boot time.
    base_boot_ns: u64,
    /// Wall clocks that came with this term's heartbeat answers, and when they came.
    answers: BTreeMap<StoreId, Now>,
    /// When the last stamp was computed: it holds for [`STAMP_NS`].
    stamped_ns: u64,
}

/// Stamps this close together are equal, which is allowed and saves computing medians.
const STAMP_NS: u64 = 500_000;

impl LogTime {
    /// A term begins: `log_time_ms` is the last entry's.
    pub fn lead(&mut self, log_time_ms: u64, now: Now) {
        *self = LogTime { base_ms: log_time_ms, base_boot_ns: now.boot_ns, answers: BTreeMap::new(), stamped_ns: 0 };
    }

    /// A voter's wall clock came with a heartbeat answer of this term.
    pub fn answer(&mut self, from: StoreId, wall_ms: u64, now: Now) {
        self.answers.insert(from, Now { boot_ns: now.boot_ns, wall_ms });
        self.stamped_ns = 0;
    }

    /// What the leader `me` would stamp now.
    pub fn at(&self, me: StoreId, config: &Configuration, now: Now) -> u64 {
        if self.fresh(now) {
            return self.base_ms;
        }
        let slow_ms = now.boot_ns.saturating_sub(self.base_boot_ns) / 2 / NS_PER_MS;
        let slow = self.base_ms.saturating_add(slow_ms);
        self.median(me, config, now).map_or(slow, |median| median.max(slow))
    }

    /// As [`LogTime::at`], and never less again.
    pub fn stamp(&mut self, me: StoreId, config: &Configuration, now: Now) -> u64 {
        if self.fresh(now) {
            return self.base_ms;
        }
        let at = self.at(me, config, now);
        self.stamped_ns = now.boot_ns;
        let elapsed_ms = now.boot_ns.saturating_sub(self.base_boot_ns) / 2 / NS_PER_MS;
        if at > self.base_ms.saturating_add(elapsed_ms) {
            // Pulled forward by the clocks: from here on.
            self.base_ms = at;
            self.base_boot_ns = now.boot_ns;
        } else {
            // Whole milliseconds only, so that frequent stamps lose no time.
            self.base_ms = at;
            self.base_boot_ns += elapsed_ms * 2 * NS_PER_MS;
        }
        at
    }

    fn fresh(&self, now: Now) -> bool {
        self.stamped_ns > 0 && (self.stamped_ns..self.stamped_ns.saturating_add(STAMP_NS)).contains(&now.boot_ns)
    }

    /// The lower median of the wall clocks known, once they are a majority's. In a joint configuration the lesser of both.
    fn median(&self, me: StoreId, config: &Configuration, now: Now) -> Option<u64> {
        let clock = |store: StoreId| {
            if store == me {
                return Some(now.wall_ms);
            }
            let then = self.answers.get(&store)?;
            Some(then.wall_ms.saturating_add(now.boot_ns.saturating_sub(then.boot_ns) / NS_PER_MS))
        };
        quorum::lower_median(config, clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: StoreId = StoreId::new(1, 0);

    fn now(boot_ms: u64, wall_ms: u64) -> Now {
        Now { boot_ns: boot_ms * NS_PER_MS, wall_ms }
    }

    fn three() -> Configuration {
        Configuration::of_voters(&[ME, StoreId::new(2, 0), StoreId::new(3, 0)])
    }

    #[test]
    fn half_rate_until_a_majority_has_answered() {
        let mut time = LogTime::default();
        time.lead(1_000, now(0, 900_000));
        assert_eq!(time.stamp(ME, &three(), now(100, 900_100)), 1_050);
        time.answer(StoreId::new(2, 0), 900_050, now(100, 900_100));
        assert_eq!(time.stamp(ME, &three(), now(200, 900_200)), 900_150, "the lower of the two clocks, advanced");
    }

    #[test]
    fn one_clock_far_ahead_moves_nothing() {
        let mut time = LogTime::default();
        time.lead(5_000, now(0, 5_000));
        time.answer(StoreId::new(2, 0), 5_000, now(0, 5_000));
        time.answer(StoreId::new(3, 0), 9_000_000, now(0, 5_000));
        assert_eq!(time.stamp(ME, &three(), now(10, 5_010)), 5_010);
        time.answer(StoreId::new(2, 0), u64::MAX, now(10, 5_010));
        time.answer(StoreId::new(3, 0), 5_010, now(10, 5_010));
        assert_eq!(time.stamp(ME, &three(), now(20, 5_020)), 5_020);
    }

    #[test]
    fn one_clock_far_behind_stops_nothing() {
        let mut time = LogTime::default();
        time.lead(5_000, now(0, 5_000));
        time.answer(StoreId::new(2, 0), 5_000, now(0, 5_000));
        time.answer(StoreId::new(3, 0), 0, now(0, 5_000));
        assert_eq!(time.stamp(ME, &three(), now(400, 5_400)), 5_400);
    }

    #[test]
    fn behind_the_log_time_goes_on_at_half_rate_and_never_back() {
        let mut time = LogTime::default();
        time.lead(50_000, now(0, 1_000));
        for other in [2, 3] {
            time.answer(StoreId::new(other, 0), 1_000, now(0, 1_000));
        }
        let mut last = 50_000;
        for ms in 1..=2_000 {
            let stamp = time.stamp(ME, &three(), now(ms, 1_000 + ms));
            assert!(stamp >= last);
            last = stamp;
        }
        assert_eq!(last, 51_000, "frequent stamps lose no time");
        assert_eq!(time.stamp(ME, &three(), now(2_001, 0)), 51_000);
    }

    #[test]
    fn a_wall_clock_that_jumps_back_does_not_take_log_time_with_it() {
        let alone = Configuration::of_voters(&[ME]);
        let mut time = LogTime::default();
        time.lead(0, now(0, 7_000));
        assert_eq!(time.stamp(ME, &alone, now(0, 7_000)), 7_000);
        assert_eq!(time.stamp(ME, &alone, now(100, 3_000)), 7_050);
        assert_eq!(time.stamp(ME, &alone, now(200, 7_200)), 7_200);
    }
}
