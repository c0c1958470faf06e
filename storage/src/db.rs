//! The engine as a library: an embedded, ordered key-value store for one process.
//!
//! ```
//! use ringkv_storage::db::Db;
//!
//! # fn main() -> Result<(), ringkv_storage::db::Error> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("db");
//! let db = Db::open(&path)?;
//! let users = db.tree("users")?;
//! users.put(b"ada", b"1815")?;
//! assert_eq!(users.get(b"ada")?.as_deref(), Some(&b"1815"[..]));
//! for item in users.range(..) {
//!     let (name, born) = item?;
//!     println!("{name:?} {born:?}");
//! }
//! db.sync()?; // Everything before it survives a power cut from here on.
//! # Ok(())
//! # }
//! ```
//!
//! A [`Db`] holds named [`Tree`]s of keys and values, bytes both; keys are ordered. All handles are cheap clones that any thread may
//! use. The programs in `storage/examples` show a cache, a log of events, a secondary index and
//! an async program; `storage/docs/choosing.md` tells when
//! another engine serves better.
//!
//! # What survives
//! | written by | survives kill -9 | survives a power cut |
//! |---|---|---|
//! | [`Durability::Buffered`] ([`Tree::put`]) | when it returns: its bytes are in memory that the kernel owns | after the next [`Db::sync`], or with a later synced write |
//! | [`Durability::Synced`] ([`Tree::put_synced`]) | when it returns | when it returns |
//!
//! Writes become durable in their order: after a power cut a beginning of them is there, at least up to the last that was synced. A
//! [`Batch`] is all there or not at all, over all its trees. Syncs of many threads are one: four threads that write synced wait for
//! the disk about as long as one. Closing neither syncs nor flushes; what was written is there when it is opened again.
//!
//! # What waits, and for what
//! Reads never wait for writes: a reader looks at memtables that one thread writes and any number read, and at tables that never change.
//! Writes go one after the other, each into the log and the memtable; a thread of the database's own makes tables of full memtables and
//! merges them.
//!
//! | call | waits for |
//! |---|---|
//! | [`Tree::get`], [`Tree::get_many`], a step of a [`Range`] | nothing, or a read of each block that is not in the cache: mostly one a key |
//! | a buffered write | other writers; when flushes or merges are behind up to 20 ms, by bytes written; when all memory of memtables is full, the end of a flush |
//! | a synced write, [`Db::sync`], [`Db::remove_tree`] | besides, one sync of the disk, or two when one has just begun |
//! | [`Db::flush`], [`Db::checkpoint`] | all flushes asked for before, or the first one that fails |
//! | [`Db::settle`], [`Db::compact`] | besides, merges: of all data in the latter's case |
//! | [`Builder::open`] | reading what no table holds yet from the log |
//!
//! The calls of [`Db`], [`Tree`], [`Snapshot`] and [`Range`] wait on the thread they are made on.
//!
//! # In an async program
//! [`Db::asynchronous`], or [`AsyncDb::open`], is the same database for futures on any executor; none is needed or known besides.
//!
//! ```
//! use ringkv_storage::db::AsyncDb;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ringkv_storage::db::Error> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("db");
//! let db = AsyncDb::open(&path).await?;
//! let users = db.tree("users").await?;
//! users.put_synced(b"ada", b"1815").await?; // Whoever syncs at the same time shares the sync.
//! let mut all = users.range(..);
//! while let Some(item) = all.next().await {
//!     let (name, born) = item?;
//!     println!("{name:?} {born:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! No call of it waits on the executor's thread. What memory answers (a key in a memtable or a cached block, a key that no filter knows, a
//! buffered write of up to 256 KiB when nobody else is writing and there is room) is done in the first poll, as fast as without futures. What
//! waits, in the table above, is done by threads of a pool: reads side by side, of each database one write and one sync at a
//! time. So reads find a thread however many writes wait, and synced writes that wait at a time are durable after two syncs of the disk.
//!
//! - **Order**: of two writes the one that was awaited before the other began is the earlier. Those that are polled side by side
//!   have no order.
//! - **A future that is dropped** before its first poll did nothing. A write that was polled may be made or not, at once or a little
//!   later: nobody knows. A read is forgotten; a step of an [`AsyncRange`] is not lost but goes on with the next one. Futures that
//!   are kept and not polled hold up nobody.
//! - **Closing**: work that is in the pool holds the database open until it is done, so after dropped futures it may be closed a
//!   little later than its last handle is dropped. Where the last handle is dropped, the thread waits for the end of the database's threads;
//!   [`AsyncDb::close`] does that elsewhere.
//!
//! # Threads and processes
//! Two threads of its own for each open database: `ringkv-db` flushes and merges (over io_uring, or where that is refused by ordinary
//! system calls), `ringkv-db-ready` prepares log segments and memory, and removes segments. They end with the last handle: [`Db`], [`Tree`], [`Batch`],
//! [`Snapshot`], [`Range`], or one of the asynchronous kind. For the latter a process has up to 32 more for all its databases,
//! `ringkv-db-pool`, which end when there was nothing to do for some seconds. One process has a database open; a second one gets [`Error::InUse`].
//!
//! # Memory
//! [`Builder::memtable_bytes`] and [`Builder::cache_bytes`] are nearly all of it. Beyond them: filters and indexes when they take more
//! than seven eighths of the cache's budget (2.3 bytes a key), what snapshots and walks still hold, a batch or value larger than a
//! third of `memtable_bytes` until it is flushed, and pages of the log, which are the kernel's (segments of 32 MiB).
//!
//! # Limits
//! Keys and names of trees have 1 to 65,535 bytes, values up to 16 MiB; a batch up to 1 GiB in the log, which counts keys, values and 12
//! to 20 bytes a write. What is beyond gets [`Error::Size`], and nothing is written. All trees have the same settings; there may be
//! some four thousand million of them in the life of a database, those that were removed counted. Linux only.
//!
//! # Snapshots and checkpoints
//! A [`Snapshot`] takes no copy and no lock, and costs what it keeps: memtables that were flushed since stay in memory, tables that were merged
//! since stay on the disk, removed trees with them. Under steady writing one that lives for minutes may hold a multiple of
//! `memtable_bytes`; [`Stats`] tells how much (`held_bytes`). So does a [`Range`], which is the snapshot of its own moment.
//!
//! [`Db::checkpoint`] makes a second database that opens by itself: it flushes, then gives the tables a second name, so on the same file
//! system it takes no space until merges replace them here. It is a backup only when its files are copied to another
//! disk.
//!
//! # Errors, and what to do
//! | error | what is so | what to do |
//! |---|---|---|
//! | [`Error::InUse`], [`Error::Setting`], [`Error::Size`], [`Error::NotACounter`] | nothing was changed | correct the call, or close the other opening |
//! | [`Error::Removed`] | somebody removed the tree; nothing was changed | forget the handle; [`Db::tree`] makes a new one, empty |
//! | [`StorageError::DiskFull`], or [`DiskError::NoSpace`] | the write was not made; reads go on | make room, write again: flushes and merges try again by themselves. Deleting keys makes room only by merges, which need some |
//! | [`StorageError::Poisoned`] | a sync failed: nobody knows what of the unsynced writes is on the disk, so none are taken any more; reads go on | open it again, which recovers what the disk really has |
//! | an error for which [`StorageError::is_damage`] holds, of a read | these bytes are not what was written. Never is wrong data answered; keys in other blocks are unharmed | restore the last checkpoint, or copy what can be read |
//! | the same when opening | log or manifest are damaged; nothing was changed on the disk | restore the last checkpoint |
//! | [`StorageError::Newer`] | a newer ringkv wrote it; nothing was changed | use that one |
//! | other [`StorageError`]s | the disk refused; the message has file and reason | as it says; a write was not made unless it was the sync that failed |
//!
//! Every block, record of the log and section of a table has a checksum that is looked at before its bytes are believed.
//!
//! # Choosing settings
//! The defaults suit some gigabytes on a machine with little memory to spare. In this order:
//! - **`cache_bytes`**: filters and indexes come first, 2.3 bytes a key; what is left keeps blocks that are read again. With
//!   [`Builder::direct`], the default, this is all that reads have; without it the page cache helps beside it.
//! - **`memtable_bytes`**: the larger, the fewer merges a written byte sees, and the longer an opening reads the log. A third of
//!   it is one memtable. Above 256 MiB there is seldom more to gain.
//! - **`compression`**: LZ4 costs little; [`Compression::Zstd`] for [`Builder::last_compression`] where data is read seldom; none when values
//!   are compressed or random already.
//! - **`block_bytes`**: 4,096 for lookups; 16,384 when most reads are walks, for better compression.
//!
//! [`Stats`] tells whether they fit: cache hits and misses, what is owed to merges, bytes flushed beside bytes merged.
//!
//! [`StorageError`]: crate::error::StorageError
//! [`StorageError::DiskFull`]: crate::error::StorageError::DiskFull
//! [`StorageError::Poisoned`]: crate::error::StorageError::Poisoned
//! [`StorageError::Newer`]: crate::error::StorageError::Newer
//! [`StorageError::is_damage`]: crate::error::StorageError::is_damage
//! [`DiskError::NoSpace`]: crate::error::DiskError::NoSpace

