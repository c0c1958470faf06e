//! Which files there are, and what their heads make of them. Changes nothing.

use crate::db::log::head::{Born, HEAD_BYTES, Head};
use crate::db::log::segment::{DIR, number_of, path, unfinished_path};
use crate::disk::OpenMode;
use crate::disk::files::Root;
use crate::error::StorageError;

/// A segment whose records are needed, or void.
pub(super) struct Member {
    pub path: String,
    /// Length of the file.
    pub bytes: u64,
    pub salt: u32,
    pub born: Born,
    /// First record of the next segment: this one ends before it. None: the last one.
    pub bound: Option<u64>,
}

/// What was found.
pub(super) struct Survey {
    /// Segments with records behind the flushed ones, oldest first.
    pub members: Vec<Member>,
    /// Finished files without such records, with their lengths.
    pub needless: Vec<(String, u64)>,
    /// Files that were never finished.
    pub unfinished: Vec<String>,
    /// Larger than that of any file.
    pub next_number: u64,
}

struct Found {
    path: String,
    bytes: u64,
    head: Head,
}

/// Reads every head.
pub(super) fn survey(root: &Root, flushed_seq: u64) -> Result<Survey, StorageError> {
    let mut numbers: Vec<(u64, bool)> = root.list(DIR)?.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let newest = numbers.last().map_or(0, |(number, _)| *number);
    let Some(next_number) = newest.checked_add(1).filter(|next| *next < u64::MAX / 2) else {
        return Err(damaged(&path(newest), 0, "a number that has a next one".to_owned(), newest.to_string()));
    };
    let mut found = Vec::new();
    let mut unfinished = Vec::new();
    for (number, finished) in numbers {
        if finished {
            found.push(look(root, number)?);
        } else {
            unfinished.push(unfinished_path(number));
        }
    }
    let (members, needless) = chain(found, flushed_seq)?;
    begins(&members, &needless, flushed_seq)?;
    let needless = needless.into_iter().map(|found| (found.path, found.bytes)).collect();
    Ok(Survey { members, needless, unfinished, next_number })
}

fn look(root: &Root, number: u64) -> Result<Found, StorageError> {
    let path = path(number);
    let file = root.open_file(&path, OpenMode::Read)?;
    let mut sector = [0; HEAD_BYTES];
    let got = file.read_at(0, &mut sector)?;
    let head = Head::decode(sector.get(..got).unwrap_or_default(), &path, number)?;
    Ok(Found { bytes: file.size()?, path, head })
}

/// Puts the segments in use one behind the other, by number, and sorts out those without records that are needed.
fn chain(found: Vec<Found>, flushed_seq: u64) -> Result<(Vec<Member>, Vec<Found>), StorageError> {
    let (mut members, mut needless) = (Vec::new(), Vec::new());
    let mut bound = None;
    for found in found.into_iter().rev() {
        let Some(born) = found.head.born else {
            needless.push(found);
            continue;
        };
        if bound.is_some_and(|bound| born.first_seq > bound) {
            let expected = format!("a first record up to {}, as the next segment has", bound.unwrap_or_default());
            return Err(damaged(&found.path, 24, expected, born.first_seq.to_string()));
        }
        // The next one begins where this one does, or behind flushed records only.
        let needed = bound.is_none_or(|bound| born.first_seq < bound && bound - 1 > flushed_seq);
        if needed {
            members.push(Member { path: found.path, bytes: found.bytes, salt: found.head.salt, born, bound });
        } else {
            needless.push(found);
        }
        bound = Some(born.first_seq);
    }
    members.reverse();
    Ok((members, needless))
}

/// The log must begin where the tables end, or before. Without a segment in use nothing may have been flushed: the newest
/// one is never given up, and its head is durable before an older one is.
fn begins(members: &[Member], needless: &[Found], flushed_seq: u64) -> Result<(), StorageError> {
    match members.first() {
        Some(first) if first.born.first_seq - 1 > flushed_seq => {
            let expected = format!("record {}, the first that no table holds, or one before", flushed_seq + 1);
            Err(damaged(&first.path, 24, expected, first.born.first_seq.to_string()))
        }
        None if flushed_seq > 0 => {
            let expected = format!("a segment in use, since records up to {flushed_seq} were flushed");
            Err(damaged(DIR, 0, expected, format!("{} files, none in use", needless.len())))
        }
        _ => Ok(()),
    }
}

pub(super) fn damaged(path: &str, offset: usize, expected: String, got: String) -> StorageError {
    StorageError::Damaged { path: path.to_owned(), offset: offset as u64, expected, got }
}
