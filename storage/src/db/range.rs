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

/// A key and its value, where they stand.
pub type Entry<'r> = (&'r [u8], &'r [u8]);

/// Keys and values of a tree, in order, as they were when it was made.
///
/// It is an iterator; after an error it ends. [`Range::step`] shows the same without making bytes of it. It keeps what it looks at in memory and on the disk as long as it lives.
pub struct Range {
    db: Db,
    view: Arc<View>,
    version: u64,
    span: Arc<Span>,
    way: Way,
    merge: Option<Merge>,
    now_ms: u64,
    /// Keys are copied one behind the other: each by itself would be an allocation.
    keys: BytesMut,
    ended: bool,
}

impl Range {
    pub(super) fn new(db: Db, (view, version): (Arc<View>, u64), span: Span) -> Range {
        let (now_ms, span) = (db.core().settings.now_ms(), Arc::new(span));
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

    /// Goes to the next key and shows it with its value where they stand, which costs less than the iterator's own bytes. None at
    /// the end.
    ///
    /// # Errors
    /// A table that cannot be read, or is damaged; the walk has ended then.
    pub fn step(&mut self) -> Result<Option<Entry<'_>>, Error> {
        if !self.go_on()? {
            return Ok(None);
        }
        let head = self.merge.as_ref().and_then(|merge| merge.head());
        Ok(head.and_then(|head| Some((head.key.1, head.record.value?))))
    }

    /// Goes to the next key that has a value; false at the end, and behind an error.
    fn go_on(&mut self) -> Result<bool, Error> {
        if !self.ended {
            self.ended = true;
            self.ended = !self.advance()?;
        }
        Ok(!self.ended)
    }

    fn advance(&mut self) -> Result<bool, Error> {
        let merge = match &mut self.merge {
            Some(merge) => merge,
            none => none.insert(self.view.walk(&self.db.core().cache, &self.span, self.way, self.version)?),
        };
        while match merge.try_next() {
            Some(any) => any,
            None => now(merge.next())?,
        } {
            if merge.has_value(self.now_ms) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn item(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        if !self.go_on()? {
            return Ok(None);
        }
        let merge = self.merge.as_ref();
        let Some((head, value)) = merge.and_then(|merge| merge.head().zip(merge.value())) else { return Ok(None) };
        if self.keys.capacity() < head.key.1.len() {
            self.keys = BytesMut::with_capacity(KEYS_BYTES.max(head.key.1.len()));
        }
        self.keys.extend_from_slice(head.key.1);
        let key = self.keys.split().freeze();
        Ok(Some((key, value)))
    }
}

impl Iterator for Range {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Result<(Bytes, Bytes), Error>> {
        self.item().transpose()
    }
}

impl std::fmt::Debug for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Range of {:?}", self.db)
    }
}
