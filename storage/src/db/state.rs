//! What all handles of a database share, and the way of a write: log, memtable, visible.

use crate::db::cache::SharedCache;
use crate::db::driver::{Job, Mail, rest};
use crate::db::error::Error;
use crate::db::log::{self, Op, Position};
use crate::db::view::{Gone, View};
use crate::db::{Durability, Settings};
use crate::engine::EngineStats;
use crate::error::StorageError;
use crate::memtable::shared::{Blank, Memtable, Pen, record_bytes};
use crate::sst::{NEVER_MS, Value};
use crate::tree::Sought;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

/// Memtables there may be: one is written, the others are flushed meanwhile.
pub(crate) const MEMTABLES: usize = 3;
/// A writer that owes less than this goes on: a shorter sleep would take longer than it says.
const OWED_MIN_NS: u64 = 200_000;
/// It never sleeps longer at once.
const OWED_MAX_NS: u64 = 20_000_000;
/// Why nothing happens when the database's thread is no more.
pub(crate) const ENDED: StorageError = StorageError::Interrupted { what: "the work of the database's thread" };
/// What is copied in less time than another thread takes to hear of it, and to answer.
const SOON_BYTES: usize = 256 << 10;
/// Writes of a batch whose memory is fetched side by side.
const SIDE_BY_SIDE: usize = 16;
/// How often a writer that waits for memory looks whether it is in vain.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Core {
    pub settings: Settings,
    pub view: ArcSwap<View>,
    /// The last write that readers may see: all of a batch, or nothing of it.
    pub visible: AtomicU64,
    /// Bytes of records written since it was opened.
    pub written_bytes: AtomicU64,
    pub cache: Arc<SharedCache>,
    pub log: Arc<log::Shared>,
    pub writer: Mutex<Writer>,
    pub memory: Memory,
    pub mail: Mail,
    pub stats: Mutex<EngineStats>,
    /// What writers wait for each byte, ns, as bits of an `f64`.
    pub wait_ns_per_byte: AtomicU64,
}

/// What only one thread at a time may do.
pub(crate) struct Writer {
    pub log: log::Writer,
    pub pen: Pen,
    /// Of the next write.
    pub next: u64,
    /// What writers have not waited yet, ns.
    pub owed_ns: f64,
    /// Trees that are there no more; none: none.
    pub gone: Option<Arc<Gone>>,
}

impl Writer {
    fn apply(&mut self, op: &Op<'_>, sought: Sought<'_>) {
        self.pen.write(self.next, sought.tree_key(), sought.hash, op.value, op.expiry_ms);
        self.next += 1;
    }

