//! A copy of the database at one moment that shares its tables' files.

use crate::db::log;
use crate::db::state::Core;
use crate::disk::Disk;
use crate::disk::files::Root;
use crate::disk::plain::PlainDisk;
use crate::error::{DiskError, StorageError};
use crate::manifest::Manifest;
use crate::tree::Tree;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const TABLES: &str = "tables";

/// Links the tables of `tree` into `dir`, which must not be there, with a manifest of their own; all of it is durable and complete
/// before it has this name.
pub(super) async fn make<D: Disk>(tree: &Tree<D>, core: &Core, dir: &Path) -> Result<(), StorageError> {
    let refused = |what: &'static str| move |error: io::Error| DiskError::io(&dir.display().to_string(), what, error);
    if dir.exists() {
        return Err(refused("make a checkpoint in")(io::ErrorKind::AlreadyExists.into()).into());
    }
    let partial = beside(dir);
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused("clear")(error).into()),
        _ => {}
    }
    let made = fill(tree, core, &partial).await.and_then(|()| {
        fs::rename(&partial, dir).map_err(refused("rename"))?;
        sync_parent(dir).map_err(refused("sync the directory of"))?;
        Ok(())
    });
    if made.is_err() {
        // Space that nobody else would give back.
        let _ = fs::remove_dir_all(&partial);
    }
    made
}

/// Makes the copy in `partial`, durable but for its name.
async fn fill<D: Disk>(tree: &Tree<D>, core: &Core, partial: &Path) -> Result<(), StorageError> {
    let disk = PlainDisk::open(partial)?;
    disk.create_dir(TABLES).await?;
    let version = tree.durable();
    for table in version.tables() {
        let from = core.settings.path.join(table.path());
        let refused = |error| DiskError::io(&partial.display().to_string(), "link a table into", error);
        link(&from, &partial.join(table.path())).map_err(refused)?;
    }
    if let Some(error) = version.damage() {
        return Err(error);
    }
    disk.sync_dir(TABLES).await?;
    let seed = core.settings.seed;
    let ids = move |n: u64| (u128::from(seed) << 64 | u128::from(n)).to_le_bytes();
    let manifest = Manifest::open(disk.clone(), "", false, ids).await?;
    manifest.edit().await.commit(tree.shard(), version.record()).await?;
    let last = version.at.as_ref().map_or(0, |at| at.index);
    log::create(&Root::open(partial)?, last, core.settings.log_options())?;
    Ok(disk.sync_dir("").await?)
}

/// The name it has until it is whole.
fn beside(dir: &Path) -> PathBuf {
    let mut name = OsString::from(dir);
    name.push(".partial");
    PathBuf::from(name)
}

/// A second name, or where the file system has none to give, a copy.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EXDEV | libc::EPERM | libc::EMLINK)) => {
            fs::copy(from, to)?;
            fs::File::open(to)?.sync_all()
        }
        linked => linked,
    }
}

fn sync_parent(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}
