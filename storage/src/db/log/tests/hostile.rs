//! Any bytes at all: never a panic, never more than was written.

use super::power::{Machine, chance, some_op};
use super::rig::{SEGMENT_BYTES, copy, files, found};
use crate::db::log::frame::{FRAME_HEAD_BYTES, FrameHead, take_op};
use crate::db::log::head::{Born, HEAD_BYTES, Head};
use crate::error::StorageError;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Bytes of all kinds: small numbers as lengths have them, and noise.
fn noise(rng: &mut ChaCha8Rng, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    rng.fill_bytes(&mut out);
    if chance(rng, 2) {
        out.iter_mut().for_each(|byte| *byte = if *byte < 128 { 0 } else { *byte % 5 });
    }
    out
}

/// Writes a frame head over the start of `frame` whose checks hold for all of it.
fn seal(frame: &mut [u8], offset: usize, salt: u32, ops: u32, first_seq: u64, synced: u64) {
    let body = &frame[FRAME_HEAD_BYTES..];
    let (crc, bytes) = (crc32c::crc32c_append(salt, body), body.len() as u32);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame[8..12].copy_from_slice(&bytes.to_le_bytes());
    frame[12..16].copy_from_slice(&ops.to_le_bytes());
    frame[16..24].copy_from_slice(&first_seq.to_le_bytes());
    frame[24..32].copy_from_slice(&synced.to_le_bytes());
    let crc = crc32c::crc32c_append(salt.wrapping_add(offset as u32 / 8), &frame[4..FRAME_HEAD_BYTES]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn noise_is_no_frame_no_op_and_no_head() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..20_000 {
        let length = (rng.next_u64() % 200) as usize;
        let bytes = noise(&mut rng, length);
        assert!(FrameHead::read(&bytes, (rng.next_u64() % 256) as usize, 5).is_none());
        assert!(Head::decode(&bytes, "x", 1).is_err());
        let mut rest = bytes.as_slice();
        while let Some(op) = take_op(&mut rest) {
            assert!(op.key.len() + op.value.map_or(0, <[u8]>::len) <= bytes.len());
        }
    }
}

/// A frame of one put whose checks hold, with so many ops as it says, `more` behind the put.
fn one_put(ops: u32, first_seq: u64, synced: u64, more: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEAD_BYTES];
    frame.extend_from_slice(&[1, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, b'k', b'v']);
    frame.extend_from_slice(more);
    seal(&mut frame, HEAD_BYTES, 9, ops, first_seq, synced);
    frame
}

#[test]
fn one_word_that_does_not_fit_is_damage() {
    let head = Head { number: 1, salt: 9, born: Some(Born { first_seq: 1, synced: 0 }) };
    assert_eq!(one_frame(head, &one_put(1, 1, 0, &[])).expect("a frame as it should be"), 1);
    let wrong = [
        one_put(1, 2, 0, &[]),
        one_put(1, 1, 1, &[]),
        one_put(0, 1, 0, &[]),
        one_put(2, 1, 0, &[]),
        one_put(u32::MAX, 1, 0, &[]),
        one_put(1, 1, 0, &[0]),
    ];
    for frame in wrong {
        let found = one_frame(head, &frame);
        assert!(found.as_ref().is_err_and(StorageError::is_damage), "{:?}: {found:?}", &frame[..FRAME_HEAD_BYTES]);
    }
}

/// A log of one segment with `head`, and one frame behind it.
fn one_frame(head: Head, frame: &[u8]) -> Result<u64, StorageError> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("log")).expect("made");
    let mut bytes = head.encode().to_vec();
    bytes.extend_from_slice(frame);
    bytes.resize(SEGMENT_BYTES as usize, 0);
    std::fs::write(dir.path().join("log").join(format!("{:016x}.wal", head.number)), bytes).expect("written");
    found(dir.path(), 0).map(|(_, last)| last)
}

#[test]
fn frames_whose_checks_hold_and_whose_words_do_not_are_damage() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let head = Head { number: 1, salt: 9, born: Some(Born { first_seq: 1, synced: 0 }) };
    let words = [0, 1, 2, 7, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    let word = |rng: &mut ChaCha8Rng| words[(rng.next_u64() % words.len() as u64) as usize];
    for _ in 0..300 {
        let length = FRAME_HEAD_BYTES + (rng.next_u64() % 60) as usize;
        let mut frame = noise(&mut rng, length);
        let (ops, first_seq, synced) = (word(&mut rng) as u32, word(&mut rng), word(&mut rng));
        seal(&mut frame, HEAD_BYTES, head.salt, ops, first_seq, synced);
        match one_frame(head, &frame) {
            Ok(last) => assert!(last == u64::from(ops) && ops < 8 || first_seq == 0, "{ops} {first_seq} {last}"),
            Err(error) => assert!(error.is_damage(), "{error}"),
        }
    }
    let mut mark = vec![0; FRAME_HEAD_BYTES];
    seal(&mut mark, HEAD_BYTES, head.salt, 0, 1, 0);
    assert_eq!(one_frame(head, &mark).expect("a frame as it should be"), 0);
}

#[test]
fn heads_with_extreme_numbers_do_no_harm() {
    for first_seq in [1, 2, u64::MAX / 2, u64::MAX] {
        for number in [1, u64::MAX / 2, u64::MAX] {
            let head = Head { number, salt: 9, born: Some(Born { first_seq, synced: first_seq - 1 }) };
            let found = one_frame(head, &[]);
            assert!(found.is_ok() == (first_seq == 1 && number == 1), "{first_seq} {number}: {found:?}");
        }
    }
}

#[test]
fn files_put_together_at_random_never_hold_more_than_was_written() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut machine = Machine::new();
    for _ in 0..40 {
        let op = some_op(&mut rng);
        machine.append(&[op]);
    }
    let written = machine.written.clone();
    for _ in 0..300 {
        let copy = copy(machine.dir.path());
        let files = files(copy.path());
        let pick = |rng: &mut ChaCha8Rng| &files[(rng.next_u64() % files.len() as u64) as usize];
        for _ in 0..1 + rng.next_u64() % 3 {
            let (from, to) = (pick(&mut rng), pick(&mut rng));
            let source = std::fs::read(from).expect("read");
            let mut bytes = std::fs::read(to).expect("read");
            let length = (rng.next_u64() % 2000) as usize & !7;
            let at = (rng.next_u64() as usize % (bytes.len() - 2000)) & !7;
            let start = (rng.next_u64() as usize % (source.len() - 2000)) & !7;
            let patch =
                if chance(&mut rng, 4) { noise(&mut rng, length) } else { source[start..start + length].to_vec() };
            bytes[at..at + length].copy_from_slice(&patch);
            if chance(&mut rng, 8) {
                bytes.truncate(at.max(4096));
            }
            std::fs::write(to, bytes).expect("written");
        }
        match found(copy.path(), 0) {
            Ok((records, last)) => {
                assert_eq!(records.len() as u64, last);
                assert!(records.iter().zip(&written).all(|((_, record), op)| record == op));
            }
            Err(error) => assert!(error.is_damage(), "{error}"),
        }
    }
}
