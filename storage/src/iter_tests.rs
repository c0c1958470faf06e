use super::*;
use crate::compaction::job::{Shape, write_tables};
use crate::disk::fault::{FaultDisk, block_on};
use crate::engine::{Engine, EngineOptions};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Key = (KeyspaceId, Vec<u8>);
/// What one source holds: versions, with values or without.
type Layer = BTreeMap<Key, (u64, Option<Vec<u8>>)>;

/// Few letters and short: the same keys come in several sources, and one is the beginning of the next. Some behind a front that is
/// longer than what is compared at once.
fn key() -> impl Strategy<Value = Key> {
    let letters = prop::collection::vec(prop::sample::select(vec![0u8, 7, 254, 255]), 0..4);
    let front =
        prop::sample::select(vec![&b""[..], b"", b"", b"\xfe-a front of many bytes-", b"\xfe-a front of many bytes+"]);
    (0u32..3, front, letters).prop_map(|(keyspace, front, key)| (KeyspaceId(keyspace), [front, &key].concat()))
}

/// Layers of one keyspace, so that keys share a front.
fn layers_of_one() -> impl Strategy<Value = Vec<Layer>> {
    let one = |layer: Layer| layer.into_iter().map(|((_, key), said)| ((KeyspaceId(1), key), said)).collect();
    layers().prop_map(move |layers| layers.into_iter().map(one).collect())
}

/// Sources, newest first; older ones have lower versions.
fn layers() -> impl Strategy<Value = Vec<Layer>> {
    let value = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..150));
    let layers = prop::collection::vec(prop::collection::btree_map(key(), value, 0..40), 1..6);
    layers.prop_map(|layers| {
        let count = layers.len() as u64;
        let versioned = |(age, layer): (u64, BTreeMap<Key, Option<Vec<u8>>>)| -> Layer {
            let version = |n: usize| (count - age) * 1000 + n as u64;
            layer.into_iter().enumerate().map(|(n, (key, value))| (key, (version(n), value))).collect()
        };
        (0..).zip(layers).map(versioned).collect()
    })
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    (0..3, key()).prop_map(|(kind, (_, key))| match kind {
        0 => Bound::Included(key),
        1 => Bound::Excluded(key),
        _ => Bound::Unbounded,
    })
}

/// A part of the tree, and whether a key is in it.
#[derive(Clone, Debug)]
enum Part {
    All,
    Of(KeyspaceId, Bound<Vec<u8>>, Bound<Vec<u8>>),
    Prefix(Key),
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        1 => Just(Part::All),
        4 => (0u32..4, bound(), bound()).prop_map(|(keyspace, from, to)| Part::Of(KeyspaceId(keyspace), from, to)),
        2 => key().prop_map(Part::Prefix),
    ]
}

impl Part {
    fn span(&self) -> Span {
        match self {
            Part::All => Span::all(),
            Part::Of(keyspace, from, to) => {
                Span::of(*keyspace, from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice))
            }
            Part::Prefix((keyspace, prefix)) => Span::prefix(*keyspace, prefix),
        }
    }

    fn has(&self, key: &Key) -> bool {
        match self {
            Part::All => true,
            Part::Of(keyspace, from, to) => {
                let above = match from {
                    Bound::Included(from) => key.1 >= *from,
                    Bound::Excluded(from) => key.1 > *from,
                    Bound::Unbounded => true,
                };
                let below = match to {
                    Bound::Included(to) => key.1 <= *to,
                    Bound::Excluded(to) => key.1 < *to,
                    Bound::Unbounded => true,
                };
                key.0 == *keyspace && above && below
            }
            Part::Prefix((keyspace, prefix)) => key.0 == *keyspace && key.1.starts_with(prefix),
        }
    }
}

fn tree_key(key: &Key) -> TreeKey<'_> {
    (key.0, &key.1)
}

fn memtable(layer: &Layer) -> Rc<Memtable> {
    let mut memtable = Memtable::default();
    for ((keyspace, key), (version, value)) in layer {
        memtable.write(*version, (*keyspace, key), value.clone().map(Bytes::from));
    }
    Rc::new(memtable)
}