mod asynchronous;
mod batch;
mod cache;
mod caller;
mod driver;
mod error;
mod log;
mod names;
mod range;
mod settings;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod tree;
mod view;

pub use crate::engine::EngineStats as Stats;
pub use crate::sst::compress::Compression;
pub use asynchronous::{AsyncDb, AsyncRange, AsyncSnapshot, AsyncTree};
pub use batch::Batch;
pub use error::Error;
pub use range::{Entry, Range};
pub use settings::Builder;
pub use snapshot::Snapshot;
pub use tree::Tree;

use crate::disk::files::Root;
use crate::memtable::shared::{Blank, Memtable};
use arc_swap::ArcSwap;
use asynchronous::Lanes;
use cache::SharedCache;
use driver::{Job, Started, heard};
use log::{Op, SyncPages};
use names::Names;
pub(crate) use settings::Settings;
use state::{Core, Memory, Writer};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use view::{Tables, View};

/// What a write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process, also by kill -9.
    #[default]
    Buffered,
    /// A power cut.
    Synced,
}

/// An open database. Clones are the same one; it is closed with the last of them, of its [`Tree`]s and [`Snapshot`]s.
#[derive(Clone)]
pub struct Db(Arc<Open>);

struct Open {
    core: Arc<Core>,
    names: Names,
    thread: Option<JoinHandle<()>>,
    /// Where what futures wait for is done.
    lanes: Lanes,
    /// Held while it is open.
    _lock: settings::Lock,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.mail.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // It says itself what went wrong.
            let _ = thread.join();
        }
    }
}

