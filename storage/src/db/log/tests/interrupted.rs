//! A recovery that ends half way and begins again finds the same.

use super::power::{Machine, chance, name, some_op};
use super::rig::{Owned, Rig, copy, files, found, options};
use crate::db::log::head::{HEAD_BYTES, Head};
use crate::db::log::{Op, Segment, open};
use crate::disk::files::Root;
use crate::error::{DiskError, StorageError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use tempfile::TempDir;

type State = BTreeMap<String, Vec<u8>>;

fn state(dir: &Path) -> State {
    files(dir).iter().map(|file| (name(file), std::fs::read(file).expect("read"))).collect()
}

fn dir_of(state: &State) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("log")).expect("made");
    for (name, bytes) in state {
        std::fs::write(dir.path().join("log").join(name), bytes).expect("written");
    }
    dir
}

/// Takes the new head back from every segment that `before` does not have: it was not durable yet.
fn without_new_heads(before: &State, after: &mut State) {
    for (name, bytes) in after.iter_mut().filter(|(name, _)| !before.contains_key(*name)) {
        let number = u64::from_str_radix(&name[..16], 16).expect("a number");
        let head = Head::decode(bytes, name, number).expect("a head");
        bytes[..HEAD_BYTES].copy_from_slice(&Head { born: None, ..head }.encode());
    }
}

/// A recovery that came as far as its last sync, which failed.
fn half_done(before: &State, flushed_seq: u64) -> State {
    let dir = dir_of(before);
    let fails = Box::new(|_: &_, _| Err(io::Error::from_raw_os_error(5)));
    let opened = Rig::open_through(dir.path(), flushed_seq, fails);
    assert!(matches!(opened, Err(StorageError::Poisoned { .. })));
    state(dir.path())
}

/// A power cut's image with records in several segments, and tables up to some record.
fn crashed(rng: &mut ChaCha8Rng) -> (State, u64) {
    let mut machine = Machine::new();
    for _ in 0..20 + rng.next_u64() % 60 {
        machine.step(rng);
    }
    if chance(rng, 2) {
        for _ in 0..20 {
            let op = some_op(rng);
            machine.append(&[op]);
        }
    }
    (state(machine.crash_image(rng).path()), machine.flushed_seq)
}

fn opened(state: &State, flushed_seq: u64) -> (Vec<(u64, Owned)>, u64) {
    found(dir_of(state).path(), flushed_seq).expect("opened")
}

#[test]
fn any_part_of_a_recovery_may_have_been_done() {
    for seed in 0..30 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (before, flushed_seq) = crashed(&mut rng);
        let expected = opened(&before, flushed_seq);
        let mut after = half_done(&before, flushed_seq);
        assert_eq!(opened(&after, flushed_seq), expected, "seed {seed}, killed");
        without_new_heads(&before, &mut after);
        assert_eq!(opened(&after, flushed_seq), expected, "seed {seed}, power cut");
        for _ in 0..8 {
            // Per file: as it was, or as it became. A file that was renamed is in one place.
            let mut mixed = State::new();
            for (name, bytes) in &before {
                match after.get(name) {
                    Some(now) => {
                        drop(mixed.insert(name.clone(), if chance(&mut rng, 2) { now } else { bytes }.clone()))
                    }
                    None if chance(&mut rng, 2) => drop(mixed.insert(name.clone(), bytes.clone())),
                    None => {}
                }
            }
            let renamed = before.keys().any(|name| !after.contains_key(name) && !mixed.contains_key(name));
            if renamed || chance(&mut rng, 2) {
                let made = after.iter().filter(|(name, _)| !before.contains_key(*name));
                mixed.extend(made.map(|(name, bytes)| (name.clone(), bytes.clone())));
            }
            assert_eq!(opened(&mixed, flushed_seq), expected, "seed {seed}, half done");
        }
    }
}

#[test]
fn a_recovery_that_is_done_is_done() {
    for seed in 100..115 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (before, flushed_seq) = crashed(&mut rng);
        let dir = dir_of(&before);
        let first = found(dir.path(), flushed_seq).expect("opened");
        for _ in 0..3 {
            assert_eq!(found(dir.path(), flushed_seq).expect("opened"), first, "seed {seed}");
        }
    }
}

#[test]
fn who_refuses_a_record_changes_nothing() {
    let mut machine = Machine::new();
    (0..40).for_each(|fill| machine.append(&[Owned::put(b"key", &[fill; 1000])]));
    let (before, flushed_seq, records) = (state(machine.dir.path()), 0, 40_usize);
    for accepted in [0, 1, records - 1] {
        let dir = dir_of(&before);
        let root = Root::open(dir.path()).expect("a directory");
        let mut left: usize = accepted;
        let mut apply = |_, _: Op<'_>| {
            left = left.checked_sub(1).ok_or(DiskError::NotFound { path: "memory".to_owned() })?;
            Ok(())
        };
        assert!(
            open(&root, flushed_seq, options(super::rig::SEGMENT_BYTES), &mut apply, Box::new(Segment::sync_pages))
                .is_err()
        );
        assert_eq!(state(dir.path()), before);
        drop(copy(dir.path()));
    }
}

#[test]
fn void_frames_are_not_the_continuation_of_what_is_written_next() {
    let value = |fill: u8| Owned::put(b"key", &[fill; 4000]);
    for lost in 1..3 {
        let mut machine = Machine::new();
        machine.append(&[value(1)]);
        machine.sync();
        // Record 2 is lost, 3 and 4 are on the disk behind it.
        let hole = HEAD_BYTES + lost * 4052;
        for fill in 2..=3 {
            machine.append(&[value(fill)]);
        }
        let mut cut = state(machine.dir.path());
        let first = cut.first_entry().expect("a file").into_mut();
        first[hole + 100..hole + 200].fill(0);
        let dir = dir_of(&cut);
        let (mut rig, records) = Rig::open(dir.path(), 0).expect("opened");
        assert_eq!(records.len(), lost);
        rig.append(&[value(9)]);
        drop(rig);
        let (records, last) = found(dir.path(), 0).expect("opened");
        assert_eq!((last, &records[lost].1), (lost as u64 + 1, &value(9)));
        assert_eq!(records.len(), lost + 1);
    }
}
