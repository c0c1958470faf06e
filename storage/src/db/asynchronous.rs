//! The asynchronous form: the same database for futures on any executor.
//!
//! What memory answers is done in the first poll. What waits is done by threads of a pool, so that no executor's thread ever does.

mod lane;
mod pool;
mod range;
mod snapshot;
#[cfg(test)]
pub(super) mod tests;
mod tree;

pub(super) use lane::Lanes;
pub use range::AsyncRange;
pub use snapshot::AsyncSnapshot;
pub use tree::AsyncTree;

use crate::db::driver::{Job, Reply, heard, rest};
use crate::db::log::Position;
use crate::db::state::{Core, Written};
use crate::db::view::{Seen, View};
use crate::db::{Batch, Builder, Db, Durability, Error, Stats};
use crate::disk::helper::Answer;
use crate::error::StorageError;
use crate::sst::Value;
use crate::tree::Sought;
use crate::tree::version::Unread;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A [`Db`] whose calls are futures, for any executor; see [the module](crate::db#in-an-async-program). Clones are the same database, and
/// so is the [`Db`] that it is of.
#[derive(Clone, Debug)]
pub struct AsyncDb(Db);

impl AsyncDb {
    pub(super) fn of(db: Db) -> AsyncDb {
        AsyncDb(db)
    }

    pub(super) async fn open_with(builder: Builder, path: PathBuf) -> Result<AsyncDb, Error> {
        told(pool::run(move || builder.open(path)).await).map(AsyncDb)
    }

    /// Opens a database, as [`Db::open`]; [`Builder::open_async`] takes settings.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<AsyncDb, Error> {
        Db::builder().open_async(path).await
    }

    /// The same database for threads that may wait.
    pub fn blocking(&self) -> &Db {
        &self.0
    }

    fn core(&self) -> &Core {
        self.0.core()
    }

    /// The tree of this name, made when there is none; as [`Db::tree`].
    ///
    /// # Errors
    /// As [`Db::tree`].
    pub async fn tree(&self, name: &str) -> Result<AsyncTree, Error> {
        let known = self.0.known_tree(name);
        let tree = match known {
            Some(tree) => tree,
            None => {
                let (db, name) = (self.0.clone(), name.to_owned());
                told(self.0.0.lanes.writes.run(move || db.tree(&name)).await)?
            }
        };
        Ok(AsyncTree::of(tree))
    }

    /// Removes a tree with all that is in it; as [`Db::remove_tree`].
    ///
    /// # Errors
    /// As [`Db::remove_tree`].
    pub async fn remove_tree(&self, name: &str) -> Result<bool, Error> {
        let (db, name) = (self.0.clone(), name.to_owned());
        told(self.0.0.lanes.writes.run(move || db.remove_tree(&name)).await)
    }

    /// An empty batch; its trees are told by [`AsyncTree::blocking`].
    pub fn batch(&self) -> Batch {
        self.0.batch()
    }

    /// Writes all of a batch, or on an error nothing; as [`Db::write`].
    ///
    /// # Errors
    /// As [`Db::write`].
    ///
    /// # Panics
    /// When a tree in it is another database's.
    pub async fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        let tried = {
            let ops = batch.ops(&self.0)?;
            if ops.is_empty() { None } else { Some(self.core().try_write(&ops, None)?) }
        };
        match tried {
            Some(tried) => finish(&self.0, tried, || batch, None, durability).await.map(drop),
            None if durability == Durability::Synced => self.sync().await,
            None => Ok(()),
        }
    }

    /// Makes all that was written before this call durable; as [`Db::sync`].
    ///
    /// # Errors
    /// As [`Db::sync`].
    pub async fn sync(&self) -> Result<(), Error> {
        sync_to(&self.0, Position(self.core().visible.load(Ordering::Acquire))).await
    }

    /// What there is now; as [`Db::snapshot`].
    pub fn snapshot(&self) -> AsyncSnapshot {
        AsyncSnapshot::of(self.0.snapshot())
    }

    /// Makes tables of all that was written before this call; as [`Db::flush`].
    ///
    /// # Errors
    /// As [`Db::flush`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.ask(Job::Flushed).await
    }

    /// Flushes, then waits until no merge is wanted; as [`Db::settle`].
    ///
    /// # Errors
    /// As [`Db::settle`].
    pub async fn settle(&self) -> Result<(), Error> {
        self.ask(Job::Settled).await
    }

    /// Flushes, then merges all tables; as [`Db::compact`].
    ///
    /// # Errors
    /// As [`Db::compact`].
    pub async fn compact(&self) -> Result<(), Error> {
        self.ask(Job::Compact).await
    }

    /// Makes `dir` a database with all that was written before this call; as [`Db::checkpoint`].
    ///
    /// # Errors
    /// As [`Db::checkpoint`].
    pub async fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<(), Error> {
        let dir = dir.as_ref().to_path_buf();
        self.ask(|reply| Job::Checkpoint(dir, reply)).await
    }

    async fn ask(&self, job: impl FnOnce(Reply) -> Job) -> Result<(), Error> {
        let db = self.0.clone();
        told(self.0.0.lanes.writes.run(move || db.rotate()).await)?;
        heard(self.core().mail.ask(job).await)
    }

    /// As [`Db::stats`].
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Drops this handle where one may wait. When it is the last one of the database, the database is closed when this returns; whoever
    /// drops the last one elsewhere waits there for the end of what the database's threads are at.
    pub async fn close(self) {
        // A handle that no thread took is dropped all the same.
        let _ = pool::run(move || drop(self)).await;
    }
}

