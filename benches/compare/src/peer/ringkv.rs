//! The engine of ringkv. As with RocksDB, tables bypass the page cache only in the row that reads from disk.

use super::{Counted, Peer};
use crate::data::Key;
use crate::error::Failed;
use crate::row::Row;
use crate::turn::{self, Turn};
use ringkv_storage::db::{Compression, Db, Durability, Tree};

struct Ringkv {
    db: Db,
    tree: Tree,
    /// Flushed and merged bytes at the mark.
    before: [u64; 2],
}

/// Opens it with the memory of this turn; all else as it comes.
pub fn open(turn: &Turn) -> Result<Box<dyn Peer>, Failed> {
    let compression = match turn.compression {
        turn::Compression::None => Compression::None,
        turn::Compression::Lz4 => Compression::Lz4,
    };
    let builder = Db::builder()
        .memtable_bytes(2 * turn.write_buffer_bytes as usize)
        .cache_bytes(turn.cache_bytes as usize)
        .compression(compression)
        .direct(turn.row == Row::GetDisk);
    let db = builder.open(&turn.dir)?;
    let tree = db.tree("default")?;
    Ok(Box::new(Ringkv { db, tree, before: [0; 2] }))
}

impl Ringkv {
    fn written(&self) -> [u64; 2] {
        let stats = self.db.stats();
        [stats.flushed_bytes, stats.merged_bytes]
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
        let mut entries = self.tree.range(from..);
        for _ in 0..most {
            let Some((key, value)) = entries.step()? else { break };
            seen(key, value);
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
        let ([flushed, merged], before) = (self.written(), self.before);
        let [flushed_bytes, compacted_bytes] = [flushed - before[0], merged - before[1]].map(Some);
        Ok(Counted { flushed_bytes, compacted_bytes, log_bytes: None })
    }
}
