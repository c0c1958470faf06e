//! The names of keys: 16 bytes each, cut from slabs, so that a name costs no allocation of its own.

use bytes::{Bytes, BytesMut};

/// Bytes of every key.
pub const KEY_BYTES: usize = 16;
/// First bytes of every key that can be chosen, at most.
pub const PREFIX_BYTES_MAX: usize = 8;
/// Bytes of a slab: 4,096 names.
const SLAB_BYTES: usize = 64 << 10;

/// Makes names: the prefix, zeros, the number.
pub struct Names {
    blank: [u8; KEY_BYTES],
    prefix_bytes: usize,
    slab: BytesMut,
}

impl Names {
    /// Names that begin with the first 8 bytes of `prefix`.
    pub fn new(prefix: &str) -> Names {
        let prefix_bytes = prefix.len().min(PREFIX_BYTES_MAX);
        let mut blank = [b'0'; KEY_BYTES];
        for (to, from) in blank.iter_mut().zip(prefix.bytes().take(prefix_bytes)) {
            *to = from;
        }
        Names { blank, prefix_bytes, slab: BytesMut::new() }
    }

    /// The name of key number `number`, of which as many of the lower digits stand in the name as it has room for.
    pub fn name(&mut self, number: u64) -> Bytes {
        let mut name = self.blank;
        let mut left = number;
        for digit in name.iter_mut().skip(self.prefix_bytes).rev() {
            if left == 0 {
                break;
            }
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        if self.slab.capacity() < KEY_BYTES {
            self.slab = BytesMut::with_capacity(SLAB_BYTES);
        }
        self.slab.extend_from_slice(&name);
        self.slab.split().freeze()
    }

    /// The number in a name.
    pub fn number(&self, name: &[u8]) -> u64 {
        let digits = name.get(self.prefix_bytes..).unwrap_or_default();
        digits.iter().fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit & 0x0f)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_sixteen_bytes_and_know_their_number() {
        assert_eq!(Names::new("k").name(7).as_ref(), b"k000000000000007");
        assert_eq!(Names::new("12345678").name(99_999_999).as_ref(), b"1234567899999999");
        let mut names = Names::new("k9");
        for number in (0..10_000).chain([123_456_789_012]) {
            let name = names.name(number);
            assert_eq!(name.len(), KEY_BYTES);
            assert_eq!(names.number(&name), number);
        }
    }
}
