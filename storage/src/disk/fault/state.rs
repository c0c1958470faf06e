//! What the disk holds, and what a crash makes of it.

use super::content::{Content, SECTOR};
use super::knobs::{Fault, Knobs};
use super::{Pace, Platter};
use crate::error::DiskError;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

/// A file, with or without a name.
#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) seen: Content,
    /// What is on the platter.
    platter: Content,
    /// Completed writes that no sync has covered, in order.
    unsynced: Vec<(u64, Rc<[u8]>)>,
    pub(super) bad: Range<u64>,
}

/// A change of the disk, from its call to its effect.
#[derive(Clone)]
pub(super) enum Change {
    Write { inode: u64, offset: u64, data: Rc<[u8]> },
    Grow { inode: u64, bytes: u64 },
    Sync { inode: u64 },
    Create { path: String, inode: u64 },
    Rename { from: String, to: String },
    Remove { path: String },
    CreateDir { path: String },
    SyncDir { path: String },
}

/// A change of names that no `sync_dir` has covered.
#[derive(Clone)]
enum NameChange {
    Set { path: String, inode: u64 },
    Move { from: String, to: String, inode: u64 },
    Unset { path: String },
    Dir { path: String },
}

pub(super) struct State {
    rng: ChaCha8Rng,
    pub(super) boot: u64,
    pub(super) inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) dirs: BTreeSet<String>,
    durable_names: BTreeMap<String, u64>,
    durable_dirs: BTreeSet<String>,
    unsynced_names: Vec<NameChange>,
    /// Begun and not finished, by ticket; those whose future was dropped stay.
    in_flight: BTreeMap<u64, Change>,
    abandoned: BTreeSet<u64>,
    next_ticket: u64,
    pub(super) knobs: Knobs,
    /// How often each fault has struck.
    pub(super) struck: BTreeMap<Fault, u64>,
    pub(super) pace: Option<Pace>,
    pub(super) told: Option<Platter>,
    pub(super) yields: u32,
    pub(super) changes: u64,
    pub(super) syncs: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) fail_at: Option<u64>,
    pub(super) down: bool,
}

