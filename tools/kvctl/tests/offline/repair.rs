use std::collections::BTreeMap;
use std::fs;

use ringkv_wire::ids::{KeyspaceId, StoreId};

use serde_json::Value;

use crate::made::{Made, block_on, covers, flip, flushed, sessions};

const REPAIR: &[&str] = &["repair", "--store"];
const ACCEPT: &[&str] = &["--accept-loss", "--json"];
const ME: StoreId = StoreId::new(3, 0);

/// Keys of the tree and their versions, as the engine reads them.
fn content(made: &Made) -> BTreeMap<String, u64> {
    block_on(async {
        let (tree, mut content) = (made.tree().await, BTreeMap::new());
        let mut iter = tree.iter();
        while let Some((keyspace, key, value)) = iter.next().await.unwrap() {
            content.insert(format!("{}:{}", keyspace.0, key.escape_ascii()), value.version);
        }
        content
    })
}

/// A lone replica whose older table has two bad blocks.
fn damaged() -> Made {
    let made = Made::with_voters(&[ME]);
    flip(&made.tables()[0], 3 * 4096 + 100);
    flip(&made.tables()[0], 9 * 4096 + 1);
    made
}

#[test]
fn without_the_flag_the_loss_is_told_and_nothing_is_changed() {
    let made = damaged();
    let told = made.look(REPAIR, &["--json"]);
    assert_eq!(told.code, 4, "{told:?}");
    let (tree, damages) = (&told.of_kind("tree")[0], told.of_kind("damage"));
    assert_eq!((damages.len(), &tree["tree"], tree["refused"].is_null()), (2, &"s1.7".into(), true));
    assert_eq!(tree["may_show_older"], false, "they are in the oldest table");
    assert_eq!((&damages[0]["version_min"], &damages[0]["version_max"]), (&1.into(), &1000.into()));
    let left = made.look_at(&["sst", "dump"], &made.tables()[0], &["--json"]).of_kind("value").len() as u64;
    assert_eq!(tree["records_lost"], 1001 - left);
    let words = made.look(REPAIR, &[]).out;
    assert!(words.contains("nothing was changed") && words.contains("--accept-loss"), "{words}");
}

