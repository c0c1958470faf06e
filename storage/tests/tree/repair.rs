//! A tree found damaged, and a peer's tables in its place while the log stays.

use crate::harness::{Looked, look};
use crate::harness::{Map, Replica, SHARD, at, open, table_files, walk};
use crate::snapshot::{ids, ship};
use ringkv_storage::disk::fault::{Fault, FaultDisk, Injection, block_on};
use ringkv_storage::error::StorageError;
use ringkv_storage::tree::{ScrubPlace, Span, Way};
use ringkv_wire::ids::KeyspaceId;

/// Writes of a round.
const ROUND: u64 = 61;

/// The history that every replica of the shard has: keys written again and again, and one of each round.
fn write(replica: &mut Replica, round: u8) {
    for key in 0..60u8 {
        replica.write(1, &[key % 40, round % 2], (key % 7 != round).then_some(&[key ^ round; 90]));
    }
    replica.write(2, &[round], Some(b"only once"));
}

/// The same history, flushed at other times: other tables. The second is behind the first at its last flush.
fn two() -> (Replica, Replica) {
    let (mut sound, mut other) = (Replica::new(FaultDisk::new(1)), Replica::new(FaultDisk::new(2)));
    for round in 0..5 {
        write(&mut sound, round);
        write(&mut other, round);
        if round != 1 && round != 4 {
            sound.flush().expect("flushes");
        }
        if round < 3 {
            other.flush().expect("flushes");
        }
    }
    (sound, other)
}

/// Byte of the file where the last table of a replica says what it is.
fn footer_of(disk: &FaultDisk, path: &str) -> u64 {
    disk.peek(path).expect("there").len() as u64 - 100
}

/// Replaces the tree of `to` by the tables of `from`, and redoes its own log.
fn repair(from: &Replica, to: &mut Replica) -> Result<(), StorageError> {
    let set = from.tree.tables();
    let receiver = to.tree.receive();
    assert!(ship(&set, &receiver, usize::MAX)?);
    block_on(receiver.install(set.at(), &ids(&set)))?;
    to.redo();
    Ok(())
}

/// What is there by `get`, and how many keys are answered by an error that tells of damage. Wrong data is a panic.
fn read_all(replica: &Replica, expected: &Map) -> usize {
    let mut damaged = 0;
    for write in &replica.log {
        let want = expected.get(&(write.keyspace, write.key.clone()));
        match block_on(replica.tree.get(write.keyspace, &write.key)) {
            Ok(got) => assert_eq!(got.as_ref(), want),
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                assert_eq!(look(&replica.tree, write.keyspace, &write.key), Looked::Disk);
                damaged += 1;
            }
        }
    }
    damaged
}

#[test]
fn a_table_that_does_not_open_closes_only_what_is_not_newer() {
    let (_, mut other) = two();
    let middle = table_files(&other.disk).remove(1);
    other.disk.flip_bit(&middle, footer_of(&other.disk, &middle), 1);
    other.reopen(other.disk.crash_power()).expect("the engine opens");
    let damage = other.tree.damage();
    assert!(matches!(&damage, Some(StorageError::Damaged { path, .. }) if *path == middle), "{damage:?}");
    assert_eq!((other.engine.stats().trees_damaged, other.tree.table_count()), (1, 3));
    assert_eq!(table_files(&other.disk).len(), 3, "the manifest names them still");
    assert!(walk(&other.tree).is_err() && other.tree.tables().damage().is_some());
    let damaged = read_all(&other, &other.expected(3 * ROUND));
    assert!((1..other.log.len()).contains(&damaged), "{damaged} of {}", other.log.len());
    // It goes on: flushes and merges of what is newer, and nothing is forgotten.
    write(&mut other, 5);
    other.flush().expect("flushes");
    block_on(other.tree.settle()).expect("merges");
    assert_eq!((other.tree.table_count(), table_files(&other.disk).len()), (3, 3), "the two newer ones are one");
    other.reopen(other.disk.crash_power()).expect("the engine opens");
    assert_eq!(other.tree.damage().map(|e| e.to_string()), damage.map(|e| e.to_string()));
    read_all(&other, &other.expected(6 * ROUND));
}

