//! The thread behind a database: it alone flushes and merges. Its disk is a ring of its own, or, where io_uring is refused, ordinary
//! system calls.

#![expect(clippy::disallowed_methods, reason = "this thread has a clock of its own and may wait")]

mod checkpoint;
mod jobs;
mod turn;

pub(crate) use jobs::{Driver, Opened};
pub(crate) use turn::Turning;

use crate::disk::files::Root;
use crate::disk::helper::{Answer, Promise, promise};
use crate::disk::plain::PlainDisk;
use crate::disk::uring::UringDisk;
use crate::disk::uring::ring::{Ring, RingOptions};
use crate::error::{DiskError, StorageError};
use crate::memtable::shared::Memtable;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::db::error::Error;
use crate::db::state::{Core, ENDED};
use crate::db::view::Gone;
use crate::db::{Settings, log};

/// Memory of a memtable is made ready so far ahead of the writer, bytes.
const AHEAD_BYTES: usize = 16 << 20;
/// How often the preparing thread looks around when nobody calls it.
const LOOK: Duration = Duration::from_millis(50);

/// An answer that somebody waits for.
pub(crate) type Reply = Promise<Result<(), StorageError>>;

/// What the thread is asked to do.
pub(crate) enum Job {
    /// Make tables of a memtable that takes no more writes; the last write in it.
    Flush { memtable: Arc<Memtable>, upto: u64 },
    /// Answer when all flushes asked for before are done.
    Flushed(Reply),
    /// Answer when no merge is wanted, all flushes asked for before are done.
    Settled(Reply),
    /// Merge until nothing is left to merge, when all flushes asked for before are done.
    Compact(Reply),
    /// Link the tables into a new directory, when all flushes asked for before are done.
    Checkpoint(PathBuf, Reply),
    /// These trees are there no more: flushes and merges leave out what is theirs, and tables are to be rid of it.
    Gone(Arc<Gone>),
    /// End.
    Stop,
}

/// Where jobs are put.
pub(crate) struct Mail {
    jobs: Sender<Job>,
    thread: Thread,
}

impl Mail {
    /// Asks for a job. A thread that has ended does not answer: see [`Mail::ask`].
    pub fn send(&self, job: Job) {
        let _ = self.jobs.send(job);
        self.thread.unpark();
    }

    /// Asks for a job; [`heard`] says what the answer means.
    pub fn ask(&self, job: impl FnOnce(Reply) -> Job) -> Answer<Result<(), StorageError>> {
        let (reply, answer) = promise();
        self.send(job(reply));
        answer
    }
}

/// What a job came to; there is no answer when the thread has ended.
pub(crate) fn heard(answer: Option<Result<(), StorageError>>) -> Result<(), Error> {
    Ok(answer.ok_or(Error::Failed { cause: ENDED })??)
}

/// The thread, which has opened the engine, and where to send it what all share.
pub(crate) struct Started {
    pub opened: Opened,
    pub mail: Mail,
    pub core: SyncSender<Arc<Core>>,
    pub thread: JoinHandle<()>,
}

/// Starts the thread on the database in `root`: it opens the engine and waits for what all share.
pub(crate) fn start(root: Root, settings: Settings) -> Result<Started, StorageError> {
    let (jobs, mailbox) = channel();
    let (opened, has_opened) = sync_channel(1);
    let (core, has_core) = sync_channel(1);
    let failed = |error| DiskError::io("", "start the database's thread", error);
    let work = move || run(root, &settings, mailbox, &opened, &has_core);
    let thread = thread::Builder::new().name("ringkv-db".to_owned()).spawn(work).map_err(failed)?;
    let gone = StorageError::Interrupted { what: "opening the database" };
    match has_opened.recv().unwrap_or(Err(gone)) {
        Ok(opened) => {
            let mail = Mail { jobs, thread: thread.thread().clone() };
            Ok(Started { opened, mail, core, thread })
        }
        Err(error) => {
            // It has the directory's files open until then.
            let _ = thread.join();
            Err(error)
        }
    }
}

impl Started {
    /// Ends the thread, which never hears of what all share.
    pub fn give_up(self) {
        drop(self.core);
        let _ = self.thread.join();
    }
}

