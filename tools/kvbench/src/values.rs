//! The values: what belongs to a key is a piece of one buffer, so that a value costs no allocation, and one that is found can be
//! told from another key's. Under a history each write has a value of its own instead.

use bytes::Bytes;

use crate::choose::scatter;

/// Places in the buffer at which a value may begin, a power of two.
const PLACES: usize = 64 << 10;
/// Bytes of a found value that are compared.
const COMPARED: usize = 16;

/// The values of a run.
pub struct Values {
    buffer: Bytes,
    value_bytes: usize,
}

impl Values {
    /// Values of `value_bytes` each. The buffer is the same in every run: letters only, so never a space.
    pub fn new(value_bytes: usize) -> Values {
        let length = PLACES + value_bytes.max(COMPARED);
        let letters = (0..length.div_ceil(8) as u64).flat_map(|n| scatter(n).to_le_bytes());
        let buffer: Vec<u8> = letters.take(length).map(|byte| b'a' + byte % 26).collect();
        Values { buffer: buffer.into(), value_bytes }
    }

    fn place(number: u64) -> usize {
        scatter(number) as usize & (PLACES - 1)
    }

    /// What belongs to key number `number`.
    pub fn of(&self, number: u64) -> Bytes {
        let place = Values::place(number);
        self.buffer.slice(place..place + self.value_bytes)
    }

    /// Whether `found` belongs to the key: as [`Values::of`] makes it, at whatever length, or as [`Values::tagged`] does.
    pub fn belongs(&self, found: &[u8], number: u64, name: impl FnOnce() -> Bytes) -> bool {
        let place = Values::place(number);
        let compared = found.len().min(COMPARED);
        if self.buffer.get(place..place + compared) == found.get(..compared) {
            return true;
        }
        let carried = found.split(|byte| *byte == b' ').nth(1);
        carried.is_some_and(|rest| rest.starts_with(&name()))
    }

    /// A value that nobody else writes: a tag, the key, filler.
    pub fn tagged(&self, tag: &str, name: &Bytes) -> Bytes {
        let mut value = Vec::with_capacity(self.value_bytes.max(tag.len() + 1 + name.len()));
        value.extend_from_slice(tag.as_bytes());
        value.push(b' ');
        value.extend_from_slice(name);
        value.resize(self.value_bytes.max(value.len()), b'.');
        Bytes::from(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_from_another_keys() {
        let (values, longer) = (Values::new(100), Values::new(1_000));
        let name = |number: u64| Bytes::from(format!("k{number}"));
        for number in 0..1_000 {
            assert_eq!(values.of(number).len(), 100);
            assert!(longer.belongs(&values.of(number), number, || name(number)));
            assert!(!values.belongs(&values.of(number), number + 1, || name(number + 1)));
            let tagged = values.tagged("3r1", &name(number));
            assert!(values.belongs(&tagged, number, || name(number)));
            assert!(!values.belongs(&tagged, number + 10_000, || name(number + 10_000)));
        }
    }

    #[test]
    fn short_values_keep_their_tag() {
        assert_eq!(Values::new(0).tagged("1l1", &Bytes::from("key")).as_ref(), b"1l1 key");
        assert_eq!(Values::new(0).of(3).len(), 0);
        assert!(Values::new(0).belongs(b"", 3, Bytes::new));
    }
}
