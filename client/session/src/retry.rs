//! When to try again, as pure functions: what a status asks for, how long to wait, and a budget for all.

use ringkv_wire::status::Status;

/// What to do with an operation after an answer that was not its result. When keys of one shard want different things, the
/// greatest decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Next {
    /// Trying again cannot help.
    GiveUp,
    /// With a new expiry, when every earlier attempt was definitely refused.
    NewExpiry,
    /// The same store, later.
    Later,
    /// The shard is not where the map says.
    Remap,
    /// Ask the leader that the reply named, else another replica.
    Elsewhere,
}

/// What a status asks for.
pub(crate) fn next(status: Status) -> Next {
    match status {
        Status::NotLeader | Status::StoreFailed | Status::Starting => Next::Elsewhere,
        Status::Moved => Next::Remap,
        Status::Busy | Status::DiskFull | Status::Unknown | Status::Unreadable | Status::Expired => Next::Later,
        Status::ExpiryWindow => Next::NewExpiry,
        Status::Ok
        | Status::AnswerGone
        | Status::BelowFloor
        | Status::Malformed
        | Status::TooLarge
        | Status::UnknownKeyspace => Next::GiveUp,
    }
}

/// How long to wait after `failures` in a row, ns: doubling from 4 ms to 128 ms, the upper half of it by chance.
pub(crate) fn backoff_ns(failures: u32, random: u64) -> u64 {
    let most_ns = (4_000_000u64 << failures.saturating_sub(1).min(5)).min(128_000_000);
    most_ns / 2 + random % (most_ns / 2)
}

/// Retries allowed: a bucket that fills with time.
#[derive(Debug)]
pub(crate) struct Budget {
    per_s: u64,
    /// When the bucket would have been empty, had it always been filling: it is full a second after.
    empty_at_ns: u64,
}

impl Budget {
    pub fn new(per_s: u32) -> Budget {
        Budget { per_s: u64::from(per_s.max(1)), empty_at_ns: 0 }
    }

    /// Takes one retry; gives the earliest time for it, ns.
    pub fn take(&mut self, now_ns: u64) -> u64 {
        let one_ns = 1_000_000_000 / self.per_s;
        self.empty_at_ns = self.empty_at_ns.max(now_ns.saturating_sub(1_000_000_000)) + one_ns;
        self.empty_at_ns.max(now_ns)
    }
}

/// The session's chance: splitmix64 over the bits it is given.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub fn new(random: u64) -> Chance {
        Chance(random)
    }

    /// Mixes in fresh bits.
    pub fn stir(&mut self, random: u64) {
        self.0 ^= random.rotate_left(17);
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        for failures in 0..40 {
            for random in [0, 1, u64::MAX] {
                let wait = backoff_ns(failures, random);
                assert!((2_000_000..128_000_000).contains(&wait), "{failures}: {wait}");
            }
        }
        assert!(backoff_ns(5, 0) >= 32_000_000);
    }

    #[test]
    fn a_bucket_holds_a_second_of_retries() {
        let mut budget = Budget::new(10);
        let now = 5_000_000_000;
        for _ in 0..10 {
            assert_eq!(budget.take(now), now);
        }
        assert_eq!(budget.take(now), now + 100_000_000);
        assert_eq!(budget.take(now + 1_000_000_000), now + 1_000_000_000);
    }

    #[test]
    fn every_status_has_its_next_step() {
        for status in Status::ALL {
            if status.retry() {
                assert_ne!(next(status), Next::GiveUp, "{status:?}");
            }
        }
    }
}