/// The directory that holds a name.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl NameChange {
    fn in_dir(&self, dir: &str) -> bool {
        match self {
            NameChange::Set { path, .. } | NameChange::Unset { path } | NameChange::Dir { path } => parent(path) == dir,
            NameChange::Move { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            boot: 0,
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            dirs: BTreeSet::new(),
            durable_names: BTreeMap::new(),
            durable_dirs: BTreeSet::new(),
            unsynced_names: Vec::new(),
            in_flight: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            next_ticket: 1,
            knobs: Knobs::default(),
            struck: BTreeMap::new(),
            pace: None,
            told: None,
            yields: 0,
            changes: 0,
            syncs: 0,
            crash_at: None,
            fail_at: None,
            down: false,
        }
    }

    pub(super) fn fork(&self, seed: u64) -> State {
        State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            inodes: self.inodes.clone(),
            names: self.names.clone(),
            dirs: self.dirs.clone(),
            durable_names: self.durable_names.clone(),
            durable_dirs: self.durable_dirs.clone(),
            unsynced_names: self.unsynced_names.clone(),
            in_flight: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            knobs: self.knobs.clone(),
            struck: self.struck.clone(),
            pace: self.pace.clone(),
            told: None,
            ..*self
        }
    }

    pub(super) fn chance(&mut self) -> u64 {
        self.rng.next_u64()
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n.max(1)
    }

    pub(super) fn new_inode(&mut self) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        inode
    }

    pub(super) fn has_dir(&self, path: &str) -> bool {
        path.is_empty() || self.dirs.contains(path)
    }

    pub(super) fn used_below(&self, path: &str) -> u64 {
        let below = self.names.iter().filter(|(name, _)| name.starts_with(path));
        below.filter_map(|(_, i)| self.inodes.get(i)).map(|i| i.seen.size).sum()
    }

    fn room(&self) -> u64 {
        self.knobs.capacity.map_or(u64::MAX, |bytes| bytes.saturating_sub(self.used_below("")))
    }

    fn named(&mut self, path: &str) -> Option<&mut Inode> {
        self.names.get(path).and_then(|i| self.inodes.get_mut(i))
    }

    pub(super) fn set_bad_range(&mut self, path: &str, range: Range<u64>) -> bool {
        self.named(path).map(|inode| inode.bad = range).is_some()
    }

    pub(super) fn flip_bit(&mut self, path: &str, offset: u64, bit: u8) -> bool {
        self.named(path).is_some_and(|inode| inode.flip(offset, bit))
    }

    pub(super) fn poke(&mut self, path: &str, offset: u64, bytes: &[u8]) -> bool {
        let Some(inode) = self.named(path) else { return false };
        inode.seen.write(offset, bytes);
        inode.platter.write(offset, bytes);
        true
    }

    pub(super) fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let inode = self.inodes.get(self.names.get(path)?)?;
        let mut out = vec![0; inode.seen.size as usize];
        inode.seen.read(0, &mut out);
        Some(out)
    }

    pub(super) fn heal(&mut self) {
        self.knobs = Knobs::default();
        self.inodes.values_mut().for_each(|inode| inode.bad = 0..0);
        (self.crash_at, self.fail_at) = (None, None);
    }

    /// A change begins; its ticket.
    pub(super) fn begin(&mut self, change: Change) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.in_flight.insert(ticket, change);
        ticket
    }

    /// Its future was dropped: it may still take effect; a write or a sync also later, names only now.
    pub(super) fn abandon(&mut self, ticket: u64) {
        match self.in_flight.get(&ticket) {
            Some(Change::Write { .. } | Change::Grow { .. } | Change::Sync { .. }) => {
                self.abandoned.insert(ticket);
            }
            Some(_) if !self.down => {
                if let Some(change) = self.in_flight.remove(&ticket) {
                    self.apply_in_part(change);
                }
            }
            _ => {}
        }
    }

    /// Abandoned changes take effect behind the back of whoever works on.
    fn haunt(&mut self) {
        for ticket in std::mem::take(&mut self.abandoned) {
            if self.below(4) != 0 {
                self.abandoned.insert(ticket);
            } else if let Some(change) = self.in_flight.remove(&ticket) {
                self.apply_in_part(change);
            }
        }
    }

    /// The change with this ticket is due: takes it out, unless the machine stops here.
    pub(super) fn due(&mut self, ticket: u64) -> Option<Change> {
        if self.crash_at.is_some_and(|at| self.changes >= at) {
            (self.down, self.crash_at) = (true, None);
            return None;
        }
        self.haunt();
        self.changes += 1;
        self.in_flight.remove(&ticket)
    }

    /// The change takes effect. `path` is for the error.
    pub(super) fn apply(&mut self, change: Change, path: &str) -> Result<(), DiskError> {
        match change {
            Change::Write { inode, offset, data } => self.write(inode, offset, data, path)?,
            Change::Grow { inode, bytes } => return self.grow(inode, bytes, path),
            Change::Sync { inode } => {
                self.syncs += 1;
                self.tell(inode);
                self.inodes.entry(inode).or_default().sync();
            }
            Change::Create { path, inode } => {
                self.names.insert(path.clone(), inode);
                self.unsynced_names.push(NameChange::Set { path, inode });
            }
            Change::Rename { from, to } => {
                let Some(inode) = self.names.remove(&from) else { return Err(DiskError::NotFound { path: from }) };
                self.names.insert(to.clone(), inode);
                self.unsynced_names.push(NameChange::Move { from, to, inode });
            }
            Change::Remove { path } => {
                if self.names.remove(&path).is_none() {
                    return Err(DiskError::NotFound { path });
                }
                self.unsynced_names.push(NameChange::Unset { path });
            }
            Change::CreateDir { path } => self.make_dir(&path),
            Change::SyncDir { path } => {
                let (now, later): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.unsynced_names).into_iter().partition(|change| change.in_dir(&path));
                self.unsynced_names = later;
                now.into_iter().for_each(|change| self.settle(change));
            }
        }
        Ok(())
    }

    /// A sync of this file is about to take effect.
    fn tell(&self, inode: u64) {
        let Some(told) = &self.told else { return };
        let Some(file) = self.inodes.get(&inode).filter(|file| !file.unsynced.is_empty()) else { return };
        let Some((path, _)) = self.names.iter().find(|(_, named)| **named == inode) else { return };
        file.unsynced.iter().for_each(|(offset, data)| told(path, *offset, data));
    }

    fn write(&mut self, inode: u64, offset: u64, data: Rc<[u8]>, path: &str) -> Result<(), DiskError> {
        let room = self.room();
        let file = self.inodes.entry(inode).or_default();
        let more = (offset + data.len() as u64).saturating_sub(file.seen.size);
        if more > room {
            return Err(DiskError::NoSpace { path: path.to_owned() });
        }
        file.seen.write(offset, &data);
        file.unsynced.push((offset, data));
        Ok(())
    }

    /// Grows with zeros, as far as there is room.
    fn grow(&mut self, inode: u64, bytes: u64, path: &str) -> Result<(), DiskError> {
        let room = self.room();
        let file = self.inodes.entry(inode).or_default();
        let more = bytes.saturating_sub(file.seen.size);
        file.seen.size += more.min(room / 4096 * 4096);
        if more > room { Err(DiskError::NoSpace { path: path.to_owned() }) } else { Ok(()) }
    }

    fn make_dir(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let dir = &path[..end];
            if !dir.is_empty() && self.dirs.insert(dir.to_owned()) {
                self.unsynced_names.push(NameChange::Dir { path: dir.to_owned() });
            }
        }
    }

    /// A name change reaches the platter. A file has one name: there are no hard links.
    fn settle(&mut self, change: NameChange) {
        let (path, inode) = match change {
            NameChange::Set { path, inode } => (path, inode),
            NameChange::Move { from, to, inode } => {
                self.durable_names.remove(&from);
                (to, inode)
            }
            NameChange::Unset { path } => {
                self.durable_names.remove(&path);
                return;
            }
            NameChange::Dir { path } => {
                self.durable_dirs.insert(path);
                return;
            }
        };
        self.durable_names.retain(|_, i| *i != inode);
        self.durable_names.insert(path, inode);
    }

    /// A change that nobody saw complete: wholly, in part, or not at all.
    fn apply_in_part(&mut self, change: Change) {
        let outcome = self.below(3);
        if outcome == 0 {
            return;
        }
        match change {
            Change::Write { inode, offset, data } if outcome == 1 => self.tear(inode, offset, &data),
            // What an operation would have answered is nobody's business now.
            other => drop(self.apply(other, "")),
        }
    }

    /// Some sectors of a write arrive.
    pub(super) fn tear(&mut self, inode: u64, offset: u64, data: &[u8]) {
        for (at, sector) in data.chunks(SECTOR as usize).enumerate() {
            let at = offset + at as u64 * SECTOR;
            // No tear grows a file: its length changes with the whole write.
            let inside = self.inodes.get(&inode).is_some_and(|file| at + SECTOR <= file.seen.size);
            if inside && self.below(2) == 0 {
                let file = self.inodes.entry(inode).or_default();
                file.seen.write(at, sector);
                file.unsynced.push((at, sector.into()));
            }
        }
    }

    pub(super) fn crash_process(&mut self) {
        for (_, change) in std::mem::take(&mut self.in_flight) {
            self.apply_in_part(change);
        }
        self.abandoned.clear();
        (self.down, self.crash_at) = (false, None);
        self.boot += 1;
        let named: BTreeSet<u64> = self.names.values().chain(self.durable_names.values()).copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    pub(super) fn crash_power(&mut self) {
        self.crash_process();
        // The extremes are where recoveries fail: nothing survives, everything does, almost everything.
        let percent = [0, 10, 50, 90, 100][self.below(5) as usize];
        self.lose_names(percent);
        let State { inodes, rng, names, .. } = self;
        let named: BTreeSet<u64> = names.values().copied().collect();
        inodes.retain(|inode, _| named.contains(inode));
        inodes.values_mut().for_each(|inode| inode.lose_power(percent, || rng.next_u64()));
    }

    fn lose_names(&mut self, percent: u64) {
        let unsynced = std::mem::take(&mut self.unsynced_names);
        let journal = self.below(2) == 0;
        let mut alive = true;
        for change in unsynced {
            let survives = self.below(100) < percent;
            alive = alive && survives;
            if if journal { alive } else { survives } {
                self.settle(change);
            }
        }
        let dirs = std::mem::take(&mut self.durable_dirs);
        // A directory whose parent is gone is gone.
        for dir in dirs {
            if parent(&dir).is_empty() || self.durable_dirs.contains(parent(&dir)) {
                self.durable_dirs.insert(dir);
            }
        }
        let dirs = &self.durable_dirs;
        self.durable_names.retain(|path, _| parent(path).is_empty() || dirs.contains(parent(path)));
        self.names = self.durable_names.clone();
        self.dirs = self.durable_dirs.clone();
    }

    /// What a failed sync does (see [`Fault::FailedSync`]).
    pub(super) fn fail_sync(&mut self, inode: u64) {
        let mut file = self.inodes.remove(&inode).unwrap_or_default();
        let unsynced = std::mem::take(&mut file.unsynced);
        file.survive(unsynced, 50, || self.rng.next_u64());
        self.inodes.insert(inode, file);
    }

    /// The fault of this operation, if any.
    pub(super) fn strike(&mut self, kind: super::OpKind, path: &str) -> Option<Fault> {
        let rng = &mut self.rng;
        let fault = self.knobs.strike(kind, path, || rng.next_u64())?;
        *self.struck.entry(fault).or_default() += 1;
        Some(fault)
    }
}

impl Inode {
    fn sync(&mut self) {
        for (offset, data) in std::mem::take(&mut self.unsynced) {
            self.platter.write_as(&self.seen, offset, &data);
        }
        self.platter.size = self.seen.size;
    }

    /// Each sector of each write reaches the platter or not; a later survivor covers an earlier one.
    fn survive(&mut self, writes: Vec<(u64, Rc<[u8]>)>, percent: u64, mut chance: impl FnMut() -> u64) {
        let size = self.platter.size;
        for (offset, data) in writes {
            for (at, sector) in data.chunks(SECTOR as usize).enumerate() {
                let at = offset + at as u64 * SECTOR;
                if chance() % 100 < percent && at < size {
                    self.platter.write(at, &sector[..sector.len().min((size - at) as usize)]);
                }
            }
        }
    }

    fn lose_power(&mut self, percent: u64, mut chance: impl FnMut() -> u64) {
        if chance() % 100 < percent {
            self.platter.size = self.platter.size.max(self.seen.size);
        }
        let unsynced = std::mem::take(&mut self.unsynced);
        self.survive(unsynced, percent, chance);
        self.seen = self.platter.clone();
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        self.platter.flip(offset, bit);
        self.seen.flip(offset, bit)
    }
}
