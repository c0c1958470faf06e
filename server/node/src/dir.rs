//! The data directory: whose it is, and that only one process has it (FORMAT.md §4).

mod identity;

pub use identity::Identity;

use ringkv_wire::ids::{ClusterId, NodeId};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Why a directory is not served.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another process has it.
    #[error("{dir}: another process has this data directory open ({holder}); stop it first")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the lock file says of its holder.
        holder: String,
    },
    /// It belongs to someone else.
    #[error("{dir} belongs to {theirs}, this is {ours}: use another --data-dir, or the settings it was made with")]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Who it belongs to.
        theirs: String,
        /// Who asks.
        ours: String,
    },
    /// Made by a newer ringkv.
    #[error("{dir}: format version {got}, this build reads up to {known}: use a newer kvnode")]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its version.
        got: i64,
        /// The newest this build reads.
        known: i64,
    },
    /// Its identity cannot be read, or is not there although stores are.
    #[error("{dir}: {what}; it is left untouched")]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system refused.
    #[error("{path}: {what}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's word.
        source: io::Error,
    },
}

/// An open data directory; the lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    _lock: File,
}

/// Who asks for a directory.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The node.
    pub node: NodeId,
    /// The cluster; `None`: whichever the directory says, or a new one.
    pub cluster: Option<ClusterId>,
    /// The stores it must have; `None`: as many as it has.
    pub stores: Option<u16>,
    /// The stores to make when it is new and `stores` does not say.
    pub stores_if_new: u16,
}

impl DataDir {
    /// Opens `path`, making it when it is not there: locks it, reads or writes its identity, refuses what is not ours.
    pub fn open(path: &Path, asker: &Asker) -> Result<DataDir, DirError> {
        let fail = |what, path: &Path| {
            let path = path.to_owned();
            move |source| DirError::Io { path, what, source }
        };
        std::fs::create_dir_all(path).map_err(fail("create the data directory", path))?;
        let path = path.canonicalize().map_err(fail("resolve", path))?;
        let lock = lock(&path)?;
        let identity = match Identity::read(&path)? {
            Some(identity) => identity,
            None => {
                refuse_orphans(&path)?;
                let identity = Identity {
                    cluster: asker.cluster.unwrap_or_else(|| ClusterId(rand::random())),
                    node: asker.node,
                    stores: asker.stores.unwrap_or(asker.stores_if_new),
                    incarnation: ringkv_wire::ids::Incarnation(rand::random_range(1..=u64::MAX)),
                    made: false,
                };
                identity.write(&path).map_err(fail("write the identity", &path))?;
                identity
            }
        };
        let dir = DataDir { path, identity, _lock: lock };
        dir.check(asker)?;
        Ok(dir)
    }

    /// Whose it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records that every store's log exists: from now on a store without one is damage.
    pub fn set_made(&mut self) -> io::Result<()> {
        if self.identity.made {
            return Ok(());
        }
        let made = Identity { made: true, ..self.identity.clone() };
        made.write(&self.path)?;
        self.identity = made;
        Ok(())
    }

    fn check(&self, asker: &Asker) -> Result<(), DirError> {
        let (has, wants) = (&self.identity, asker);
        let foreign = |theirs: String, ours: String| Err(DirError::Foreign { dir: self.path.clone(), theirs, ours });
        if has.node != wants.node {
            return foreign(format!("node {}", has.node.0), format!("node {}", wants.node.0));
        }
        match wants.cluster {
            Some(cluster) if cluster != has.cluster => {
                return foreign(format!("cluster {}", has.cluster), format!("cluster {cluster}"));
            }
            _ => {}
        }
        match wants.stores {
            Some(stores) if stores != has.stores => {
                foreign(format!("a node of {} stores", has.stores), format!("one configured with {stores}"))
            }
            _ => Ok(()),
        }
    }
}

fn lock(dir: &Path) -> Result<File, DirError> {
    let path = dir.join("LOCK");
    let fail = |what| {
        let path = path.clone();
        move |source| DirError::Io { path, what, source }
    };
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(fail("open"))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // For the message only.
            let _ = file.take(64).read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().to_owned() };
            return Err(DirError::Locked { dir: dir.to_owned(), holder });
        }
        Err(e) => return Err(fail("lock")(e.into())),
    }
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "pid {}", std::process::id()));
    written.map_err(fail("write"))?;
    Ok(file)
}

/// Stores without an identity: someone lost the file, and a new one would make them strangers to themselves.
fn refuse_orphans(dir: &Path) -> Result<(), DirError> {
    let names = std::fs::read_dir(dir).map_err(|source| DirError::Io { path: dir.to_owned(), what: "list", source })?;
    for name in names.flatten() {
        let name = name.file_name().to_string_lossy().into_owned();
        if name.starts_with("store-") {
            let what = format!("{name} is here, but no identity file that says whose it is");
            return Err(DirError::Damaged { dir: dir.to_owned(), what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
