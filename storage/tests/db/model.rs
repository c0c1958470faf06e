//! Random work beside an ordered map, with reopening.

use proptest::prelude::*;
use ringkv_storage::db::{Db, Durability, Error, Snapshot};
use std::collections::BTreeMap;

/// A tree, a key, and what is written there; none deletes.
type Change = (usize, Vec<u8>, Option<Vec<u8>>);
type Map = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    Batch(Vec<Change>, bool),
    Get(usize, Vec<u8>),
    Many(usize, Vec<Vec<u8>>),
    Range(usize, Vec<u8>, bool),
    Add(usize, Vec<u8>, i64),
    Swap(usize, Vec<u8>, Vec<u8>),
    Snapshot,
    Flush,
    Compact,
    Remove(usize),
    Reopen,
}

pub(super) fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(0..4u8, 1..4),
        proptest::collection::vec(any::<u8>(), 1..20),
        (0..40u8).prop_map(|n| vec![n; 2000]),
    ]
}

pub(super) fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..50),
        1 => (any::<u8>(), 0..200_000usize).prop_map(|(byte, bytes)| vec![byte; bytes]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let tree = 0..3usize;
    prop_oneof![
        20 => (tree.clone(), key(), value()).prop_map(|(t, k, v)| Step::Put(t, k, v)),
        6 => (tree.clone(), key()).prop_map(|(t, k)| Step::Delete(t, k)),
        5 => (proptest::collection::vec((tree.clone(), key(), proptest::option::of(value())), 0..20), any::<bool>())
            .prop_map(|(ops, synced)| Step::Batch(ops, synced)),
        10 => (tree.clone(), key()).prop_map(|(t, k)| Step::Get(t, k)),
        3 => (tree.clone(), proptest::collection::vec(key(), 0..40)).prop_map(|(t, k)| Step::Many(t, k)),
        5 => (tree.clone(), key(), any::<bool>()).prop_map(|(t, k, back)| Step::Range(t, k, back)),
        3 => (tree.clone(), key(), -5..5i64).prop_map(|(t, k, n)| Step::Add(t, k, n)),
        3 => (tree.clone(), key(), value()).prop_map(|(t, k, v)| Step::Swap(t, k, v)),
        2 => tree.prop_map(Step::Remove),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        2 => Just(Step::Reopen),
    ]
}

struct World {
    dir: tempfile::TempDir,
    db: Db,
    trees: Vec<ringkv_storage::db::Tree>,
    model: Map,
    /// With the trees that there were.
    snapshots: Vec<(Snapshot, Map, Vec<ringkv_storage::db::Tree>)>,
}

fn open(dir: &tempfile::TempDir) -> (Db, Vec<ringkv_storage::db::Tree>) {
    let db = Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir.path()).unwrap();
    let trees = (0..3).map(|n| db.tree(&format!("tree {n}")).unwrap()).collect();
    (db, trees)
}

