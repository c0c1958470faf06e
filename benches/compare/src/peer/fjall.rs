//! fjall. A put goes to its journal with a write call (its `PersistMode::Buffer`, the default of every insert), a batch
//! of the synced row with `SyncAll`. It counts no bytes: what it writes is seen in its folder.

use super::{Counted, Peer};
use crate::data::Key;
use crate::error::Failed;
use crate::turn::{Compression, Turn};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::time::Duration;

/// A worker takes its next task from a queue: without a task for so long, there is none.
const QUIET: Duration = Duration::from_millis(300);

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

/// Opens it: the memory of this turn, all else as it comes (filters of 10 bits or more, blocks of 4 KiB, leveled).
pub fn open(turn: &Turn) -> Result<Box<dyn Peer>, Failed> {
    let database = Database::builder(&turn.dir).cache_size(turn.cache_bytes).open()?;
    let compression = match turn.compression {
        Compression::None => CompressionType::None,
        Compression::Lz4 => CompressionType::Lz4,
    };
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(turn.write_buffer_bytes)
            .data_block_compression_policy(CompressionPolicy::all(compression))
    };
    let keyspace = database.keyspace("default", options)?;
    Ok(Box::new(Fjall { database, keyspace }))
}

impl Peer for Fjall {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failed> {
        Ok(self.keyspace.insert(key, value)?)
    }

    fn put_synced(&mut self, entries: &[(Key, &[u8])]) -> Result<(), Failed> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        entries.iter().for_each(|(key, value)| batch.insert(&self.keyspace, key, *value));
        Ok(batch.commit()?)
    }

    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Failed> {
        if let Some(value) = self.keyspace.get(key)? {
            found(&value);
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], most: usize, seen: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Failed> {
        for entry in self.keyspace.range(from..).take(most) {
            let (key, value) = entry.into_inner()?;
            seen(&key, &value);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failed> {
        Ok(self.keyspace.rotate_memtable_and_wait()?)
    }

    fn is_busy(&mut self) -> Result<bool, Failed> {
        Ok(self.database.active_compactions() > 0 || self.database.outstanding_flushes() > 0)
    }

    fn quiet(&self) -> Duration {
        QUIET
    }

    fn close(self: Box<Self>) -> Result<Counted, Failed> {
        Ok(Counted::default())
    }
}
