use super::{Record as Held, *};
use crate::iter::{Span, Way};
use proptest::prelude::*;
use ringkv_wire::ids::KeyspaceId;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

/// A record, kept.
#[derive(Debug, PartialEq)]
struct Record {
    keyspace: KeyspaceId,
    key: Vec<u8>,
    version: u64,
    value: Option<Vec<u8>>,
    expiry_ms: u64,
}

impl Record {
    fn tree_key(&self) -> TreeKey<'_> {
        (self.keyspace, &self.key)
    }
}

fn walked_within(memtable: &Memtable, span: Span, way: Way) -> Vec<Record> {
    let mut walk = Walk::new(Rc::new(memtable.clone()), span, way);
    std::iter::from_fn(|| {
        block_on(walk.next()).then(|| {
            let head = walk.head().expect("it stands at a record");
            let (keyspace, key) = (head.key.0, head.key.1.to_vec());
            let Held { version, value, expiry_ms } = head.record;
            Record { keyspace, key, version, value: value.map(<[u8]>::to_vec), expiry_ms }
        })
    })
    .collect()
}

fn walked(memtable: &Memtable) -> Vec<Record> {
    walked_within(memtable, Span::all(), Way::Up)
}

fn get<'m>(memtable: &'m Memtable, key: TreeKey<'_>) -> Option<Held<'m>> {
    let hash = key_hash(key.0, key.1);
    memtable.prepare(hash);
    let hint = memtable.hint(hash);
    let hinted = memtable.get_hinted(key, hint);
    assert_eq!(hinted, memtable.get(key, hash), "both ways lead to the same record");
    hinted
}

#[test]
fn newest_write_wins_and_bytes_are_counted() {
    let mut memtable = Memtable::default();
    let key = (KeyspaceId(1), b"k".as_slice());
    let grown = memtable.write(5, key, Some(Bytes::from_static(b"12345")));
    assert_eq!(grown as usize, record_bytes(1, 5) + ENTRY_OVERHEAD_BYTES);
    assert_eq!(memtable.write(6, key, None), 0, "a deletion takes the room of what it deletes");
    assert_eq!(memtable.write(7, key, Some(Bytes::from_static(b"1234"))), 0, "so does a value that fits");
    assert_eq!(get(&memtable, key), Some(Held::new(7, Some(b"1234"))));
    assert_eq!(memtable.write(8, key, Some(Bytes::from_static(b"123456"))) as usize, record_bytes(1, 6));
    assert_eq!((memtable.entries(), memtable.version_max()), (1, 8));
    assert_eq!(get(&memtable, key), Some(Held::new(8, Some(b"123456"))));
    assert_eq!(get(&memtable, (KeyspaceId(2), b"k")), None);
    assert_eq!(walked(&memtable).len(), 1, "the replaced record is not walked");
}

#[test]
fn walks_through_keyspaces_in_order() {
    let mut memtable = Memtable::default();
    for (keyspace, key) in [(2, "a"), (1, "b"), (1, ""), (0, "z"), (1, "bb"), (1, "b\0")] {
        memtable.write(1, (KeyspaceId(keyspace), key.as_bytes()), Some(Bytes::new()));
    }
    let seen: Vec<_> =
        walked(&memtable).into_iter().map(|r| (r.keyspace.0, String::from_utf8(r.key.to_vec()).unwrap())).collect();
    let expected = [(0, "z"), (1, ""), (1, "b"), (1, "b\0"), (1, "bb"), (2, "a")];
    assert_eq!(seen, expected.map(|(keyspace, key)| (keyspace, key.to_owned())));
}

