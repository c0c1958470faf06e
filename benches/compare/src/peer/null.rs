//! No engine: what the harness itself costs a call. It takes nothing and has one entry, which it shows for every key.

use super::{Counted, Peer};
use crate::data::{Key, present};
use crate::error::Failed;
use crate::turn::Turn;
use std::hint::black_box;

struct Null {
    key: Key,
    value: Vec<u8>,
}

/// Opens nothing.
pub fn open(turn: &Turn) -> Box<dyn Peer> {
    Box::new(Null { key: present(0), value: turn.values().of(0, 0).to_vec() })
}

impl Peer for Null {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failed> {
        black_box((key, value));
        Ok(())
    }

    fn put_synced(&mut self, entries: &[(Key, &[u8])]) -> Result<(), Failed> {
        black_box(entries);
        Ok(())
    }

    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Failed> {
        black_box(key);
        found(&self.value);
        Ok(())
    }

    fn scan(&mut self, from: &[u8], most: usize, seen: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Failed> {
        black_box(from);
        (0..most).for_each(|_| seen(&self.key, &self.value));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failed> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<Counted, Failed> {
        Ok(Counted::default())
    }

    fn remembers(&self) -> bool {
        false
    }
}
