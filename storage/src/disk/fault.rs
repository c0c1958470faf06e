//! The fault disk: a disk in memory that fails on purpose, from a seed. The only one of the project: unit tests, fuzzers and
//! the simulator turn its knobs.
//!
//! # What it models
//! A file has two contents: what a read sees (page cache and the device's own cache) and what is on the platter. A
//! completed write changes the first; a sync moves it to the second. Names work alike: made, renamed and removed names (of
//! directories too) are seen at once and are durable after [`sync_dir`](crate::disk::Disk::sync_dir) of the directory that
//! holds them; a directory's own name is durable after `sync_dir` of its parent. Everything is single-threaded, in memory, without a clock; the same
//! seed and the same calls give the same outcome.
//!
//! **Process death** ([`FaultDisk::crash_process`], kill -9): completed writes and names stay, synced or not. An operation in
//! flight took effect wholly, in part (whole sectors of 512 bytes) or not at all. **Power loss** ([`FaultDisk::crash_power`]):
//! of what was not synced, each sector is on the platter or not, in any of the versions written since the last sync; a file
//! that grew has its old or its new length; unsynced names survive up to some point, or each on its own, a rename whole or
//! not at all. A sector is never torn inside. A write or sync whose future was dropped may take effect at any time later,
//! behind the back of whoever works on. After either crash, every handle from before fails: go on with the [`FaultDisk`]
//! that the crash returned.
//!
//! **While it runs**, by rate ([`Faults`]) or once, on a chosen operation ([`FaultDisk::inject`]): see [`Fault`]. A failed
//! sync marks the unsynced sectors clean, as ext4, XFS and Btrfs do: reads still show them, the next sync says ok, a power
//! loss takes them (any of them may have reached the platter).
//!
//! # Zone by zone: who must survive what
//! - **Log** (`log/`): power loss at any point, torn writes, a failed sync, no space: survived alone. A flipped bit, a lost
//!   or misdirected write, a read from the wrong place: noticed, in any batch that was synced and that a later one vouches
//!   for; the store stops, its group repairs it. Not noticed by one copy: a disk that answers a sync and drops whole sectors
//!   of the last batch ([`Fault::LostSync`], [`Fault::LostWrite`] at the tail).
//! - **Tables** (`tables/`): written once, synced, then named by the manifest: rot and misdirection are noticed at every
//!   read of a block and at [`Disk::map`](crate::disk::Disk::map); EIO on one block fails what needs that block only.
//! - **Manifest** (`MANIFEST-*`, `CURRENT`): as the log; never an older state taken for the newest.
//!
//! Only power loss, process death and errors that the disk reports (failed sync, EIO, no space) may hit all replicas of a
//! group at once without loss. The silent faults are survived when fewer than a majority have them.

mod content;
mod knobs;
mod ops;
mod state;
pub mod testing;

pub use knobs::{Fault, Faults, Injection, OpKind};
pub use ops::FaultFile;
pub use testing::block_on;

use state::State;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;

/// Awaited before an operation takes effect: the simulator's virtual delay.
pub type Pace = Rc<dyn Fn(OpKind) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Hears of each write that reaches the platter by a sync: path, offset, bytes.
pub type Platter = Rc<dyn Fn(&str, u64, &[u8])>;

/// A handle to one disk in memory, of one process lifetime. Clones are cheap. The knobs work from any handle, also one from
/// before a crash; the operations of [`super::Disk`] only from a live one.
#[derive(Clone)]
pub struct FaultDisk {
    state: Rc<RefCell<State>>,
    boot: u64,
}

impl FaultDisk {
    /// An empty disk. `seed` decides all that chance decides.
    pub fn new(seed: u64) -> FaultDisk {
        FaultDisk { state: Rc::new(RefCell::new(State::new(seed))), boot: 0 }
    }

    /// Kill -9: completed writes stay, those in flight may have happened. Gives the handle to go on with.
    #[must_use = "handles from before the crash are dead"]
    pub fn crash_process(&self) -> FaultDisk {
        self.state.borrow_mut().crash_process();
        self.alive()
    }

    /// Power loss: what was not synced survives sector by sector, or not. Gives the handle to go on with.
    #[must_use = "handles from before the crash are dead"]
    pub fn crash_power(&self) -> FaultDisk {
        self.state.borrow_mut().crash_power();
        self.alive()
    }

    /// A live handle to the same disk.
    pub fn alive(&self) -> FaultDisk {
        FaultDisk { state: self.state.clone(), boot: self.state.borrow().boot }
    }

