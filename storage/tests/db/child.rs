//! A process that writes until it dies, and what must be there then.
//!
//! The test binary runs itself again as the child. What it writes is a function of the write's number alone, and each write leaves a
//! value that carries its number: of what is found the highest number tells which writes there were, and all of it must be what those
//! leave. The child tells by memory shared with its parent, which survives it.

use memmap2::MmapRaw;
use ringkv_storage::db::{Batch, Db, Durability, Tree};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Names what a child is to do; without it the test that is the child does nothing.
const TASK: &str = "RINGKV_DB_CHILD";
/// Keys of a lane in one tree.
const SLOTS: usize = 400;
pub const TREES: [&str; 2] = ["a", "b"];

/// Numbers that a child and its parent share.
pub struct Told(MmapRaw);

impl Told {
    /// Those in this file, made of zeros when it is not there.
    pub fn open(path: &Path) -> Told {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(4096).unwrap();
        Told(MmapRaw::map_raw(&file).unwrap())
    }

    pub fn number(&self, at: usize) -> &AtomicU64 {
        assert!(at < 4096 / size_of::<u64>());
        // SAFETY: it lies in the mapping, is aligned as the mapping is, and everybody reaches it by atomics.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast::<u64>().add(at)) }
    }

    pub fn get(&self, at: usize) -> u64 {
        self.number(at).load(Ordering::Acquire)
    }

    pub fn set(&self, at: usize, number: u64) {
        self.number(at).store(number, Ordering::Release);
    }
}

/// Where a lane tells of the last write that began, and of the last one that is promised.
pub fn begun(lane: usize) -> usize {
    2 * lane
}
pub fn promised(lane: usize) -> usize {
    2 * lane + 1
}

fn mix(mut n: u64) -> u64 {
    n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// One change: tree, slot, whether it puts.
type Change = (usize, usize, bool);

/// What write `n` changes, in order; the last one puts.
fn changes(lane: usize, n: u64) -> ([Change; 4], usize) {
    let h = mix(n.wrapping_mul(31).wrapping_add(lane as u64));
    let slot = |shift: u32| (h >> shift) as usize % SLOTS;
    let tree = (h >> 8 & 1) as usize;
    match h % 8 {
        0 => ([(tree, slot(16), false), (0, slot(28), true), (1, slot(28), true), (tree, slot(40), true)], 4),
        1 => ([(tree, slot(16), false), (1 - tree, slot(28), true), (0, 0, true), (0, 0, true)], 2),
        _ => ([(tree, slot(16), true), (0, 0, true), (0, 0, true), (0, 0, true)], 1),
    }
}

fn key(lane: usize, slot: usize) -> [u8; 12] {
    let mut key = [lane as u8; 12];
    key[1..9].copy_from_slice(&(slot as u64).to_be_bytes());
    key
}

/// Its number, and as many bytes as it makes them.
fn value(n: u64) -> Vec<u8> {
    let h = mix(n);
    let more = if h.is_multiple_of(8) { 30_000 } else { h >> 20 & 1023 } as usize;
    let mut value = vec![h as u8; 8 + more];
    value[..8].copy_from_slice(&n.to_le_bytes());
    value
}

/// Does write `n`.
pub fn write(db: &Db, trees: &[Tree; 2], lane: usize, n: u64, durability: Durability) -> Result<(), String> {
    let (changes, count) = changes(lane, n);
    let value = value(n);
    let done = match &changes[..count] {
        [(tree, slot, _)] if durability == Durability::Buffered => trees[*tree].put(&key(lane, *slot), &value),
        [(tree, slot, _)] => trees[*tree].put_synced(&key(lane, *slot), &value),
        changes => {
            let mut batch: Batch = db.batch();
            for (tree, slot, puts) in changes {
                match puts {
                    true => batch.put(&trees[*tree], &key(lane, *slot), &value),
                    false => batch.delete(&trees[*tree], &key(lane, *slot)),
                }
            }
            db.write(batch, durability)
        }
    };
    done.map_err(|error| error.to_string())
}

pub fn trees(db: &Db) -> [Tree; 2] {
    TREES.map(|name| db.tree(name).unwrap())
}

/// The number of the last write of a lane that is there: all before it must be, whole, and nothing else.
pub fn last_of(db: &Db, lane: usize) -> u64 {
    let trees = trees(db);
    let mut found = vec![[0u64; SLOTS]; 2];
    for (tree, found) in trees.iter().zip(&mut found) {
        for item in tree.prefix(&[lane as u8]) {
            let (key_found, bytes) = item.expect("readable");
            let slot = u64::from_be_bytes(key_found[1..9].try_into().unwrap()) as usize;
            assert_eq!(key_found[..], key(lane, slot), "an invented key");
            let n = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            assert!(bytes[..] == value(n), "not the value that was written");
            assert_eq!(tree.get(&key_found).expect("readable").as_deref(), Some(&bytes[..]));
            found[slot] = n;
        }
    }
    let last = found.iter().flatten().copied().max().unwrap_or(0);
    let mut expected = vec![[0u64; SLOTS]; 2];
    for n in 1..=last {
        let (changes, count) = changes(lane, n);
        changes[..count].iter().for_each(|(tree, slot, puts)| expected[*tree][*slot] = if *puts { n } else { 0 });
    }
    assert!(found == expected, "lane {lane}: not what {last} writes leave");
    last
}

/// A database whose memtables are small: it flushes and merges often.
pub fn open(dir: &Path) -> Db {
    Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir).expect("it opens")
}

/// A process that does this task, dead when it is dropped.
pub struct Process(Child);

