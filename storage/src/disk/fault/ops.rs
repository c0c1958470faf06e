//! The operations: each waits its turn, meets its fault, takes effect.

use super::FaultDisk;
use super::content::SECTOR;
use super::knobs::{Fault, OpKind};
use super::state::{Change, State, parent};
use super::testing::yield_once;
use crate::disk::{ALIGN, Disk, DiskBuf, Mapped, OpenMode};
use crate::error::DiskError;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// An open file of the fault disk.
#[derive(Clone, Debug)]
pub struct FaultFile {
    inode: u64,
    path: Rc<str>,
    boot: u64,
    writable: bool,
}

/// What the system says when a device fails.
const EIO: i32 = 5;

fn eio(path: &str, what: &'static str) -> DiskError {
    DiskError::Io { path: path.to_owned(), what, source: Arc::new(io::Error::from_raw_os_error(EIO)) }
}

fn refused(path: &str, what: &'static str, kind: io::ErrorKind) -> DiskError {
    DiskError::Io { path: path.to_owned(), what, source: Arc::new(io::Error::from(kind)) }
}

/// A change between its call and its effect. Dropped before, it may still take effect later, like a buffer that the kernel
/// owns.
struct InFlight {
    state: Rc<RefCell<State>>,
    boot: u64,
    ticket: u64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        if state.boot == self.boot {
            state.abandon(self.ticket);
        }
    }
}

impl FaultDisk {
    fn check_alive(&self, boot: u64, path: &str) -> Result<(), DiskError> {
        let state = self.state.borrow();
        if self.boot == state.boot && boot == state.boot && !state.down {
            return Ok(());
        }
        let source = Arc::new(io::Error::other("the process that held this disk has crashed"));
        Err(DiskError::Io { path: path.to_owned(), what: "crash", source })
    }

    async fn pace(&self, kind: OpKind) {
        let (pace, yields) = {
            let mut state = self.state.borrow_mut();
            let most = u64::from(state.yields);
            let yields = if most == 0 { 0 } else { 1 + state.below(most) };
            (state.pace.clone(), yields)
        };
        match pace {
            Some(pace) => pace(kind).await,
            None => {
                for _ in 0..yields {
                    yield_once().await;
                }
            }
        }
    }

    /// Waits; then the fault that strikes, if any. Fails when the machine is gone.
    async fn turn(&self, kind: OpKind, boot: u64, path: &str) -> Result<Option<Fault>, DiskError> {
        self.check_alive(boot, path)?;
        self.pace(kind).await;
        self.check_alive(boot, path)?;
        match self.state.borrow_mut().strike(kind, path) {
            Some(Fault::Eio) => Err(eio(path, "operation")),
            other => Ok(other),
        }
    }

    async fn change(&self, kind: OpKind, boot: u64, path: &str, change: Change) -> Result<(), DiskError> {
        self.check_alive(boot, path)?;
        let ticket = self.state.borrow_mut().begin(change);
        let flight = InFlight { state: self.state.clone(), boot: self.boot, ticket };
        self.pace(kind).await;
        self.check_alive(boot, path)?;
        let mut state = self.state.borrow_mut();
        let due = state.due(ticket);
        let Some(change) = due else {
            drop(state);
            drop(flight);
            return self.check_alive(boot, path);
        };
        let result = take_effect(&mut state, kind, path, change);
        drop(state);
        result
    }

    async fn write(&self, file: &FaultFile, offset: u64, buf: &DiskBuf) -> Result<(), DiskError> {
        assert!(offset.is_multiple_of(ALIGN as u64), "{}: write at {offset} is not aligned", file.path);
        if !file.writable {
            return Err(refused(&file.path, "write", io::ErrorKind::PermissionDenied));
        }
        let change = Change::Write { inode: file.inode, offset, data: Rc::from(&buf[..]) };
        self.change(OpKind::Write, file.boot, &file.path, change).await
    }

    async fn read(&self, kind: OpKind, file: &FaultFile, offset: u64, out: &mut [u8]) -> Result<usize, DiskError> {
        let fault = self.turn(kind, file.boot, &file.path).await?;
        let mut state = self.state.borrow_mut();
        let (place, inside) = (state.chance(), state.below(out.len() as u64));
        let inode = state.inodes.entry(file.inode).or_default();
        let end = offset + out.len() as u64;
        if overlaps(&inode.bad, offset..end) {
            return Err(eio(&file.path, "read"));
        }
        let from = match fault {
            Some(Fault::Rot) => {
                inode.flip(offset + inside, (place % 8) as u8);
                offset
            }
            Some(Fault::MisdirectedRead) => elsewhere(place, offset, inode.seen.size),
            _ => offset,
        };
        Ok(inode.seen.read(from, out))
    }
}

