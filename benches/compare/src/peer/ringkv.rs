//! The engine of ringkv.

use super::{Counted, Peer};
use crate::data::Key;
use crate::error::Failed;
use crate::turn::{self, Turn};
use ringkv_storage::db::{Compression, Db, Durability, Tree};

struct Ringkv {
    db: Db,
    tree: Tree,
    /// Flushed, merged and manifest bytes at the mark.
    before: [u64; 3],
}

/// Opens it with the memory of this turn; all else as it comes.
pub fn open(turn: &Turn) -> Result<Box<dyn Peer>, Failed> {
    let compression = match turn.compression {
        turn::Compression::None => Compression::None,
        turn::Compression::Lz4 => Compression::Lz4,
    };
    let builder = Db::builder().memtable_bytes(turn.write_buffer_bytes).cache_bytes(turn.cache_bytes);
    let db = builder.compression(compression).open(&turn.dir)?;
    let tree = db.tree("default")?;
    Ok(Box::new(Ringkv { db, tree, before: [0; 3] }))
}

impl Ringkv {
    fn written(&self) -> [u64; 3] {
        let stats = self.db.stats();
        [stats.flushed_bytes, stats.merged_bytes, stats.manifest_bytes]
    }
}

impl Peer for Ringkv {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failed> {
        Ok(self.tree.put(key, value)?)
    }

    fn put_synced(&mut self, entries: &[(Key, &[u8])]) -> Result<(), Failed> {
        let mut batch = self.db.batch();
        entries.iter().for_each(|(key, value)| batch.put(&self.tree, key, value));
        Ok(self.db.write(batch, Durability::Synced)?)
    }

    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Failed> {
        if let Some(value) = self.tree.get(key)? {
            found(&value);
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], most: usize, seen: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Failed> {
        for entry in self.tree.range(from..).take(most) {
            let (key, value) = entry?;
            seen(&key, &value);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failed> {
        self.db.flush()?;
        Ok(self.db.settle()?)
    }

    fn mark(&mut self) {
        self.before = self.written();
    }

    fn close(self: Box<Self>) -> Result<Counted, Failed> {
        let (now, before) = (self.written(), self.before);
        let [flushed, merged, manifest] = [0, 1, 2].map(|what| now[what] - before[what]);
        Ok(Counted { flushed_bytes: Some(flushed), compacted_bytes: Some(merged + manifest), log_bytes: None })
    }
}