#[test]
fn with_the_flag_exactly_what_was_told_is_lost() {
    let sound = Made::with_voters(&[ME]);
    let whole = content(&sound);
    let made = damaged();
    let told = made.look(REPAIR, &["--json"]);
    let damages = told.of_kind("damage");
    let lost = |key: &str| damages.iter().any(|damage| covers(damage, key));
    let (file, rotten) = (made.tables()[0].clone(), fs::read(&made.tables()[0]).unwrap());
    let repaired = made.repair(ACCEPT);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    assert_eq!(repaired.of_kind("repaired")[0]["records_lost"], told.of_kind("tree")[0]["records_lost"]);

    // The newer table's keys are all there; of the older one's, those outside of the bad blocks.
    let expected: BTreeMap<String, u64> =
        whole.into_iter().filter(|(key, version)| *version > 1000 || !lost(key)).collect();
    assert!(expected.len() > 800 && expected.len() < 999, "{}", expected.len());
    assert_eq!(content(&made), expected);
    let flushed = block_on(async { made.tree().await.flushed().unwrap() });
    assert_eq!((flushed.index, flushed.term, flushed.config.is_empty()), (2000, 1, false));

    // The rotten file is kept, under the table's name for life.
    assert!(!file.exists());
    let kept: Vec<_> =
        fs::read_dir(made.store().join("lost+found")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!((kept.len(), fs::read(&kept[0]).unwrap() == rotten), (1, true));
    assert_eq!(made.look(&["sst", "verify"], &[]).code, 0);
    assert_eq!(made.look(REPAIR, ACCEPT).code, 0, "nothing is left to do");
}

#[test]
fn a_lost_file_loses_its_table_and_no_more() {
    let made = Made::with_voters(&[ME]);
    fs::remove_file(&made.tables()[0]).unwrap();
    let told = made.look(REPAIR, &["--json"]);
    assert_eq!((told.code, told.of_kind("tree")[0]["records_lost"].is_null()), (4, true));
    assert_eq!(made.repair(ACCEPT).code, 0);
    let content = content(&made);
    assert_eq!((content.len(), content.values().min()), (101, Some(&1001)));
}

/// A settled tree of a lone replica, and a newer run above it with every hundredth key and the session table.
fn flushed_over_settled() -> Made {
    let made = Made::settled(&[ME]);
    block_on(async {
        let tree = made.tree().await;
        for key in (0..1000).step_by(100) {
            tree.put(1101 + key, KeyspaceId(1), format!("key {key:03}\n").as_bytes(), vec![b'x'; 50].into());
        }
        tree.flush(flushed(2100, &[ME]), sessions()).await.unwrap();
    });
    made
}

/// What `sst stats` says of a number of each table.
fn stats(made: &Made, name: &str) -> Vec<u64> {
    let tables = made.look(&["sst", "stats"], &["--json"]).of_kind("table");
    tables.iter().map(|table| table[name].as_u64().unwrap()).collect()
}

#[test]
fn a_table_lost_from_the_midst_of_the_last_level_loses_its_own_keys_and_no_more() {
    let made = flushed_over_settled();
    let whole = content(&made);
    // The last is the newest run.
    let (files, runs) = (made.tables(), stats(&made, "newer"));
    assert!(runs.len() > 4 && runs[0] == 0 && runs[1..].iter().all(|newer| *newer == 1), "{runs:?}");
    fs::remove_file(&files[2]).unwrap();
    let told = made.look(REPAIR, &["--json"]);
    let (tree, damage) = (&told.of_kind("tree")[0], &told.of_kind("damage")[0]);
    assert_eq!((told.code, &tree["refused"], &tree["records_lost"]), (4, &Value::Null, &Value::Null));
    assert_eq!(tree["may_show_older"], false, "nothing lies below the last level");
    let [from, to] = ["keys_from", "keys_to"].map(|name| damage[name].as_str().unwrap());
    let words = made.look(REPAIR, &[]).out;
    assert!(words.contains(&format!("keys from {from} to {to}; any version")), "{words}");
    assert!(words.contains("a whole table lost") && words.contains("no older value"), "{words}");

    assert_eq!(made.repair(ACCEPT).code, 0);
    let lost = |key: &str| from <= key && key <= to;
    let expected: BTreeMap<String, u64> =
        whole.clone().into_iter().filter(|(key, version)| *version > 1100 || !lost(key)).collect();
    assert!(expected.len() > 700 && expected.len() < whole.len() - 50, "{} of {}", expected.len(), whole.len());
    assert_eq!(content(&made), expected);
    assert_eq!((stats(&made, "newer"), stats(&made, "level")[1]), (runs[..runs.len() - 1].to_vec(), 6));
}

#[test]
fn bad_blocks_of_one_run_are_written_anew_in_their_place_and_as_they_were_stored() {
    let made = flushed_over_settled();
    let (whole, files) = (content(&made), made.tables());
    let (second, last) = (&files[1], &files[files.len() - 2]);
    [second, last].iter().for_each(|file| flip(file, 100));
    let told = made.look(REPAIR, &["--json"]);
    let (tree, damages) = (&told.of_kind("tree")[0], told.of_kind("damage"));
    assert_eq!((damages.len(), &tree["refused"], &tree["may_show_older"]), (2, &Value::Null, &false.into()));
    assert_eq!(made.repair(ACCEPT).code, 0);
    let lost = |key: &str| damages.iter().any(|damage| covers(damage, key));
    let expected: BTreeMap<String, u64> =
        whole.clone().into_iter().filter(|(key, version)| *version > 1100 || !lost(key)).collect();
    assert!(expected.len() < whole.len() - 2);
    assert_eq!(content(&made), expected);
    let tables = made.look(&["sst", "stats"], &["--json"]).of_kind("table");
    let (first, last) = (&tables[0]["stored"], &tables[tables.len() - 1]["stored"]);
    assert_eq!((&first["lz4"], &last["plain"]), (&0.into(), &0.into()), "{first} {last}");
}

#[test]
fn a_damaged_run_may_show_what_lies_below_it_and_a_session_table_is_needed_only_once() {
    // The newest run has the session table that counts.
    let made = flushed_over_settled();
    let newest = made.tables().pop().unwrap();
    flip(&newest, 100);
    let tree = made.look(REPAIR, &["--json"]).of_kind("tree").remove(0);
    assert!(tree["may_show_older"] == true && tree["refused"].as_str().unwrap().contains("session table"), "{tree}");
    fs::remove_file(&newest).unwrap();
    let tree = made.look(REPAIR, &["--json"]).of_kind("tree").remove(0);
    assert!(tree["may_show_older"] == true && tree["refused"].as_str().unwrap().contains("session table"), "{tree}");
    // While it is there, the one below is not needed, be it damaged or gone with its table.
    let made = flushed_over_settled();
    flip(&made.tables()[0], 10);
    assert_eq!(made.look(REPAIR, &["--json"]).of_kind("tree")[0]["refused"], Value::Null);
    fs::remove_file(&made.tables()[0]).unwrap();
    assert_eq!(made.repair(ACCEPT).code, 0);
    // Without a newer run the last level has it, in its first block of its first table.
    let made = Made::settled(&[ME]);
    flip(&made.tables()[1], 10);
    assert_eq!(made.look(REPAIR, &["--json"]).of_kind("tree")[0]["refused"], Value::Null);
    flip(&made.tables()[0], 10);
    let tree = made.look(REPAIR, &["--json"]).of_kind("tree").remove(0);
    assert!(tree["refused"].as_str().unwrap().contains("session table"), "{tree}");
}

#[test]
fn a_tree_of_many_levels_keeps_what_is_newer_above_what_is_older() {
    let made = Made::leveled(&[ME]);
    let (whole, levels) = (content(&made), stats(&made, "level"));
    assert!(levels.is_sorted() && [4, 5, 6].iter().all(|level| levels.contains(level)), "{levels:?}");
    let middle = levels.iter().rposition(|level| *level == 5).unwrap();
    let files = made.look(&["sst", "stats"], &["--json"]).of_kind("table");
    let damage = |at: usize| flip(files[at]["file"].as_str().unwrap().as_ref(), 100);
    damage(files.len() - 1);
    assert_eq!(made.look(REPAIR, &["--json"]).of_kind("tree")[0]["may_show_older"], false);
    damage(middle);
    let told = made.look(REPAIR, &["--json"]);
    let (tree, damages) = (&told.of_kind("tree")[0], told.of_kind("damage"));
    assert_eq!((damages.len(), &tree["refused"], &tree["may_show_older"]), (2, &Value::Null, &true.into()));
    assert_eq!(made.repair(ACCEPT).code, 0);
    let (now, lost) = (content(&made), |key: &str| damages.iter().any(|damage| covers(damage, key)));
    assert!(whole.iter().all(|(key, version)| lost(key) || now.get(key) == Some(version)));
    assert!(now.iter().all(|(key, version)| *version <= whole[key]) && now.len() < whole.len());
}

#[test]
fn what_would_break_more_than_it_repairs_is_refused() {
    let refused = |made: &Made, why: &str| {
        let told = made.look(REPAIR, ACCEPT);
        assert_eq!(told.code, 4, "{told:?}");
        let said = told.of_kind("tree")[0]["refused"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains(why), "{said}");
    };
    // Peers would be left with another tree.
    let made = Made::with_voters(&[ME, StoreId::new(1, 0), StoreId::new(2, 0)]);
    flip(&made.tables()[0], 3 * 4096 + 100);
    refused(&made, "other replicas");
    let made = Made::with_voters(&[StoreId::new(1, 0)]);
    flip(&made.tables()[0], 3 * 4096 + 100);
    refused(&made, "other replicas");
    // The newest session table; an older one is not needed.
    let made = Made::with_voters(&[ME]);
    flip(&made.tables()[1], 10);
    refused(&made, "session table");
    fs::remove_file(&made.tables()[1]).unwrap();
    refused(&made, "session table");
    let made = Made::with_voters(&[ME]);
    flip(&made.tables()[0], 10);
    assert_eq!(made.repair(ACCEPT).code, 0);
    // A table whose filter or index rots may have all its blocks.
    let made = Made::with_voters(&[ME]);
    let end = fs::metadata(&made.tables()[0]).unwrap().len();
    flip(&made.tables()[0], end - 100);
    refused(&made, "does not open");
}

#[test]
fn a_store_that_is_open_is_refused_and_a_sound_one_is_left_alone() {
    let made = Made::with_voters(&[ME]);
    assert!(made.look(REPAIR, &["--accept-loss"]).out.contains("no tree is damaged"));
    flip(&made.tables()[0], 3 * 4096 + 100);
    let held = fs::File::open(made.data().join("LOCK")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockShared).unwrap();
    assert_eq!(made.look(REPAIR, &[]).code, 4, "others may look too");
    let told = made.look(REPAIR, &["--accept-loss"]);
    assert!(told.code == 2 && told.err.contains("stop it first"), "{told:?}");
    drop(held);
    fs::remove_file(made.data().join("LOCK")).unwrap();
    assert_eq!(made.look(REPAIR, &["--accept-loss"]).code, 2, "a copy is looked at only");
}

#[test]
fn a_try_that_was_cut_off_is_begun_again() {
    let made = damaged();
    fs::create_dir(made.store().join("lost+found")).unwrap();
    fs::write(made.store().join("lost+found/rewritten.sst"), "half a table").unwrap();
    assert_eq!(made.repair(ACCEPT).code, 0);
    assert_eq!(fs::read_dir(made.store().join("lost+found")).unwrap().count(), 1);
    let version =
        block_on(async { made.tree().await.get(KeyspaceId(1), b"key 000\n").await.unwrap().unwrap().version });
    assert_eq!(version, 1001);
}
