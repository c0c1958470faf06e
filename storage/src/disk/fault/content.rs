//! Bytes of a file, sparse and shared between what reads see and what is on the platter.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A disk writes sectors of this size whole or not at all.
pub(super) const SECTOR: u64 = 512;
const CHUNK: usize = 4096;

/// Sparse content; what was never written is zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    chunks: BTreeMap<u64, Rc<[u8; CHUNK]>>,
    pub(super) size: u64,
}

impl Content {
    /// Copies from `offset`; answers the bytes before the file's end.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let got = self.size.saturating_sub(offset).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < got {
            let at = offset + done as u64;
            let within = (at % CHUNK as u64) as usize;
            let n = (CHUNK - within).min(got - done);
            let to = &mut out[done..done + n];
            match self.chunks.get(&(at / CHUNK as u64)) {
                Some(chunk) => to.copy_from_slice(&chunk[within..within + n]),
                None => to.fill(0),
            }
            done += n;
        }
        got
    }

    /// Writes `bytes` at `offset`, growing the file.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % CHUNK as u64) as usize;
            let n = (CHUNK - within).min(bytes.len() - done);
            let part = &bytes[done..done + n];
            let key = at / CHUNK as u64;
            if self.chunks.contains_key(&key) || part.iter().any(|b| *b != 0) {
                let chunk = self.chunks.entry(key).or_insert_with(|| Rc::new([0; CHUNK]));
                Rc::make_mut(chunk)[within..within + n].copy_from_slice(part);
            }
            done += n;
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// Flips one bit; `false` behind the end.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        if offset >= self.size {
            return false;
        }
        let chunk = self.chunks.entry(offset / CHUNK as u64).or_insert_with(|| Rc::new([0; CHUNK]));
        Rc::make_mut(chunk)[(offset % CHUNK as u64) as usize] ^= 1 << bit;
        true
    }
}
