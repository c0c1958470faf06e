//! The folder of all engines' files, which goes away even when this program is killed: a process waits for its end.

use crate::error::Error;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A folder that is removed when this is dropped, or when this process ends in any other way.
pub struct Folder {
    dir: TempDir,
    sweeper: Child,
}

impl Folder {
    /// Makes one in `parent`.
    pub fn new(parent: &Path) -> Result<Folder, Error> {
        fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
        let parent = fs::canonicalize(parent).map_err(Error::file("find", parent))?;
        let dir =
            TempDir::with_prefix_in("ringkv-compare-", &parent).map_err(Error::file("make a folder in", &parent))?;
        let program = std::env::current_exe().map_err(Error::file("find", Path::new("this program")))?;
        let mut command = Command::new(&program);
        // In a group of its own, the keys that end this program do not end it.
        let command = command.arg("sweep").arg(dir.path()).stdin(Stdio::piped()).process_group(0);
        let sweeper = command.spawn().map_err(Error::file("start", &program))?;
        Ok(Folder { dir, sweeper })
    }

    /// A folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Itself.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        drop(self.sweeper.wait());
    }
}

/// Waits until standard input ends, and removes `dir`.
///
/// # Errors
/// When it cannot be removed.
pub fn wait_and_remove(dir: &Path) -> Result<(), Error> {
    drop(io::stdin().read_to_end(&mut Vec::new()));
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", dir)(error)),
        _ => Ok(()),
    }
}
