use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Entries = BTreeMap<(u32, Vec<u8>), (u64, Option<Vec<u8>>)>;

const ID: TableId = TableId([7; 16]);

fn build(entries: &Entries, offset: u64) -> Bytes {
    let (mut builder, mut out) = (BlockBuilder::default(), Vec::new());
    for ((keyspace, key), (version, value)) in entries {
        let expected = builder.bytes_with(key, value.as_deref());
        builder.add((KeyspaceId(*keyspace), key), *version, value.as_deref());
        assert_eq!(builder.bytes_with(&[], None), expected + ENTRY_HEAD_BYTES + 2, "the length is known beforehand");
    }
    let bytes = builder.finish(&ID, offset, &mut out);
    assert_eq!(bytes, out.len());
    Bytes::from(out)
}

fn entries() -> impl Strategy<Value = Entries> {
    let key = (0u32..3, prop::collection::vec(0u8..4, 0..6));
    let value = (any::<u64>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..40)));
    prop::collection::btree_map(key, value, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn finds_what_was_added_and_nothing_else(entries in entries(), probe in (0u32..3, prop::collection::vec(0u8..4, 0..6))) {
        let block = Block::verify(build(&entries, 8192), &ID, 8192, "t").unwrap();
        prop_assert_eq!(block.count(), entries.len());
        for (at, ((keyspace, key), (version, value))) in entries.iter().enumerate() {
            let found = block.find((KeyspaceId(*keyspace), key)).expect("added");
            prop_assert_eq!(found.version, *version);
            prop_assert_eq!(block.value(&found).map(|v| v.to_vec()), value.clone());
            let record = block.record(at).unwrap();
            prop_assert_eq!(record.tree_key(), (KeyspaceId(*keyspace), key.as_slice()));
        }
        prop_assert!(block.record(entries.len()).is_none());
        let found = block.find((KeyspaceId(probe.0), &probe.1)).is_some();
        prop_assert_eq!(found, entries.contains_key(&probe));
    }

    #[test]
    fn a_stranger_with_a_right_checksum_is_refused_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 4..200), count in 0u16..12) {
        let end = bytes.len();
        bytes[end - 4..end - 2].copy_from_slice(&count.to_le_bytes());
        bytes[end - 2..].fill(0);
        let crc = ID.checksum(0, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        if let Ok(block) = Block::verify(Bytes::from(bytes), &ID, 0, "t") {
            for at in 0..block.count() {
                prop_assert!(block.record(at).is_some());
            }
        }
    }
}

#[test]
fn every_flipped_bit_and_a_wrong_place_are_damage() {
    let entries = (0..5u8).map(|i| ((1, vec![i; 3]), (9, (i != 2).then(|| vec![i; 9])))).collect();
    let bytes = build(&entries, 4096);
    assert!(Block::verify(bytes.clone(), &ID, 4096, "t").is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut rotten = bytes.to_vec();
        rotten[bit / 8] ^= 1 << (bit % 8);
        let got = Block::verify(Bytes::from(rotten), &ID, 4096, "t");
        assert!(matches!(got, Err(StorageError::Damaged { offset: 4096, .. })), "bit {bit}");
    }
    assert!(Block::verify(bytes.clone(), &ID, 8192, "t").is_err(), "another place");
    assert!(Block::verify(bytes.clone(), &TableId([8; 16]), 4096, "t").is_err(), "another table");
    for length in 0..bytes.len() {
        assert!(Block::verify(bytes.slice(..length), &ID, 4096, "t").is_err(), "cut to {length}");
    }
}