#[test]
fn small_values_do_not_hold_their_message_and_large_ones_are_let_go() {
    let mut memtable = Memtable::default();
    let message = Bytes::from(vec![7; 1 << 20]);
    memtable.write(1, (KeyspaceId(1), b"a"), Some(message.slice(..10)));
    assert!(message.is_unique());
    let large = (KeyspaceId(1), b"b".as_slice());
    let grown = memtable.write(1, large, Some(message.slice(..100_000)));
    assert!(!message.is_unique());
    assert_eq!(get(&memtable, large).unwrap().value.unwrap().len(), 100_000);
    assert_eq!(walked(&memtable)[1].value.as_ref().unwrap().len(), 100_000);
    assert_eq!(memtable.write(2, large, None), -100_000);
    assert!(message.is_unique(), "grown by {grown}");
    assert_eq!(get(&memtable, large), Some(Held::new(2, None)));
}

#[test]
fn many_chunks_and_long_records() {
    let mut memtable = Memtable::default();
    let count = if cfg!(miri) { 50 } else { 3000 };
    let key = |i: u32| [b"a shared beginning of keys ".as_slice(), &(i * 7919 % count).to_be_bytes()].concat();
    let value = |i: u32| Bytes::from(vec![i as u8; (i * 37 % 4000) as usize]);
    for i in 0..count {
        memtable.write(u64::from(i), (KeyspaceId(1), &key(i)), Some(value(i)));
    }
    let longest = vec![b'x'; ringkv_wire::limits::KEY_BYTES_MAX];
    memtable.write(9999, (KeyspaceId(1), &longest), Some(Bytes::from(vec![1; LARGE_BYTES - 1])));
    for i in 0..count {
        let slot = get(&memtable, (KeyspaceId(1), &key(i))).expect("written");
        assert_eq!((slot.version, slot.value), (u64::from(i), Some(&value(i)[..])));
    }
    let records = walked(&memtable);
    assert_eq!(records.len(), count as usize + 1);
    assert!(records.is_sorted_by(|a, b| a.tree_key() < b.tree_key()));
}

/// A few keys that share beginnings, so that they are often written again.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(0u8..3, 0..4), prop::collection::vec(0u8..2, 10..14)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 64 }, ..ProptestConfig::default() })]

    #[test]
    fn is_what_an_ordered_map_is(
        writes in prop::collection::vec((0u32..3, key(), prop::option::of(0usize..200)), 0..300), probe in key(),
    ) {
        let (mut memtable, mut model, mut bytes) = (Memtable::new(7, 11, &Rc::default()), BTreeMap::new(), 0);
        for (version, (keyspace, key, value)) in (1u64..).zip(writes) {
            let value = value.map(|len| Bytes::from(vec![version as u8; len]));
            // Every third value expires.
            let expiry_ms = if value.is_some() && version.is_multiple_of(3) { version * 1000 } else { NEVER_MS };
            bytes += memtable.write_until(version, (KeyspaceId(keyspace), &key), value.clone(), expiry_ms);
            model.insert((KeyspaceId(keyspace), key), (version, value, expiry_ms));
        }
        prop_assert_eq!((memtable.entries(), memtable.bytes() as isize), (model.len(), bytes));
        for ((keyspace, key), (version, value, expiry_ms)) in &model {
            let slot = get(&memtable, (*keyspace, key)).expect("written");
            prop_assert_eq!(slot, Held { version: *version, value: value.as_deref(), expiry_ms: *expiry_ms });
        }
        let kept = |r: Record| ((r.keyspace, r.key), (r.version, r.value.map(Bytes::from), r.expiry_ms));
        let walk = |span, way| walked_within(&memtable, span, way).into_iter().map(kept).collect::<Vec<_>>();
        prop_assert_eq!(walk(Span::all(), Way::Up), model.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(walk(Span::all(), Way::Down), model.clone().into_iter().rev().collect::<Vec<_>>());
        // Where a walk begins is the span's; where it ends is for others to see.
        let from = (KeyspaceId(1), probe);
        let span = Span::of(from.0, Bound::Included(&from.1), Bound::Excluded(&from.1));
        prop_assert_eq!(walk(span.clone(), Way::Up), model.range(from.clone()..).map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>());
        prop_assert_eq!(walk(span, Way::Down), model.range(..from).rev().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>());
    }
}
