//! A named tree for futures.

use crate::db::asynchronous::{AsyncRange, find, finish, pool, read_on, told};
use crate::db::tree::{check_key, expiry_ms, sum_of, swap};
use crate::db::view::Seen;
use crate::db::{Batch, Db, Durability, Error, Tree};
use crate::sst::NEVER_MS;
use crate::tree::Sought;
use arc_swap::Guard;
use bytes::Bytes;
use std::ops::RangeBounds;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A tree of an [`AsyncDb`](super::AsyncDb). A cheap handle; clones are the same tree.
#[derive(Clone, Debug)]
pub struct AsyncTree(Tree);

impl AsyncTree {
    pub(super) fn of(tree: Tree) -> AsyncTree {
        AsyncTree(tree)
    }

    /// The same tree for threads that may wait, and for batches.
    pub fn blocking(&self) -> &Tree {
        &self.0
    }

    fn db(&self) -> &Db {
        self.0.db()
    }

    /// The value of a key; as [`Tree::get`].
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let (core, key) = (self.db().core(), Sought::new(self.0.keyspace(), key));
        let (view, unread) = {
            // In this order: the view is as new as the version, or newer.
            let version = core.visible.load(Ordering::Acquire);
            let view = core.view.load();
            match view.look(&core.cache, key, version)? {
                Seen::Told(found) => return Ok(core.alive(found).map(|value| value.value)),
                Seen::Unread(unread) => (Guard::into_inner(view), unread),
            }
        };
        Ok(read_on(self.db(), view, key, unread).await?.map(|value| value.value))
    }

    /// The values of many keys, of one moment; as [`Tree::get_many`].
    ///
    /// # Errors
    /// As [`Tree::get_many`].
    pub async fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Bytes>>, Error> {
        let (view, version) = self.db().core().moment();
        let mut values = Vec::with_capacity(keys.len());
        if self.0.find_many((&view, version), keys, &mut values, false)? {
            return Ok(values);
        }
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.as_ref().to_vec()).collect();
        let tree = self.0.clone();
        let read = move || tree.find_many((&view, version), &keys, &mut values, true).map(|_| values);
        told(pool::run(read).await)
    }

    /// Writes a value, [`Durability::Buffered`]; as [`Tree::put`].
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.write(key, Some(value), NEVER_MS, Durability::Buffered).await
    }

    /// Writes a value that survives a power cut when this is done; as [`Tree::put_synced`].
    ///
    /// # Errors
    /// As [`Tree::put_synced`].
    pub async fn put_synced(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.write(key, Some(value), NEVER_MS, Durability::Synced).await
    }

    /// Writes a value that is gone after a time; as [`Tree::put_for`].
    ///
    /// # Errors
    /// As [`Tree::put_for`].
    pub async fn put_for(&self, key: &[u8], value: &[u8], time: Duration) -> Result<(), Error> {
        self.write(key, Some(value), expiry_ms(self.db().core(), time), Durability::Buffered).await
    }

    /// Deletes a key, [`Durability::Buffered`]; as [`Tree::delete`].
    ///
    /// # Errors
    /// As [`Tree::delete`].
    pub async fn delete(&self, key: &[u8]) -> Result<(), Error> {
        self.write(key, None, NEVER_MS, Durability::Buffered).await
    }

    async fn write(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        expiry_ms: u64,
        durability: Durability,
    ) -> Result<(), Error> {
        let op = self.0.op(key, value, expiry_ms)?;
        let tried = self.db().core().try_write(&[op], None)?;
        finish(self.db(), tried, || Batch::of(self.db(), op), None, durability).await.map(drop)
    }

    /// Writes a value when the one there is `expected`; as [`Tree::compare_and_set`].
    ///
    /// # Errors
    /// As [`Tree::compare_and_set`].
    pub async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<bool, Error> {
        self.update(key, swap(expected, value)).await.map(|new| new.is_some())
    }

    /// Adds to a counter and answers the sum; as [`Tree::add`].
    ///
    /// # Errors
    /// As [`Tree::add`].
    pub async fn add(&self, key: &[u8], number: i64) -> Result<i64, Error> {
        let mut sum = 0;
        self.update(key, |found| {
            sum = sum_of(found, number)?;
            Ok(Some(Some(Bytes::copy_from_slice(&sum.to_le_bytes()))))
        })
        .await?;
        Ok(sum)
    }

    /// As [`Tree::update`].
    pub(super) async fn update(
        &self,
        key: &[u8],
        mut change: impl FnMut(Option<&[u8]>) -> Result<Option<Option<Bytes>>, Error>,
    ) -> Result<Option<Option<Bytes>>, Error> {
        check_key(key)?;
        let (db, sought) = (self.db(), Sought::new(self.0.keyspace(), key));
        loop {
            let (view, version) = db.core().moment();
            let found = find(db, &view, sought, version).await?;
            let Some(new) = change(found.as_ref().map(|value| &value.value[..]))? else { return Ok(None) };
            let op = self.0.op(key, new.as_deref(), NEVER_MS)?;
            let tried = db.core().try_write(&[op], Some(version))?;
            if finish(db, tried, || Batch::of(db, op), Some(version), Durability::Buffered).await? {
                return Ok(Some(new));
            }
        }
    }

    /// Keys between two bounds with their values, in order, as they are now; as [`Tree::range`].
    pub fn range<'b>(&self, bounds: impl RangeBounds<&'b [u8]>) -> AsyncRange {
        AsyncRange::of(self.0.range(bounds))
    }

    /// Keys that begin so with their values, in order, as they are now; as [`Tree::prefix`].
    pub fn prefix(&self, prefix: &[u8]) -> AsyncRange {
        AsyncRange::of(self.0.prefix(prefix))
    }
}