fn of(model: &Map, tree: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    model.iter().filter(|((of, _), _)| *of == tree).map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

/// Every second entry as bytes of its own, the others where they stand.
fn told(mut range: ringkv_storage::db::Range) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some((key, value)) = range.step().unwrap() {
        all.push((key.to_vec(), value.to_vec()));
        match range.next() {
            Some(item) => all.push(item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()),
            None => break,
        }
    }
    assert!(range.next().is_none() && range.step().unwrap().is_none(), "an end is one");
    all
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let (db, trees) = open(&dir);
        World { dir, db, trees, model: Map::new(), snapshots: Vec::new() }
    }

    fn write(&mut self, tree: usize, key: &[u8], value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.model.insert((tree, key.to_vec()), value),
            None => self.model.remove(&(tree, key.to_vec())),
        };
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Put(tree, key, value) => {
                self.trees[*tree].put(key, value).unwrap();
                self.write(*tree, key, Some(value.clone()));
            }
            Step::Delete(tree, key) => {
                self.trees[*tree].delete(key).unwrap();
                self.write(*tree, key, None);
            }
            Step::Batch(ops, synced) => self.batch(ops, *synced),
            Step::Get(tree, key) => {
                let found = self.trees[*tree].get(key).unwrap();
                assert_eq!(found.as_deref(), self.model.get(&(*tree, key.clone())).map(|value| &value[..]));
            }
            Step::Many(tree, keys) => {
                let found = self.trees[*tree].get_many(keys).unwrap();
                for (key, found) in keys.iter().zip(found) {
                    assert_eq!(found.as_deref(), self.model.get(&(*tree, key.clone())).map(|value| &value[..]));
                }
            }
            Step::Range(tree, from, back) => self.range(*tree, from, *back),
            Step::Add(tree, key, by) => self.add(*tree, key, *by),
            Step::Swap(tree, key, value) => {
                let now = self.model.get(&(*tree, key.clone())).cloned();
                assert!(!self.trees[*tree].compare_and_set(key, Some(b"\x01surely not"), Some(value)).unwrap());
                assert!(self.trees[*tree].compare_and_set(key, now.as_deref(), Some(value)).unwrap());
                self.write(*tree, key, Some(value.clone()));
            }
            Step::Snapshot => self.snapshots.push((self.db.snapshot(), self.model.clone(), self.trees.clone())),
            Step::Flush => self.db.flush().unwrap(),
            Step::Compact => self.db.compact().unwrap(),
            Step::Remove(tree) => self.remove(*tree),
            Step::Reopen => self.reopen(),
        }
    }

    fn batch(&mut self, ops: &[Change], synced: bool) {
        let mut batch = self.db.batch();
        for (tree, key, value) in ops {
            match value {
                Some(value) => batch.put(&self.trees[*tree], key, value),
                None => batch.delete(&self.trees[*tree], key),
            }
            self.write(*tree, key, value.clone());
        }
        self.db.write(batch, if synced { Durability::Synced } else { Durability::Buffered }).unwrap();
    }

    fn add(&mut self, tree: usize, key: &[u8], by: i64) {
        let now = self.model.get(&(tree, key.to_vec())).cloned();
        let before = now.as_ref().map_or(Some(0), |now| <[u8; 8]>::try_from(&now[..]).ok().map(i64::from_le_bytes));
        match before.and_then(|before| before.checked_add(by)) {
            Some(sum) => {
                assert_eq!(self.trees[tree].add(key, by).unwrap(), sum);
                self.write(tree, key, Some(sum.to_le_bytes().to_vec()));
            }
            None => assert!(self.trees[tree].add(key, by).is_err()),
        }
    }

    fn range(&self, tree: usize, from: &[u8], back: bool) {
        let range = self.trees[tree].range(from..);
        let mut expected = of(&self.model, tree);
        expected.retain(|(key, _)| key[..] >= *from);
        if back {
            expected.reverse();
        }
        assert_eq!(told(if back { range.backwards() } else { range }), expected);
    }

    fn check_all(&self) {
        for tree in 0..3 {
            assert_eq!(told(self.trees[tree].range(..)), of(&self.model, tree));
            for (snapshot, model, trees) in &self.snapshots {
                assert_eq!(told(snapshot.range(&trees[tree], ..)), of(model, tree));
            }
        }
    }

    /// The next one of this name is empty, whatever handles of the last one there are.
    fn remove(&mut self, tree: usize) {
        let name = format!("tree {tree}");
        assert!(self.db.remove_tree(&name).unwrap() && !self.db.remove_tree(&name).unwrap());
        assert!(matches!(self.trees[tree].put(b"k", b"v"), Err(Error::Removed)));
        self.trees[tree] = self.db.tree(&name).unwrap();
        self.model.retain(|(of, _), _| *of != tree);
    }

    fn reopen(&mut self) {
        self.check_all();
        self.snapshots.clear();
        self.trees.clear();
        let other = tempfile::tempdir().unwrap();
        // The old one is closed before the same directory is opened.
        self.db = Db::open(other.path()).unwrap();
        (self.db, self.trees) = open(&self.dir);
        self.check_all();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn it_is_an_ordered_map(steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        world.reopen();
    }
}
