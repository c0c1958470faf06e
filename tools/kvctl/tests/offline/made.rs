//! Stores to look into, and what `kvctl` says of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use bytes::Bytes;
use ringkv_storage::disk::plain::PlainDisk;
use ringkv_storage::wal::{HardState, Log, LogOptions, Record, ReplicaState, ShardState, store_identity};
use ringkv_wire::entry::{Entry, EntryKind, OpKind, Operation, Operations};
use ringkv_wire::ids::{ClientId, Generation, Incarnation, KeyspaceId, ShardId, StoreId};
use serde_json::Value;

pub const INCARNATION: u64 = 0x1234_5678_9abc_def0;
pub const SHARDS: [ShardId; 2] = [ShardId::new(1, 0), ShardId::new(1, 7)];

/// A data directory of one store.
pub struct Made {
    dir: tempfile::TempDir,
}

/// Runs something that waits for a disk.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

impl Made {
    /// With an identity and no store yet.
    pub fn empty() -> Made {
        let dir = tempfile::tempdir().unwrap();
        let identity = format!(
            "version = 1\ncluster = \"{:032x}\"\nnode = 3\nstores = 1\nincarnation = \"{INCARNATION:016x}\"\nmade = true\n",
            1
        );
        fs::write(dir.path().join("identity"), identity).unwrap();
        fs::write(dir.path().join("LOCK"), "pid 1\n").unwrap();
        fs::create_dir(dir.path().join("store-0000")).unwrap();
        Made { dir }
    }

    /// With a log of `entries` entries in each of two shards, each commit in a batch of its own, closed.
    pub fn with_log(entries: u64) -> Made {
        let made = Made::empty();
        block_on(async {
            let disk = PlainDisk::open(made.dir.path()).unwrap();
            let identity = store_identity(StoreId::new(3, 0), Incarnation(INCARNATION));
            let options = LogOptions { segment_bytes: 128 << 10, ..LogOptions::new(identity) };
            let (log, _) = Log::open(disk, "store-0000/log", options).await.unwrap();
            log.commit(SHARDS.map(state).to_vec()).await.unwrap();
            for index in 1..=entries {
                log.maintain().await.unwrap();
                log.commit(SHARDS.map(|shard| entry(shard, index)).to_vec()).await.unwrap();
            }
            let hard = HardState { term: 9, vote: Some(StoreId::new(2, 1)) };
            let voted = Record::HardState { shard: SHARDS[1], generation: Generation(1), hard };
            log.commit(vec![voted, entry(SHARDS[1], entries + 1)]).await.unwrap();
        });
        made
    }

    pub fn data(&self) -> &Path {
        self.dir.path()
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store-0000")
    }

    /// Every file below the data directory: its bytes, and when it was last written.
    pub fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![self.dir.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let written = fs::metadata(&path).unwrap().modified().unwrap();
                        found.insert(path.clone(), (fs::read(&path).unwrap(), written));
                    }
                }
            }
        }
        found
    }

    /// Runs `kvctl` on the store; the directory must be the same afterwards, to the byte and the moment.
    pub fn look(&self, words: &[&str], flags: &[&str]) -> Told {
        let before = self.files();
        let told = kvctl(words, &self.store(), flags);
        assert!(self.files() == before, "{words:?} {flags:?} changed the directory");
        told
    }
}

/// What `kvctl` said.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Told {
    /// The objects of `--json`, one a line.
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    }

    /// The objects of one kind.
    pub fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.objects().into_iter().filter(|object| object["kind"] == kind).collect()
    }
}

/// Runs `kvctl words path flags`.
pub fn kvctl(words: &[&str], path: &Path, flags: &[&str]) -> Told {
    let output: Output =
        Command::new(env!("CARGO_BIN_EXE_kvctl")).args(words).arg(path).args(flags).output().expect("kvctl starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Told { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Turns one bit of a file.
pub fn flip(path: &Path, offset: u64) {
    let mut byte = [0];
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    file.read_exact_at(&mut byte, offset).unwrap();
    overwrite(path, offset, &[byte[0] ^ 4]);
}

/// Writes over a part of a file.
pub fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn state(shard: ShardId) -> Record {
    Record::ShardState(ShardState {
        shard,
        generation: Generation(1),
        state: ReplicaState::Voter,
        hard: HardState { term: 1, vote: None },
        floor_index: 0,
        floor_term: 0,
        flushed_index: 0,
        acknowledged_index: 0,
        config_index: 0,
        config: Bytes::new(),
    })
}

/// An entry of one put and one delete, with values of 3,000 bytes.
fn entry(shard: ShardId, index: u64) -> Record {
    let op = |seq, kind, key: String, value: Vec<u8>| Operation {
        seq,
        expiry_ms: 1,
        keyspace: KeyspaceId(1),
        kind,
        key: key.into(),
        value: value.into(),
    };
    let ops = vec![
        op(1, OpKind::Put, format!("key {index:03}\n"), vec![index as u8; 3000]),
        op(2, OpKind::Delete, "a".to_owned(), Vec::new()),
    ];
    let mut body = Vec::new();
    Operations { client: ClientId([7; 16]), floor: 1, ops }.encode(&mut body);
    let body = Bytes::from(body);
    let body_crc = ringkv_wire::checksum(&body);
    let (generation, kind) = (Generation(1), EntryKind::Operations);
    Record::Entry(Entry { shard, generation, term: 1, index, log_time_ms: 1, kind, body_crc, body })
}