type Told = SyncSender<Result<Opened, StorageError>>;

fn run(root: Root, settings: &Settings, mailbox: Receiver<Job>, opened: &Told, core: &Receiver<Arc<Core>>) {
    match Ring::new(RingOptions { submissions: 64, completions: 256 }) {
        Ok(ring) => {
            let turning = Turning::new(Some(ring.clone()));
            let disk = UringDisk::over(root.clone(), ring.clone());
            Driver::open(disk, root, settings, turning, opened)
                .iter_mut()
                .for_each(|driver| driver.serve(core, &mailbox));
            // What is in flight ends before its memory goes.
            let _ = ring.shutdown();
        }
        Err(refused) => {
            tracing::info!(%refused, "no io_uring here: the database's thread makes ordinary system calls");
            match PlainDisk::over(root.clone()) {
                Ok(disk) => Driver::open(disk, root, settings, Turning::new(None), opened)
                    .iter_mut()
                    .for_each(|driver| driver.serve(core, &mailbox)),
                Err(error) => drop(opened.send(Err(error.into()))),
            }
        }
    }
}

/// While it lives, a thread makes log segments and memory ready ahead of the writer, and gives up segments that are not needed: it waits
/// for disk and system most of the time, and must not keep flushes waiting.
pub(super) struct Preparer {
    thread: Option<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
    /// Tables hold everything up to here.
    flushed: Arc<AtomicU64>,
}

impl Preparer {
    pub fn start(core: Arc<Core>) -> Result<Preparer, StorageError> {
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        let flushed = Arc::new(AtomicU64::new(0));
        let upto = flushed.clone();
        let work = move || {
            let (mut fails, mut released) = (false, 0);
            core.cache.prepared_by(thread::current());
            while !told.load(Ordering::Acquire) {
                let view = core.view.load_full();
                let (active, stored) =
                    (view.active.clone(), view.tables.tables().map(|table| table.place().bytes).sum());
                drop(view);
                active.populate_ahead(AHEAD_BYTES);
                core.memory.make_ready(active.bytes());
                drop(active);
                fails = prepared(&core.log, fails);
                let flushed = upto.load(Ordering::Acquire);
                if flushed > std::mem::replace(&mut released, flushed) {
                    release(&core.log, flushed);
                }
                // Writers first, whose memory may have run out meanwhile.
                if !core.cache.make_ready(stored) {
                    thread::park_timeout(LOOK);
                }
            }
        };
        let failed = |error| DiskError::io("", "start the database's second thread", error);
        let thread = thread::Builder::new().name("ringkv-db-ready".to_owned()).spawn(work).map_err(failed)?;
        Ok(Preparer { thread: Some(thread), ended, flushed })
    }

    /// Tables hold everything up to `upto` now.
    pub fn flushed(&self, upto: u64) {
        self.flushed.store(upto, Ordering::Release);
        self.look();
    }

    /// The writer may have taken one.
    pub fn look(&self) {
        self.thread.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Drop for Preparer {
    /// Waits for its end.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.look();
        if let Some(thread) = self.thread.take() {
            // What went wrong it has said itself.
            let _ = thread.join();
        }
    }
}

/// Makes a log segment ready; answers whether that failed, which is said once.
fn prepared(log: &log::Shared, failed_before: bool) -> bool {
    match log.prepare() {
        Ok(()) => false,
        Err(error) if !failed_before => {
            tracing::warn!(%error, "no log segment made ready");
            true
        }
        Err(_) => true,
    }
}

/// Gives up log segments whose records are in tables up to this one. Those that stay go with the next ones.
fn release(log: &log::Shared, flushed: u64) {
    if let Err(error) = log.release(flushed) {
        tracing::warn!(%error, "log segments stay");
    }
}

/// Milliseconds since 1970, as the system tells.
pub(crate) fn system_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Lets other threads have the processor first.
pub(crate) fn give_way() {
    thread::yield_now();
}

/// Lets the calling thread rest.
pub(crate) fn rest(time: Duration) {
    thread::sleep(time);
}
