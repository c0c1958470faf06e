use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::made::{INCARNATION, Made, flip, kvctl, overwrite};

const DUMP: &[&str] = &["wal", "dump"];
const VERIFY: &[&str] = &["wal", "verify"];

/// Where a record stands: its segment's file, and the offset of its batch.
fn place(made: &Made, record: &Value) -> (PathBuf, u64) {
    let name = format!("segment-{:016x}.log", record["segment"].as_u64().unwrap());
    (made.store().join("log").join(name), record["offset"].as_u64().unwrap())
}

fn indexes(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["index"].as_u64().unwrap()).collect()
}

#[test]
fn a_dump_tells_every_record_in_order() {
    let made = Made::with_log(60);
    let told = made.look(DUMP, &["--json", "--shard", "s1.7"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let entries = told.of_kind("entry");
    assert_eq!(indexes(&entries), (1..=61).collect::<Vec<_>>());
    assert!(told.objects().iter().all(|record| record["shard"] == "s1.7"));
    let third = &entries[2];
    assert_eq!((&third["puts"], &third["deletes"], &third["entry"]), (&1.into(), &1.into(), &"operations".into()));
    assert_eq!((&third["least_key"], &third["greatest_key"]), (&"1:a".into(), &"1:key 003\\n".into()));
    assert_eq!(told.of_kind("hard state")[0]["vote"], "n2/1");
    let segments: Vec<u64> = entries.iter().map(|entry| entry["segment"].as_u64().unwrap()).collect();
    assert!(segments.is_sorted() && segments.first() < segments.last(), "{segments:?}");

    let some = made.look(DUMP, &["--json", "--shard", "16777223", "--from", "50", "--limit", "9"]);
    let kinds = some.of_kind("entry");
    assert_eq!((some.objects().len(), kinds.first().map(|entry| entry["index"].clone())), (9, Some(50.into())));
}

#[test]
fn a_dump_for_people_has_a_line_for_each_record_under_its_header() {
    let made = Made::with_log(5);
    let told = made.look(DUMP, &[]);
    let objects = made.look(DUMP, &["--json"]).objects();
    assert_eq!(told.out.lines().count(), objects.len() + 1);
    assert!(told.out.lines().next().unwrap().contains("batch"));
    let line = told.out.lines().find(|line| line.contains("1:key 004\\n")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[2..6], ["entry", "s1.0", "1", "4"], "{line}");
}

#[test]
fn a_sound_log_is_called_sound_and_its_shards_are_told() {
    let made = Made::with_log(60);
    let told = made.look(VERIFY, &["--json"]);
    assert_eq!(told.code, 0, "{told:?}");
    let log = &told.of_kind("log")[0];
    assert_eq!((&log["store"], &log["entries"]), (&"n3/0".into(), &121.into()));
    assert!(log["segments"].as_u64() > Some(2) && log["synced"].as_u64() <= log["last_batch"].as_u64(), "{log}");
    let shards = told.of_kind("shard");
    let told_of = |at: usize| ["shard", "first", "last", "term", "vote"].map(|name| shards[at][name].to_string());
    assert_eq!(told_of(0), ["\"s1.0\"", "1", "60", "1", "null"]);
    assert_eq!(told_of(1), ["\"s1.7\"", "1", "61", "9", "\"n2/1\""]);
    assert!(told.of_kind("tail").is_empty());
    let words = made.look(VERIFY, &[]);
    assert!(words.out.contains("no unfinished tail") && words.out.ends_with("sound\n"), "{}", words.out);
}

#[test]
fn a_flipped_bit_is_told_with_file_and_offset_and_what_stands_before_it_is_dumped() {
    let made = Made::with_log(60);
    let entries = made.look(DUMP, &["--json", "--shard", "s1.0"]).of_kind("entry");
    let (file, offset) = place(&made, &entries[39]);
    flip(&file, offset + 1000);
    let told = made.look(VERIFY, &["--json"]);
    assert_eq!(told.code, 4, "{told:?}");
    let damage = &told.of_kind("damage")[0];
    assert_eq!(damage["file"].as_str(), file.to_str());
    assert_eq!(damage["offset"], (offset + 1000) / 512 * 512);
    assert!(damage["expected"].as_str().unwrap().contains("crc") && damage["got"].as_str().unwrap().contains("rot"));

    let words = made.look(VERIFY, &[]);
    assert_eq!(words.code, 4);
    let (shown, sector) = (file.display().to_string(), (offset + 1000) / 512 * 512);
    assert!(words.out.contains(&format!("DAMAGED {shown} at offset {sector}: expected")), "{}", words.out);
    let dumped = made.look(DUMP, &["--json", "--shard", "s1.0"]);
    assert_eq!((dumped.code, dumped.of_kind("damage").len()), (4, 1));
    assert_eq!(indexes(&dumped.of_kind("entry")), (1..=39).collect::<Vec<_>>());
}

#[test]
fn a_torn_tail_is_called_a_tail_and_rot_in_the_same_place_is_not() {
    let made = Made::with_log(10);
    let last = made.look(DUMP, &["--json"]).of_kind("entry").pop().unwrap();
    assert_eq!(last["index"], 11);
    let (file, offset) = place(&made, &last);
    let before = fs::read(&file).unwrap();
    // A sector of the last batch is as it was before the write.
    overwrite(&file, offset + 512, &[0; 512]);
    let told = made.look(VERIFY, &["--json"]);
    assert_eq!(told.code, 0, "{told:?}");
    let tail = &told.of_kind("tail")[0];
    assert_eq!((&tail["offset"], tail["segment"].as_u64()), (&offset.into(), last["segment"].as_u64()));
    assert_eq!(told.of_kind("shard")[1]["last"], 10);
    assert!(made.look(VERIFY, &[]).out.contains(&format!("unfinished tail at offset {offset} of segment-")));
    assert!(made.look(DUMP, &[]).err.contains("unfinished tail"));

    fs::write(&file, before).unwrap();
    flip(&file, offset + 600);
    let told = made.look(VERIFY, &["--json"]);
    assert_eq!((told.code, &told.of_kind("damage")[0]["offset"]), (4, &(offset + 512).into()));
}

#[test]
fn a_lost_segment_and_a_lost_log_are_damage() {
    let made = Made::with_log(60);
    let first = made.look(DUMP, &["--json", "--limit", "1"]).objects().remove(0);
    let (file, _) = place(&made, &first);
    fs::remove_file(&file).unwrap();
    let told = made.look(VERIFY, &["--json"]);
    assert_eq!((told.code, told.of_kind("damage")[0]["file"].as_str()), (4, file.to_str()));

    fs::remove_dir_all(made.store().join("log")).unwrap();
    let told = made.look(VERIFY, &[]);
    assert!(told.code == 4 && told.out.contains("expected the log that this store had, got no directory"), "{told:?}");
    fs::create_dir(made.store().join("log")).unwrap();
    assert_eq!(made.look(VERIFY, &[]).code, 4);
}

#[test]
fn whose_log_it_is_can_be_said_and_a_wrong_word_opens_nothing() {
    let made = Made::with_log(3);
    let ours = format!("{INCARNATION:016x}");
    fs::remove_file(made.data().join("identity")).unwrap();
    let told = made.look(VERIFY, &[]);
    assert!(told.code == 2 && told.err.contains("give --node, --store and --incarnation"), "{told:?}");
    assert_eq!(made.look(VERIFY, &["--node", "3", "--incarnation", &ours]).code, 0);
    let told = made.look(VERIFY, &["--node", "4", "--incarnation", &ours]);
    assert!(told.code == 4 && told.out.contains("another store"), "{told:?}");
    let elsewhere = made.data().join("copy");
    fs::rename(made.store(), &elsewhere).unwrap();
    assert!(kvctl(VERIFY, &elsewhere, &["--node", "3", "--incarnation", &ours]).err.contains("give --store"));
    assert_eq!(kvctl(VERIFY, &elsewhere, &["--node", "3", "--incarnation", &ours, "--store", "0"]).code, 0);
}

#[test]
fn a_store_that_is_open_and_one_that_is_not_there_are_left_alone() {
    let made = Made::with_log(3);
    let held = fs::File::open(made.data().join("LOCK")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let told = made.look(VERIFY, &[]);
    assert!(told.code == 2 && told.err.contains("open (pid 1): stop it first"), "{told:?}");
    drop(held);
    assert_eq!(made.look(VERIFY, &[]).code, 0);
    assert_eq!(kvctl(VERIFY, &made.data().join("store-0001"), &[]).code, 2);
    assert!(!made.data().join("store-0001").exists());
    assert!(kvctl(VERIFY, made.data(), &[]).err.contains("name one of its stores"));
}
