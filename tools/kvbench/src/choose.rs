//! Which key comes next.

use std::collections::VecDeque;
use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Zipf};

/// How keys are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// Each alike.
    Uniform,
    /// Key of rank r with a weight of 1 / r^theta (Gray et al. 1994; YCSB uses 0.99). Ranks are scattered over the keys, so
    /// that hot keys lie in different shards.
    Zipfian {
        /// Skew, above 0.
        theta: f64,
    },
    /// The newest keys most: rank 1 is the key inserted last, and before any insert the one of the highest number.
    Latest {
        /// Skew, above 0.
        theta: f64,
    },
    /// Some keys take a share of the calls that is not theirs; within both parts each alike.
    HotSpot {
        /// Share of the keys that is hot, above 0 and below 1. They are the first ones by number.
        keys: f64,
        /// Share of the calls that go to them, above 0 and below 1.
        calls: f64,
    },
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Uniform => write!(f, "uniform"),
            Distribution::Zipfian { theta } => write!(f, "zipfian {theta}"),
            Distribution::Latest { theta } => write!(f, "latest {theta}"),
            Distribution::HotSpot { keys, calls } => write!(f, "hotspot {keys} of keys, {calls} of calls"),
        }
    }
}

/// Chooses keys; the same seed chooses the same.
pub struct Keys {
    random: ChaCha8Rng,
    count: u64,
    distribution: Distribution,
    zipf: Option<Zipf<f64>>,
    fresh: Fresh,
}

impl Keys {
    /// A chooser among `count` keys, at least 1, which is one of several that take turns at inserting new ones. Choosers of
    /// different `stream` are independent.
    pub fn new(distribution: Distribution, count: u64, seed: u64, stream: u64, turns: Turns) -> Keys {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        let zipf = match distribution {
            Distribution::Zipfian { theta } | Distribution::Latest { theta } => Zipf::new(count as f64, theta).ok(),
            Distribution::Uniform | Distribution::HotSpot { .. } => None,
        };
        Keys { random, count, distribution, zipf, fresh: Fresh { count, turns, ..Fresh::default() } }
    }

    /// The next key's number.
    pub fn choose(&mut self) -> u64 {
        let rank = self.zipf.map_or(0, |zipf| zipf.sample(&mut self.random) as u64 - 1);
        match self.distribution {
            Distribution::Uniform => self.random.random_range(0..self.count),
            Distribution::Zipfian { .. } => scatter(rank) % self.count,
            Distribution::Latest { .. } => self.fresh.newest(rank),
            Distribution::HotSpot { keys, calls } => {
                let hot = ((self.count as f64 * keys) as u64).clamp(1, self.count);
                if hot == self.count || self.random.random_bool(calls) {
                    self.random.random_range(0..hot)
                } else {
                    self.random.random_range(hot..self.count)
                }
            }
        }
    }

    /// A number below 100.
    pub fn percent(&mut self) -> u8 {
        self.random.random_range(0..100u8)
    }

    /// The number of a key that was never written; say when it is, see [`Keys::inserted`].
    pub fn insert(&mut self) -> u64 {
        self.fresh.insert()
    }

    /// The write of a key given by [`Keys::insert`] is over: from now on it is among those that are there.
    pub fn inserted(&mut self, number: u64) {
        self.fresh.inserted(number);
    }
}

/// Whose turn it is at inserting: chooser `own` of `all`, counted from 0.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    /// This one.
    pub own: u64,
    /// How many take turns, at least 1.
    pub all: u64,
}

impl Default for Turns {
    fn default() -> Self {
        Turns { own: 0, all: 1 }
    }
}

/// Keys inserted by one chooser.
#[derive(Default)]
struct Fresh {
    /// Keys there were before.
    count: u64,
    turns: Turns,
    /// All of its first so many are there.
    there: u64,
    /// Whether those after them are.
    ahead: VecDeque<bool>,
}

impl Fresh {
    fn number(&self, ordinal: u64) -> u64 {
        self.count + ordinal * self.turns.all + self.turns.own
    }

    fn insert(&mut self) -> u64 {
        self.ahead.push_back(false);
        self.number(self.there + self.ahead.len() as u64 - 1)
    }

    fn inserted(&mut self, number: u64) {
        let ordinal = number.saturating_sub(self.count) / self.turns.all;
        let place = ordinal.checked_sub(self.there).and_then(|place| self.ahead.get_mut(place as usize));
        if let Some(there) = place {
            *there = true;
        }
        while self.ahead.front() == Some(&true) {
            self.ahead.pop_front();
            self.there += 1;
        }
    }

    fn newest(&self, rank: u64) -> u64 {
        match self.there.checked_sub(rank + 1) {
            Some(ordinal) => self.number(ordinal),
            None => self.count - 1 - (rank - self.there) % self.count,
        }
    }
}

/// A fixed scattering of numbers (the finalizer of splitmix64).
pub fn scatter(rank: u64) -> u64 {
    let mut x = rank.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(distribution: Distribution, count: u64, stream: u64) -> Keys {
        Keys::new(distribution, count, 7, stream, Turns::default())
    }

    fn counts(distribution: Distribution) -> Vec<u32> {
        let mut keys = keys(distribution, 1_000, 0);
        let mut counts = vec![0; 1_000];
        for _ in 0..20_000 {
            counts[keys.choose() as usize] += 1;
        }
        counts
    }

    fn share_of_the_hottest(distribution: Distribution) -> f64 {
        f64::from(*counts(distribution).iter().max().unwrap()) / 20_000.0
    }

    #[test]
    fn zipfian_is_skewed_and_uniform_is_not() {
        let zipfian = share_of_the_hottest(Distribution::Zipfian { theta: 0.99 });
        assert!((0.09..0.18).contains(&zipfian), "1 / H(1000, 0.99) is about 0.13, got {zipfian}");
        assert!(share_of_the_hottest(Distribution::Uniform) < 0.004);
    }

    #[test]
    fn a_hot_spot_takes_its_share() {
        let counts = counts(Distribution::HotSpot { keys: 0.1, calls: 0.8 });
        let hot = f64::from(counts[..100].iter().sum::<u32>()) / 20_000.0;
        assert!((0.78..0.82).contains(&hot), "{hot}");
        assert!(counts.iter().filter(|count| **count > 0).count() > 900, "the others are chosen too");
    }

    #[test]
    fn the_latest_follow_the_inserts() {
        let latest = Distribution::Latest { theta: 0.99 };
        assert_eq!(counts(latest).iter().enumerate().max_by_key(|(_, count)| **count).unwrap().0, 999);
        let mut keys = Keys::new(latest, 1_000, 7, 0, Turns { own: 1, all: 2 });
        let inserts = [keys.insert(), keys.insert(), keys.insert()];
        assert_eq!(inserts, [1_001, 1_003, 1_005]);
        keys.inserted(1_003);
        assert!((0..1_000).all(|_| keys.choose() < 1_000), "the first is not there yet");
        keys.inserted(1_001);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..1_000 {
            *counts.entry(keys.choose()).or_insert(0) += 1;
        }
        assert!(!counts.contains_key(&1_005) && counts[&1_003] > counts[&1_001] && counts[&1_001] > counts[&999]);
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let take = |stream| {
            let mut keys = keys(Distribution::Uniform, 1_000_000, stream);
            (0..8).map(|_| keys.choose()).collect::<Vec<_>>()
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
