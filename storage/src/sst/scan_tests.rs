use super::*;
use crate::cache::{BlockCache, Places};
use crate::disk::ALIGN;
use crate::disk::fault::{FaultDisk, block_on};
use crate::gate::Pace;
use crate::sst::TableId;
use crate::sst::builder::TableBuilder;
use crate::sst::compress::Compression;
use crate::sst::reader::{Trash, find_in};
use crate::sst::verify::verify_table;
use crate::sst::view::lay_key;
use crate::sst::writer::TableWriter;
use proptest::prelude::*;
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::ring::hash::key_hash;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

type Key = (KeyspaceId, Vec<u8>);
type Entries = BTreeMap<Key, (u64, Option<Vec<u8>>)>;

/// Short keys of few letters, in a few keyspaces, some behind a long beginning.
fn key() -> impl Strategy<Value = Key> {
    let rest = prop::collection::vec(prop::sample::select(vec![0u8, 1, b'm', 255]), 0..6);
    (0u32..3, any::<bool>(), rest).prop_map(|(keyspace, long, rest)| {
        let front: &[u8] = if long { b"m a beginning of twenty" } else { b"" };
        (KeyspaceId(keyspace), [front, &rest].concat())
    })
}

/// Some entries larger than a block, some blocks of many entries.
fn entries() -> impl Strategy<Value = Entries> {
    let bytes = prop_oneof![8 => 0usize..40, 4 => 100usize..300, 1 => 600usize..3000];
    let value = prop::option::weighted(0.8, (bytes, any::<u8>()).prop_map(|(bytes, fill)| vec![fill; bytes]));
    prop::collection::btree_map(key(), (1u64..1000, value), 1..120)
}

/// These entries as a table.
fn table(entries: &Entries, compression: Compression) -> Arc<Table<FaultDisk>> {
    table_on(&FaultDisk::new(1), entries, compression)
}

fn table_on(disk: &FaultDisk, entries: &Entries, compression: Compression) -> Arc<Table<FaultDisk>> {
    let (disk, id, trash) = (disk.clone(), TableId([9; 16]), Trash::default());
    block_on(async {
        let builder = TableBuilder::new(id, 512, compression);
        let spare = (trash.clone(), Pace::default());
        let mut writer = TableWriter::create(disk.clone(), "t".into(), 1, id, builder, spare).await?;
        for ((keyspace, key), (version, value)) in entries {
            writer.add((*keyspace, key), &crate::sst::Record::new(*version, value.as_deref())).await?;
        }
        let (place, unborn) = writer.finish().await?.synced().await?;
        unborn.keep();
        Table::open(disk, "t".into(), place, 1, trash).await
    })
    .expect("a good disk")
}

