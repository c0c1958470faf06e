use super::*;
use proptest::prelude::*;
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::ring::hash::key_hash;

fn build(hashes: impl Iterator<Item = u64>) -> (Vec<u8>, u32) {
    let (mut builder, mut section) = (FilterBuilder::default(), Vec::new());
    hashes.for_each(|hash| builder.add(hash));
    while builder.step() {}
    let pieces = builder.finish(&mut section);
    (section, pieces)
}

fn hash(n: u64) -> u64 {
    key_hash(KeyspaceId(1), &n.to_be_bytes())
}

#[test]
fn denies_no_key_and_most_others() {
    for keys in [1, 2, 3, 10, 1000, 20_000, 150_000] {
        // Duplicates are dropped, not a failure.
        let (section, pieces) = build((0..keys).chain(0..keys / 20).map(hash));
        assert_eq!(u64::from(pieces), (keys + keys / 20).div_ceil(PIECE_KEYS));
        let filter = Filter::new(&section, pieces).unwrap();
        assert!(filter.verify());
        assert!((0..keys).all(|n| filter.may_contain(hash(n))), "{keys} keys");
        let wrong = (keys..keys + 20_000).filter(|n| filter.may_contain(hash(*n))).count();
        assert!(wrong < 200, "{keys} keys: {wrong} of 20,000 others pass");
        assert!(keys < 100_000 || (section.len() as u64) < keys * 10 / 8, "{} bytes for {keys} keys", section.len());
        assert!(keys < 1000 || section.len() as u64 * 8 < keys * 14, "{} bytes for {keys} keys", section.len());
    }
}

#[test]
fn the_keys_of_one_shard_spread_over_all_pieces() {
    // A shard is an arc: the top bits of its hashes are all the same.
    let hashes = (0..3 * PIECE_KEYS).map(|n| (hash(n) >> 12) | 0xabc << 52);
    let (section, pieces) = build(hashes);
    let filter = Filter::new(&section, pieces).unwrap();
    let sizes: Vec<_> = filter.pieces.iter().map(|piece| piece.bytes.get()).collect();
    assert!(sizes.len() == 3 && sizes.iter().all(|bytes| (35_000..45_000).contains(bytes)), "{sizes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_key_is_denied_however_alike_the_hashes_are(
        hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..50, (0u64..50).prop_map(|n| n << 32), (0u64..50).prop_map(|n| u64::MAX - n)], 1..400),
    ) {
        let (section, pieces) = build(hashes.iter().copied());
        prop_assert_eq!(pieces, 1, "it could be made");
        let filter = Filter::new(&section, pieces).unwrap();
        prop_assert!(filter.verify());
        for hash in hashes {
            prop_assert!(filter.may_contain(hash), "{:#x}", hash);
        }
    }

    #[test]
    fn descriptors_that_pass_the_check_never_lead_outside(
        piece in (any::<u64>(), 0u32..6, any::<bool>(), 0u32..40, 0u32..80), probes in prop::collection::vec(any::<u64>(), 20),
    ) {
        let (seed, log, mask_right, segments, bytes) = piece;
        let segment = 1u32 << log;
        let piece = Piece {
            seed: U64::new(seed),
            segment_bytes: U32::new(segment),
            segment_mask: U32::new(if mask_right { segment - 1 } else { u32::MAX }),
            segments_bytes: U32::new(segments),
            bytes: U32::new(bytes),
            start: U64::new(32),
        };
        let mut section = piece.as_bytes().to_vec();
        section.resize(32 + bytes as usize, 0xa5);
        let filter = Filter::new(&section, 1).unwrap();
        if filter.verify() {
            probes.iter().for_each(|hash| { filter.may_contain(*hash); });
        }
        let random: Vec<u8> = probes.iter().flat_map(|word| word.to_le_bytes()).collect();
        if let Some(filter) = Filter::new(&random, 2).filter(Filter::verify) {
            probes.iter().for_each(|hash| { filter.may_contain(*hash); });
        }
    }
}