impl Db {
    /// Opens the database in a directory, made when it is not there, with the settings that [`Builder`] begins with.
    ///
    /// # Errors
    /// [`Error::InUse`]; what disk, log or tables say.
    pub fn open(path: impl AsRef<Path>) -> Result<Db, Error> {
        Db::builder().open(path)
    }

    /// The same database for futures, on any executor.
    pub fn asynchronous(&self) -> AsyncDb {
        AsyncDb::of(self.clone())
    }

    /// Settings to open a database with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(settings: Settings, root: Root, lock: settings::Lock, sync_pages: SyncPages) -> Result<Db, Error> {
        let started = driver::start(root.clone(), settings.clone())?;
        let mut redo = Redo::new(&settings);
        let mut apply = |seq, op: Op<'_>| redo.apply(seq, &op);
        let flushed = started.opened.flushed;
        let (log_writer, log, last) = match log::open(&root, flushed, settings.log_options(), &mut apply, sync_pages) {
            Ok(log) => log,
            Err(error) => {
                // The directory is somebody else's when this returns.
                started.give_up();
                return Err(error.into());
            }
        };
        let Started { opened, mail, core: to_thread, thread } = started;
        let next = last.max(opened.flushed) + 1;
        let view = redo.view(opened.tables);
        let Redo { full, pen, .. } = redo;
        let core = Arc::new(Core {
            view: ArcSwap::from_pointee(view),
            visible: AtomicU64::new(next - 1),
            written_bytes: AtomicU64::new(0),
            cache: Arc::new(SharedCache::new(settings.blocks_bytes(0), settings.seed)),
            log,
            writer: Mutex::new(Writer { log: log_writer, pen, next, owed_ns: 0.0, gone: None }),
            memory: Memory::new(settings.memtable_bytes(), full.len()),
            mail,
            stats: Mutex::default(),
            wait_ns_per_byte: AtomicU64::new(0),
            settings,
        });
        // A thread that ended by now says so to whoever asks it for something.
        let _ = to_thread.send(core.clone());
        let db = Db(Arc::new(Open {
            core: core.clone(),
            names: Names::default(),
            thread: Some(thread),
            lanes: Lanes::default(),
            _lock: lock,
        }));
        db.read_names()?;
        full.into_iter().for_each(|(memtable, upto)| core.mail.send(Job::Flush { memtable, upto }));
        Ok(db)
    }

    fn core(&self) -> &Core {
        &self.0.core
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Writes all of a batch, or on an error nothing. Readers see all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Size`] and [`Error::Storage`]: nothing was written. After an error of a sync nothing is known of its durability, but
    /// readers see it.
    ///
    /// # Panics
    /// When a tree in it is another database's.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        batch.write_to(self, durability)
    }

    /// Makes all that was written before this call durable; waits for one sync of the disk, or for two when one has just begun.
    /// Nothing is to be done when it is durable already.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`](crate::error::StorageError::Poisoned): a sync failed, now or before, and no more writes are taken until
    /// it is opened again.
    pub fn sync(&self) -> Result<(), Error> {
        let last = self.core().visible.load(Ordering::Acquire);
        Ok(self.core().log.sync_to(log::Position(last))?)
    }

    /// What there is now; later writes do not change it. It keeps memtables in memory and replaced tables on the disk as long as it
    /// lives.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.clone())
    }

    /// Makes tables of all that was written before this call, so that the next opening has none of it to read from the log.
    ///
    /// # Errors
    /// What the disk says, a full one too: the flush is tried again by itself, and nothing is lost. [`Error::Failed`].
    pub fn flush(&self) -> Result<(), Error> {
        self.rotate()?;
        heard(self.core().mail.ask(Job::Flushed).wait())
    }

    /// As [`Db::flush`], then waits until the merges are done that the database wants by itself, those too that it would put off until
    /// it was left alone for a while: when no more than a sixteenth is left above its last levels.
    ///
    /// # Errors
    /// As [`Db::flush`], and those of a merge, which is tried again.
    pub fn settle(&self) -> Result<(), Error> {
        self.rotate()?;
        heard(self.core().mail.ask(Job::Settled).wait())
    }

    /// As [`Db::flush`], then merges all tables: each key stands once on the disk then, and what was deleted is gone, what
    /// has expired too. Reads and writes go on meanwhile; it reads and writes nearly all there is.
    ///
    /// # Errors
    /// As [`Db::flush`], and those of a merge.
    pub fn compact(&self) -> Result<(), Error> {
        self.rotate()?;
        heard(self.core().mail.ask(Job::Compact).wait())
    }

    /// Makes `dir`, which must not be there, a database with all that was written before this call. It shares the tables' files with
    /// this one where the file system can, and is durable when this returns; elsewhere they are copied, and nothing else is flushed
    /// meanwhile. Until it is whole it is called `dir` with `.partial` behind; what is left there of a try before is removed.
    ///
    /// # Errors
    /// `dir` is there; what the disk refuses; damage of a table, which a checkpoint would only hide.
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<(), Error> {
        self.rotate()?;
        let dir = dir.as_ref().to_path_buf();
        heard(self.core().mail.ask(|reply| Job::Checkpoint(dir, reply)).wait())
    }

    fn rotate(&self) -> Result<(), Error> {
        let core = self.core();
        let mut writer = core.writer();
        if writer.pen.memtable().entries() == 0 { Ok(()) } else { core.rotate(&mut writer, 0, 0) }
    }

    /// What it holds and has done since it was opened, a few milliseconds ago at most.
    pub fn stats(&self) -> Stats {
        *self.core().stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the log's files.
    pub fn log_bytes(&self) -> u64 {
        self.core().log.bytes()
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Db({})", self.core().settings.path.display())
    }
}