/// What a job of the pool came to.
fn told<T>(answer: Option<Result<T, Error>>) -> Result<T, Error> {
    answer.unwrap_or(Err(Error::Storage(StorageError::Interrupted { what: "work for a future" })))
}

/// Goes on with a write that was tried: makes it if it had to wait, syncs it if it is to be, waits what it owes. False when it was not to
/// be made; see [`Core::write`].
async fn finish(
    db: &Db,
    tried: Option<Option<Written>>,
    batch: impl FnOnce() -> Batch,
    since: Option<u64>,
    durability: Durability,
) -> Result<bool, Error> {
    let written = match tried {
        Some(written) => written,
        None => {
            let (batch, db_there) = (batch(), db.clone());
            let write = move || db_there.core().write(&batch.ops(&db_there)?, since);
            told(db.0.lanes.writes.run(write).await)?
        }
    };
    let Some(Written { position, owed_ns }) = written else { return Ok(false) };
    if durability == Durability::Synced {
        sync_to(db, position).await?;
    }
    if owed_ns > 0 {
        let waits = move || rest(Duration::from_nanos(owed_ns));
        told(db.0.lanes.writes.run(waits).await.map(Ok))?;
    }
    Ok(true)
}

/// Waits until everything before a position is durable.
async fn sync_to(db: &Db, position: Position) -> Result<(), Error> {
    if db.core().log.is_synced(position)? {
        return Ok(());
    }
    let db_there = db.clone();
    told(db.0.lanes.syncs.run(move || Ok(db_there.core().log.sync_to(position)?)).await)
}

/// The newest write of a key with a version up to `version`, unless it has expired.
async fn find(db: &Db, view: &Arc<View>, key: Sought<'_>, version: u64) -> Result<Option<Value>, Error> {
    let core = db.core();
    match view.look(&core.cache, key, version)? {
        Seen::Told(found) => Ok(core.alive(found)),
        Seen::Unread(unread) => read_on(db, view.clone(), key, unread).await,
    }
}

/// Goes on with a lookup where a block must be read.
async fn read_on(db: &Db, view: Arc<View>, key: Sought<'_>, unread: Unread) -> Result<Option<Value>, Error> {
    let (db_there, keyspace, key) = (db.clone(), key.keyspace, key.key.to_vec());
    let read = move || view.read_on(&db_there.core().cache, Sought::new(keyspace, &key), unread);
    let answer: Answer<Result<Option<Value>, Error>> = pool::run(read);
    Ok(db.core().alive(told(answer.await)?))
}