fn laid(key: &Key) -> Vec<u8> {
    let mut laid = Vec::new();
    lay_key((key.0, &key.1), &mut laid);
    laid
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn a_scan_begins_at_any_key_and_goes_either_way_to_the_end(
        entries in entries(), edges in prop::collection::vec((prop::option::weighted(0.9, key()), any::<bool>()), 1..12), way in 0u8..3,
    ) {
        let table = table(&entries, Compression::of_kind(way).unwrap());
        prop_assert!(block_on(verify_table(&table)).is_ok());
        // Also from keys that are there.
        let there = entries.keys().cloned().map(Some);
        for (edge, down) in edges.into_iter().chain(there.zip([true, false].into_iter().cycle())) {
            let (span, way) = match (&edge, down) {
                (Some(edge), false) => (Span { start: laid(edge), end: None }, Way::Up),
                (Some(edge), true) => (Span { start: Vec::new(), end: Some(laid(edge)) }, Way::Down),
                (None, down) => (Span::all(), if down { Way::Down } else { Way::Up }),
            };
            let mut scan = block_on(TableScan::within(table.clone(), &span, way)).unwrap();
            let mut got = Vec::new();
            while let Some(head) = scan.head() {
                prop_assert!(scan.value().as_deref() == head.record.value);
                got.push(((head.key.0, head.key.1.to_vec()), (head.record.version, head.record.value.map(<[u8]>::to_vec))));
                if !block_on(scan.next()).unwrap() {
                    break;
                }
            }
            let all = entries.clone().into_iter();
            let expected: Vec<_> = match (edge, down) {
                (Some(edge), false) => all.filter(|(key, _)| *key >= edge).collect(),
                (Some(edge), true) => all.filter(|(key, _)| *key < edge).rev().collect(),
                (None, false) => all.collect(),
                (None, true) => all.rev().collect(),
            };
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_lookup_finds_what_is_there_and_nothing_else(entries in entries(), probes in prop::collection::vec(key(), 1..60)) {
        let (table, cache) = (table(&entries, Compression::Lz4), BlockCache::new(1 << 20, 1));
        for key in entries.keys().chain(&probes) {
            let (tree_key, hash) = ((key.0, key.1.as_slice()), key_hash(key.0, &key.1));
            let block = table.locate(tree_key, hash).map(|number| {
                block_on(table.read_block(table.place_of(number).unwrap(), &cache)).unwrap()
            });
            let found = block.as_ref().and_then(Block::view).map(|view| find_in(view, tree_key, hash));
            let got = match found {
                Some(crate::sst::reader::Found::Value(value)) => Some((value.version, Some(value.value.to_vec()))),
                Some(crate::sst::reader::Found::Deleted) => Some((0, None)),
                Some(crate::sst::reader::Found::Nothing) | None => None,
            };
            let expected = entries.get(key).cloned().map(|(version, value)| (if value.is_some() { version } else { 0 }, value));
            prop_assert_eq!(got, expected, "{:?}", key);
        }
    }
}

/// Keeps no block.
struct Nothing;

impl Near for Nothing {
    fn copy(&self, _: (u64, &Places), _: usize) -> Option<Block> {
        None
    }
    fn keep(&self, _: (u64, &Arc<Places>), _: usize, _: &Block) {}
}

/// Sectors that cannot be read stop a walk where they are and not before, whatever it reads ahead; behind its end they are not seen.
#[test]
fn a_walk_goes_up_to_what_cannot_be_read() {
    let keys: Vec<Key> = (0..200u8).map(|n| (KeyspaceId(1), vec![n; 4])).collect();
    let entries: Entries = keys.iter().map(|key| (key.clone(), (1, Some(vec![key.1[0]; 1500])))).collect();
    let disk = FaultDisk::new(1);
    let table = table_on(&disk, &entries, Compression::None);
    let place = |number: usize| table.index().and_then(|index| index.place(number)).expect("a block a key");
    assert_eq!(table.index().map(|index| index.blocks()), Some(200));
    let bad = place(100).offset..place(100).end();
    assert!(disk.set_bad_range("t", bad.clone()));
    let whole = ALIGN as u64;
    let readable = |number: usize| {
        let (from, to) = (place(number).offset / whole * whole, place(number).end().next_multiple_of(whole));
        to <= bad.start || from >= bad.end
    };
    // How many keys a walk sees, and whether an error ends it.
    let walked = |span: Span, way, near: bool| {
        let near: Option<Arc<dyn Near>> = if near { Some(Arc::new(Nothing)) } else { None };
        let Ok(mut scan) = block_on(TableScan::near(table.clone(), &span, way, near)) else { return (0, true) };
        let mut seen = 0;
        while scan.head().is_some_and(|head| span.holds(head.key)) {
            seen += 1;
            if block_on(scan.next()).is_err() {
                return (seen, true);
            }
        }
        (seen, false)
    };
    let between = |from: usize, to: Option<usize>| Span { start: laid(&keys[from]), end: to.map(|to| laid(&keys[to])) };
    let last = (0..100).rev().find(|number| readable(*number)).expect("a good block in front");
    let next = (101..200).find(|number| readable(*number)).expect("a good block behind");
    for near in [true, false] {
        assert_eq!(walked(between(50, None), Way::Up, near), (last + 1 - 50, true));
        assert_eq!(walked(between(0, Some(150)), Way::Down, near), (150 - next, true));
        assert_eq!(walked(between(next, None), Way::Up, near), (200 - next, false));
        // Read at once, without what lies behind the end.
        let reads = Rc::new(Cell::new(0));
        let counted = reads.clone();
        disk.set_scheduler(Rc::new(move |_| {
            counted.set(counted.get() + 1);
            Box::pin(std::future::ready(()))
        }));
        assert_eq!(walked(between(last - 9, Some(last)), Way::Up, near), (9, false));
        assert_eq!(walked(between(next, Some(next + 9)), Way::Down, near), (9, false));
        assert_eq!(reads.get(), 2);
    }
}

#[test]
fn a_key_is_laid_behind_what_is_kept_of_the_one_before() {
    let (mut laid, bytes) = (Laid::default(), Vec::from_iter(0..=255_u8));
    for kept in [0, 4, 20, 100] {
        for part in [40, 0, 1, 7, 8, 9, 15, 16, 17, 200] {
            laid.lay(0, &bytes[..kept]);
            // Other bytes each time: what was there before must not do.
            let part = &bytes[part % 51..part % 51 + part];
            laid.lay(kept, part);
            assert_eq!(laid.bytes(), [&bytes[..kept], part].concat());
        }
    }
}
