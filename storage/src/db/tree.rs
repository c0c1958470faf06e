//! A named tree: keys and values of its own.

use crate::db::error::Error;
use crate::db::log::Op;
use crate::db::state::Core;
use crate::db::view::{Seen, View};
use crate::db::{Db, Durability, Range};
use crate::iter::Span;
use crate::sst::{NEVER_MS, Value};
use crate::tree::Sought;
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::ops::RangeBounds;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Keys of [`Tree::get_many`] whose memory is fetched side by side.
const SIDE_BY_SIDE: usize = 16;

/// A tree of a [`Db`]. A cheap handle; clones are the same tree.
#[derive(Clone, Debug)]
pub struct Tree {
    db: Db,
    id: KeyspaceId,
}

impl Tree {
    pub(super) fn at(db: Db, id: KeyspaceId) -> Tree {
        Tree { db, id }
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    pub(super) fn keyspace(&self) -> KeyspaceId {
        self.id
    }

    pub(super) fn is_of(&self, db: &Db) -> bool {
        std::sync::Arc::ptr_eq(&self.db.0, &db.0)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// A table that cannot be read, or is damaged where the key may be.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.find(Sought::new(self.id, key))?.map(|value| value.value))
    }

    fn find(&self, key: Sought<'_>) -> Result<Option<Value>, Error> {
        let core = self.db.core();
        // In this order: the view is as new as the version, or newer.
        let version = core.visible.load(Ordering::Acquire);
        Ok(core.alive(core.view.load().get(&core.cache, key, version)?))
    }

    /// The values of many keys, in their order, of one moment. Faster than one by one: memory is fetched side by side.
    ///
    /// # Errors
    /// As [`Tree::get`]; the first one.
    pub fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Bytes>>, Error> {
        let (view, version) = self.db.core().moment();
        let mut values = Vec::with_capacity(keys.len());
        self.find_many((&view, version), keys, &mut values, true)?;
        Ok(values)
    }

    /// Looks up the keys behind those whose values are there already. False when `reads` is, and a block must be read for the next one.
    pub(super) fn find_many(
        &self,
        (view, version): (&View, u64),
        keys: &[impl AsRef<[u8]>],
        values: &mut Vec<Option<Bytes>>,
        reads: bool,
    ) -> Result<bool, Error> {
        let core = self.db.core();
        for keys in keys[values.len()..].chunks(SIDE_BY_SIDE) {
            let mut sought = [Sought::default(); SIDE_BY_SIDE];
            for (key, sought) in keys.iter().zip(&mut sought) {
                *sought = Sought::new(self.id, key.as_ref());
                view.prepare(sought.hash);
            }
            let sought = &sought[..keys.len()];
            sought.iter().for_each(|key| view.hint(key.hash));
            for key in sought {
                let found = match view.look(&core.cache, *key, version)? {
                    Seen::Told(found) => found,
                    Seen::Unread(unread) if reads => view.read_on(&core.cache, *key, unread)?,
                    Seen::Unread(_) => return Ok(false),
                };
                values.push(core.alive(found).map(|value| value.value));
            }
        }
        Ok(true)
    }

    /// Writes a value, [`Durability::Buffered`].
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Storage`]: nothing was written.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.write(key, Some(value), NEVER_MS, Durability::Buffered)
    }

    /// Writes a value that survives a power cut when this returns.
    ///
    /// # Errors
    /// As [`Tree::put`]; when it is the sync that failed, the value is there but nothing is known of its durability.
    pub fn put_synced(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.write(key, Some(value), NEVER_MS, Durability::Synced)
    }

    /// Writes a value that is gone after a time, by the system's clock; [`Durability::Buffered`].
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn put_for(&self, key: &[u8], value: &[u8], time: Duration) -> Result<(), Error> {
        self.write(key, Some(value), expiry_ms(self.db.core(), time), Durability::Buffered)
    }

    /// Deletes a key, [`Durability::Buffered`]; one that is not there too.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn delete(&self, key: &[u8]) -> Result<(), Error> {
        self.write(key, None, NEVER_MS, Durability::Buffered)
    }

    fn write(&self, key: &[u8], value: Option<&[u8]>, expiry_ms: u64, durability: Durability) -> Result<(), Error> {
        self.db.core().write_as(&[self.op(key, value, expiry_ms)?], durability, None).map(drop)
    }

    /// A write of a key, as the log takes it.
    pub(super) fn op<'o>(&self, key: &'o [u8], value: Option<&'o [u8]>, expiry_ms: u64) -> Result<Op<'o>, Error> {
        check_key(key)?;
        check_value(value.unwrap_or(&[]))?;
        Ok(Op { keyspace: self.id, key, value, expiry_ms })
    }

    /// Writes a value, or deletes the key with none, when its value is `expected`; none: it has none. Answers whether it was.
    /// [`Durability::Buffered`].
    ///
    /// # Errors
    /// As [`Tree::put`] and [`Tree::get`].
    pub fn compare_and_set(&self, key: &[u8], expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool, Error> {
        self.update(key, swap(expected, value)).map(|new| new.is_some())
    }

    /// Adds to a counter: a value of eight bytes, a little-endian signed number; one that is not there is 0. Answers the sum.
    /// [`Durability::Buffered`].
    ///
    /// # Errors
    /// [`Error::NotACounter`]; as [`Tree::put`] and [`Tree::get`].
    pub fn add(&self, key: &[u8], number: i64) -> Result<i64, Error> {
        let mut sum = 0;
        self.update(key, |found| {
            sum = sum_of(found, number)?;
            Ok(Some(Some(Bytes::copy_from_slice(&sum.to_le_bytes()))))
        })?;
        Ok(sum)
    }

    /// Writes what `change` makes of the value, which nobody else has changed meanwhile; it is asked again when somebody has. With
    /// none it leaves all as it is, with none inside it deletes. Answers what was written.
    pub(super) fn update(
        &self,
        key: &[u8],
        mut change: impl FnMut(Option<&[u8]>) -> Result<Option<Option<Bytes>>, Error>,
    ) -> Result<Option<Option<Bytes>>, Error> {
        check_key(key)?;
        let core = self.db.core();
        loop {
            let (view, version) = core.moment();
            let found = core.alive(view.get(&core.cache, Sought::new(self.id, key), version)?);
            let Some(new) = change(found.as_ref().map(|value| &value.value[..]))? else { return Ok(None) };
            let op = self.op(key, new.as_deref(), NEVER_MS)?;
            if core.write_as(&[op], Durability::Buffered, Some(version))? {
                return Ok(Some(new));
            }
        }
    }

    /// Keys between two bounds with their values, in order, as they are now. `..` are all; [`Range::backwards`] turns it around.
    pub fn range<'b>(&self, bounds: impl RangeBounds<&'b [u8]>) -> Range {
        Range::new(self.db.clone(), self.db.core().moment(), laid_span(self.id, &bounds))
    }

    /// Keys that begin so with their values, in order, as they are now.
    pub fn prefix(&self, prefix: &[u8]) -> Range {
        Range::new(self.db.clone(), self.db.core().moment(), laid_prefix(self.id, prefix))
    }
}

/// Changes what is expected, and nothing else; see [`Tree::update`].
pub(super) fn swap(
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
) -> impl Fn(Option<&[u8]>) -> Result<Option<Option<Bytes>>, Error> {
    move |found| Ok((found == expected).then(|| value.map(Bytes::copy_from_slice)))
}

/// What a counter comes to with `number` more.
pub(super) fn sum_of(found: Option<&[u8]>, number: i64) -> Result<i64, Error> {
    let before = found.map_or(Ok([0; 8]), <[u8; 8]>::try_from);
    let before = before.map_err(|_| Error::NotACounter { why: "its value is not eight bytes long" })?;
    let added = i64::from_le_bytes(before).checked_add(number);
    added.ok_or(Error::NotACounter { why: "the sum does not fit into 64 bits" })
}

pub(super) fn laid_span<'b>(keyspace: KeyspaceId, bounds: &impl RangeBounds<&'b [u8]>) -> Span {
    Span::of(keyspace, bounds.start_bound().map(|key| *key), bounds.end_bound().map(|key| *key))
}

pub(super) fn laid_prefix(keyspace: KeyspaceId, prefix: &[u8]) -> Span {
    Span::prefix(keyspace, prefix)
}

/// When what lives so long is gone, ms.
pub(super) fn expiry_ms(core: &Core, time: Duration) -> u64 {
    let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    core.settings.now_ms().saturating_add(time_ms).min(NEVER_MS - 1)
}

pub(super) fn check_key(key: &[u8]) -> Result<(), Error> {
    size("key", key.len(), 1, KEY_BYTES_MAX)
}

pub(super) fn check_value(value: &[u8]) -> Result<(), Error> {
    size("value", value.len(), 0, VALUE_BYTES_MAX)
}

fn size(what: &'static str, bytes: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&bytes) { Ok(()) } else { Err(Error::Size { what, bytes, least, most }) }
}
