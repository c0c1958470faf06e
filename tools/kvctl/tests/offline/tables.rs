use std::fs;

use serde_json::Value;

use crate::made::{Made, covers, flip, overwrite};

const STATS: &[&str] = &["sst", "stats"];
const DUMP: &[&str] = &["sst", "dump"];
const VERIFY: &[&str] = &["sst", "verify"];

fn keys(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["key"].as_str().unwrap()).collect()
}

#[test]
fn stats_tell_what_the_manifest_and_the_tables_say() {
    let made = Made::with_tables();
    let told = made.look(STATS, &["--json"]);
    assert_eq!(told.code, 0, "{told:?}");
    let tables = told.of_kind("table");
    let of = |at: usize| {
        ["tree", "newer", "entries", "tombstones", "version_min", "version_max"].map(|n| tables[at][n].to_string())
    };
    assert_eq!(of(0), ["\"s1.7\"", "0", "101", "1", "1001", "2000"]);
    assert_eq!(of(1), ["\"s1.7\"", "1", "1000", "0", "1", "1000"]);
    let (older, file) = (&tables[1], &made.tables()[0]);
    assert_eq!(older["file"].as_str(), file.to_str());
    assert_eq!((older["least"].as_str(), older["greatest"].as_str()), (Some("1:key 000\\n"), Some("1:key 999\\n")));
    assert_eq!(older["bytes"], fs::metadata(file).unwrap().len());
    assert_eq!((older["key_bytes"].as_u64(), older["value_bytes"].as_u64()), (Some(8_000), Some(100_000)));
    let number = |name: &str| older[name].as_f64().unwrap();
    assert!((number("index_bytes_per_key") - number("index_bytes") / 1000.0).abs() < 0.01);
    assert!((7.0..20.0).contains(&number("filter_bits_per_key")), "{older}");

    // The same file by itself, and all by the data directory.
    let mut lone = made.look_at(STATS, file, &["--json"]).of_kind("table").remove(0);
    for name in ["level", "run", "tree", "newer"] {
        assert_eq!(lone[name], Value::Null);
        lone[name] = older[name].clone();
    }
    assert_eq!(&lone, older);
    assert_eq!(made.look_at(STATS, made.data(), &["--json"]).objects(), told.objects());
    assert!(made.look(STATS, &[]).out.contains("key 999"));
}

#[test]
fn a_file_that_the_manifest_does_not_name_belongs_to_no_tree() {
    let made = Made::with_tables();
    fs::copy(&made.tables()[0], made.store().join("tables/00000000000000ff.sst")).unwrap();
    let tables = made.look(STATS, &["--json"]).of_kind("table");
    assert_eq!(
        tables.iter().map(|table| table["tree"].as_str()).collect::<Vec<_>>(),
        [Some("s1.7"), Some("s1.7"), None]
    );
}

#[test]
fn a_dump_has_all_records_in_order() {
    let made = Made::with_tables();
    let (older, newer) = (made.tables()[0].clone(), made.tables()[1].clone());
    let told = made.look_at(DUMP, &older, &["--json"]);
    let records = told.objects();
    assert_eq!((told.code, records.len()), (0, 1000));
    let expected: Vec<String> = (0..1000).map(|key| format!("1:key {key:03}\\n")).collect();
    assert_eq!(keys(&records), expected);
    assert_eq!((&records[7]["version"], &records[7]["value_bytes"]), (&8.into(), &100.into()));
    assert!(records[7].get("value").is_none());

    let some = made.look_at(DUMP, &newer, &["--json", "--values", "--limit", "2"]).objects();
    assert_eq!(keys(&some), ["1:key 000\\n", "1:key 005\\n"]);
    assert_eq!((some[0]["value"].as_str(), &some[1]["kind"]), (Some("w".repeat(50).as_str()), &"tombstone".into()));
    let words = made.look_at(DUMP, &newer, &["--limit", "2"]).out;
    assert!(words.lines().count() == 3 && words.contains("2000 tombstone"), "{words}");
    assert_eq!(made.look(DUMP, &["--json", "--limit", "102"]).objects().len(), 102, "over both tables");
}

#[test]
fn every_damaged_block_is_told_with_its_keys_and_the_rest_is_dumped() {
    let made = Made::with_tables();
    assert_eq!(made.look(VERIFY, &["--json"]).objects()[0]["damages"], 0);
    let older = made.tables()[0].clone();
    let flipped = [3 * 4096 + 100, 9 * 4096 + 1];
    flipped.iter().for_each(|offset| flip(&older, *offset));
    let told = made.look(VERIFY, &["--json"]);
    assert_eq!(told.code, 4, "{told:?}");
    let damages = told.of_kind("damage");
    assert_eq!(damages.len(), 2);
    for (damage, flipped) in damages.iter().zip(flipped) {
        // Where the block begins.
        let offset = damage["offset"].as_u64().unwrap();
        assert!((offset..offset + 4096).contains(&flipped), "{damage}");
    }
    assert!(damages.iter().all(|damage| damage["file"].as_str() == older.to_str()));
    assert!(damages[0]["expected"].as_str().unwrap().starts_with("crc"), "{told:?}");
    assert_eq!(told.of_kind("verified")[0]["damages"], 2);
    let words = format!("at offset {}: expected crc", damages[1]["offset"]);
    assert!(made.look(VERIFY, &[]).out.contains(&words));

    let dumped = made.look_at(DUMP, &older, &["--json"]);
    assert_eq!((dumped.code, dumped.of_kind("damage").len()), (4, 2));
    let values = dumped.of_kind("value");
    let left = keys(&values);
    let missing: Vec<String> =
        (0..1000).map(|key| format!("1:key {key:03}\\n")).filter(|key| !left.contains(&key.as_str())).collect();
    assert!((2..200).contains(&missing.len()) && missing.len() + left.len() == 1000);
    for key in &missing {
        assert_eq!(damages.iter().filter(|damage| covers(damage, key)).count(), 1, "{key}");
    }
    assert!(!left.iter().any(|key| damages.iter().any(|damage| covers(damage, key))));
}

