//! Walking keys in their order.

use crate::db::Db;
use crate::db::caller::now;
use crate::db::error::Error;
use crate::db::view::{Merge, View};
use crate::iter::{Span, Way};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Memory for keys that is made at once, bytes.
const KEYS_BYTES: usize = 2048;

/// Keys and values of a tree, in order, as they were when it was made.
///
/// It is an iterator; after an error it ends. It keeps what it looks at in memory and on the disk as long as it lives.
pub struct Range {
    db: Db,
    view: Arc<View>,
    version: u64,
    span: Span,
    way: Way,
    merge: Option<Merge>,
    now_ms: u64,
    /// Keys are copied one behind the other: each by itself would be an allocation.
    keys: BytesMut,
    ended: bool,
}

impl Range {
    pub(super) fn new(db: Db, (view, version): (Arc<View>, u64), span: Span) -> Range {
        let now_ms = db.core().settings.now_ms();
        Range { db, view, version, span, way: Way::Up, merge: None, now_ms, keys: BytesMut::new(), ended: false }
    }

    /// The same from the last key to the first, to be said before the first step.
    ///
    /// # Panics
    /// When it has begun.
    pub fn backwards(mut self) -> Range {
        assert!(self.merge.is_none(), "a walk does not turn around");
        self.way = Way::Down;
        self
    }

    fn step(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        let merge = match &mut self.merge {
            Some(merge) => merge,
            none => none.insert(self.view.walk(&self.db.core().cache, self.span.clone(), self.way, self.version)?),
        };
        while match merge.try_next() {
            Some(any) => any,
            None => now(merge.next())?,
        } {
            let Some(head) = merge.head() else { break };
            if head.record.at(self.now_ms).value.is_none() {
                continue;
            }
            if self.keys.capacity() < head.key.1.len() {
                self.keys = BytesMut::with_capacity(KEYS_BYTES.max(head.key.1.len()));
            }
            self.keys.extend_from_slice(head.key.1);
            let key = self.keys.split().freeze();
            if let Some(value) = merge.value() {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Range {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Result<(Bytes, Bytes), Error>> {
        if self.ended {
            return None;
        }
        let item = self.step().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

impl std::fmt::Debug for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Range of {:?}", self.db)
    }
}