#[test]
fn keys_outside_of_a_closed_table_are_read_on() {
    let mut replica = Replica::new(FaultDisk::new(3));
    for round in 0..3u8 {
        for key in 0..30u8 {
            replica.write(1, &[b'a' + round, key], Some(&[key; 90]));
        }
        replica.flush().expect("flushes");
    }
    let middle = table_files(&replica.disk).remove(1);
    replica.disk.flip_bit(&middle, footer_of(&replica.disk, &middle), 1);
    replica.reopen(replica.disk.alive()).expect("opens");
    let expected = replica.expected(replica.index());
    // Each flush seals keyspace 0 too, so that its table reaches from there to its own keys.
    let error = |key: &[u8]| block_on(replica.tree.get(KeyspaceId(1), key)).is_err();
    for key in 0..30u8 {
        assert!(error(&[b'b', key]), "it may be in the closed table");
        assert!(error(&[b'a', key]), "a newer version may be there");
        let newer = [b'c', key];
        let got = block_on(replica.tree.get(KeyspaceId(1), &newer)).expect("readable");
        assert_eq!(got.as_ref(), expected.get(&(KeyspaceId(1), newer.to_vec().into())));
    }
    assert_eq!(block_on(replica.tree.get(KeyspaceId(1), b"d")).expect("behind all of its keys"), None);
    let span = Span::prefix(KeyspaceId(1), b"c");
    let mut walk = replica.tree.range(span, Way::Down);
    let mut seen = 0;
    while let Some((_, key, _)) = block_on(walk.next()).expect("nothing of this range is closed") {
        assert_eq!(key[..], [b'c', 29 - seen]);
        seen += 1;
    }
    assert_eq!(seen, 30);
}

/// Rots every block of a table.
fn rot_blocks(disk: &FaultDisk, path: &str) {
    let bytes = disk.peek(path).expect("there").len() as u64;
    (10..bytes / 2).step_by(400).for_each(|offset| assert!(disk.flip_bit(path, offset, 2)));
}

#[test]
fn a_peers_tables_take_the_place_and_the_log_is_redone() {
    type Hurt = fn(&FaultDisk, &str);
    let ways: [(&str, Hurt); 3] = [
        ("blocks", rot_blocks),
        ("footer", |disk, path| assert!(disk.flip_bit(path, footer_of(disk, path), 1))),
        ("gone", |disk, path| block_on(ringkv_storage::disk::Disk::remove(disk, path)).expect("removed")),
    ];
    for (what, hurt) in ways {
        let (sound, mut other) = two();
        let files = table_files(&other.disk);
        hurt(&other.disk, &files[0]);
        other.reopen(other.disk.alive()).expect("the engine opens");
        assert!(walk(&other.tree).is_err_and(|e| e.is_damage()) && other.tree.damage().is_some(), "{what}");
        repair(&sound, &mut other).expect("repairs");
        assert!(other.tree.damage().is_none(), "{what}");
        assert_eq!(other.tree.flushed(), Some(at(4 * ROUND)), "what the peer had flushed");
        other.check();
        let left = table_files(&other.disk);
        assert!(left.len() == 3 && left.iter().all(|path| !files.contains(path)), "{what}: {left:?}");
        other.reopen(other.disk.crash_power()).expect("opens");
        other.check();
        assert_eq!(walk(&other.tree).unwrap(), other.expected(4 * ROUND));
    }
}

#[test]
fn a_crash_at_every_change_of_a_repair_leaves_the_damaged_tree_or_the_new_one() {
    let (sound, other) = two();
    let victim = table_files(&other.disk).remove(1);
    let (mut before, mut after) = (0, 0);
    for changes in 0.. {
        let mut replica = other.fork(changes);
        replica.disk.flip_bit(&victim, footer_of(&replica.disk, &victim), 1);
        replica.reopen(replica.disk.alive()).expect("opens");
        replica.disk.crash_after_writes(changes);
        let repaired = repair(&sound, &mut replica);
        if !replica.disk.is_down() {
            assert!(repaired.is_ok() && changes > 12, "{changes}: {repaired:?}");
            break;
        }
        let kept = replica.acknowledged;
        replica
            .reopen(if changes % 2 == 0 { replica.disk.crash_power() } else { replica.disk.crash_process() })
            .unwrap();
        if replica.tree.damage().is_none() {
            replica.check();
            after += 1;
            continue;
        }
        assert!(kept == 3 * ROUND, "a repair that was acknowledged stays");
        read_all(&replica, &replica.expected(3 * ROUND));
        assert_eq!(table_files(&replica.disk).len(), 3, "parts of the peer's tables are gone, the own are not");
        repair(&sound, &mut replica).expect("the next try");
        replica.check();
        before += 1;
    }
    assert!(before >= 8 && after >= 1, "{before} before, {after} after");
}