#[test]
fn tables_of_one_run_stand_side_by_side_with_their_level_and_how_blocks_are_stored() {
    let made = Made::settled(&[]);
    let told = made.look(STATS, &["--json"]);
    let tables = told.of_kind("table");
    assert!(told.code == 0 && tables.len() > 3, "{told:?}");
    for table in &tables {
        assert_eq!(["level", "run", "newer"].map(|name| table[name].as_u64().unwrap()), [6, 0, 0]);
        let of = |name: &str| table["stored"][name].as_u64().unwrap();
        assert_eq!(of("plain") + of("lz4") + of("zstd"), table["blocks"]);
    }
    let (first, last) = (&tables[0], &tables[tables.len() - 1]);
    assert_eq!((&first["stored"]["lz4"], &last["stored"]["plain"]), (&0.into(), &0.into()), "only some get smaller");
    let ends = |table: &Value| ["least", "greatest"].map(|name| table[name].as_str().unwrap().to_owned());
    let ends: Vec<_> = tables.iter().flat_map(ends).collect();
    assert!(ends.is_sorted() && ends[0] == "1:key 000\\n", "{ends:?}");
    assert!(made.look(STATS, &[]).out.contains(" lz4"));

    // Blocks of a table whose keys all begin alike.
    let table = made.tables().remove(1);
    let whole = made.look_at(DUMP, &table, &["--json"]).objects();
    flip(&table, 4096 + 100);
    let told = made.look_at(DUMP, &table, &["--json"]);
    let (damage, left) = (told.of_kind("damage").remove(0), told.of_kind("value"));
    let lost: Vec<&str> = keys(&whole).into_iter().filter(|key| !keys(&left).contains(key)).collect();
    assert!(lost.len() > 1 && lost.len() + left.len() == whole.len());
    assert_eq!(keys(&whole).into_iter().filter(|key| covers(&damage, key)).collect::<Vec<_>>(), lost, "{damage}");
    let told = made.look(STATS, &["--json"]);
    assert_eq!((told.code, told.of_kind("damage")), (4, vec![damage]), "stats read the blocks");

    // A table that is gone: what the manifest knows of it.
    fs::remove_file(&table).unwrap();
    let gone = made.look(VERIFY, &["--json"]).of_kind("damage").remove(0);
    assert_eq!([&gone["keys_from"], &gone["keys_to"]], [&tables[1]["least"], &tables[1]["greatest"]]);
}

#[test]
fn what_does_not_open_is_told_and_the_others_are_looked_at() {
    let made = Made::with_tables();
    let older = made.tables()[0].clone();
    let end = fs::metadata(&older).unwrap().len();
    flip(&older, end - 100);
    let told = made.look(STATS, &["--json"]);
    assert_eq!((told.code, told.of_kind("table").len(), told.of_kind("damage").len()), (4, 1, 1));
    assert_eq!(told.of_kind("damage")[0]["offset"], end - 128);
    fs::File::options().write(true).open(&older).unwrap().set_len(5000).unwrap();
    assert_eq!(made.look(VERIFY, &["--json"]).of_kind("damage")[0]["offset"], 5000);
    fs::remove_file(&older).unwrap();
    let told = made.look(VERIFY, &["--json"]);
    assert_eq!((told.code, told.of_kind("damage")[0]["got"].as_str()), (4, Some("no file")));
}

#[test]
fn a_damaged_manifest_is_told_and_the_files_are_looked_at_without_it() {
    let made = Made::with_tables();
    overwrite(&made.store().join("CURRENT"), 9, b"x");
    let told = made.look(VERIFY, &["--json"]);
    assert_eq!((told.code, &told.of_kind("verified")[0]["tables"]), (4, &2.into()));
    assert!(told.of_kind("damage")[0]["file"].as_str().unwrap().ends_with("CURRENT"));
    assert_eq!(made.look(STATS, &["--json"]).of_kind("table")[0]["tree"], Value::Null);
}

#[test]
fn directories_of_a_running_node_are_left_alone_and_what_is_no_table_is_refused() {
    let made = Made::with_tables();
    let held = fs::File::open(made.data().join("LOCK")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    for path in [made.data(), &made.store()] {
        assert_eq!(made.look_at(VERIFY, path, &[]).code, 2);
    }
    // A table never changes.
    assert_eq!(made.look_at(VERIFY, &made.tables()[0], &[]).code, 0);
    assert_eq!(made.look_at(VERIFY, &made.data().join("none"), &[]).code, 2);
    assert_eq!(made.look_at(VERIFY, &made.store().join("tables"), &[]).code, 2);
    assert_eq!(made.look_at(VERIFY, &made.data().join("identity"), &[]).code, 4);
}
