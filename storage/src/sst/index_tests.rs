use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn key() -> impl Strategy<Value = (u32, Vec<u8>)> {
    // Few letters and zeros, lengths around the 8 bytes of the prefix: ties must fall to the whole key.
    (0u32..3, prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..12))
}

fn tree_key(key: &(u32, Vec<u8>)) -> TreeKey<'_> {
    (KeyspaceId(key.0), &key.1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn leads_to_the_block_that_holds_the_key(keys in prop::collection::btree_set(key(), 1..80), cut in 1usize..7, probe in key()) {
        let keys: Vec<_> = keys.into_iter().collect();
        let (mut builder, mut before) = (IndexBuilder::default(), None);
        for (number, block) in keys.chunks(cut).enumerate() {
            builder.add(before.map(tree_key), tree_key(&block[0]), number as u64 * 100, 100);
            before = block.last();
        }
        let (blocks, mut section) = (builder.blocks(), Vec::new());
        let skip = shared_bytes(tree_key(&keys[0]), tree_key(&keys[keys.len() - 1]));
        builder.finish(skip, &mut section);
        let index = Index::new(&section, blocks, skip).unwrap();
        prop_assert!(index.verify(blocks as u64 * 100));
        prop_assert!(!index.verify(blocks as u64 * 100 - 1), "the last block ends behind the blocks");
        for (at, key) in keys.iter().enumerate() {
            prop_assert_eq!(index.find(tree_key(key)), Some(at / cut));
        }
        // Any other key between the first and the last: the answer is the block behind whose first key it would stand, or the one before.
        if keys[0] <= probe && probe <= keys[keys.len() - 1] {
            let found = index.find(tree_key(&probe)).expect("a block");
            let last_before = keys.partition_point(|key| *key <= probe) - 1;
            prop_assert!(found == last_before / cut || (found == last_before / cut + 1 && found * cut == last_before + 1), "{found}");
        }
    }

    #[test]
    fn a_prefix_is_eight_bytes_or_those_there_are_and_zeroes(key in prop::collection::vec(any::<u8>(), 0..20), skip in 0usize..22) {
        let rest = key.get(skip..).unwrap_or_default();
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(rest).for_each(|(byte, there)| *byte = *there);
        prop_assert_eq!(prefix(&key, skip), u64::from_be_bytes(bytes));
    }

    /// With a guide or without, alone or in step with others, a search comes to the same block.
    #[test]
    fn all_ways_lead_to_the_same_block(
        keys in prop::collection::btree_set(prop::collection::vec(prop::sample::select(vec![b'0', b'5', b'9', 255]), 5..12), 500..900),
        probes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 8),
    ) {
        let keys: Vec<_> = keys.into_iter().map(|key| (1, key)).collect();
        let (mut builder, mut before) = (IndexBuilder::default(), None);
        for (number, key) in keys.iter().enumerate() {
            builder.add(before.map(tree_key), tree_key(key), number as u64 * 100, 100);
            before = Some(key);
        }
        let (blocks, mut section) = (builder.blocks(), Vec::new());
        let skip = shared_bytes(tree_key(&keys[0]), tree_key(&keys[keys.len() - 1]));
        builder.finish(skip, &mut section);
        let plain = Index::new(&section, blocks, skip).unwrap();
        let guide = plain.guide();
        let guided = plain.guided(&guide);
        let probes: Vec<_> = probes.into_iter().map(|probe| (1, probe)).collect();
        for some in keys.chunks_exact(8).chain([&probes[..]]) {
            let mut seeks: Vec<Seek<'_>> = some.iter().map(|key| guided.seek(tree_key(key)).unwrap()).collect();
            seeks.iter_mut().for_each(Seek::enter);
            for (key, seek) in some.iter().zip(&seeks) {
                let expected = plain.find(tree_key(key));
                prop_assert_eq!(guided.find(tree_key(key)), expected);
                prop_assert!(seek.number().is_none_or(|number| Some(number) == expected));
            }
        }
    }

    #[test]
    fn damaged_sections_never_panic(mut section in prop::collection::vec(any::<u8>(), 0..200), blocks in 0usize..6, probe in key()) {
        section.extend_from_slice(&[0; 8]);
        if let Some(index) = Index::new(&section, blocks, blocks as u16) {
            index.verify(1 << 40);
            index.find(tree_key(&probe));
        }
    }
}

#[test]
fn separators_are_short() {
    let key = |bytes: &'static [u8]| (KeyspaceId(1), bytes);
    assert_eq!(separator(Some(key(b"aaaa")), key(b"aabbbb")), key(b"aab"));
    assert_eq!(separator(Some(key(b"a")), key(b"ab")), key(b"ab"));
    assert_eq!(separator(Some((KeyspaceId(0), b"z")), key(b"abc")), key(b""));
    assert_eq!(separator(None, key(b"abc")), key(b""));
}

#[test]
fn separators_out_of_order_are_refused() {
    let (mut builder, mut section) = (IndexBuilder::default(), Vec::new());
    builder.add(None, (KeyspaceId(1), b"b"), 0, 10);
    builder.add(Some((KeyspaceId(1), b"c")), (KeyspaceId(1), b"a"), 10, 10);
    builder.finish(0, &mut section);
    let keys: BTreeSet<_> = [b"".as_slice(), b"a"].into();
    let index = Index::new(&section, 2, 0).unwrap();
    assert_eq!((0..2).filter_map(|n| index.separator(n)).map(|(_, key)| key).collect::<BTreeSet<_>>(), keys);
    assert!(index.verify(20));
    section[8] = 0xff;
    assert!(!Index::new(&section, 2, 0).unwrap().verify(20), "the prefix is not the separator's");
}

/// Found by the tree's model test.
#[test]
fn a_block_that_goes_on_into_the_next_keyspace_is_found_for_it() {
    let (mut builder, mut section) = (IndexBuilder::default(), Vec::new());
    builder.add(None, (KeyspaceId(1), b"b"), 0, 10);
    builder.add(Some((KeyspaceId(1), b"c")), (KeyspaceId(1), b"x"), 10, 10);
    builder.finish(0, &mut section);
    let index = Index::new(&section, 2, 0).unwrap();
    assert_eq!(index.find((KeyspaceId(2), b"a")), Some(1));
}
