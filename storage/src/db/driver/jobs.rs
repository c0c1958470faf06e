//! What the thread does: one flush and one merge side by side, everything else between them.

use crate::db::Settings;
use crate::db::caller::CallerDisk;
use crate::db::driver::{Job, Preparer, Reply, Told, Turning, checkpoint, release};
use crate::db::state::Core;
use crate::db::view::{Gone, Tables, View};
use crate::disk::Disk;
use crate::disk::files::Root;
use crate::engine::Engine;
use crate::error::StorageError;
use crate::iter::{MergeIter, Source, Span, Way};
use crate::manifest::Flushed;
use crate::memtable::shared::{Memtable, Walk};
use crate::tree::Tree;
use crate::tree::run::Member;
use crate::tree::version::Version;
use ringkv_wire::ids::ShardId;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The one tree of the engine: named trees are keyspaces in it.
const TREE: ShardId = ShardId(0);
/// A job that failed is tried again after this.
const RETRY: Duration = Duration::from_millis(200);
/// When nothing was flushed for so long, it is merged wholly if there is much to gain: space that nobody needs.
const QUIET: Duration = Duration::from_secs(30);
/// How often writers hear how long they are to wait.
const PACE: Duration = Duration::from_millis(2);

type Work = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;

/// What the engine holds when it was opened.
pub(crate) struct Opened {
    pub tables: Arc<Tables>,
    /// Everything up to here is in tables.
    pub flushed: u64,
}

/// What waits for the flushes before it.
enum Waiting {
    Flush(Arc<Memtable>, u64),
    Flushed(Reply),
    Settled(Reply),
    Compact(Reply),
    Checkpoint(PathBuf, Reply),
    /// Rid tables of trees that are there no more.
    Shed,
}

/// The thread's own.
pub(crate) struct Driver<D: Disk> {
    engine: Engine<D>,
    tree: Tree<D>,
    caller: CallerDisk,
    turning: Turning,
    queue: VecDeque<Waiting>,
    flush: Option<(Work, Arc<Memtable>, u64)>,
    merge: Option<(Work, Vec<Reply>)>,
    /// Who waits until no merge is wanted.
    settled: Vec<Reply>,
    /// Who wants all merged.
    compact: Vec<Reply>,
    /// Trees that are there no more, and whether tables may hold something of them; whether that is what the merge is.
    gone: Arc<Gone>,
    sheds: bool,
    is_shed: bool,
    /// Not before this: the last try failed.
    retry: Option<Instant>,
    /// Tables hold everything up to here, since it was opened.
    flushed: u64,
    /// Since when nothing was flushed; none when all is merged.
    quiet_since: Option<Instant>,
    paced: (Instant, u64),
}

impl<D: Disk> Driver<D> {
    /// Opens the engine, telling whoever opens the database; none when it failed.
    pub fn open(disk: D, root: Root, settings: &Settings, turning: Turning, opened: &Told) -> Option<Driver<D>> {
        let opening = Engine::open(disk, "", settings.engine_options());
        let engine = match wait(&turning, opening).and_then(|engine| engine) {
            Ok(engine) => engine,
            Err(error) => {
                let _ = opened.send(Err(error));
                return None;
            }
        };
        let (tree, now) = (engine.tree(TREE), Instant::now());
        let (caller, queue, paced) = (CallerDisk::new(root), VecDeque::new(), (now, 0));
        let (flush, merge, settled, compact) = (None, None, Vec::new(), Vec::new());
        let (retry, flushed, quiet_since) = (None, 0, Some(now));
        let (gone, sheds, is_shed) = (Arc::default(), false, false);
        let driver = Driver {
            engine,
            tree,
            caller,
            turning,
            queue,
            flush,
            merge,
            settled,
            compact,
            gone,
            sheds,
            is_shed,
            retry,
            flushed,
            quiet_since,
            paced,
        };
        let tables = driver.tables(&Tables::empty());
        let told = tables.map(|tables| {
            let flushed = tables.at.as_ref().map_or(0, |at| at.index);
            Opened { tables, flushed }
        });
        let fine = told.is_ok();
        (opened.send(told).is_ok() && fine).then_some(driver)
    }

    /// Works until it is told to stop, once it has what all share.
    pub fn serve(&mut self, core: &Receiver<Arc<Core>>, mailbox: &Receiver<Job>) {
        let Ok(core) = core.recv() else { return };
        let _ends = Ends(&core);
        let preparer = match Preparer::start(core.clone()) {
            Ok(preparer) => preparer,
            Err(error) => return core.memory.set_trouble(error),
        };
        while self.take_jobs(mailbox) {
            let now = Instant::now();
            self.begin(&core, now);
            let rung = self.turning.take_rung();
            if rung {
                self.poll(&core, &preparer, now);
            }
            self.care(&core, &preparer, now);
            if let Err(error) = self.turning.turn(true) {
                tracing::error!(%error, "the database's thread ends");
                core.memory.set_trouble(error);
                break;
            }
        }
    }

