//! Keys, values, and the order in which they come.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 100;
/// What a user calls the size of an entry.
pub const USER_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;
/// Random bytes that values are cut from: more than any compressor looks back.
const POOL_BYTES: usize = 16 << 20;

/// A key.
pub type Key = [u8; KEY_BYTES];

/// Key number `n` of those that are there. They are even numbers in decimal digits behind a common prefix.
pub fn present(n: u64) -> Key {
    spelled(2 * n)
}

/// Key number `n` of those that are not there: each between two that are.
pub fn absent(n: u64) -> Key {
    spelled(2 * n + 1)
}

fn spelled(mut number: u64) -> Key {
    let mut key = *b"key-000000000000";
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    key
}

/// Keys as [`present`] and [`absent`], of bytes without a pattern.
pub fn present_random(n: u64) -> Key {
    random(2 * n)
}

/// See [`present_random`].
pub fn absent_random(n: u64) -> Key {
    random(2 * n + 1)
}

fn random(number: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    StdRng::seed_from_u64(number).fill_bytes(&mut key);
    key
}

/// All numbers below `count`, each once, in an order without a pattern: the same for everyone who gives this `seed`.
pub fn shuffled(count: u64, seed: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..u32::try_from(count).expect("counts are below 2^32")).collect();
    numbers.shuffle(&mut StdRng::seed_from_u64(seed));
    numbers
}

/// The keys that `name` gives these numbers, in their order.
pub fn keys(numbers: &[u32], name: fn(u64) -> Key) -> Vec<Key> {
    numbers.iter().map(|number| name(u64::from(*number))).collect()
}

/// Values that do not compress.
#[derive(Clone)]
pub struct Values {
    pool: Bytes,
    /// Of each.
    bytes: usize,
}

impl Values {
    /// Values of the usual length.
    pub fn new() -> Values {
        Values::of_bytes(VALUE_BYTES)
    }

    /// Values of so many bytes.
    pub fn of_bytes(bytes: usize) -> Values {
        let mut pool = vec![0; POOL_BYTES];
        StdRng::seed_from_u64(1).fill_bytes(&mut pool);
        Values { pool: Bytes::from(pool), bytes }
    }

    /// The value that key number `number` gets in pass number `pass`.
    pub fn of(&self, number: u64, pass: u64) -> Bytes {
        let at = (number ^ pass << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let at = at as usize % (POOL_BYTES - self.bytes);
        self.pool.slice(at..at + self.bytes)
    }
}
