//! Writes that are there together or not at all.

use crate::db::error::Error;
use crate::db::log::{BATCH_BYTES_MAX, Op, batch_bytes};
use crate::db::tree::{check_key, check_value, expiry_ms};
use crate::db::{Db, Durability, Tree};
use crate::sst::NEVER_MS;
use ringkv_wire::ids::KeyspaceId;
use std::time::Duration;

/// Writes to any trees of one database, for [`Db::write`]. Of a key written twice the later write counts.
#[derive(Debug)]
pub struct Batch {
    db: Db,
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// The first thing wrong with it.
    wrong: Option<Error>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    keyspace: KeyspaceId,
    /// Where the key begins and ends, and where the value ends.
    ends: [usize; 3],
    deletes: bool,
    expiry_ms: u64,
}

impl Batch {
    pub(super) fn new(db: Db) -> Batch {
        Batch { db, bytes: Vec::new(), parts: Vec::new(), wrong: None }
    }

    /// Writes a value.
    ///
    /// # Panics
    /// When the tree is another database's.
    pub fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) {
        self.add(tree, key, Some(value), NEVER_MS);
    }

    /// Writes a value that is gone after a time; see [`Tree::put_for`].
    ///
    /// # Panics
    /// When the tree is another database's.
    pub fn put_for(&mut self, tree: &Tree, key: &[u8], value: &[u8], time: Duration) {
        self.add(tree, key, Some(value), expiry_ms(self.db.core(), time));
    }

    /// Deletes a key.
    ///
    /// # Panics
    /// When the tree is another database's.
    pub fn delete(&mut self, tree: &Tree, key: &[u8]) {
        self.add(tree, key, None, NEVER_MS);
    }

    /// Number of writes.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Of one write, whose sizes are right.
    pub(super) fn of(db: &Db, op: Op<'_>) -> Batch {
        let mut batch = Batch::new(db.clone());
        batch.push(op);
        batch
    }

    fn add(&mut self, tree: &Tree, key: &[u8], value: Option<&[u8]>, expiry_ms: u64) {
        assert!(tree.is_of(&self.db), "a batch is for the trees of its own database");
        let wrong = check_key(key).and_then(|()| check_value(value.unwrap_or(&[]))).err();
        self.wrong = self.wrong.take().or(wrong);
        self.push(Op { keyspace: tree.keyspace(), key, value, expiry_ms });
    }

    fn push(&mut self, op: Op<'_>) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(op.key);
        self.bytes.extend_from_slice(op.value.unwrap_or(&[]));
        let ends = [from, from + op.key.len(), self.bytes.len()];
        self.parts.push(Part { keyspace: op.keyspace, ends, deletes: op.value.is_none(), expiry_ms: op.expiry_ms });
    }

    pub(super) fn write_to(self, db: &Db, durability: Durability) -> Result<(), Error> {
        let ops = self.ops(db)?;
        if ops.is_empty() {
            return if durability == Durability::Synced { db.sync() } else { Ok(()) };
        }
        db.core().write_as(&ops, durability, None).map(drop)
    }

    /// Its writes, as the log takes them.
    pub(super) fn ops(&self, db: &Db) -> Result<Vec<Op<'_>>, Error> {
        assert!(std::sync::Arc::ptr_eq(&self.db.0, &db.0), "a batch is for its own database");
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let op = |part: &Part| {
            let [from, middle, end] = part.ends;
            let value = (!part.deletes).then(|| &self.bytes[middle..end]);
            Op { keyspace: part.keyspace, key: &self.bytes[from..middle], value, expiry_ms: part.expiry_ms }
        };
        let ops: Vec<Op<'_>> = self.parts.iter().map(op).collect();
        let bytes = batch_bytes(&ops);
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::Size { what: "batch", bytes: bytes as usize, least: 0, most: BATCH_BYTES_MAX as usize });
        }
        Ok(ops)
    }
}
