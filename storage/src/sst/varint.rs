//! Numbers of as many bytes as they need: seven bits a byte, the lowest first, bit 7 set while more follow.

/// Most bytes a number takes.
pub(super) const VARINT_BYTES_MAX: usize = 10;

/// Appends a number.
pub(super) fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Bytes that a number takes.
pub(super) fn bytes_of(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Takes a number from the front; none when it does not end, or passes 64 bits.
#[inline]
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    if let Some(word) = bytes.first_chunk::<8>() {
        // As most versions are: all seven bits of eight bytes at once, and then those that follow each other.
        let word = u64::from_le_bytes(*word);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            // Up to the end's bit 7, which is clear.
            let parts = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
            let pairs = (parts & 0x007f_007f_007f_007f) | (parts & 0x7f00_7f00_7f00_7f00) >> 1;
            let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
            *bytes = &bytes[ends.trailing_zeros() as usize / 8 + 1..];
            return Some((fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4);
        }
    }
    take_long(bytes)
}

fn take_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (at, &byte) in bytes.iter().enumerate().take(VARINT_BYTES_MAX) {
        let part = u64::from(byte & 0x7f);
        number |= part << (7 * at);
        if byte < 0x80 {
            *bytes = &bytes[at + 1..];
            // The tenth byte holds one bit.
            return (at + 1 < VARINT_BYTES_MAX || part <= 1).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_ends_are_noticed() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]).chain([u64::MAX]);
        for number in edges {
            let mut out = Vec::new();
            put(number, &mut out);
            assert_eq!(out.len(), bytes_of(number), "{number}");
            let mut left = out.as_slice();
            assert_eq!((take(&mut left), left.len()), (Some(number), 0));
            for behind in [0, 0x7f, 0xff] {
                let more = [&out[..], &[behind; 9]].concat();
                let mut left = more.as_slice();
                assert_eq!(
                    (take(&mut left), left),
                    (Some(number), &[behind; 9][..]),
                    "{number} in front of {behind:#x}"
                );
            }
            for cut in 0..out.len() {
                assert_eq!(take(&mut &out[..cut]), None, "{number} cut to {cut}");
            }
        }
        assert_eq!(take(&mut [0x80; 11].as_slice()), None, "too long");
        assert_eq!(take(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2].as_slice()), None, "65 bits");
    }
}
