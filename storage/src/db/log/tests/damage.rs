//! Bytes that are not what was written: the same records, fewer behind what is known durable, or damage.

use super::rig::{Found, Owned, Rig, SEGMENT_BYTES, copy, files, found, numbered};
use crate::db::log::Position;
use crate::db::log::head::HEAD_BYTES;
use crate::error::StorageError;
use std::path::Path;
use tempfile::TempDir;

const VALUE_BYTES: usize = 300;

/// Records up to `synced` are durable, and a frame behind says so; then come some until `last`.
fn log(synced: u64, last: u64) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rig, _) = Rig::open(dir.path(), 0).expect("opened");
    for _ in 0..synced {
        rig.put(VALUE_BYTES);
    }
    rig.shared.sync_to(Position(synced)).expect("synced");
    rig.append(&[]);
    for _ in synced..last {
        rig.put(VALUE_BYTES);
    }
    dir
}

fn expected(last: u64) -> Vec<(u64, Owned)> {
    (1..=last).map(|seq| (seq, numbered(seq, VALUE_BYTES))).collect()
}

/// Changes the file at `path` of a copy of `dir` and opens it.
fn changed(dir: &Path, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Found {
    let copy = copy(dir);
    let path = copy.path().join("log").join(path.file_name().expect("a name"));
    let mut bytes = std::fs::read(&path).expect("read");
    change(&mut bytes);
    std::fs::write(&path, bytes).expect("written");
    found(copy.path(), 0)
}

fn is_damage(found: &Found) -> bool {
    matches!(found, Err(StorageError::Damaged { .. }))
}

/// `found` is damage, or a prefix that holds all up to `synced`.
fn is_sound(found: &Found, synced: u64) -> bool {
    match found {
        Ok((records, last)) => *last >= synced && *records == expected(*last),
        Err(_) => is_damage(found),
    }
}

#[test]
fn a_flipped_bit_anywhere_is_damage_or_costs_what_was_not_synced() {
    let dir = log(100, 110);
    let files = files(dir.path());
    assert!(files.len() >= 3);
    let mut damaged = 0;
    for file in &files {
        let bytes = std::fs::metadata(file).expect("looked").len() as usize;
        for at in (0..HEAD_BYTES).chain((HEAD_BYTES..bytes).step_by(37)) {
            let found = changed(dir.path(), file, |bytes| bytes[at] ^= 1 << (at % 8));
            assert!(is_sound(&found, 100), "{file:?} at {at}: {found:?}");
            damaged += u64::from(is_damage(&found));
            // All of the head counts, and so does each body.
            assert!(at >= 64 || is_damage(&found), "{file:?} at {at}");
        }
    }
    assert!(damaged > 800, "{damaged}");
}

#[test]
fn a_cut_at_every_byte_of_the_last_frames_costs_those_alone() {
    let dir = log(20, 23);
    let file = &files(dir.path())[0];
    let frame = 32 + 12 + 8 + VALUE_BYTES;
    let from = HEAD_BYTES + 20 * frame + 32;
    for at in from..=from + 3 * frame {
        let last = 20 + (at - from) as u64 / frame as u64;
        let cut = changed(dir.path(), file, |bytes| bytes.truncate(at));
        assert_eq!(cut.expect("opened"), (expected(last), last), "cut at {at}");
        let zeroed = changed(dir.path(), file, |bytes| bytes[at..].fill(0));
        assert!(is_sound(&zeroed, last), "{at}: {zeroed:?}");
        // A frame may end in zeros of its own.
        assert!(zeroed.expect("opened").1 <= last + 1);
    }
}

#[test]
fn a_hole_in_what_was_synced_is_damage_and_behind_it_is_the_end() {
    let dir = log(100, 110);
    let files = files(dir.path());
    for (at, file) in files.iter().enumerate() {
        let bytes = std::fs::metadata(file).expect("looked").len() as usize;
        for page in (4096..bytes).step_by(4096) {
            let found = changed(dir.path(), file, |bytes| bytes[page..page + 4096].fill(0));
            assert!(is_sound(&found, 100), "{file:?} at {page}");
            assert!(at + 1 == files.len() || is_damage(&found), "{file:?} at {page}");
        }
    }
}

#[test]
fn a_lost_file_is_damage_when_it_was_synced() {
    let dir = log(100, 110);
    let files = files(dir.path());
    for file in &files[..files.len() - 1] {
        let copy = copy(dir.path());
        std::fs::remove_file(copy.path().join("log").join(file.file_name().expect("a name"))).expect("removed");
        let found = found(copy.path(), 0);
        assert!(is_damage(&found), "{file:?}: {found:?}");
    }
    let empty = tempfile::tempdir().expect("a directory");
    assert!(is_damage(&found(empty.path(), 5)), "records were flushed, so there was a log");
    assert_eq!(found(dir.path(), 0).expect("opened").1, 110);
}

#[test]
fn a_file_under_another_name_is_damage() {
    // The second one is behind the last then; the last one is where it was.
    for back in [false, true] {
        let dir = log(100, 110);
        let mut files = files(dir.path());
        let moved = if back { files.pop().expect("a file") } else { files.remove(1) };
        std::fs::rename(moved, dir.path().join("log/00000000000000ff.wal")).expect("renamed");
        assert!(is_damage(&found(dir.path(), 0)));
    }
}

#[test]
fn an_older_version_is_read_and_a_newer_one_refused() {
    let dir = log(3, 3);
    let of_version = |version| {
        changed(dir.path(), &files(dir.path())[0], |bytes| {
            bytes[4] = version;
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        })
    };
    assert_eq!(of_version(1).expect("opened"), (expected(3), 3));
    let newer = of_version(3);
    assert!(matches!(newer, Err(StorageError::Newer { got: 3, known: 2, .. })), "{newer:?}");
}

#[test]
fn nothing_is_changed_where_there_is_damage() {
    let dir = log(100, 110);
    let file = files(dir.path())[1].clone();
    let mut bytes = std::fs::read(&file).expect("read");
    bytes[5000] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let state = |dir: &Path| -> Vec<(std::path::PathBuf, Vec<u8>)> {
        files(dir).into_iter().map(|file| (file.clone(), std::fs::read(file).expect("read"))).collect()
    };
    let before = state(dir.path());
    assert!(is_damage(&found(dir.path(), 0)));
    assert_eq!(state(dir.path()), before);
}

#[test]
fn a_frame_that_moved_is_no_frame() {
    let dir = log(10, 10);
    let frame = 32 + 12 + 8 + VALUE_BYTES;
    let file = &files(dir.path())[0];
    // The mark behind the last record, again where the next frame would be: taken, it would be proof of what it says.
    let moved = changed(dir.path(), file, |bytes| {
        let mark = HEAD_BYTES + 10 * frame;
        bytes.copy_within(mark..mark + 32, mark - frame);
        bytes[mark..mark + 32].fill(0);
    });
    assert_eq!(moved.expect("opened").1, 9);
    assert!(SEGMENT_BYTES as usize > HEAD_BYTES + 11 * frame);
}

/// No frame says so here: the head of the next segment alone does.
#[test]
fn a_hole_in_what_an_opening_made_durable_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rig, _) = Rig::open(dir.path(), 0).expect("opened");
    for _ in 0..10 {
        rig.put(VALUE_BYTES);
    }
    drop(rig);
    assert_eq!(found(dir.path(), 0).expect("opened").1, 10);
    for record in 0..10 {
        let at = HEAD_BYTES + record * (32 + 12 + 8 + VALUE_BYTES) + 100;
        let found = changed(dir.path(), &files(dir.path())[0], |bytes| bytes[at] ^= 1);
        assert!(is_damage(&found), "record {record}: {found:?}");
    }
}
