use super::*;
use crate::sst::view::key_of;
use proptest::prelude::*;
use ringkv_wire::ids::KeyspaceId;
use std::collections::BTreeMap;

type Entries = BTreeMap<(u32, Vec<u8>), (u64, Option<Vec<u8>>)>;

const ID: TableId = TableId([7; 16]);

fn build(entries: &Entries, offset: u64) -> Bytes {
    build_as(entries, offset, Compression::None)
}

fn hash(key: TreeKey<'_>) -> u64 {
    ringkv_wire::ring::hash::key_hash(key.0, key.1)
}

/// Every third value expires.
fn record(version: u64, value: &Option<Vec<u8>>) -> Record<'_> {
    let expires = value.is_some() && version.is_multiple_of(3);
    let expiry_ms = if expires { version / 2 } else { NEVER_MS };
    Record { expiry_ms, ..Record::new(version, value.as_deref()) }
}

fn build_as(entries: &Entries, offset: u64, compression: Compression) -> Bytes {
    let (mut builder, mut out, mut expected) = (BlockBuilder::default(), Vec::new(), 0);
    for ((keyspace, key), (version, value)) in entries {
        let key = (KeyspaceId(*keyspace), key.as_slice());
        expected = builder.bytes_with(key, &record(*version, value));
        builder.add(key, hash(key), &record(*version, value));
    }
    let bytes = builder.finish(&ID, offset, &mut Compressor::new(compression), &mut out);
    assert_eq!(bytes, out.len());
    assert!(bytes <= expected, "{bytes} bytes, at most {expected} were expected");
    assert!(compression != Compression::None || bytes + 5 * entries.len() >= expected, "{bytes} bytes, not {expected}");
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
    fn finds_what_was_added_and_nothing_else(entries in entries(), probe in (0u32..3, prop::collection::vec(0u8..4, 0..6)), way in 0u8..3) {
        let way = Compression::of_kind(way).unwrap();
        let block = Block::verify(build_as(&entries, 8192, way), &ID, 8192, "t").unwrap();
        let stored = block.clone();
        let block = block.view().unwrap();
        prop_assert_eq!(block.count(), entries.len());
        let mut laid = Vec::new();
        for (at, ((keyspace, key), (version, value))) in entries.iter().enumerate() {
            let key = (KeyspaceId(*keyspace), key.as_slice());
            let found = block.find(key, hash(key)).expect("added");
            prop_assert_eq!(found.record, record(*version, value));
            prop_assert_eq!(stored.value(&found).map(|v| v.to_vec()), value.clone());
            prop_assert_eq!(block.position(key, hash(key)), Some(at));
            block.lay_key_of(&block.entry(at).unwrap(), &mut laid);
            prop_assert_eq!(key_of(&laid), Some(key));
        }
        prop_assert!(block.entry(entries.len()).is_none());
        let key = (KeyspaceId(probe.0), probe.1.as_slice());
        prop_assert_eq!(block.find(key, hash(key)).is_some(), entries.contains_key(&probe));
        laid.clear();
        lay_key(key, &mut laid);
        prop_assert_eq!(block.first_from(&laid), entries.range(..probe).count());
    }

    #[test]
    fn a_stranger_with_a_right_checksum_is_refused_without_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 20..200), count in 0u16..12, prefix in 0u16..8, way in 0u8..4, raw in 0u32..400,
    ) {
        let end = bytes.len();
        let raw = if way == 0 { end as u32 - 20 } else { raw };
        bytes[end - 12..end - 8].copy_from_slice(&raw.to_le_bytes());
        bytes[end - 8..end - 6].copy_from_slice(&count.to_le_bytes());
        bytes[end - 6..end - 4].copy_from_slice(&prefix.to_le_bytes());
        bytes[end - 4..].copy_from_slice(&[way, 0, 0, 0]);
        let crc = ID.checksum(0, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        if let Ok(block) = Block::verify(Bytes::from(bytes), &ID, 0, "t") {
            let mut laid = Vec::new();
            let block = block.view().expect("verified");
            for at in 0..block.count() {
                let entry = block.entry(at).expect("verified");
                block.lay_key_of(&entry, &mut laid);
                prop_assert!(key_of(&laid).is_some());
                block.find((KeyspaceId(0), b"k"), at as u64);
                block.first_from(&laid);
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

#[test]
fn what_keys_share_stands_there_once() {
    let entries: Entries =
        (0..20u8).map(|n| ((1, [b"a long beginning ".as_slice(), &[n]].concat()), (1000, Some(vec![n])))).collect();
    let bytes = build(&entries, 0);
    assert!(bytes.len() < 20 * 9 + TRAILER_BYTES + 25, "{} bytes", bytes.len());
    assert_eq!(Block::verify(bytes, &ID, 0, "t").unwrap().shape().1, 4 + 17);
}
