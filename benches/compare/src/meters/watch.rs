//! A folder of an engine, looked at from outside; and how its pages leave memory.

use super::proc::anonymous_bytes;
use crate::error::Error;
use crate::peer::{Engine, Holds};
use rustix::fs::{Advice, fadvise};
use rustix::mm;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What was seen of a folder and of this process while a row ran.
pub struct Seen {
    engine: Engine,
    dir: PathBuf,
    /// Greatest lengths of tables and logs.
    lengths: BTreeMap<PathBuf, (Holds, u64)>,
    tables_before: u64,
    logs_before: u64,
    /// Most room that files took at once.
    pub peak_bytes: u64,
    /// Most memory that was no file's.
    pub anonymous_bytes: u64,
}

impl Seen {
    /// What is there already does not count as written.
    pub fn of_before(engine: Engine, dir: &Path) -> Seen {
        let dir = dir.to_owned();
        let lengths = BTreeMap::new();
        let mut seen =
            Seen { engine, dir, lengths, tables_before: 0, logs_before: 0, peak_bytes: 0, anonymous_bytes: 0 };
        seen.look();
        (seen.tables_before, seen.logs_before) = (seen.longest(Holds::Table), seen.longest(Holds::Log));
        seen
    }

    /// Looks now.
    pub fn look(&mut self) {
        let (mut now, lengths, engine) = (0, &mut self.lengths, self.engine);
        each_file(&self.dir, &mut |path, metadata| {
            now += metadata.blocks() * 512;
            let holds = engine.holds(path);
            if holds != Holds::Other {
                let longest = &mut lengths.entry(path.to_owned()).or_insert((holds, 0)).1;
                *longest = metadata.len().max(*longest);
            }
        });
        self.peak_bytes = self.peak_bytes.max(now);
        self.anonymous_bytes = self.anonymous_bytes.max(anonymous_bytes());
    }

    /// Bytes of all tables that have come since.
    pub fn tables_written(&self) -> u64 {
        self.longest(Holds::Table) - self.tables_before
    }

    /// Bytes that logs have become longer since.
    pub fn logs_written(&self) -> u64 {
        self.longest(Holds::Log) - self.logs_before
    }

    fn longest(&self, what: Holds) -> u64 {
        self.lengths.values().filter(|(holds, _)| *holds == what).map(|(_, length)| length).sum()
    }
}

/// Room that those files of a folder take on the disk that are wanted.
pub fn space_bytes(dir: &Path, is_wanted: impl Fn(&Path) -> bool) -> u64 {
    let mut bytes = 0;
    each_file(dir, &mut |path, metadata| bytes += if is_wanted(path) { metadata.blocks() * 512 } else { 0 });
    bytes
}

/// All files below a folder. Some may go meanwhile.
fn each_file(folder: &Path, seen: &mut dyn FnMut(&Path, &Metadata)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            each_file(&entry.path(), seen);
        } else {
            seen(&entry.path(), &metadata);
        }
    }
}

/// Sends the clean pages of all files of a folder out of the page cache, those that this process has mapped first: the next
/// read of each comes from the disk.
///
/// # Errors
/// When a file cannot be opened.
pub fn forget_pages(dir: &Path) -> Result<(), Error> {
    unmap_pages(dir);
    let mut result = Ok(());
    each_file(dir, &mut |path, _| {
        let done = File::open(path).and_then(|file| Ok(fadvise(&file, 0, None, Advice::DontNeed)?));
        if let Err(source) = done {
            result = Err(Error::File { doing: "drop from the page cache", path: path.to_owned(), source });
        }
    });
    result
}

/// Takes the pages of mapped files out of this process; those that stay only cost a read less.
fn unmap_pages(dir: &Path) {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    for line in fs::read_to_string("/proc/self/maps").unwrap_or_default().lines() {
        let of_dir = line.split_once('/').is_some_and(|(_, path)| Path::new("/").join(path).starts_with(&dir));
        if let Some((from, to)) = range(line).filter(|_| of_dir) {
            // SAFETY: to page out is a hint that changes nothing that a program can see, whatever is mapped there by now:
            // a page that is touched again comes back from its file.
            let _ = unsafe { mm::madvise(from as *mut _, to - from, mm::Advice::LinuxPageOut) };
        }
    }
}

/// The addresses at the head of a line of `/proc/self/maps`.
fn range(line: &str) -> Option<(usize, usize)> {
    let (from, to) = line.split(' ').next()?.split_once('-')?;
    Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_not_counted_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: usize| fs::write(dir.path().join(name), vec![7; bytes]).unwrap();
        file("1.sst", 10_000);
        let mut seen = Seen::of_before(Engine::Rocksdb, dir.path());
        file("2.sst", 20_000);
        file("3.log", 5_000);
        file("MANIFEST", 100);
        seen.look();
        fs::remove_file(dir.path().join("2.sst")).unwrap();
        seen.look();
        assert_eq!((seen.tables_written(), seen.logs_written()), (20_000, 5_000));
        assert!(seen.peak_bytes >= 35_000 && seen.peak_bytes > space_bytes(dir.path(), |_| true));
    }

    #[test]
    fn pages_can_be_forgotten_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![7; 1 << 20]).unwrap();
        forget_pages(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), vec![7; 1 << 20]);
        assert_eq!(range("7f0000001000-7f0000003000 r--s 0 08:01 5 /x"), Some((0x7f00_0000_1000, 0x7f00_0000_3000)));
    }
}