/// The same as tables of a block or two each.
#[expect(clippy::arc_with_non_send_sync, reason = "this disk stays on its thread")]
fn run(engine: &Engine<FaultDisk>, layer: &Layer) -> Arc<Run<FaultDisk>> {
    let records = MergeIter::new(&[memtable(layer)], &[], Span::all(), Way::Up);
    let (guards, table_bytes) = (Vec::new(), 600);
    let shape = Shape {
        is_flush: true,
        level: 0,
        run: 1,
        to_the_oldest: false,
        inside: None,
        log_time_ms: 0,
        table_bytes,
        guards,
        piece_bytes: 0,
    };
    let made = block_on(write_tables(&engine.0, records, &shape)).expect("a good disk");
    let members = made.members();
    made.keep();
    Arc::new(Run::new(members))
}

/// The first `memory` layers in memory, the others as runs.
fn sources(layers: &[Layer], memory: usize) -> (Vec<Rc<Memtable>>, Vec<Arc<Run<FaultDisk>>>) {
    let options = EngineOptions { block_bytes: 512, ..EngineOptions::default() };
    let engine = block_on(Engine::open(FaultDisk::new(1), "", options)).expect("opens");
    let (memory, disk) = layers.split_at(memory.min(layers.len()));
    (memory.iter().map(memtable).collect(), disk.iter().map(|layer| run(&engine, layer)).collect())
}

/// What a merge of the layers must give: each key from the newest layer that has it, tombstones too.
fn merged(layers: &[Layer], part: &Part, way: Way) -> Vec<(Key, u64, Option<Vec<u8>>)> {
    let mut all = Layer::new();
    layers.iter().rev().for_each(|layer| all.extend(layer.clone()));
    let held = all.into_iter().filter(|(key, _)| part.has(key));
    let mut list: Vec<_> = held.map(|(key, (version, value))| (key, version, value)).collect();
    if way == Way::Down {
        list.reverse();
    }
    list
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn a_merge_of_memory_and_tables_is_the_newest_of_each_key(
        layers in prop_oneof![layers(), layers_of_one()], memory in 0usize..6, parts in prop::collection::vec((part(), any::<bool>()), 1..8),
    ) {
        let (memtables, runs) = sources(&layers, memory);
        for (part, down) in parts {
            let way = if down { Way::Down } else { Way::Up };
            let mut merge = MergeIter::new(&memtables, &runs, part.span(), way);
            let mut got = Vec::new();
            // As walks do: without waiting where that is possible.
            while merge.try_next().unwrap_or_else(|| block_on(merge.next()).expect("a good disk")) {
                let head = merge.head().expect("it stands at a record");
                prop_assert!(merge.value().as_deref() == head.record.value);
                got.push(((head.key.0, head.key.1.to_vec()), head.record.version, head.record.value.map(<[u8]>::to_vec)));
            }
            prop_assert_eq!(got, merged(&layers, &part, way), "{:?} {:?}", part, way);
            prop_assert!(merge.head().is_none() && !block_on(merge.next()).expect("a good disk"), "the end is the end");
        }
    }

    #[test]
    fn a_span_holds_its_keys_and_meets_what_has_some_of_them(part in part(), keys in prop::collection::btree_set(key(), 1..30)) {
        let span = part.span();
        let keys: Vec<Key> = keys.into_iter().collect();
        for key in &keys {
            prop_assert_eq!(span.holds(tree_key(key)), part.has(key), "{:?}", key);
        }
        for (at, least) in keys.iter().enumerate() {
            let any = keys[at..].iter().any(|key| part.has(key));
            let greatest = &keys[keys.len() - 1];
            prop_assert!(!any || span.meets(tree_key(least), tree_key(greatest)), "{:?} to {:?}", least, greatest);
        }
    }
}

proptest! {
    #[test]
    fn keys_are_in_the_order_of_their_bytes(
        front in prop::collection::vec(any::<u8>(), 0..48),
        ends in prop::array::uniform2(prop::collection::vec(prop::sample::select(vec![0u8, 1, 128, 255]), 0..12)),
        spaces in prop::array::uniform2(1u32..3),
    ) {
        let [a, b] = ends.map(|end| [&front[..], &end].concat());
        let (a, b) = ((KeyspaceId(spaces[0]), &a[..]), (KeyspaceId(spaces[1]), &b[..]));
        prop_assert_eq!(super::order(a, b), a.cmp(&b));
    }
}
