//! The identity file.

use crate::dir::DirError;
use ringkv_wire::ids::{ClusterId, Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The format this build writes, and the newest it reads.
const VERSION: i64 = 1;
const NAME: &str = "identity";
const TEMPORARY: &str = "identity.new";

/// Whose a data directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// How many stores it has.
    pub stores: u16,
    /// Made with the directory: tells it from a wiped or copied one.
    pub incarnation: Incarnation,
    /// Every store's log has existed.
    pub made: bool,
}

#[derive(Deserialize, Serialize)]
struct Text {
    version: i64,
    cluster: String,
    node: u32,
    stores: u16,
    incarnation: String,
    made: bool,
}

/// Read first: a newer file may have other fields.
#[derive(Deserialize)]
struct VersionOnly {
    version: i64,
}

impl Identity {
    /// The identity in `dir`; `None` when there is none.
    pub fn read(dir: &Path) -> Result<Option<Identity>, DirError> {
        let path = dir.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DirError::Io { path, what: "read", source }),
        };
        let damaged = |what: String| DirError::Damaged { dir: dir.to_owned(), what: format!("its identity: {what}") };
        let first: VersionOnly = toml::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        if first.version > VERSION {
            return Err(DirError::Newer { dir: dir.to_owned(), got: first.version, known: VERSION });
        }
        let text: Text = toml::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let hex = |what: &str, digits: &str, length: usize| match u128::from_str_radix(digits, 16) {
            Ok(n) if digits.len() == length && n != 0 => Ok(n),
            _ => Err(damaged(format!("{what} {digits:?} is not {length} hex digits, not all zero"))),
        };
        let cluster = ClusterId(hex("cluster", &text.cluster, 32)?.to_be_bytes());
        let incarnation = Incarnation(hex("incarnation", &text.incarnation, 16)? as u64);
        if text.stores == 0 || text.node == 0 {
            return Err(damaged("node and stores count from 1".into()));
        }
        let (node, stores, made) = (NodeId(text.node), text.stores, text.made);
        Ok(Some(Identity { cluster, node, stores, incarnation, made }))
    }

    /// Writes it into `dir`, whole or not at all, durably.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let text = Text {
            version: VERSION,
            cluster: self.cluster.to_string(),
            node: self.node.0,
            stores: self.stores,
            incarnation: format!("{:016x}", self.incarnation.0),
            made: self.made,
        };
        let text = toml::to_string(&text).map_err(io::Error::other)?;
        let temporary = dir.join(TEMPORARY);
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, dir.join(NAME))?;
        File::open(dir)?.sync_all()
    }
}
