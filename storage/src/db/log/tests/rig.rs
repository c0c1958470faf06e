//! A log in a directory of its own, and what it holds.

use crate::db::log::segment::{Segment, SyncPages};
use crate::db::log::{LogOptions, Op, Position, Shared, Writer, open};
use crate::disk::files::Root;
use crate::error::StorageError;
use crate::sst::NEVER_MS;
use ringkv_wire::ids::KeyspaceId;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An [`Op`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub keyspace: u32,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub expiry_ms: u64,
}

impl Owned {
    pub fn put(key: &[u8], value: &[u8]) -> Owned {
        Owned { keyspace: 1, key: key.to_vec(), value: Some(value.to_vec()), expiry_ms: NEVER_MS }
    }

    pub fn of(op: &Op<'_>) -> Owned {
        let (keyspace, expiry_ms) = (op.keyspace.0, op.expiry_ms);
        Owned { keyspace, key: op.key.to_vec(), value: op.value.map(<[u8]>::to_vec), expiry_ms }
    }

    pub fn op(&self) -> Op<'_> {
        let (keyspace, expiry_ms) = (KeyspaceId(self.keyspace), self.expiry_ms);
        Op { keyspace, key: &self.key, value: self.value.as_deref(), expiry_ms }
    }
}

/// What an opening found: records behind the flushed ones, then the last number.
pub type Found = Result<(Vec<(u64, Owned)>, u64), StorageError>;

thread_local! {
    static OPENINGS: Cell<u64> = const { Cell::new(1) };
}

pub const SEGMENT_BYTES: u64 = 16 << 10;

pub fn options(segment_bytes: u64) -> LogOptions {
    let seed = OPENINGS.with(|openings| openings.replace(openings.get() + 1));
    LogOptions { segment_bytes, ahead: 1, seed }
}

/// An open log.
pub struct Rig {
    pub writer: Writer,
    pub shared: Arc<Shared>,
    pub next_seq: u64,
}

impl Rig {
    pub fn open(dir: &Path, flushed_seq: u64) -> Result<(Rig, Vec<(u64, Owned)>), StorageError> {
        Rig::open_through(dir, flushed_seq, Box::new(Segment::sync_pages))
    }

    pub fn open_through(
        dir: &Path,
        flushed_seq: u64,
        sync_pages: SyncPages,
    ) -> Result<(Rig, Vec<(u64, Owned)>), StorageError> {
        let root = Root::open(dir).expect("a directory");
        let mut records = Vec::new();
        let mut apply = |seq, op: Op<'_>| {
            records.push((seq, Owned::of(&op)));
            Ok(())
        };
        let (writer, shared, last) = open(&root, flushed_seq, options(SEGMENT_BYTES), &mut apply, sync_pages)?;
        Ok((Rig { writer, shared, next_seq: last + 1 }, records))
    }

    pub fn append(&mut self, ops: &[Owned]) -> Position {
        let ops: Vec<Op<'_>> = ops.iter().map(Owned::op).collect();
        let position = self.writer.append(self.next_seq, &ops).expect("appended");
        self.next_seq += ops.len() as u64;
        assert_eq!(position, Position(self.next_seq - 1));
        position
    }

    /// One put of `bytes`, told apart by its number.
    pub fn put(&mut self, bytes: usize) -> Position {
        let op = numbered(self.next_seq, bytes);
        self.append(&[op])
    }
}

/// The put that record `seq` is in tests that need no other.
pub fn numbered(seq: u64, bytes: usize) -> Owned {
    Owned::put(&seq.to_be_bytes(), &vec![seq as u8 | 1; bytes])
}

/// Opens, looks and closes.
pub fn found(dir: &Path, flushed_seq: u64) -> Found {
    let root = Root::open(dir).expect("a directory");
    let mut records = Vec::new();
    let mut apply = |seq, op: Op<'_>| {
        records.push((seq, Owned::of(&op)));
        Ok(())
    };
    let (_, _, last) = open(&root, flushed_seq, options(SEGMENT_BYTES), &mut apply, Box::new(Segment::sync_pages))?;
    Ok((records, last))
}

/// The segment files, in order.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir.join("log")).expect("listed").map(|entry| entry.expect("an entry").path()).collect();
    files.sort_unstable();
    files
}

/// A copy of a log's directory.
pub fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(copy.path().join("log")).expect("made");
    for file in files(dir) {
        std::fs::copy(&file, copy.path().join("log").join(file.file_name().expect("a name"))).expect("copied");
    }
    copy
}
