//! A sector of 512 bytes proves itself: which batch, which place, whole or not (FORMAT.md §1.1).

/// Bytes of a sector: what a disk writes whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;
/// Bytes of it that carry a batch.
pub(crate) const PAYLOAD_BYTES: usize = 496;
const NUMBER_AT: usize = 496;
const INDEX_AT: usize = 504;
const CRC_AT: usize = 508;
/// Set in the index of a batch's first sector: no bytes of a client can pass for a batch header.
const OPENS: u32 = 1 << 31;
const _: () = assert!(CRC_AT + 4 == SECTOR_BYTES && PAYLOAD_BYTES == NUMBER_AT);

/// Where the checksum of this store's sectors starts: a sector of another store is not whole here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(store_identity: &[u8; 16]) -> Seed {
        Seed(crc32c::crc32c(store_identity))
    }
}

/// What a sector turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Never written.
    Zero,
    /// Written, here, for this batch; `opens`: its first sector.
    Whole { number: u64, opens: bool },
    /// Neither: rot, or another store's.
    Rotten { expected: u32, got: u32 },
    /// Whole, but written for another place.
    Misplaced { index: u32 },
}

fn u32_at(sector: &[u8; SECTOR_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]])
}

/// Batch number as the sector says it, verified or not.
pub(crate) fn number_of(sector: &[u8; SECTOR_BYTES]) -> u64 {
    u64::from(u32_at(sector, NUMBER_AT)) | u64::from(u32_at(sector, NUMBER_AT + 4)) << 32
}

/// Fills in number, place and checksum around the payload that is already there.
pub(crate) fn seal(sector: &mut [u8; SECTOR_BYTES], number: u64, index: u32, opens: bool, seed: Seed) {
    assert!(number != 0);
    assert!(index < OPENS);
    let index = if opens { index | OPENS } else { index };
    sector[NUMBER_AT..INDEX_AT].copy_from_slice(&number.to_le_bytes());
    sector[INDEX_AT..CRC_AT].copy_from_slice(&index.to_le_bytes());
    let crc = crc32c::crc32c_append(seed.0, &sector[..CRC_AT]);
    sector[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

/// Judges a sector read from place `index` of its segment.
pub(crate) fn look(sector: &[u8; SECTOR_BYTES], index: u32, seed: Seed) -> Seen {
    if *sector == [0; SECTOR_BYTES] {
        return Seen::Zero;
    }
    let expected = u32_at(sector, CRC_AT);
    let got = crc32c::crc32c_append(seed.0, &sector[..CRC_AT]);
    let number = number_of(sector);
    if expected != got || number == 0 {
        return Seen::Rotten { expected, got };
    }
    let place = u32_at(sector, INDEX_AT);
    if place & !OPENS != index {
        return Seen::Misplaced { index: place & !OPENS };
    }
    Seen::Whole { number, opens: place & OPENS != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_makes_a_sector_rotten() {
        let seed = Seed::new(&[7; 16]);
        let mut sector = [3; SECTOR_BYTES];
        seal(&mut sector, 9, 5, true, seed);
        assert_eq!(look(&sector, 5, seed), Seen::Whole { number: 9, opens: true });
        assert_eq!(look(&sector, 6, seed), Seen::Misplaced { index: 5 });
        assert!(matches!(look(&sector, 5, Seed::new(&[8; 16])), Seen::Rotten { .. }));
        for bit in 0..SECTOR_BYTES * 8 {
            let mut flipped = sector;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(look(&flipped, 5, seed), Seen::Rotten { .. }), "bit {bit}");
        }
        let mut zero = [0; SECTOR_BYTES];
        assert_eq!(look(&zero, 5, seed), Seen::Zero);
        zero[100] = 1;
        assert!(matches!(look(&zero, 5, seed), Seen::Rotten { .. }));
    }
}
