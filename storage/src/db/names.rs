//! Which trees there are, and which there are no more (FORMAT.md, its head).

use crate::db::caller::now;
use crate::db::error::Error;
use crate::db::log::Op;
use crate::db::view::Gone;
use crate::db::{Db, Durability, Tree};
use crate::iter::{Span, Way};
use crate::sst::NEVER_MS;
use ringkv_wire::ids::KeyspaceId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names of trees are keys here, their keyspaces the values.
const NAMES: KeyspaceId = KeyspaceId(1);
/// Keyspaces of removed trees are keys here, big-endian.
const GONE: KeyspaceId = KeyspaceId(2);
/// The first tree's keyspace.
const FIRST_TREE: u32 = 16;

/// The trees of a database.
#[derive(Default)]
pub(super) struct Names {
    /// Held for a moment only.
    known: Mutex<BTreeMap<Vec<u8>, KeyspaceId>>,
    /// The next tree's keyspace, which no other tree ever had; held while a tree is made or removed.
    pub next: Mutex<u32>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half changed by a panic under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    fn known(&self, name: &str) -> Option<KeyspaceId> {
        lock(&self.known).get(name.as_bytes()).copied()
    }
}

impl Db {
    /// Reads which trees there are; what is left of others is nobody's from now on.
    pub(super) fn read_names(&self) -> Result<(), Error> {
        let mut known = lock(&self.0.names.known);
        for item in Tree::at(self.clone(), NAMES).range(..) {
            let (name, id) = item?;
            if let Ok(id) = <[u8; 4]>::try_from(&id[..]) {
                known.insert(name.to_vec(), KeyspaceId(u32::from_le_bytes(id)));
            }
        }
        let mut gone = Gone::new();
        for item in Tree::at(self.clone(), GONE).range(..) {
            if let Ok(id) = <[u8; 4]>::try_from(&item?.0[..]) {
                gone.insert(KeyspaceId(u32::from_be_bytes(id)));
            }
        }
        let last = known.values().chain(&gone).map(|id| id.0).max();
        *lock(&self.0.names.next) = last.map_or(FIRST_TREE, |last| last + 1);
        drop(known);
        if !gone.is_empty() {
            let left = self.left_of(gone)?;
            self.core().set_gone(left);
        }
        Ok(())
    }

    /// Forgets the removed trees of which nothing is left, but for the last one, whose keyspace is not to be used again. What cannot be
    /// read, or written at once, is forgotten another time.
    fn left_of(&self, mut gone: Gone) -> Result<Gone, Error> {
        let (view, version) = self.core().moment();
        let last = gone.last().copied();
        let is_empty = |id: KeyspaceId| {
            let walk = view.walk(&self.core().cache, &Arc::new(Span::prefix(id, b"")), Way::Up, version);
            walk.is_ok_and(|mut walk| now(walk.next()).is_ok_and(|any| !any))
        };
        for id in gone.clone().into_iter().filter(|id| Some(*id) != last && is_empty(*id)) {
            let key = id.0.to_be_bytes();
            let op = Op { keyspace: GONE, key: &key, value: None, expiry_ms: NEVER_MS };
            if self.core().try_write(&[op], None)?.is_some() {
                gone.remove(&id);
            }
        }
        Ok(gone)
    }

    /// The tree of this name, made when there is none. Names are as durable as buffered writes.
    ///
    /// # Errors
    /// [`Error::Size`] of a name that is no key; what writing says.
    pub fn tree(&self, name: &str) -> Result<Tree, Error> {
        if let Some(tree) = self.known_tree(name) {
            return Ok(tree);
        }
        let names = &self.0.names;
        let mut next = lock(&names.next);
        // Somebody else may have made it meanwhile.
        if let Some(tree) = self.known_tree(name) {
            return Ok(tree);
        }
        let id = KeyspaceId(*next);
        Tree::at(self.clone(), NAMES).put(name.as_bytes(), &id.0.to_le_bytes())?;
        *next += 1;
        lock(&names.known).insert(name.as_bytes().to_vec(), id);
        Ok(Tree::at(self.clone(), id))
    }

    /// The tree of this name, if there is one; waits for nothing.
    pub(super) fn known_tree(&self, name: &str) -> Option<Tree> {
        Some(Tree::at(self.clone(), self.0.names.known(name)?))
    }

    /// Names of all trees, in order.
    pub fn tree_names(&self) -> Vec<String> {
        lock(&self.0.names.known).keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Removes a tree with all that is in it; false when there is none of this name. When it returns, the removal survives a power cut.
    ///
    /// Handles of the tree get [`Error::Removed`] from then on, of reads and of writes; a [`Batch`](crate::db::Batch) with a write to it
    /// is not made. A [`Snapshot`](crate::db::Snapshot) or [`Range`](crate::db::Range) from before still sees what it saw. A tree of the
    /// same name that is made later is another one, empty.
    ///
    /// The database's thread gives back its memory and files soon after, [`Db::settle`] waits for that: tables that hold nothing else are
    /// removed, those that hold parts of other trees are written again without it. What a snapshot or range looks at goes with it.
    ///
    /// # Errors
    /// What writing says: it is still there. After an error of the sync nobody knows whether it will be there when the database
    /// is opened again.
    pub fn remove_tree(&self, name: &str) -> Result<bool, Error> {
        let names = &self.0.names;
        let _turn = lock(&names.next);
        let Some(id) = names.known(name) else { return Ok(false) };
        let (key, none) = (id.0.to_be_bytes(), NEVER_MS);
        let ops = [
            Op { keyspace: NAMES, key: name.as_bytes(), value: None, expiry_ms: none },
            Op { keyspace: GONE, key: &key, value: Some(&[]), expiry_ms: none },
        ];
        // Durable first: tables cannot be called back.
        self.core().write_as(&ops, Durability::Synced, None)?;
        lock(&names.known).remove(name.as_bytes());
        let view = self.core().view.load();
        let gone = view.gone.iter().flat_map(|gone| gone.iter().copied()).chain([id]);
        self.core().set_gone(gone.collect());
        // Its memory is to go soon; when nothing can be flushed now, it goes later.
        drop(self.rotate());
        Ok(true)
    }
}
