//! Maps that are always in order.

use super::{Candidate, copy};
use crate::data::Key;
use bytes::Bytes;
use std::collections::BTreeMap;

/// A version, and a value in its own memory.
pub type Entry = (u64, Box<[u8]>);

fn entry(version: u64, value: Bytes) -> Entry {
    (version, Box::from(&value[..]))
}

impl Candidate for BTreeMap<Vec<u8>, Entry> {
    fn put(&mut self, version: u64, key: &Key, value: Bytes) {
        self.insert(key.to_vec(), entry(version, value));
    }
    fn get(&self, key: &Key, out: &mut Vec<u8>) {
        let (_, value) = BTreeMap::get(self, &key[..]).expect("it was put");
        copy(&[], value, out);
    }
    fn walk(&self, out: &mut Vec<u8>) -> usize {
        self.iter().map(|(key, (_, value))| copy(key, value, out)).count()
    }
    fn seek(&self, key: &Key, out: &mut Vec<u8>) {
        let (key, (_, value)) = self.range(key.to_vec()..).next().expect("it was put");
        copy(key, value, out);
    }
}

impl Candidate for BTreeMap<Key, Entry> {
    fn put(&mut self, version: u64, key: &Key, value: Bytes) {
        self.insert(*key, entry(version, value));
    }
    fn get(&self, key: &Key, out: &mut Vec<u8>) {
        let (_, value) = BTreeMap::get(self, key).expect("it was put");
        copy(&[], value, out);
    }
    fn walk(&self, out: &mut Vec<u8>) -> usize {
        self.iter().map(|(key, (_, value))| copy(key, value, out)).count()
    }
    fn seek(&self, key: &Key, out: &mut Vec<u8>) {
        let (key, (_, value)) = self.range(*key..).next().expect("it was put");
        copy(key, value, out);
    }
}

#[cfg(feature = "peers")]
impl Candidate for blart::TreeMap<Key, Entry> {
    fn put(&mut self, version: u64, key: &Key, value: Bytes) {
        self.insert(*key, entry(version, value));
    }
    fn get(&self, key: &Key, out: &mut Vec<u8>) {
        let (_, value) = blart::TreeMap::get(self, key).expect("it was put");
        copy(&[], value, out);
    }
    fn walk(&self, out: &mut Vec<u8>) -> usize {
        self.iter().map(|(key, (_, value))| copy(key, value, out)).count()
    }
    fn seek(&self, key: &Key, out: &mut Vec<u8>) {
        let (key, (_, value)) = self.range(*key..).next().expect("it was put");
        copy(key, value, out);
    }
}