fn overlaps(a: &Range<u64>, b: Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Another aligned place of a file; the same when there is none.
fn elsewhere(chance: u64, offset: u64, size: u64) -> u64 {
    let (places, here) = (size / ALIGN as u64, offset / ALIGN as u64);
    if places < 2 {
        return offset;
    }
    (here + 1 + chance % (places - 1)) % places * ALIGN as u64
}

fn take_effect(state: &mut State, kind: OpKind, path: &str, change: Change) -> Result<(), DiskError> {
    if state.fail_at.is_some_and(|at| state.changes > at) {
        if let Change::Sync { inode } = change {
            state.fail_sync(inode);
        }
        return Err(eio(path, "write"));
    }
    let fault = state.strike(kind, path);
    match (fault, change) {
        (Some(Fault::Eio), _) => Err(eio(path, "operation")),
        (Some(Fault::NoSpace), _) => Err(DiskError::NoSpace { path: path.to_owned() }),
        (Some(Fault::LostWrite), _) => Ok(()),
        (Some(Fault::LostSync), _) => {
            state.syncs += 1;
            Ok(())
        }
        (Some(Fault::FailedSync), Change::Sync { inode }) => {
            state.fail_sync(inode);
            Err(eio(path, "sync"))
        }
        (Some(Fault::TornWrite), Change::Write { inode, offset, data }) => {
            state.tear(inode, offset, &data);
            Err(eio(path, "write"))
        }
        (Some(Fault::ShortWrite), Change::Write { inode, offset, data }) => {
            // Whole sectors, as everywhere.
            let (wanted, got) = (data.len(), (state.below(data.len() as u64) / SECTOR * SECTOR) as usize);
            state.apply(Change::Write { inode, offset, data: data[..got].into() }, path)?;
            Err(DiskError::ShortWrite { path: path.to_owned(), offset, wanted, got })
        }
        (Some(Fault::MisdirectedWrite), Change::Write { inode, offset, data }) => {
            let (size, place) = (state.inodes.get(&inode).map_or(0, |i| i.seen.size), state.chance());
            state.apply(Change::Write { inode, offset: elsewhere(place, offset, size), data }, path)
        }
        (_, Change::Write { inode, offset, data })
            if state.inodes.get(&inode).is_some_and(|i| overlaps(&i.bad, offset..offset + data.len() as u64)) =>
        {
            Err(eio(path, "write"))
        }
        (_, change) => state.apply(change, path),
    }
}

impl Disk for FaultDisk {
    type File = FaultFile;

    async fn open(&self, path: &str, mode: OpenMode) -> Result<FaultFile, DiskError> {
        self.turn(OpKind::Open, self.boot, path).await?;
        let file = |inode| FaultFile { inode, path: path.into(), boot: self.boot, writable: mode != OpenMode::Read };
        if mode != OpenMode::Create {
            let inode = self.state.borrow().names.get(path).copied();
            return inode.map(file).ok_or_else(|| DiskError::NotFound { path: path.to_owned() });
        }
        let inode = {
            let mut state = self.state.borrow_mut();
            if state.names.contains_key(path) || state.has_dir(path) {
                return Err(refused(path, "create", io::ErrorKind::AlreadyExists));
            }
            if !state.has_dir(parent(path)) {
                return Err(DiskError::NotFound { path: path.to_owned() });
            }
            state.new_inode()
        };
        // Waits a second time: between the look and the change another one may have made it.
        self.change(OpKind::Open, self.boot, path, Change::Create { path: path.to_owned(), inode }).await?;
        Ok(file(inode))
    }

    async fn size(&self, file: &FaultFile) -> Result<u64, DiskError> {
        self.turn(OpKind::Size, file.boot, &file.path).await?;
        Ok(self.state.borrow().inodes.get(&file.inode).map_or(0, |inode| inode.seen.size))
    }

    async fn read_at(&self, file: &FaultFile, offset: u64, mut buf: DiskBuf) -> (Result<usize, DiskError>, DiskBuf) {
        assert!(offset.is_multiple_of(ALIGN as u64), "{}: read at {offset} is not aligned", file.path);
        let result = self.read(OpKind::Read, file, offset, &mut buf).await;
        (result, buf)
    }

    async fn write_at(&self, file: &FaultFile, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        let result = self.write(file, offset, &buf).await;
        (result, buf)
    }

    async fn commit(&self, file: &FaultFile, offset: u64, buf: DiskBuf) -> (Result<(), DiskError>, DiskBuf) {
        let mut result = self.write(file, offset, &buf).await;
        if result.is_ok() {
            result = self.sync(file).await;
        }
        (result, buf)
    }

    async fn sync(&self, file: &FaultFile) -> Result<(), DiskError> {
        self.change(OpKind::Sync, file.boot, &file.path, Change::Sync { inode: file.inode }).await
    }

    async fn allocate(&self, file: &FaultFile, bytes: u64) -> Result<(), DiskError> {
        let change = Change::Grow { inode: file.inode, bytes };
        self.change(OpKind::Allocate, file.boot, &file.path, change).await?;
        self.sync(file).await
    }

    async fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        if !self.state.borrow().has_dir(path) {
            return Err(DiskError::NotFound { path: path.to_owned() });
        }
        self.change(OpKind::SyncDir, self.boot, path, Change::SyncDir { path: path.to_owned() }).await
    }

    async fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        self.change(OpKind::CreateDir, self.boot, path, Change::CreateDir { path: path.to_owned() }).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        if !self.state.borrow().has_dir(parent(to)) {
            return Err(DiskError::NotFound { path: to.to_owned() });
        }
        let change = Change::Rename { from: from.to_owned(), to: to.to_owned() };
        self.change(OpKind::Rename, self.boot, from, change).await
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.change(OpKind::Remove, self.boot, path, Change::Remove { path: path.to_owned() }).await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        self.turn(OpKind::List, self.boot, path).await?;
        let state = self.state.borrow();
        if !state.has_dir(path) {
            return Err(DiskError::NotFound { path: path.to_owned() });
        }
        let all = state.names.keys().chain(state.dirs.iter());
        let mut names: Vec<String> = all
            .filter(|name| parent(name) == path)
            .map(|name| name[path.len()..].trim_start_matches('/').to_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    async fn map(
        &self,
        file: &FaultFile,
        range: Range<u64>,
        verify: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Mapped, DiskError> {
        let bytes = range.end.saturating_sub(range.start);
        let mut section = vec![0; bytes as usize];
        let got = self.read(OpKind::Map, file, range.start, &mut section).await?;
        if got as u64 == bytes && verify(&section) {
            return Ok(Mapped::new(section));
        }
        Err(DiskError::Section { path: file.path.to_string(), offset: range.start, bytes })
    }
}
