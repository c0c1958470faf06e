//! A memtable beside an ordered map, also while somebody reads.

use super::*;
use crate::iter::{Span, Way};
use proptest::prelude::*;
use ringkv_wire::ring::hash::key_hash;
use std::collections::BTreeMap;

const SPACE: KeyspaceId = KeyspaceId(7);

fn hash(key: &[u8]) -> u64 {
    key_hash(SPACE, key)
}

fn write(pen: &mut Pen, version: u64, key: &[u8], value: Option<&[u8]>, expiry_ms: u64) {
    let bytes = record_bytes(key.len(), value.map_or(0, <[u8]>::len), expiry_ms != NEVER_MS);
    assert!(pen.has_room(1, bytes));
    pen.write(version, (SPACE, key), hash(key), value, expiry_ms);
}

/// What a snapshot sees, by walking the merged order of all runs, newest run first.
fn walked(memtable: &Arc<Memtable>, span: &Span, way: Way, version: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>, u64)> {
    let mut seen = BTreeMap::new();
    for run in memtable.runs() {
        let mut walk = Walk::new(memtable.clone(), run, span, way, version);
        let mut before: Option<Vec<u8>> = None;
        while walk.next() {
            let head = walk.head().expect("it stands somewhere");
            if !span.holds(head.key) {
                break;
            }
            let ordered = before.as_ref().is_none_or(|before| match way {
                Way::Up => before[..] < *head.key.1,
                Way::Down => before[..] > *head.key.1,
            });
            assert!(ordered, "{before:?} in front of {:?}", head.key.1);
            before = Some(head.key.1.to_vec());
            let value = (head.record.value.map(<[u8]>::to_vec), head.record.expiry_ms);
            seen.entry(head.key.1.to_vec()).or_insert(value);
        }
    }
    seen.into_iter().map(|(key, (value, expiry_ms))| (key, value, expiry_ms)).collect()
}

type Write = (Vec<u8>, Option<Vec<u8>>, bool, bool);

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let key = prop_oneof![proptest::collection::vec(0..3u8, 1..4), proptest::collection::vec(any::<u8>(), 1..40)];
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60));
    proptest::collection::vec((key, value, any::<bool>(), proptest::bool::weighted(0.1)), 1..200)
}

proptest! {
    #[test]
    fn every_version_finds_what_was_there_then(writes in writes(), from in proptest::collection::vec(0..3u8, 0..3)) {
        let (memtable, mut pen) = Memtable::new(Blank::new(64 << 10), 5);
        let (mut model, mut history) = (BTreeMap::new(), vec![BTreeMap::new()]);
        for (n, (key, value, expires, walks)) in writes.iter().enumerate() {
            let expiry_ms = if *expires && value.is_some() { 1000 + n as u64 } else { NEVER_MS };
            write(&mut pen, n as u64 + 1, key, value.as_deref(), expiry_ms);
            model.insert(key.clone(), (value.clone(), expiry_ms));
            history.push(model.clone());
            if *walks {
                memtable.runs();
            }
        }
        prop_assert_eq!(memtable.entries(), model.len());
        let span = Span::of(SPACE, std::ops::Bound::Included(&from), std::ops::Bound::Unbounded);
        for version in [0, writes.len() / 3, writes.len() / 2, writes.len()] {
            let then = &history[version];
            for (key, _, _, _) in &writes {
                let found = memtable.get((SPACE, key), hash(key), version as u64);
                let found = found.map(|record| (record.value.map(<[u8]>::to_vec), record.expiry_ms));
                prop_assert_eq!(found.as_ref(), then.get(key), "{:?} at {}", key, version);
            }
            let expected: Vec<_> = then.range(from.clone()..).map(|(key, (value, at))| (key.clone(), value.clone(), *at)).collect();
            prop_assert_eq!(&walked(&memtable, &span, Way::Up, version as u64), &expected);
            prop_assert_eq!(&walked(&memtable, &span, Way::Down, version as u64), &expected);
        }
        prop_assert!(memtable.get((SPACE, b"\xffnot there\xff"), hash(b"\xffnot there\xff"), u64::MAX).is_none());
    }
}

#[test]
fn it_takes_what_has_room_and_its_memory_serves_again() {
    let (memtable, mut pen) = Memtable::new(Blank::new(8 << 10), 1);
    let (mut written, each) = (0u64, record_bytes(8, 100, false));
    while pen.has_room(1, each) {
        written += 1;
        write(&mut pen, written, &written.to_be_bytes(), Some(&[7; 100]), NEVER_MS);
    }
    assert_eq!(written as usize, (8 << 10) / each);
    drop(pen);
    let blank = Arc::into_inner(memtable).expect("nobody reads it").into_blank();
    assert!(blank.is_for(8 << 10));
    let (memtable, mut pen) = Memtable::new(blank, 2);
    assert_eq!((memtable.entries(), memtable.bytes(), memtable.runs().len()), (0, 0, 0));
    assert!(memtable.get((SPACE, &1u64.to_be_bytes()), hash(&1u64.to_be_bytes()), u64::MAX).is_none());
    write(&mut pen, 1, b"again", None, NEVER_MS);
    assert_eq!(memtable.newest((SPACE, b"again"), hash(b"again")), Some(1));
}

#[test]
fn small_records_fill_the_index_first() {
    let (memtable, mut pen) = Memtable::new(Blank::new(64 << 10), 1);
    let mut written = 0u64;
    while pen.has_room(1, record_bytes(8, 0, false)) {
        written += 1;
        write(&mut pen, written, &written.to_be_bytes(), Some(&[]), NEVER_MS);
    }
    assert_eq!(written as usize, 1024 / 8 * TAKEN_OF_8);
    assert_eq!(memtable.entries(), written as usize);
    assert_eq!(Blank::size_for(2000, 0).div_ceil(BYTES_PER_SLOT).next_power_of_two() / 8 * TAKEN_OF_8 / 2000, 1);
}
