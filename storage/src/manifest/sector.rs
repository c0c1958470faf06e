//! Sectors that prove themselves, so that a torn write is told apart from rot (FORMAT.md §3.2). The log's are a little
//! different: its batches are searched for, edits stand where the one before ends.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a sector: a disk writes one whole or not at all.
pub(super) const SECTOR_BYTES: usize = size_of::<Layout>();
/// Bytes of a sector that carry payload.
pub(super) const PAYLOAD_BYTES: usize = 496;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    payload: [u8; PAYLOAD_BYTES],
    number: U64,
    index: U32,
    crc: U32,
}

const _: () = assert!(size_of::<Layout>() == 512);
const _: () = assert!(std::mem::offset_of!(Layout, number) == 496);
const _: () = assert!(std::mem::offset_of!(Layout, crc) == 508);

/// What a sector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector<'s> {
    /// Never written.
    Zero,
    /// Written, and just here.
    Whole {
        /// What it belongs to.
        number: u64,
        /// What it carries.
        payload: &'s [u8],
    },
    /// Neither: not the work of a crash.
    Rotten {
        /// The checksum it carries.
        expected: u32,
        /// The checksum of its bytes.
        got: u32,
    },
}

/// Fills `out`, whole sectors from sector `index` of the file on, with `payload` and zeros behind it. `seed` is the
/// checksum of the file's identity; `number` is not 0.
pub(super) fn pack(seed: u32, number: u64, index: u32, payload: &[u8], out: &mut [u8]) {
    assert!(number > 0, "0 is a sector never written");
    assert!(out.len().is_multiple_of(SECTOR_BYTES), "whole sectors");
    assert!(payload.len() <= out.len() / SECTOR_BYTES * PAYLOAD_BYTES, "the payload fits");
    let mut parts = payload.chunks(PAYLOAD_BYTES);
    for (at, to) in (index..).zip(out.chunks_exact_mut(SECTOR_BYTES)) {
        let mut layout =
            Layout { payload: [0; PAYLOAD_BYTES], number: U64::new(number), index: U32::new(at), crc: U32::new(0) };
        let part = parts.next().unwrap_or_default();
        layout.payload[..part.len()].copy_from_slice(part);
        layout.crc = U32::new(crc32c::crc32c_append(seed, &layout.as_bytes()[..SECTOR_BYTES - 4]));
        to.copy_from_slice(layout.as_bytes());
    }
}

/// Tells what sector `index` of a file is, from its 512 bytes.
pub(super) fn classify(seed: u32, index: u32, bytes: &[u8]) -> Sector<'_> {
    let Ok(layout) = Layout::ref_from_bytes(bytes) else { return Sector::Rotten { expected: 0, got: 0 } };
    let got = crc32c::crc32c_append(seed, &bytes[..SECTOR_BYTES - 4]);
    let expected = layout.crc.get();
    if expected == got && layout.index.get() == index && layout.number.get() != 0 {
        return Sector::Whole { number: layout.number.get(), payload: &layout.payload };
    }
    if bytes.iter().all(|b| *b == 0) { Sector::Zero } else { Sector::Rotten { expected, got } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_knows_its_bytes_its_place_and_its_file() {
        let mut out = vec![0; 3 * SECTOR_BYTES];
        let payload: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        pack(7, 9, 4, &payload, &mut out);
        let mut read = Vec::new();
        for (at, bytes) in out.chunks(SECTOR_BYTES).enumerate() {
            let Sector::Whole { number: 9, payload } = classify(7, 4 + at as u32, bytes) else {
                panic!("sector {at} is not whole")
            };
            read.extend_from_slice(payload);
        }
        assert_eq!(read[..1000], payload[..]);
        assert!(read[1000..].iter().all(|b| *b == 0));
        let first = &out[..SECTOR_BYTES];
        assert!(matches!(classify(7, 5, first), Sector::Rotten { .. }), "another place");
        assert!(matches!(classify(8, 4, first), Sector::Rotten { .. }), "another file");
        assert_eq!(classify(7, 0, &[0; SECTOR_BYTES]), Sector::Zero);
        for bit in 0..SECTOR_BYTES * 8 {
            let mut rotten = first.to_vec();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(classify(7, 4, &rotten), Sector::Rotten { .. }), "bit {bit}");
        }
    }
}
