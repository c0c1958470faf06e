//! Where a store's files are, whose they are, and that nobody else has them open.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use ringkv_storage::disk::files::Root;
use ringkv_storage::disk::plain::PlainDisk;
use ringkv_storage::wal::store_identity;
use ringkv_wire::ids::{Incarnation, StoreId};
use serde::Deserialize;

/// The newest `identity` file that this build reads (FORMAT.md §4).
const IDENTITY_VERSION: i64 = 1;

/// Which store.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// The store's directory, for instance `data/store-0000`. Its node must not be running.
    #[arg(value_name = "STORE DIR")]
    path: PathBuf,
    /// Number of the node, where the data directory has no `identity` to tell it.
    #[arg(long, value_name = "N")]
    node: Option<u32>,
    /// Number of the store in its node, where the directory's name does not tell it.
    #[arg(long, value_name = "N")]
    store: Option<u16>,
    /// Incarnation of the data directory, 16 hex digits, where it has no `identity` to tell it.
    #[arg(long, value_name = "HEX", value_parser = incarnation)]
    incarnation: Option<u64>,
}

/// The directory of one store. As long as this lives, no node opens its data directory.
pub struct StorePlace {
    /// As it was named.
    pub path: PathBuf,
    /// The store.
    pub id: StoreId,
    /// What its log is sealed with.
    pub log_identity: [u8; 16],
    /// Every store of the data directory has had a log.
    pub made: bool,
    _lock: Option<File>,
}

/// What is wanted of the file `identity`.
#[derive(Deserialize)]
struct Identity {
    node: u32,
    incarnation: String,
    made: bool,
}

/// Read first: a newer file may have other fields.
#[derive(Deserialize)]
struct VersionOnly {
    version: i64,
}

/// What a data directory is held for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Others may look, too.
    ToLook,
    /// Nobody else has it.
    ToChange,
}

impl StoreArgs {
    /// The store in this directory of a whole data directory.
    pub fn of(path: PathBuf) -> StoreArgs {
        StoreArgs { path, node: None, store: None, incarnation: None }
    }
}

impl StorePlace {
    /// Finds the store that the arguments name.
    pub fn find(args: &StoreArgs, hold_it: Hold) -> anyhow::Result<StorePlace> {
        let path = args.path.clone();
        let real = path.canonicalize().with_context(|| path.display().to_string())?;
        if real.join("identity").exists() {
            bail!("{} is a data directory: name one of its stores, for instance store-0000", path.display());
        }
        let data = real.parent().context("the root of the file system is no store")?;
        let lock = hold(data, hold_it)?;
        let identity = identity(data)?;
        let said = |what: &str| {
            format!(
                "whose log is it? {} has no identity file: give --node, --store and --incarnation ({what})",
                data.display()
            )
        };
        let node = args.node.or(identity.as_ref().map(|identity| identity.node)).with_context(|| said("the node"))?;
        let named = real.file_name().and_then(|name| name.to_str()?.strip_prefix("store-")?.parse().ok());
        let store = args.store.or(named).with_context(|| format!("{}: which store? give --store", path.display()))?;
        let told = identity.as_ref().map(|identity| incarnation(&identity.incarnation));
        let told =
            told.transpose().map_err(|e| anyhow::anyhow!("{}: incarnation: {e}", data.join("identity").display()))?;
        let incarnation = args.incarnation.or(told).with_context(|| said("the incarnation"))?;
        let id = StoreId::new(node, store);
        let log_identity = store_identity(id, Incarnation(incarnation));
        Ok(StorePlace { path, id, log_identity, made: identity.is_some_and(|identity| identity.made), _lock: lock })
    }

    /// Its files, which cannot be changed through this.
    pub fn disk(&self) -> anyhow::Result<PlainDisk> {
        Ok(PlainDisk::over(Root::read_only(&self.path)?)?)
    }
}

/// Keeps a node from opening the data directory. Fails when one has it. A directory without a lock file gets none: a
/// node makes it before anything else, so this is a copy, to look at only.
pub fn hold(data: &Path, what_for: Hold) -> anyhow::Result<Option<File>> {
    let path = data.join("LOCK");
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && what_for == Hold::ToLook => return Ok(None),
        file => file.with_context(|| path.display().to_string())?,
    };
    let how = match what_for {
        Hold::ToLook => rustix::fs::FlockOperation::NonBlockingLockShared,
        Hold::ToChange => rustix::fs::FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(&file, how) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).with_context(|| path.display().to_string())?;
            bail!("{}: another process has this data directory open ({}): stop it first", data.display(), holder.trim())
        }
        Err(e) => Err(e).with_context(|| format!("lock {}", path.display())),
    }
}

fn identity(data: &Path) -> anyhow::Result<Option<Identity>> {
    let path = data.join("identity");
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| path.display().to_string())?,
    };
    let first: VersionOnly = toml::from_str(&text).with_context(|| path.display().to_string())?;
    if first.version > IDENTITY_VERSION {
        let (path, got) = (path.display(), first.version);
        bail!("{path}: format version {got}, this build reads up to {IDENTITY_VERSION}: use a newer kvctl");
    }
    toml::from_str(&text).map(Some).with_context(|| path.display().to_string())
}

fn incarnation(digits: &str) -> Result<u64, String> {
    match u64::from_str_radix(digits, 16) {
        Ok(number) if digits.len() == 16 && number != 0 => Ok(number),
        _ => Err(format!("{digits:?} is not 16 hex digits, not all zero")),
    }
}