impl Process {
    pub fn start(task: &str, dir: &Path, told: &Path) -> Process {
        let task = format!("{task}\n{}\n{}", dir.display(), told.display());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["db::child::the_child", "--exact", "--nocapture", "--test-threads=1"]).env(TASK, task);
        Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Waits until `told` agrees; the child must live as long.
    pub fn until(&mut self, what: &str, mut agrees: impl FnMut() -> bool) {
        let patience = Instant::now() + Duration::from_secs(300);
        while !agrees() {
            assert!(self.0.try_wait().unwrap().is_none(), "the child ended before it {what}");
            assert!(Instant::now() < patience, "the child has not {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it ends by itself; it must do so well.
    pub fn join(mut self) {
        assert!(self.0.wait().unwrap().success(), "the child says why");
    }

    /// Kills it by SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have died by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Not a test: the child that other tests start.
#[test]
fn the_child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let [task, dir, told] = task.split('\n').collect::<Vec<_>>().try_into().expect("a task");
    let (dir, told) = (Path::new(dir), Told::open(Path::new(told)));
    match task {
        "lanes" => lanes(dir, &told),
        "count" => count(dir, &told),
        "synced" => synced(dir, &told),
        "refused" => refused(dir),
        "opened" => opened(dir, &told),
        other => panic!("no task {other}"),
    }
}

/// Lanes that [`lanes`] writes.
pub const LANES: usize = 3;

/// A thread for each lane: buffered writes as fast as they go.
fn lanes(dir: &Path, told: &Told) {
    let db = open(dir);
    let trees = trees(&db);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (db, trees) = (&db, &trees);
            scope.spawn(move || {
                for n in told.get(promised(lane)) + 1.. {
                    told.set(begun(lane), n);
                    write(db, trees, lane, n, Durability::Buffered).unwrap();
                    told.set(promised(lane), n);
                }
            });
        }
    });
}

/// So many puts as number 1 says, each told of by number 0, then nothing.
fn count(dir: &Path, told: &Told) {
    let db = Db::builder().memtable_bytes(16 << 20).open(dir).unwrap();
    let tree = db.tree("t").unwrap();
    for n in 1..=told.get(1) {
        tree.put(&n.to_be_bytes(), &mix(n).to_le_bytes().repeat(12)).unwrap();
        told.set(0, n);
    }
    loop {
        std::thread::park();
    }
}

/// What is left of [`count`], checked.
pub fn counted(dir: &Path) -> u64 {
    let db = Db::open(dir).unwrap();
    let tree = db.tree("t").unwrap();
    let mut last = 0u64;
    for item in tree.range(..) {
        let (key, value) = item.unwrap();
        last += 1;
        assert_eq!(key[..], last.to_be_bytes(), "one is missing");
        assert_eq!(value[..], mix(last).to_le_bytes().repeat(12));
    }
    for n in (1..=last).step_by(97) {
        assert!(tree.get(&n.to_be_bytes()).unwrap().is_some());
    }
    last
}

/// Number of the last whole checkpoint, and of a write that is in it.
pub const CHECKPOINT: usize = 100;
pub const IN_CHECKPOINT: usize = 101;

/// Three threads write lane 0, one write at a time in the order of their numbers, and promise what they synced; two more flush, merge,
/// and make checkpoints.
fn synced(dir: &Path, told: &Told) {
    let db = open(&dir.join("db"));
    let trees = trees(&db);
    let next = Mutex::new(told.get(promised(0)) + 1);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let mut turn = next.lock().unwrap();
                    let n = *turn;
                    *turn += 1;
                    told.set(begun(0), n);
                    let waits = n.is_multiple_of(20);
                    let durability = if waits { Durability::Synced } else { Durability::Buffered };
                    write(&db, &trees, 0, n, durability).unwrap();
                    drop(turn);
                    if n.is_multiple_of(7) {
                        db.sync().unwrap();
                    }
                    if waits || n.is_multiple_of(7) {
                        told.number(promised(0)).fetch_max(n, Ordering::AcqRel);
                    }
                }
            });
        }
        scope.spawn(|| {
            loop {
                db.flush().unwrap();
                std::thread::sleep(Duration::from_millis(20));
                db.compact().unwrap();
            }
        });
        scope.spawn(|| checkpoints(&db, dir, told));
    });
}

fn checkpoints(db: &Db, dir: &Path, told: &Told) {
    for number in told.get(CHECKPOINT) + 1.. {
        let least = told.get(promised(0));
        db.checkpoint(dir.join(format!("checkpoint-{number}"))).unwrap();
        // In this order: less is promised in between.
        told.set(IN_CHECKPOINT, 0);
        told.set(CHECKPOINT, number);
        told.set(IN_CHECKPOINT, least);
        // It may not be there.
        let _ = std::fs::remove_dir_all(dir.join(format!("checkpoint-{}", number - 1)));
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Files below a directory that this process has open.
fn open_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    open.filter(|file| file.starts_with(dir)).collect()
}

/// A database that cannot be opened, tried often: nobody is left who works in its directory.
fn refused(dir: &Path) {
    for _ in 0..100 {
        assert!(Db::open(dir).is_err());
        assert_eq!(open_below(&dir.canonicalize().unwrap()), Vec::<std::path::PathBuf>::new());
    }
}

/// What the opening of `synced`'s database found, which is durable then.
fn opened(dir: &Path, told: &Told) {
    let db = open(&dir.join("db"));
    told.set(promised(0), last_of(&db, 0));
    loop {
        std::thread::park();
    }
}
