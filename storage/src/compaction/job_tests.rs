use super::*;
use crate::disk::fault::{FaultDisk, block_on};
use crate::engine::{Engine, EngineOptions};
use crate::iter::{Span, Way};
use crate::memtable::Memtable;
use crate::sst::view::lay_key;
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;

type Key = (u32, &'static str);

/// More than any of these tables has.
const NEVER: u64 = 1 << 30;

/// What a flush cuts at, and the least length of a piece; nothing else cuts.
fn shape(guards: &[Key], piece_bytes: u64) -> Shape {
    let laid = |(keyspace, key): &Key| {
        let mut laid = Vec::new();
        lay_key((KeyspaceId(*keyspace), key.as_bytes()), &mut laid);
        laid
    };
    let guards = guards.iter().map(laid).collect();
    Shape {
        is_flush: true,
        level: 0,
        run: 1,
        to_the_oldest: false,
        inside: None,
        log_time_ms: 0,
        table_bytes: u64::MAX,
        guards,
        piece_bytes,
    }
}

/// Writes keys with values of so many bytes, or tombstones, and answers which of them each table holds: its first and its last.
fn tables(keys: &[Key], value_bytes: Option<usize>, shape: &Shape) -> Vec<(String, String)> {
    let (block_bytes, compression) = (512, crate::sst::compress::Compression::None);
    let options = EngineOptions { block_bytes, compression, last_compression: compression, ..EngineOptions::default() };
    let engine = block_on(Engine::open(FaultDisk::new(1), "", options)).expect("opens");
    let mut memtable = Memtable::default();
    for (keyspace, key) in keys {
        let value = value_bytes.map(|bytes| Bytes::from(vec![7; bytes]));
        memtable.write(1, (KeyspaceId(*keyspace), key.as_bytes()), value);
    }
    let records = MergeIter::new(&[Rc::new(memtable)], &[], Span::all(), Way::Up);
    let made = block_on(write_tables(&engine.0, records, shape)).expect("writes");
    let members = made.members();
    assert!(members.iter().all(|member| (member.entry.level, member.entry.run) == (shape.level, shape.run)));
    let text = |key: TreeKey<'_>| String::from_utf8(key.1.to_vec()).expect("letters");
    members.iter().map(|member| (text(member.entry.bounds.least()), text(member.entry.bounds.greatest()))).collect()
}

fn bounds(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(least, greatest)| (least.to_string(), greatest.to_string())).collect()
}

const GUARDS: [Key; 6] = [(1, "b"), (1, "c"), (1, "d"), (1, "e"), (1, "f"), (1, "g")];

#[test]
fn far_keys_share_no_table_however_short_it_is() {
    let cut = |keys: &[Key], guards: &[Key]| tables(keys, Some(3), &shape(guards, NEVER));
    // As a session table and the keys of a sequence: all tables lie between them.
    assert_eq!(cut(&[(0, "sessions"), (2, "z")], &GUARDS), bounds(&[("sessions", "sessions"), ("z", "z")]));
    // Half of them is far, less is not.
    assert_eq!(cut(&[(1, "a"), (1, "d")], &GUARDS), bounds(&[("a", "a"), ("d", "d")]));
    assert_eq!(cut(&[(1, "a"), (1, "czz")], &GUARDS), bounds(&[("a", "czz")]));
    // From the last key written, not from the table's first.
    assert_eq!(cut(&[(1, "a"), (1, "b"), (1, "c"), (1, "d"), (1, "z")], &GUARDS), bounds(&[("a", "d"), ("z", "z")]));
    // One table below is no distance.
    assert_eq!(cut(&[(1, "a"), (1, "z")], &GUARDS[..1]), bounds(&[("a", "z")]));
    assert_eq!(cut(&[(1, "a"), (1, "z")], &GUARDS[..2]), bounds(&[("a", "a"), ("z", "z")]));
}

#[test]
fn a_piece_that_is_long_enough_ends_before_the_next_guard() {
    let keys = [(1, "a"), (1, "a2"), (1, "b"), (1, "b2"), (1, "c"), (1, "d2"), (1, "d3"), (1, "h")];
    // Values of a block each: what is closed counts.
    let cut = |piece_bytes| tables(&keys, Some(600), &shape(&GUARDS, piece_bytes));
    assert_eq!(cut(1), bounds(&[("a", "a2"), ("b", "b2"), ("c", "c"), ("d2", "d3"), ("h", "h")]));
    assert_eq!(cut(1500), bounds(&[("a", "b2"), ("c", "d3"), ("h", "h")]), "1,200 bytes go on behind b");
    assert_eq!(cut(NEVER), bounds(&[("a", "d3"), ("h", "h")]), "h is far");
    assert_eq!(tables(&keys, Some(600), &shape(&[], 0)), bounds(&[("a", "h")]), "without guards nothing is cut");
}

#[test]
fn a_guard_of_another_keyspace_is_behind_all_keys_before_it() {
    let cut = |guards: &[Key]| tables(&[(1, "x"), (1, "z"), (2, "a")], Some(600), &shape(guards, 1));
    assert_eq!(cut(&[(2, "")]), bounds(&[("x", "z"), ("a", "a")]));
    assert_eq!(cut(&[(0, "zz"), (3, "a")]), bounds(&[("x", "a")]), "before and behind all of them");
}

#[test]
fn tables_are_cut_at_their_length_and_tombstones_left_out_only_below_nothing() {
    let keys = [(1, "a"), (1, "b"), (1, "c"), (1, "d"), (1, "e")];
    let merged = Shape { is_flush: false, level: 6, run: 0, table_bytes: 1200, ..shape(&[], 0) };
    assert_eq!(tables(&keys, Some(600), &merged), bounds(&[("a", "b"), ("c", "d"), ("e", "e")]));
    assert_eq!(tables(&keys, None, &merged), bounds(&[("a", "e")]));
    let oldest = Shape { to_the_oldest: true, ..merged };
    assert_eq!(tables(&keys, None, &oldest), bounds(&[]), "no table for nothing");
    assert_eq!(tables(&keys, Some(0), &oldest), bounds(&[("a", "e")]), "an empty value is a value");
}
