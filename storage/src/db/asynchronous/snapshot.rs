//! One moment of a database, for futures.

use crate::db::asynchronous::{AsyncRange, AsyncTree, find};
use crate::db::{Error, Snapshot};
use crate::tree::Sought;
use bytes::Bytes;
use std::ops::RangeBounds;

/// All trees as they were at one moment; as [`Snapshot`]. Clones are the same moment.
#[derive(Clone, Debug)]
pub struct AsyncSnapshot(Snapshot);

impl AsyncSnapshot {
    pub(super) fn of(snapshot: Snapshot) -> AsyncSnapshot {
        AsyncSnapshot(snapshot)
    }

    /// The same moment for threads that may wait.
    pub fn blocking(&self) -> &Snapshot {
        &self.0
    }

    /// The value of a key then; as [`Snapshot::get`].
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub async fn get(&self, tree: &AsyncTree, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let (db, view, version) = self.0.parts();
        let found = find(db, view, Sought::new(tree.blocking().keyspace(), key), version).await?;
        Ok(found.map(|value| value.value))
    }

    /// Keys between two bounds, as [`AsyncTree::range`].
    pub fn range<'b>(&self, tree: &AsyncTree, bounds: impl RangeBounds<&'b [u8]>) -> AsyncRange {
        AsyncRange::of(self.0.range(tree.blocking(), bounds))
    }

    /// Keys that begin so, as [`AsyncTree::prefix`].
    pub fn prefix(&self, tree: &AsyncTree, prefix: &[u8]) -> AsyncRange {
        AsyncRange::of(self.0.prefix(tree.blocking(), prefix))
    }
}
