//! The disk of ordinary system calls: `pread`, `pwrite`, `fdatasync`, made by one helper thread per disk.
//!
//! It serves where io_uring is forbidden. Commits of one file that wait in the queue together share one `fdatasync`.

use crate::disk::files::{OpenFile, Root};
use crate::disk::helper::{Helper, Promise, promise};
use crate::disk::section::Section;
use crate::disk::{ALIGN, Disk, DiskBuf, Mapped, OpenMode};
use crate::error::DiskError;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Commits that may share one sync.
const COMMITS_TOGETHER: usize = 16;

/// A disk below one directory. Cheap to clone; clones share the thread.
#[derive(Clone)]
pub struct PlainDisk {
    root: Arc<Root>,
    helper: Helper<Job>,
}

/// An open file of a [`PlainDisk`].
pub type PlainFile = Arc<OpenFile>;

type Written = (Result<(), DiskError>, DiskBuf);

enum Job {
    Run(Box<dyn FnOnce() + Send>),
    Commit(Commit),
}

struct Commit {
    file: PlainFile,
    offset: u64,
    buf: DiskBuf,
    done: Promise<Written>,
}

impl PlainDisk {
    /// The disk rooted at `dir`, made when it is not there. Starts its thread.
    pub fn open(dir: &Path) -> Result<PlainDisk, DiskError> {
        PlainDisk::over(Root::open(dir)?)
    }

    /// The disk over a root that was opened before.
    pub fn over(root: Root) -> Result<PlainDisk, DiskError> {
        let shown = root.path().display().to_string();
        let helper = Helper::start("disk", work).map_err(|e| DiskError::io(&shown, "start the disk's thread", e))?;
        Ok(PlainDisk { root: Arc::new(root), helper })
    }

    /// Whether files go past the page cache.
    pub fn direct(&self) -> bool {
        self.root.direct()
    }

    async fn run<T: Send + 'static>(
        &self,
        path: &str,
        job: impl FnOnce(&Root) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let (done, answer) = promise();
        let root = self.root.clone();
        self.helper.push(Job::Run(Box::new(move || done.give(job(&root)))));
        answer.await.unwrap_or_else(|| Err(died(path)))
    }
}

fn died(path: &str) -> DiskError {
    DiskError::io(path, "ask the disk's thread", std::io::Error::other("it is gone"))
}

/// The thread's loop: jobs in order, runs of commits to one file together.
fn work(queue: Receiver<Job>) {
    let mut next = queue.recv().ok();
    while let Some(job) = next.take() {
        match job {
            Job::Run(run) => run(),
            Job::Commit(first) => {
                let mut together = vec![first];
                while together.len() < COMMITS_TOGETHER {
                    match queue.try_recv() {
                        Ok(Job::Commit(commit)) if Arc::ptr_eq(&commit.file, &together[0].file) => {
                            together.push(commit)
                        }
                        other => {
                            next = other.ok();
                            break;
                        }
                    }
                }
                commit(together);
            }
        }
        next = next.or_else(|| queue.recv().ok());
    }
}

/// Writes each, then syncs once: every commit that was written is durable exactly when that sync is.
fn commit(together: Vec<Commit>) {
    let file = together[0].file.clone();
    let written: Vec<_> = together.iter().map(|c| file.write_at(c.offset, &c.buf)).collect();
    // After a failed write nothing of the file is to be trusted, but its neighbours asked for their own sync.
    let synced = if written.iter().any(Result::is_ok) { file.sync_data() } else { Ok(()) };
    for (commit, written) in together.into_iter().zip(written) {
        commit.done.give((written.and(synced.clone()), commit.buf));
    }
}

impl Disk for PlainDisk {
    type File = PlainFile;

    async fn open(&self, path: &str, mode: OpenMode) -> Result<PlainFile, DiskError> {
        let name = path.to_owned();
        self.run(path, move |root| root.open_file(&name, mode).map(Arc::new)).await
    }

    async fn size(&self, file: &PlainFile) -> Result<u64, DiskError> {
        file.size()
    }

    async fn read_at(&self, file: &PlainFile, offset: u64, buf: DiskBuf) -> (Result<usize, DiskError>, DiskBuf) {
        check_aligned(file, offset);
        let (done, answer) = promise();
        let (from, mut buf) = (file.clone(), buf);
        self.helper.push(Job::Run(Box::new(move || {
            let got = from.read_at(offset, &mut buf);
            done.give((got, buf));
        })));
        answer.await.unwrap_or_else(|| (Err(died(&file.path)), DiskBuf::zeroed(0)))
    }

    async fn write_at(&self, file: &PlainFile, offset: u64, buf: DiskBuf) -> Written {
        check_aligned(file, offset);
        let (done, answer) = promise();
        let to = file.clone();
        self.helper.push(Job::Run(Box::new(move || {
            let written = to.write_at(offset, &buf);
            done.give((written, buf));
        })));
        answer.await.unwrap_or_else(|| (Err(died(&file.path)), DiskBuf::zeroed(0)))
    }

    async fn commit(&self, file: &PlainFile, offset: u64, buf: DiskBuf) -> Written {
        check_aligned(file, offset);
        let (done, answer) = promise();
        self.helper.push(Job::Commit(Commit { file: file.clone(), offset, buf, done }));
        answer.await.unwrap_or_else(|| (Err(died(&file.path)), DiskBuf::zeroed(0)))
    }

    async fn sync(&self, file: &PlainFile) -> Result<(), DiskError> {
        let (path, file) = (file.path.clone(), file.clone());
        self.run(&path, move |_| file.sync()).await
    }

    /// One job per step, so that commits pass between the zeros.
    async fn allocate(&self, file: &PlainFile, bytes: u64) -> Result<(), DiskError> {
        let size = file.size()?;
        let zeroed = self.zero(file, bytes).await;
        if zeroed.is_err() {
            let file = file.clone();
            let path = file.path.clone();
            self.run(&path, move |_| {
                file.give_back(size);
                Ok(())
            })
            .await?;
        }
        zeroed
    }

    async fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        let name = path.to_owned();
        self.run(path, move |root| root.sync_dir(&name)).await
    }

    async fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        let name = path.to_owned();
        self.run(path, move |root| root.create_dir(&name)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (old, new) = (from.to_owned(), to.to_owned());
        self.run(from, move |root| root.rename(&old, &new)).await
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        let name = path.to_owned();
        self.run(path, move |root| root.remove(&name)).await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        let name = path.to_owned();
        self.run(path, move |root| root.list(&name)).await
    }

    async fn map(
        &self,
        file: &PlainFile,
        range: Range<u64>,
        verify: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Mapped, DiskError> {
        let (path, file) = (file.path.clone(), file.clone());
        self.run(&path, move |_| Section::load(&file, range)).await?.verify(verify)
    }
}

impl PlainDisk {
    async fn zero(&self, file: &PlainFile, bytes: u64) -> Result<(), DiskError> {
        let step = file.clone();
        let mut at = self.run(&file.path, move |_| step.reserve(bytes)).await?;
        while at < bytes {
            let step = file.clone();
            at = self.run(&file.path, move |_| step.zero_step(at, bytes)).await?;
        }
        self.sync(file).await
    }
}

fn check_aligned(file: &OpenFile, offset: u64) {
    assert!(offset.is_multiple_of(ALIGN as u64), "{}: offset {offset} is not aligned", file.path);
}

#[cfg(test)]
mod tests;