    /// False when the end has come.
    fn take_jobs(&mut self, mailbox: &Receiver<Job>) -> bool {
        loop {
            self.queue.push_back(match mailbox.try_recv() {
                Ok(Job::Flush { memtable, upto }) => Waiting::Flush(memtable, upto),
                Ok(Job::Flushed(reply)) => Waiting::Flushed(reply),
                Ok(Job::Settled(reply)) => Waiting::Settled(reply),
                Ok(Job::Compact(reply)) => Waiting::Compact(reply),
                Ok(Job::Checkpoint(dir, reply)) => Waiting::Checkpoint(dir, reply),
                Ok(Job::Gone(gone)) => {
                    let left_out = gone.clone();
                    self.tree.narrow(move |keyspace, _| !left_out.contains(&keyspace));
                    self.gone = gone;
                    Waiting::Shed
                }
                Ok(Job::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            });
        }
    }

    /// Begins what may begin.
    fn begin(&mut self, core: &Arc<Core>, now: Instant) {
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        while self.flush.is_none() {
            match self.queue.pop_front() {
                Some(Waiting::Flush(memtable, upto)) => {
                    let work = self.flushing(core, &memtable, upto);
                    self.flush = Some((work, memtable, upto));
                    self.turning.waker.wake_by_ref();
                }
                Some(Waiting::Flushed(reply)) => {
                    // Not some time: who asked may close it now.
                    release(&core.log, self.flushed);
                    self.tell(core, memtable_bytes(&core.view.load()));
                    reply.give(Ok(()));
                }
                Some(Waiting::Shed) => self.sheds = true,
                Some(Waiting::Settled(reply)) => self.settled.push(reply),
                Some(Waiting::Compact(reply)) => self.compact.push(reply),
                Some(Waiting::Checkpoint(dir, reply)) => {
                    let made = wait(&self.turning, checkpoint::make(&self.tree, core, &dir));
                    reply.give(made.and_then(|made| made));
                }
                None => break,
            }
        }
        if self.merge.is_none() {
            let quiet = self.quiet_since.is_some_and(|since| now.duration_since(since) > QUIET);
            self.is_shed = std::mem::take(&mut self.sheds);
            let mut replies = if self.is_shed { Vec::new() } else { std::mem::take(&mut self.compact) };
            let (tree, gone) = (self.tree.clone(), self.gone.clone());
            let work: Work = if self.is_shed {
                Box::pin(async move { tree.shed(&gone).await })
            } else if !replies.is_empty() {
                Box::pin(async move { tree.settle().await })
            } else if self.flush.is_none() && (quiet || !self.settled.is_empty()) && tree.wants_settling() {
                self.quiet_since = None;
                // Once for all who wait: others may write meanwhile.
                replies.append(&mut self.settled);
                Box::pin(async move { tree.settle().await })
            } else if tree.wants_merge() {
                Box::pin(async move { tree.merge().await })
            } else {
                return self.say_settled(core);
            };
            self.merge = Some((work, replies));
            self.turning.waker.wake_by_ref();
        }
    }

    /// Nothing is to be merged now.
    fn say_settled(&mut self, core: &Core) {
        if self.flush.is_none() && !self.settled.is_empty() {
            self.tell(core, memtable_bytes(&core.view.load()));
            self.settled.drain(..).for_each(|reply| reply.give(Ok(())));
        }
    }

    fn flushing(&self, core: &Arc<Core>, memtable: &Arc<Memtable>, upto: u64) -> Work {
        let (span, way) = (Arc::new(Span::all()), Way::Up);
        let at = Flushed { index: upto, log_time_ms: core.settings.now_ms(), ..Flushed::default() };
        let (tree, memtable) = (self.tree.clone(), memtable.clone());
        Box::pin(async move {
            let walk = |run| Source::Shared(Walk::new(memtable.clone(), run, &span, way, u64::MAX));
            let sources = memtable.runs().into_iter().map(walk).collect();
            tree.flush_records(MergeIter::over(sources, span.clone(), way), at).await
        })
    }

    fn poll(&mut self, core: &Core, preparer: &Preparer, now: Instant) {
        let waker = self.turning.waker.clone();
        let mut cx = Context::from_waker(&waker);
        if let Some((mut work, memtable, upto)) = self.flush.take() {
            match work.as_mut().poll(&mut cx) {
                Poll::Pending => self.flush = Some((work, memtable, upto)),
                Poll::Ready(result) => {
                    drop(work);
                    let made = result.and_then(|()| self.show(core, Some(&memtable)));
                    match made {
                        Ok(()) => {
                            core.memory.give(memtable);
                            self.quiet_since = Some(now);
                            self.flushed = upto;
                            preparer.flushed(upto);
                        }
                        Err(error) => self.not_flushed(core, (memtable, upto), error, now),
                    }
                    waker.wake_by_ref();
                }
            }
        }
        if let Some((mut work, replies)) = self.merge.take() {
            match work.as_mut().poll(&mut cx) {
                Poll::Pending => self.merge = Some((work, replies)),
                Poll::Ready(result) => {
                    let result = result.and_then(|()| self.show(core, None));
                    if let Err(error) = &result {
                        self.failed("merge", error, now);
                        self.sheds |= self.is_shed;
                        self.settled.drain(..).for_each(|reply| reply.give(Err(error.clone())));
                    }
                    self.tell(core, memtable_bytes(&core.view.load()));
                    replies.into_iter().for_each(|reply| reply.give(result.clone()));
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// A flush is to be made again.
    fn not_flushed(&mut self, core: &Core, flush: (Arc<Memtable>, u64), error: StorageError, now: Instant) {
        self.failed("flush", &error, now);
        self.refuse(&error);
        core.memory.set_trouble(error);
        self.queue.push_front(Waiting::Flush(flush.0, flush.1));
    }

    /// Whoever waits for flushes hears that they fail: they are tried again, but nobody knows for how long.
    fn refuse(&mut self, error: &StorageError) {
        for waiting in std::mem::take(&mut self.queue) {
            match waiting {
                Waiting::Flush(..) | Waiting::Shed => self.queue.push_back(waiting),
                Waiting::Flushed(reply) | Waiting::Settled(reply) => reply.give(Err(error.clone())),
                Waiting::Compact(reply) | Waiting::Checkpoint(_, reply) => reply.give(Err(error.clone())),
            }
        }
        self.settled.drain(..).for_each(|reply| reply.give(Err(error.clone())));
    }

    fn failed(&mut self, what: &str, error: &StorageError, now: Instant) {
        tracing::error!(%error, "{what} failed");
        self.retry = Some(now + RETRY);
    }

    /// Readers see the tables as they are now, and no longer a memtable that is in them.
    fn show(&self, core: &Core, flushed: Option<&Arc<Memtable>>) -> Result<(), StorageError> {
        let tables = self.tables(&core.view.load().tables)?;
        let is_flushed = |memtable: &Arc<Memtable>| flushed.is_some_and(|flushed| Arc::ptr_eq(flushed, memtable));
        core.view.rcu(|view| {
            let frozen = view.frozen.iter().filter(|memtable| !is_flushed(memtable)).cloned().collect();
            View { frozen, tables: tables.clone(), ..(**view).clone() }
        });
        core.cache.set_budget(core.settings.blocks_bytes(self.engine.stats().mapped_bytes));
        Ok(())
    }

    /// The tables as readers on other threads have them open; those of `before` stay open.
    fn tables(&self, before: &Tables) -> Result<Arc<Tables>, StorageError> {
        let known: BTreeMap<u64, _> = before.tables().map(|table| (table.place().number, table)).collect();
        let version = self.tree.durable();
        let members = version.members().map(|member| {
            let table = match &member.table {
                Err(error) => Err(error.clone()),
                Ok(table) => Ok(match known.get(&table.place().number) {
                    Some(&open) => open.clone(),
                    None => table.through(self.caller.clone(), self.caller.open_now(table.path())?),
                }),
            };
            Ok(Member { entry: member.entry.clone(), table })
        });
        let members = members.collect::<Result<Vec<_>, StorageError>>()?;
        Ok(Arc::new(Version::of(version.at.clone(), members)))
    }

    /// What is done now and then: memory and log segments made ready, writers paced, numbers told.
    fn care(&mut self, core: &Core, preparer: &Preparer, now: Instant) {
        if now.duration_since(self.paced.0) < PACE {
            return;
        }
        let written = core.written_bytes.load(Ordering::Relaxed);
        let fresh = written.wrapping_sub(self.paced.1);
        self.paced = (now, written);
        let view = core.view.load();
        let memtables = memtable_bytes(&view);
        let wait = self.engine.pace_writers(fresh, memtables, core.settings.memtable_bytes());
        core.wait_ns_per_byte.store(wait.to_bits(), Ordering::Relaxed);
        if fresh > 0 {
            preparer.look();
        }
        self.tell(core, memtables);
    }

    /// Whoever asks sees these numbers.
    fn tell(&self, core: &Core, memtables: usize) {
        let mut stats = self.engine.stats();
        stats.memtable_bytes = memtables;
        stats.spare_bytes = core.memory.spare_bytes();
        stats.held_bytes = core.memory.held_bytes();
        stats.cache_bytes = core.cache.bytes();
        (stats.cache_hits, stats.cache_misses) = core.cache.hits_and_misses();
        *core.stats.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = stats;
    }
}

/// Tells writers when the thread ends, however it does: they would wait for memory that nobody gives.
struct Ends<'c>(&'c Core);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.memory.end();
    }
}

/// Bytes of records in memory.
fn memtable_bytes(view: &View) -> usize {
    std::iter::once(&view.active).chain(&view.frozen).map(|memtable| memtable.bytes()).sum()
}

/// Runs a future on this thread to its end; nothing else happens meanwhile.
pub(super) fn wait<T>(turning: &Turning, work: impl Future<Output = T>) -> Result<T, StorageError> {
    let mut work = std::pin::pin!(work);
    let mut cx = Context::from_waker(&turning.waker);
    loop {
        turning.take_rung();
        if let Poll::Ready(output) = work.as_mut().poll(&mut cx) {
            turning.waker.wake_by_ref();
            return Ok(output);
        }
        turning.turn(true)?;
    }
}
