//! Which keys there are, and which one comes next.

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Zipf};

/// Bytes of every key.
pub const KEY_BYTES: usize = 16;

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
}

/// The name of key number `number`: the prefix, zeros, the number; 16 bytes.
pub fn name(prefix: &str, number: u64) -> Bytes {
    let digits = KEY_BYTES - prefix.len().min(8);
    Bytes::from(format!("{prefix}{number:0digits$}"))
}

/// Chooses keys; the same seed chooses the same.
pub struct Keys {
    random: ChaCha8Rng,
    count: u64,
    zipf: Option<Zipf<f64>>,
}

impl Keys {
    /// A chooser among `count` keys, at least 1. Choosers of different `stream` are independent.
    pub fn new(distribution: Distribution, count: u64, seed: u64, stream: u64) -> Keys {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipfian { theta } => Zipf::new(count as f64, theta).ok(),
        };
        Keys { random, count, zipf }
    }

    /// The next key's number.
    pub fn choose(&mut self) -> u64 {
        match &self.zipf {
            None => self.random.random_range(0..self.count),
            Some(zipf) => scatter(zipf.sample(&mut self.random) as u64 - 1) % self.count,
        }
    }

    /// True in `percent` of 100 calls.
    pub fn chance(&mut self, percent: u8) -> bool {
        self.random.random_range(0..100u8) < percent
    }
}

/// A fixed scattering of ranks (the finalizer of splitmix64).
fn scatter(rank: u64) -> u64 {
    let mut x = rank.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_sixteen_bytes() {
        assert_eq!(name("k", 7).as_ref(), b"k000000000000007");
        assert_eq!(name("12345678", 99_999_999).as_ref(), b"1234567899999999");
    }

    fn share_of_the_hottest(distribution: Distribution) -> f64 {
        let mut keys = Keys::new(distribution, 1_000, 7, 0);
        let mut counts = vec![0u32; 1_000];
        for _ in 0..20_000 {
            counts[keys.choose() as usize] += 1;
        }
        f64::from(*counts.iter().max().unwrap()) / 20_000.0
    }

    #[test]
    fn zipfian_is_skewed_and_uniform_is_not() {
        let zipfian = share_of_the_hottest(Distribution::Zipfian { theta: 0.99 });
        assert!((0.09..0.18).contains(&zipfian), "1 / H(1000, 0.99) is about 0.13, got {zipfian}");
        assert!(share_of_the_hottest(Distribution::Uniform) < 0.004);
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let take = |stream| {
            let mut keys = Keys::new(Distribution::Uniform, 1_000_000, 3, stream);
            (0..8).map(|_| keys.choose()).collect::<Vec<_>>()
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
