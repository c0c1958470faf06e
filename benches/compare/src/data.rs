//! Keys, values and the order in which they come: computed, not stored, so that they weigh nothing in a process whose
//! memory is measured.

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 100;
/// What a user calls the size of an entry.
pub const USER_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;
/// Bytes that values are cut from: more than LZ4 looks back, little of the processor's cache.
const POOL_BYTES: usize = 1 << POOL_BITS;
const POOL_BITS: u32 = 18;
const PREFIX: [u8; 8] = *b"compare:";

/// A key.
pub type Key = [u8; KEY_BYTES];

/// Key number `n` of those that are there: even numbers in the order of bytes.
pub fn present(n: u64) -> Key {
    spelled(2 * n)
}

/// Key number `n` of those that are not: each lies between two that are, so that no range of a table leaves it out.
pub fn absent(n: u64) -> Key {
    spelled(2 * n + 1)
}

fn spelled(number: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    let (prefix, digits) = key.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(&PREFIX);
    digits.copy_from_slice(&number.to_be_bytes());
    key
}

/// Which of the present keys this is.
pub fn number_of(key: &[u8]) -> Option<u64> {
    let digits = key.strip_prefix(&PREFIX)?.try_into().ok()?;
    let number = u64::from_be_bytes(digits);
    number.is_multiple_of(2).then_some(number / 2)
}

/// A number without a pattern for each number (Steele et al. 2014, SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Random numbers, the same for everyone who gives the same seed.
pub struct Random(u64);

impl Random {
    /// Starts anew.
    pub fn new(seed: u64) -> Random {
        Random(mixed(seed))
    }

    /// The next of 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// The next below `bound`, all as likely (but for one part in 2^32 or less).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// All numbers below a count, each once, in an order without a pattern.
///
/// Invertible steps (add, multiply by an odd number, xor with the upper half) permute the numbers below a power of two;
/// those that are not below the count are sent round again until they are.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    count: u64,
    mask: u64,
    shift: u32,
    add: u64,
}

const ROUNDS: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

impl Permutation {
    /// An order of the numbers below `count`, at least one, below 2^40.
    pub fn new(count: u64, seed: u64) -> Permutation {
        assert!((1..1 << 40).contains(&count), "{count} numbers cannot be permuted");
        let bits = (64 - (count - 1).leading_zeros()).max(1);
        Permutation { count, mask: u64::MAX >> (64 - bits), shift: bits.div_ceil(2), add: mixed(seed) }
    }

    /// The number at `place`.
    pub fn at(&self, place: u64) -> u64 {
        debug_assert!(place < self.count);
        let mut x = place;
        loop {
            x = x.wrapping_add(self.add) & self.mask;
            for odd in ROUNDS {
                x = (x ^ (x >> self.shift)).wrapping_mul(odd) & self.mask;
            }
            x ^= x >> self.shift;
            if x < self.count {
                return x;
            }
        }
    }
}

/// Values: random bytes, or half of them when there is a compressor to be given something to do.
pub struct Values {
    pool: Vec<u8>,
}

impl Values {
    /// Values of [`VALUE_BYTES`]; of `compressible` ones every other half is zeros.
    pub fn new(compressible: bool) -> Values {
        let mut random = Random::new(1);
        let byte = |at: usize| {
            let zero = compressible && at % VALUE_BYTES >= VALUE_BYTES / 2;
            if zero { 0 } else { random.next() as u8 }
        };
        Values { pool: (0..POOL_BYTES + VALUE_BYTES).map(byte).collect() }
    }

    /// The value that key number `number` gets in pass number `pass`.
    pub fn of(&self, number: u64, pass: u64) -> &[u8] {
        let at = ((number ^ pass << 40).wrapping_mul(ROUNDS[0]) >> (64 - POOL_BITS)) as usize;
        &self.pool[at..at + VALUE_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_gives_each_number_once() {
        for count in [1, 2, 3, 7, 8, 9, 1000, 4096, 100_003] {
            for seed in 0..3 {
                let order = Permutation::new(count, seed);
                let mut seen: Vec<u64> = (0..count).map(|place| order.at(place)).collect();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..count), "{count} numbers, seed {seed}");
            }
        }
    }

    #[test]
    fn a_permutation_has_no_pattern() {
        let count = 100_000;
        let [one, other] = [1, 2].map(|seed| Permutation::new(count, seed));
        let rising = (1..count).filter(|place| one.at(*place) > one.at(place - 1)).count();
        assert!((48_000..52_000).contains(&rising), "{rising} of {count} are greater than the one before");
        let near = (1..count).filter(|place| one.at(*place).abs_diff(one.at(place - 1)) < 100).count();
        assert!(near < 400, "{near} of {count} lie near the one before");
        assert!((0..count).filter(|place| one.at(*place) == other.at(*place)).count() < 20);
    }

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        assert!(present(0) < absent(0) && absent(0) < present(1) && present(255) < present(256));
        assert_eq!(number_of(&present(77)), Some(77));
        assert_eq!((number_of(&absent(77)), number_of(b"other")), (None, None));
    }

    #[test]
    fn values_differ_and_half_of_some_is_nothing() {
        let values = Values::new(false);
        assert_eq!(values.of(5, 0).len(), VALUE_BYTES);
        assert!(values.of(5, 0) != values.of(5, 1) && values.of(5, 0) != values.of(6, 0));
        let half = Values::new(true);
        let zeros = half.of(5, 0).iter().filter(|byte| **byte == 0).count();
        assert!((50..55).contains(&zeros), "{zeros} zeros");
    }

    #[test]
    fn random_numbers_stay_below_their_bound() {
        let mut random = Random::new(3);
        let seen: std::collections::BTreeSet<u64> = (0..1000).map(|_| random.below(10)).collect();
        assert!(seen.into_iter().eq(0..10));
    }
}
