//! A manifest read by one who changes nothing of it.

use super::{CURRENT, Found, TreeRecord, join};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::sst::damaged;
use ringkv_wire::ids::ShardId;
use std::collections::BTreeMap;

/// All trees that the manifest in `dir` names. Nothing is moved to a fresh file, so what is read may not be durable
/// yet.
///
/// # Errors
/// As [`super::Manifest::open`]; without CURRENT a store that `has_tables` is damaged, another is new.
pub async fn look<D: Disk>(
    disk: &D,
    dir: &str,
    has_tables: bool,
) -> Result<BTreeMap<ShardId, TreeRecord>, StorageError> {
    match disk.list(dir).await?.iter().any(|name| name == CURRENT) {
        true => Ok(Found::read(disk, dir).await?.trees),
        false if has_tables => Err(damaged(&join(dir, CURRENT), 0, "CURRENT, because there are tables", "no file")),
        false => Ok(BTreeMap::new()),
    }
}