/// Memtables of what the log holds.
struct Redo<'s> {
    settings: &'s Settings,
    pen: crate::memtable::shared::Pen,
    /// Full ones, oldest first, with the last write in each.
    full: Vec<(Arc<Memtable>, u64)>,
}

impl Redo<'_> {
    fn new(settings: &Settings) -> Redo<'_> {
        let (_, pen) = Memtable::new(Blank::new(settings.memtable_bytes()), settings.seed);
        Redo { settings, pen, full: Vec::new() }
    }

    /// What there is, with these tables.
    fn view(&self, tables: Arc<Tables>) -> View {
        let frozen = self.full.iter().rev().map(|(memtable, _)| memtable.clone()).collect();
        View { active: self.pen.memtable().clone(), frozen, tables, gone: None }
    }

    fn apply(&mut self, seq: u64, op: &Op<'_>) -> Result<(), crate::error::StorageError> {
        let bytes = state::bytes_of(op);
        if !self.pen.has_room(1, bytes) {
            let size = Blank::size_for(1, bytes).max(self.settings.memtable_bytes());
            let (_, pen) = Memtable::new(Blank::new(size), self.settings.seed);
            let before = std::mem::replace(&mut self.pen, pen);
            self.full.push((before.memtable().clone(), seq - 1));
        }
        let sought = crate::tree::Sought::new(op.keyspace, op.key);
        self.pen.write(seq, sought.tree_key(), sought.hash, op.value, op.expiry_ms);
        Ok(())
    }
}
