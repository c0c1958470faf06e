//! Bytes of a file, sparse and shared between what reads see and what is on the platter.

use std::rc::Rc;

/// A disk writes sectors of this size whole or not at all.
pub(super) const SECTOR: u64 = 512;
const CHUNK: usize = 4096;

/// Sparse content; what was never written is zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// By place in the file, up to the last one written.
    chunks: Vec<Option<Rc<[u8; CHUNK]>>>,
    pub(super) size: u64,
}

impl Content {
    /// Copies from `offset`; answers the bytes before the file's end.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let got = self.size.saturating_sub(offset).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < got {
            let (key, within) = place(offset + done as u64);
            let Some(rest) = self.chunks.get(key..).filter(|rest| !rest.is_empty()) else {
                out[done..got].fill(0);
                break;
            };
            let n = (CHUNK - within).min(got - done);
            let to = &mut out[done..done + n];
            match &rest[0] {
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
            let (key, within) = place(offset + done as u64);
            let n = (CHUNK - within).min(bytes.len() - done);
            let part = &bytes[done..done + n];
            if self.chunks.get(key).is_some_and(Option::is_some) || part.iter().any(|b| *b != 0) {
                self.put(key, within, part);
            }
            done += n;
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// As [`Content::write`]; shares what `other` holds when that is the same.
    pub(super) fn write_as(&mut self, other: &Content, offset: u64, bytes: &[u8]) {
        for (at, part) in (offset..).step_by(CHUNK).zip(bytes.chunks(CHUNK)) {
            let (key, _) = place(at);
            match other.chunks.get(key) {
                Some(Some(chunk)) if offset.is_multiple_of(CHUNK as u64) && chunk[..] == *part => {
                    self.reach(key);
                    self.chunks[key] = Some(chunk.clone());
                    self.size = self.size.max(at + CHUNK as u64);
                }
                _ => self.write(at, part),
            }
        }
    }

    /// Flips one bit; `false` behind the end.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        if offset >= self.size {
            return false;
        }
        let (key, within) = place(offset);
        self.reach(key);
        Rc::make_mut(self.chunks[key].get_or_insert_with(|| Rc::new([0; CHUNK])))[within] ^= 1 << bit;
        true
    }

    fn reach(&mut self, key: usize) {
        if self.chunks.len() <= key {
            self.chunks.resize(key + 1, None);
        }
    }

    fn put(&mut self, key: usize, within: usize, part: &[u8]) {
        self.reach(key);
        let chunk = &mut self.chunks[key];
        if let Ok(whole) = <&[u8; CHUNK]>::try_from(part) {
            match chunk.as_mut().and_then(Rc::get_mut) {
                Some(own) => *own = *whole,
                None => *chunk = Some(Rc::new(*whole)),
            }
            return;
        }
        let chunk = Rc::make_mut(chunk.get_or_insert_with(|| Rc::new([0; CHUNK])));
        chunk[within..within + part.len()].copy_from_slice(part);
    }
}

/// Which chunk holds a byte, and where in it.
fn place(offset: u64) -> (usize, usize) {
    ((offset / CHUNK as u64) as usize, (offset % CHUNK as u64) as usize)
}
