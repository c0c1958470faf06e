//! One moment of a database.

use crate::db::error::Error;
use crate::db::tree::{laid_prefix, laid_span};
use crate::db::view::View;
use crate::db::{Db, Range, Tree};
use crate::tree::Sought;
use bytes::Bytes;
use std::ops::RangeBounds;
use std::sync::Arc;

/// All trees as they were at one moment. Clones are the same moment.
#[derive(Clone)]
pub struct Snapshot {
    db: Db,
    view: Arc<View>,
    version: u64,
}

impl Snapshot {
    pub(super) fn new(db: Db) -> Snapshot {
        let (view, version) = db.core().moment();
        Snapshot { db, view, version }
    }

    pub(super) fn parts(&self) -> (&Db, &Arc<View>, u64) {
        (&self.db, &self.view, self.version)
    }

    /// The value of a key then; what has expired since is gone.
    pub fn get(&self, tree: &Tree, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let core = self.db.core();
        let found = self.view.get(&core.cache, Sought::new(tree.keyspace(), key), self.version)?;
        Ok(core.alive(found).map(|value| value.value))
    }

    /// Keys between two bounds, as [`Tree::range`].
    pub fn range<'b>(&self, tree: &Tree, bounds: impl RangeBounds<&'b [u8]>) -> Range {
        Range::new(self.db.clone(), (self.view.clone(), self.version), laid_span(tree.keyspace(), &bounds))
    }

    /// Keys that begin so, as [`Tree::prefix`].
    pub fn prefix(&self, tree: &Tree, prefix: &[u8]) -> Range {
        Range::new(self.db.clone(), (self.view.clone(), self.version), laid_prefix(tree.keyspace(), prefix))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot of {:?} at {}", self.db, self.version)
    }
}
