//! Stores to look into, and what `kvctl` says of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use bytes::Bytes;
use ringkv_storage::disk::plain::PlainDisk;
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::tree::{Flushed, Tree};
use ringkv_storage::wal::{HardState, Log, LogOptions, Record, ReplicaState, ShardState, store_identity};
use ringkv_wire::entry::{Entry, EntryKind, OpKind, Operation, Operations};
use ringkv_wire::ids::{ClientId, Generation, Incarnation, KeyspaceId, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
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
            "version = 1\ncluster = \"{:032x}\"\nnode = 3\nstores = 1\nincarnation = \"{INCARNATION:016x}\"\n\
             made = true\n",
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

    /// With two tables of one tree: keys 000 to 999, then every tenth again, and key 005 deleted.
    pub fn with_tables() -> Made {
        Made::with_tables_of(&[], Vec::new())
    }

    /// The same of a shard with these voters, and a session table in both tables.
    pub fn with_voters(voters: &[StoreId]) -> Made {
        Made::with_tables_of(voters, sessions())
    }

    fn with_tables_of(voters: &[StoreId], sealed: Vec<(KeyspaceId, Bytes, Bytes)>) -> Made {
        let made = Made::empty();
        block_on(async {
            let tree = made.tree().await;
            for key in 0..1000 {
                tree.put(1 + key, KeyspaceId(1), format!("key {key:03}\n").as_bytes(), noise(key).into());
            }
            tree.flush(flushed(1000, voters), sealed.clone()).await.unwrap();
            for key in (0..1000).step_by(10) {
                tree.put(1001 + key, KeyspaceId(1), format!("key {key:03}\n").as_bytes(), vec![b'w'; 50].into());
            }
            tree.delete(2000, KeyspaceId(1), b"key 005\n");
            tree.flush(flushed(2000, voters), sealed).await.unwrap();
        });
        made
    }

    /// With one tree in the last level, in several tables that follow each other: the session table, if it has voters,
    /// and keys 000 to 999, those from 500 on with values that get smaller. The last flush was at 1100.
    pub fn settled(voters: &[StoreId]) -> Made {
        let made = Made::empty();
        let sealed = if voters.is_empty() { Vec::new() } else { sessions() };
        block_on(async {
            let options = EngineOptions { table_bytes: 8 << 10, ..EngineOptions::default() };
            let tree = made.tree_with(options).await;
            for (first, last, step) in [(0, 999, 1), (1000, 1099, 10)] {
                for index in (first..=last).step_by(step) {
                    let key = index % 1000;
                    let value = if key < 500 { noise(index) } else { vec![b'w'; 100] };
                    tree.put(1 + index, KeyspaceId(1), format!("key {key:03}\n").as_bytes(), value.into());
                }
                tree.flush(flushed(1 + last, voters), sealed.clone()).await.unwrap();
            }
            tree.settle().await.unwrap();
        });
        made
    }

    /// With one tree in several levels: 6,000 keys in the last one, written over here and there while merges kept up.
    pub fn leveled(voters: &[StoreId]) -> Made {
        let made = Made::empty();
        block_on(async {
            let options = EngineOptions { table_bytes: 4096, runs_max: 1, ..EngineOptions::default() };
            let tree = made.tree_with(options).await;
            let mut index = 0;
            for round in 0..60 {
                let keys = if round < 2 { 6000 } else { 10 };
                for at in 0..keys {
                    index += 1;
                    let key = if round < 2 { at } else { (round * 997 + at * 61) % 6000 };
                    tree.put(index, KeyspaceId(1), format!("key {key:04}\n").as_bytes(), noise(index).into());
                }
                tree.flush(flushed(index, voters), sessions()).await.unwrap();
                if round == 1 {
                    tree.settle().await.unwrap();
                }
                while tree.wants_merge() {
                    tree.merge().await.unwrap();
                }
            }
        });
        made
    }

    /// The tree, opened by the engine.
    pub async fn tree(&self) -> Tree<PlainDisk> {
        self.tree_with(EngineOptions::default()).await
    }

    async fn tree_with(&self, options: EngineOptions) -> Tree<PlainDisk> {
        let disk = PlainDisk::open(self.dir.path()).unwrap();
        let options = EngineOptions { seed: rand::random(), ..options };
        Engine::open(disk, "store-0000", options).await.unwrap().tree(SHARDS[1])
    }

    /// Its table files, oldest first.
    pub fn tables(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.store().join("tables")).unwrap();
        let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
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

    /// Runs `kvctl repair` on the store.
    pub fn repair(&self, flags: &[&str]) -> Told {
        kvctl(&["repair", "--store"], &self.store(), flags)
    }

    /// Runs `kvctl` on the store; the directory must be the same afterwards, to the byte and the moment.
    pub fn look(&self, words: &[&str], flags: &[&str]) -> Told {
        self.look_at(words, &self.store(), flags)
    }

    /// The same with another path below the data directory.
    pub fn look_at(&self, words: &[&str], path: &Path, flags: &[&str]) -> Told {
        let before = self.files();
        let told = kvctl(words, path, flags);
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

/// Whether a key may have stood in a damaged block.
pub fn covers(damage: &Value, key: &str) -> bool {
    damage["keys_from"].as_str() <= Some(key) && Some(key) < damage["keys_to"].as_str()
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

/// What a tree reflects that was flushed at `index`, of a shard with these voters.
pub fn flushed(index: u64, voters: &[StoreId]) -> Flushed {
    let mut config = Vec::new();
    Configuration::of_voters(voters).encode(&mut config);
    Flushed { index, term: 1, config: config.into(), ..Flushed::default() }
}

/// A session table, as a flush seals it.
pub fn sessions() -> Vec<(KeyspaceId, Bytes, Bytes)> {
    vec![(KeyspaceId(0), "sessions".into(), "none".into())]
}

/// A value of 100 bytes that nothing makes smaller.
fn noise(key: u64) -> Vec<u8> {
    let mixed = |at: u64| {
        let product = (key * 100 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (product ^ product >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    (0..100).map(|at| (mixed(at) >> 56) as u8).collect()
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
