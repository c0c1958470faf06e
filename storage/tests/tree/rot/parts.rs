//! Rot in every part of every file of a store of levels: found where it is, and nothing but that is wrong.

use super::read_all;
use super::regions::{Regions, of_current, of_edit, of_table};
use crate::harness::{DIR, Replica, table_files};
use crate::levels::{self, KEYS, key};
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::EngineOptions;
use ringkv_storage::error::StorageError;
use ringkv_storage::sst::compress::Compression;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Flips of each part, spread over all places where one of its kind stands.
const FLIPS: usize = 12;

/// Half of it gets smaller by compression.
fn value(n: u8, round: u8) -> Vec<u8> {
    let mut state = u32::from(n) << 8 | u32::from(round);
    let mut noise = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (state >> 16) as u8
    };
    let bytes = if n.is_multiple_of(3) { 60 } else { 3600 };
    (0..bytes).map(|at| if at % 100 < 50 { noise() } else { n }).collect()
}

/// Levels 0, 5 and 6; the lower ones stored by `compression`, tombstones above them.
fn store(compression: Compression) -> Replica {
    let options = EngineOptions { compression, last_compression: compression, ..levels::options(0) };
    let mut replica = Replica::with(FaultDisk::new(1), options);
    for round in 0..2 {
        for n in 0..KEYS {
            replica.write(1, &key(n), Some(&value(n, round)));
        }
        replica.flush().expect("flushes");
        block_on(replica.tree.settle()).expect("merges");
    }
    for round in 2..5u8 {
        for n in 0..3 {
            replica.write(1, &key(round * 20 + n), (n != 1).then(|| value(n, round)).as_deref());
        }
        replica.flush().expect("flushes");
        while round < 4 && replica.tree.wants_merge() {
            block_on(replica.tree.merge()).expect("merges");
        }
    }
    let held: BTreeSet<u8> = levels::levels(&replica.disk).into_values().collect();
    assert_eq!(held, [0, 5, 6].into(), "its levels");
    replica
}

/// Places of each kind of part: the number of the file and the byte.
type Places = BTreeMap<&'static str, Vec<(usize, usize)>>;

fn add(places: &mut Places, file: usize, regions: &Regions) {
    for (name, range) in &regions.list {
        places.entry(name).or_default().extend(range.clone().map(|at| (file, at)));
    }
}

/// Flips bits all over each kind of part; each flip must be found, in its file, as `found` says.
fn flip(sound: &Replica, files: &[String], places: &Places, found: impl Fn(&str, usize, u64) -> bool) {
    for (name, all) in places {
        for (n, (file, at)) in all.iter().step_by(all.len().div_ceil(FLIPS).max(1)).enumerate() {
            let disk = sound.disk.fork(n as u64);
            assert!(disk.flip_bit(&files[*file], *at as u64, (n % 8) as u8));
            match read_all(&disk, sound) {
                Some(StorageError::Damaged { path, offset, .. }) => {
                    assert_eq!(path, files[*file], "{name}: byte {at}");
                    assert!(found(name, *at, offset), "{name}: byte {at} found at {offset}");
                }
                other => panic!("{name}: byte {at} of {}: {other:?}", files[*file]),
            }
        }
    }
}

/// What of a file no part covers.
fn gaps(regions: &Regions, bytes: usize) -> Vec<Range<usize>> {
    let mut sorted: Vec<_> = regions.list.iter().map(|(_, range)| range.clone()).collect();
    sorted.sort_by_key(|range| range.start);
    let (mut gaps, mut end) = (Vec::new(), 0);
    for range in sorted.into_iter().chain(std::iter::once(bytes..bytes)) {
        assert!(range.start >= end, "parts do not overlap");
        gaps.push(end..range.start);
        end = range.end;
    }
    gaps.retain(|gap| !gap.is_empty());
    gaps
}

fn every_part_of_every_table(compression: Compression, kinds: usize) {
    let (sound, mut places) = (store(compression), Places::new());
    assert!(read_all(&sound.disk.fork(0), &sound).is_none(), "nothing is wrong before");
    let files = table_files(&sound.disk);
    for (file, path) in files.iter().enumerate() {
        let bytes = sound.disk.peek(path).expect("there");
        let regions = of_table(&bytes);
        add(&mut places, file, &regions);
        for gap in gaps(&regions, bytes.len()) {
            assert!(bytes[gap.clone()].iter().all(|byte| *byte == 0), "{path}: {gap:?} is in no part");
            // It means nothing: no reader is harmed.
            let disk = sound.disk.fork(gap.start as u64);
            assert!(disk.flip_bit(path, gap.start as u64, 1));
            assert!(read_all(&disk, &sound).is_none(), "{path}: {gap:?}");
        }
    }
    places.retain(|_, all| !all.is_empty());
    assert_eq!(places.len(), kinds, "{:?}", places.keys());
    // Rot in a block is found at the block, all other at what was checked as a whole.
    flip(&sound, &files, &places, |name, at, offset| match name.split_once(':') {
        Some(("block", _)) => offset <= at as u64 && at as u64 - offset < 4096,
        _ => offset > 0,
    });
}

#[test]
fn in_every_part_of_tables_with_lz4() {
    every_part_of_every_table(Compression::Lz4, 56);
}

#[test]
fn in_every_part_of_tables_with_zstandard() {
    every_part_of_every_table(Compression::Zstd, 56);
}

#[test]
fn in_every_part_of_the_manifest_and_of_current() {
    let (sound, mut places) = (store(Compression::Lz4), Places::new());
    let manifest = sound.disk.paths().into_iter().find(|path| path.contains("/MANIFEST-")).expect("there");
    let files = [manifest, format!("{DIR}/CURRENT")];
    let bytes = sound.disk.peek(&files[0]).expect("there");
    let (mut at, mut edits) = (0, 0);
    while bytes[at..at + 4] == *b"RKME" {
        let (regions, end) = of_edit(&bytes, at);
        let inside = gaps(&regions, end).into_iter().find(|gap| gap.end > at && gap.start >= at);
        assert_eq!(inside, None, "every byte of an edit is in a part");
        add(&mut places, 0, &regions);
        (at, edits) = (end, edits + 1);
    }
    assert!(edits > 6, "{edits} edits");
    places.entry("behind the last edit").or_default().extend((at..bytes.len()).map(|at| (0, at)));
    add(&mut places, 1, &of_current());
    places.retain(|_, all| !all.is_empty());
    assert_eq!(places.len(), 41, "{:?}", places.keys());
    flip(&sound, &files, &places, |_, at, offset| offset <= at as u64);
}