    /// At most [`SIDE_BY_SIDE`] of them, their memory fetched together.
    fn apply_all(&mut self, ops: &[Op<'_>]) {
        let mut all = [Sought::default(); SIDE_BY_SIDE];
        for (op, sought) in ops.iter().zip(&mut all) {
            *sought = Sought::new(op.keyspace, op.key);
            self.pen.memtable().prepare(sought.hash);
        }
        ops.iter().zip(all).for_each(|(op, sought)| self.apply(op, sought));
    }
}

/// What is left to be done for a write that readers see.
#[derive(Debug)]
pub(crate) struct Written {
    pub position: Position,
    /// What it is to wait so that flushes and merges keep up.
    pub owed_ns: u64,
}

/// Memory of memtables: so much and no more, whoever needs it waits.
pub(crate) struct Memory {
    pool: Mutex<Pool>,
    freed: Condvar,
    each_bytes: usize,
}

#[derive(Default)]
struct Pool {
    blanks: Vec<Blank>,
    /// Flushed ones that readers looked at then, and may do still.
    held: Vec<Weak<Memtable>>,
    /// Those that are written, flushed, or blank.
    alive: usize,
    /// Why nothing is flushed.
    trouble: Option<StorageError>,
    /// Whether nothing ever will be.
    ended: bool,
}

impl Memory {
    /// Memtables of so many bytes each; one is in use, and `frozen` ones are to be flushed.
    pub fn new(each_bytes: usize, frozen: usize) -> Memory {
        let pool = Pool { alive: 1 + frozen, ..Pool::default() };
        Memory { pool: Mutex::new(pool), freed: Condvar::new(), each_bytes }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes memory of so many bytes for one more, waiting until one was flushed if need be; an error when none can be.
    fn take(&self, bytes: usize) -> Result<Blank, Error> {
        let mut pool = self.pool();
        loop {
            match pool.blanks.pop() {
                Some(blank) if blank.is_for(bytes) => return Ok(blank),
                // It goes back to the system for the one that is made.
                Some(_) => break,
                None if pool.alive < MEMTABLES => {
                    pool.alive += 1;
                    break;
                }
                None => {}
            }
            if let Some(trouble) = &pool.trouble {
                let cause = trouble.clone();
                return Err(if pool.ended { Error::Failed { cause } } else { cause.into() });
            }
            pool = self.freed.wait_timeout(pool, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(pool);
        Ok(Blank::new(bytes))
    }

    /// Makes one ready when `used_bytes` of the one in use are written and none is.
    pub fn make_ready(&self, used_bytes: usize) {
        let wants = || {
            let pool = self.pool();
            used_bytes > self.each_bytes / 2 && pool.blanks.is_empty() && pool.alive < MEMTABLES
        };
        if wants() {
            let blank = Blank::new(self.each_bytes).touched();
            let mut pool = self.pool();
            // The writer may have been faster.
            if pool.alive < MEMTABLES {
                pool.alive += 1;
                pool.blanks.push(blank);
            }
        }
    }

    /// One was flushed. Its memory serves again unless a reader still looks at it.
    pub fn give(&self, flushed: Arc<Memtable>) {
        let unwrapped = Arc::try_unwrap(flushed);
        let held = unwrapped.as_ref().err().map(Arc::downgrade);
        let blank = unwrapped.ok().map(Memtable::into_blank);
        let mut pool = self.pool();
        pool.held.extend(held);
        // An opening may have found more of them in the log than there may be.
        match blank.filter(|blank| blank.is_for(self.each_bytes) && pool.alive <= MEMTABLES) {
            Some(blank) => pool.blanks.push(blank),
            None => pool.alive -= 1,
        }
        pool.trouble = None;
        self.freed.notify_all();
    }

    /// Nothing is flushed for this reason, until one is again.
    pub fn set_trouble(&self, trouble: StorageError) {
        self.pool().trouble = Some(trouble);
        self.freed.notify_all();
    }

    /// Nothing is flushed any more.
    pub fn end(&self) {
        let mut pool = self.pool();
        pool.ended = true;
        pool.trouble.get_or_insert(ENDED);
        self.freed.notify_all();
    }

    /// Bytes of those that were flushed and that readers still look at.
    pub fn held_bytes(&self) -> usize {
        let mut pool = self.pool();
        pool.held.retain(|held| held.strong_count() > 0);
        pool.held.iter().filter_map(Weak::upgrade).map(|held| held.bytes()).sum()
    }

    /// Bytes of those that nobody uses.
    pub fn spare_bytes(&self) -> usize {
        self.pool().blanks.iter().map(Blank::memory_bytes).sum()
    }
}

impl Core {
    pub fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all of `ops` or nothing, and waits for what it has to wait for; see [`Core::write`].
    pub fn write_as(&self, ops: &[Op<'_>], durability: Durability, since: Option<u64>) -> Result<bool, Error> {
        let Some(written) = self.write(ops, since)? else { return Ok(false) };
        if durability == Durability::Synced {
            self.log.sync_to(written.position)?;
        }
        if written.owed_ns > 0 {
            rest(Duration::from_nanos(written.owed_ns));
        }
        Ok(true)
    }

    /// Writes all of `ops`, or nothing when somebody wrote one of their keys behind the version `since`: none then.
    pub fn write(&self, ops: &[Op<'_>], since: Option<u64>) -> Result<Option<Written>, Error> {
        let bytes = ops.iter().map(bytes_of).sum();
        self.write_locked(&mut self.writer(), ops, bytes, since)
    }

    /// [`Core::write`] where nothing is to be waited for: neither other writers, nor memory, nor a segment of the log, nor the copying of
    /// more than a little; none when something is, and nothing has changed.
    pub fn try_write(&self, ops: &[Op<'_>], since: Option<u64>) -> Result<Option<Option<Written>>, Error> {
        let bytes = ops.iter().map(bytes_of).sum();
        if bytes > SOON_BYTES {
            return Ok(None);
        }
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if !writer.pen.has_room(ops.len(), bytes) || !writer.log.has_room(ops) {
            return Ok(None);
        }
        self.write_locked(&mut writer, ops, bytes, since).map(Some)
    }

    fn write_locked(
        &self,
        writer: &mut Writer,
        ops: &[Op<'_>],
        bytes: usize,
        since: Option<u64>,
    ) -> Result<Option<Written>, Error> {
        if writer.gone.as_ref().is_some_and(|gone| ops.iter().any(|op| gone.contains(&op.keyspace))) {
            return Err(Error::Removed);
        }
        if since.is_some_and(|since| !self.view.load().is_unchanged(ops, since)) {
            return Ok(None);
        }
        let position = self.append(writer, ops, bytes)?;
        Ok(Some(Written { position, owed_ns: self.owed(writer, bytes) }))
    }

    fn append(&self, writer: &mut Writer, ops: &[Op<'_>], bytes: usize) -> Result<Position, Error> {
        if !writer.pen.has_room(ops.len(), bytes) {
            self.rotate(writer, ops.len(), bytes)?;
        }
        let position = writer.log.append(writer.next, ops)?;
        match ops {
            [op] => writer.apply(op, Sought::new(op.keyspace, op.key)),
            _ => ops.chunks(SIDE_BY_SIDE).for_each(|some| writer.apply_all(some)),
        }
        self.visible.store(writer.next - 1, Ordering::Release);
        self.written_bytes.store(self.written_bytes.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
        Ok(position)
    }

    /// From now on another memtable is written to, with room for so much; the one before is flushed.
    pub fn rotate(&self, writer: &mut Writer, records: usize, bytes: usize) -> Result<(), Error> {
        let blank = self.memory.take(Blank::size_for(records, bytes).max(self.settings.memtable_bytes()))?;
        let (memtable, pen) = Memtable::new(blank, self.settings.seed);
        writer.pen = pen;
        let upto = writer.next - 1;
        let before = self.view.rcu(|view| {
            let frozen = std::iter::once(&view.active).chain(&view.frozen).cloned().collect();
            View { active: memtable.clone(), frozen, ..(**view).clone() }
        });
        self.mail.send(Job::Flush { memtable: before.active.clone(), upto });
        Ok(())
    }

    /// From now on these trees are there no more, for readers, writers and tables.
    pub fn set_gone(&self, gone: Gone) {
        let mut writer = self.writer();
        let gone = Arc::new(gone);
        writer.gone = Some(gone.clone());
        self.view.rcu(|view| View { gone: Some(gone.clone()), ..(**view).clone() });
        self.mail.send(Job::Gone(gone));
    }

    /// What this write is to wait so that flushes and merges keep up, ns; 0: nothing yet.
    fn owed(&self, writer: &mut Writer, bytes: usize) -> u64 {
        let ns_per_byte = f64::from_bits(self.wait_ns_per_byte.load(Ordering::Relaxed));
        if ns_per_byte <= 0.0 {
            return 0;
        }
        writer.owed_ns += bytes as f64 * ns_per_byte;
        let owed = writer.owed_ns as u64;
        if owed < OWED_MIN_NS {
            return 0;
        }
        writer.owed_ns = 0.0;
        owed.min(OWED_MAX_NS)
    }

    /// The value, unless it has expired.
    #[inline]
    pub fn alive(&self, value: Option<Value>) -> Option<Value> {
        value.filter(|value| value.is_alive(|| self.settings.now_ms()))
    }

    /// What there is, and the last write that a reader of it is to see; its tables may be newer.
    pub fn moment(&self) -> (Arc<View>, u64) {
        // In this order: the view is as new as the version, or newer. Its tables are of whole memtables, so when they are newer, they
        // are one later moment, and nothing else of the view is older than that.
        let version = self.visible.load(Ordering::Acquire);
        (self.view.load_full(), version)
    }
}

pub(super) fn bytes_of(op: &Op<'_>) -> usize {
    record_bytes(op.key.len(), op.value.map_or(0, <[u8]>::len), op.expiry_ms != NEVER_MS)
}