    /// A copy of the disk as it stands, sharing nothing: to try several futures from one past. Nothing is in flight there.
    pub fn fork(&self, seed: u64) -> FaultDisk {
        let state = self.state.borrow().fork(seed);
        let boot = state.boot;
        FaultDisk { state: Rc::new(RefCell::new(state)), boot }
    }

    /// Faults by rate, from now on. They stay over a crash.
    pub fn set_faults(&self, faults: Faults) {
        self.state.borrow_mut().knobs.faults = faults;
    }

    /// One fault, on one operation.
    pub fn inject(&self, injection: Injection) {
        self.state.borrow_mut().knobs.injections.push(injection);
    }

    /// Injections that have not struck yet.
    pub fn pending_injections(&self) -> usize {
        self.state.borrow().knobs.injections.len()
    }

    /// How often each fault has struck, by rate or by injection.
    pub fn struck(&self) -> BTreeMap<Fault, u64> {
        self.state.borrow().struck.clone()
    }

    /// Bytes that all files together may hold; `None`: no limit. More is refused with `NoSpace`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.borrow_mut().knobs.capacity = bytes;
    }

    /// Bytes that all named files hold.
    pub fn used(&self) -> u64 {
        self.used_below("")
    }

    /// Bytes that all files hold whose names begin like this.
    pub fn used_below(&self, path: &str) -> u64 {
        self.state.borrow().used_below(path)
    }

    /// Reads and writes of a file that touch `range` fail with EIO from now on; an empty range heals the file. It stays
    /// with the file when it is renamed. `false` when there is no such file.
    pub fn set_bad_range(&self, path: &str, range: Range<u64>) -> bool {
        self.state.borrow_mut().set_bad_range(path, range)
    }

    /// Rots one bit (0..8) of the byte at `offset`, on the platter and in what reads see. `false` when there is no such
    /// byte.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) -> bool {
        assert!(bit < 8);
        self.state.borrow_mut().flip_bit(path, offset, bit)
    }

    /// Writes bytes past everything, durable at once: a stranger with a hex editor. `false` when there is no such file.
    pub fn poke(&self, path: &str, offset: u64, bytes: &[u8]) -> bool {
        self.state.borrow_mut().poke(path, offset, bytes)
    }

    /// What a read would see, without faults; `None` when there is no such file.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        self.state.borrow().peek(path)
    }

    /// Names of all files, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.state.borrow().names.keys().cloned().collect()
    }

    /// Changes that took effect so far: writes, syncs (a commit is one of each), allocations, names made, renamed, removed
    /// or synced.
    pub fn writes(&self) -> u64 {
        self.state.borrow().changes
    }

    /// Syncs of files that took effect so far, honest or not.
    pub fn syncs(&self) -> u64 {
        self.state.borrow().syncs
    }

    /// After `n` more changes the machine stops: the next change stays in flight, and every operation fails until
    /// [`FaultDisk::crash_process`] or [`FaultDisk::crash_power`] says what became of it all.
    pub fn crash_after_writes(&self, n: u64) {
        let mut state = self.state.borrow_mut();
        state.crash_at = Some(state.changes + n);
    }

    /// Whether the machine stopped by [`FaultDisk::crash_after_writes`].
    pub fn is_down(&self) -> bool {
        self.state.borrow().down
    }

    /// After `n` more changes every change fails with EIO, until [`FaultDisk::heal`].
    pub fn fail_after(&self, n: u64) {
        let mut state = self.state.borrow_mut();
        state.fail_at = Some(state.changes + n);
    }

    /// No more faults: rates, injections, capacity, bad ranges, `fail_after` and `crash_after_writes` are forgotten. What
    /// has happened stays.
    pub fn heal(&self) {
        self.state.borrow_mut().heal();
    }

    /// `pace` is awaited before each operation takes effect (a commit asks twice: write, then sync). It must not touch this
    /// disk while called.
    pub fn set_scheduler(&self, pace: Pace) {
        self.state.borrow_mut().pace = Some(pace);
    }

    /// `tell` hears of each write that a sync takes to the platter: the file's path, the offset, the bytes. It must not touch
    /// this disk while called. What a power loss spares is not told.
    pub fn set_platter(&self, tell: Platter) {
        self.state.borrow_mut().told = Some(tell);
    }

    /// Without a scheduler: each operation yields 1..=`most` times, drawn from the seed, before it takes effect, so that
    /// operations in flight together take effect in any order. 0, the default: ready at once.
    pub fn set_yields(&self, most: u32) {
        self.state.borrow_mut().yields = most;
    }
}

#[cfg(test)]
mod tests;
