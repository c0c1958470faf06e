//! LMDB, by heed. It has no log: a put that is not synced is a transaction of its own with `MDB_NOSYNC` and
//! `MDB_WRITEMAP`, which leaves it in pages that the kernel owns, as a log's write call does: the process may be killed,
//! the machine may not (and where it dies, LMDB may lose all, a log only its end). A batch of the synced row is a
//! transaction with LMDB's own settings, flushed when it is committed.

use super::{Counted, Peer};
use crate::data::Key;
use crate::error::Failed;
use crate::row::Row;
use crate::turn::Turn;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};
use std::ops::Bound;

struct Lmdb {
    env: Env<WithoutTls>,
    entries: Database<'static, Bytes, Bytes>,
    /// What reads see: begun by the first after a write, so that each sees what was written before it.
    reading: Option<RoTxn<'static, WithoutTls>>,
}

/// Opens it; its cache is the page cache, and cannot be bounded.
pub fn open(turn: &Turn) -> Result<Box<dyn Peer>, Failed> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes(turn.live_bytes()));
    let flags = match turn.row {
        Row::Synced => EnvFlags::empty(),
        // What its manual says of random reads of more than there is memory for.
        Row::GetDisk => EnvFlags::NO_READ_AHEAD,
        _ => EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP,
    };
    // SAFETY: the flags give up durability and what protects the file from stray writes of this process; the file is
    // made, used and deleted by this program alone, and nobody else opens it while it is mapped.
    let env = unsafe { options.flags(flags).open(&turn.dir) }?;
    let entries = env.create_databases_and_commit(env.write_txn()?, |maker, writing| {
        maker.create_database(writing, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    let entries = entries.unwrap_commit();
    Ok(Box::new(Lmdb { env, entries, reading: None }))
}

/// Room enough, in whole pages: pages half full, old ones beside new ones.
fn map_bytes(live_bytes: u64) -> usize {
    ((live_bytes * 6 + (1 << 30)) as usize).next_multiple_of(1 << 20)
}

fn reading<'a>(
    env: &Env<WithoutTls>,
    slot: &'a mut Option<RoTxn<'static, WithoutTls>>,
) -> Result<&'a RoTxn<'static, WithoutTls>, Failed> {
    let begun = match slot.take() {
        Some(begun) => begun,
        None => env.clone().static_read_txn()?,
    };
    Ok(slot.insert(begun))
}

impl Peer for Lmdb {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failed> {
        self.reading = None;
        let mut writing = self.env.write_txn()?;
        self.entries.put(&mut writing, key, value)?;
        Ok(writing.commit()?)
    }

    fn put_synced(&mut self, entries: &[(Key, &[u8])]) -> Result<(), Failed> {
        self.reading = None;
        let mut writing = self.env.write_txn()?;
        for (key, value) in entries {
            self.entries.put(&mut writing, key, value)?;
        }
        Ok(writing.commit()?)
    }

    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Failed> {
        let reading = reading(&self.env, &mut self.reading)?;
        if let Some(value) = self.entries.get(reading, key)? {
            found(value);
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], most: usize, seen: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Failed> {
        let reading = reading(&self.env, &mut self.reading)?;
        let range = (Bound::Included(from), Bound::Unbounded);
        for entry in self.entries.range(reading, &range)?.take(most) {
            let (key, value) = entry?;
            seen(key, value);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failed> {
        Ok(self.env.force_sync()?)
    }

    fn close(self: Box<Self>) -> Result<Counted, Failed> {
        let Lmdb { env, entries: _, reading } = *self;
        drop(reading);
        env.prepare_for_closing().wait();
        Ok(Counted::default())
    }
}