#[test]
fn rot_is_not_shipped() {
    let (sound, mut other) = two();
    rot_blocks(&sound.disk, &table_files(&sound.disk)[1]);
    other.write(1, b"mine", Some(b"stays"));
    assert!(sound.tree.damage().is_none(), "nobody has read it yet");
    let error = repair(&sound, &mut other).expect_err("the sender proves what it sends");
    assert!(error.is_damage(), "{error}");
    let known = sound.tree.damage().map(|e| e.to_string());
    assert_eq!(known, Some(error.to_string()), "and knows it now");
    assert!(sound.tree.tables().damage().is_some());
    other.check();
}

#[test]
fn what_is_shipped_is_the_file() {
    let (sound, _) = two();
    let set = sound.tree.tables();
    for (table, path) in set.list().iter().rev().zip(table_files(&sound.disk)) {
        let file = sound.disk.peek(&path).expect("there");
        for bytes in [100, 512, 700, 4096, file.len()] {
            for offset in (0..file.len()).step_by(bytes) {
                let piece = block_on(set.read(table.id, offset as u64, bytes)).expect("sound");
                assert_eq!(piece[..], file[offset..(offset + bytes).min(file.len())]);
            }
        }
    }
}

/// A disk that gives wrong bytes once is not a rotten table.
#[test]
fn what_reads_well_the_second_time_is_no_damage() {
    let mut struck = 0;
    for skip in 0..40 {
        let (sound, _) = two();
        let engine = open(&sound.disk, 50).expect("opens");
        let fault = if skip % 2 == 0 { Fault::Eio } else { Fault::MisdirectedRead };
        sound.disk.inject(Injection { path: ".sst".into(), skip: skip / 2, fault });
        let tree = engine.tree(SHARD);
        let expected = sound.expected(4 * ROUND);
        for key in 0..40u8 {
            let got = block_on(tree.get(KeyspaceId(1), &[key, 0]));
            let want = expected.get(&(KeyspaceId(1), vec![key, 0].into())).filter(|value| value.version <= 4 * ROUND);
            assert!(want.is_none() || got.expect("the second try").as_ref() == want);
        }
        struck += usize::from(sound.disk.pending_injections() == 0);
        assert!(tree.damage().is_none(), "{:?}", tree.damage());
    }
    assert!(struck > 20, "{struck}");
}

/// Walks all tables in small steps; whether the walk came to its end.
fn scrub(replica: &Replica) -> bool {
    let mut place = ScrubPlace::default();
    for _ in 0..1_000 {
        let (next, bytes) = block_on(replica.tree.scrub(place, 2_000));
        let Some(next) = next else { return true };
        assert!(next > place && (bytes > 0 || next.cmp(&place).is_gt()));
        place = next;
    }
    false
}

#[test]
fn a_scrub_finds_every_rotten_byte() {
    let (sound, _) = two();
    assert!(scrub(&sound) && sound.tree.damage().is_none(), "nothing is wrong before");
    let path = table_files(&sound.disk)[1].clone();
    let bytes = sound.disk.peek(&path).expect("there").len() as u64;
    for offset in (0..bytes).step_by(61) {
        let replica = sound.fork(offset);
        replica.disk.flip_bit(&path, offset, 5);
        assert!(scrub(&replica), "it goes on behind the damage");
        // Behind the last block zeros fill a page: nobody needs them, and they are compared as well.
        let damage = replica.tree.damage();
        assert!(
            matches!(&damage, Some(StorageError::Damaged { path: p, .. }) if *p == path),
            "byte {offset}: {damage:?}"
        );
    }
}
