//! The commands of a batch that can travel together: those that name different keys, or only read the same one.
//!
//! A command whose key an earlier one writes, or that writes a key an earlier one reads, waits for the next wave. So what
//! a client asks about one key takes effect in the order it asked; between keys there is no order. Sets of one key in a
//! row are one write, of the last value: nobody could see the others in between.

use super::op::Op;
use crate::resp::{Version, write};
use bytes::Bytes;
use futures_util::future::join_all;
use ringkv::{Advice, Client, Error, Outcome, Value, Written};
use std::collections::HashMap;

/// Keys in one call to the client.
const CALL_KEYS: usize = 1024;
/// Said of values that are too much for one answer.
const TOO_LONG: &str = "ERR the answers are longer together than this proxy takes";

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Read,
    Set,
    Remove,
}

/// Keys of commands that travel together, each once.
#[derive(Debug, Default)]
pub struct Wave {
    /// Of each key: its use, and its place in the list of that use.
    uses: HashMap<Bytes, (Use, usize)>,
    reads: Vec<Bytes>,
    sets: Vec<(Bytes, Bytes)>,
    removes: Vec<Bytes>,
}

/// The first wave of `ops`, and how many of them it takes: at least one.
pub fn next(ops: &[Op]) -> (Wave, usize) {
    let mut wave = Wave::default();
    let mut taken = 0;
    while let Some(op) = ops.get(taken).filter(|op| taken == 0 || wave.admits(op)) {
        wave.add(op);
        taken += 1;
    }
    (wave, taken)
}

impl Wave {
    fn admits(&self, op: &Op) -> bool {
        let unused_or = |key: &Bytes, wanted: Use| self.uses.get(key).is_none_or(|(used, _)| *used == wanted);
        match op {
            Op::Get(key) | Op::Strlen(key) => unused_or(key, Use::Read),
            Op::Mget(keys) | Op::Exists(keys) => keys.iter().all(|key| unused_or(key, Use::Read)),
            Op::Set(pairs) => pairs.iter().all(|(key, _)| unused_or(key, Use::Set)),
            // The second of two removes finds nothing.
            Op::Remove(keys) => keys.iter().all(|key| !self.uses.contains_key(key)),
        }
    }

    fn add(&mut self, op: &Op) {
        match op {
            Op::Get(key) | Op::Strlen(key) => self.read(key),
            Op::Mget(keys) | Op::Exists(keys) => keys.iter().for_each(|key| self.read(key)),
            Op::Set(pairs) => pairs.iter().for_each(|(key, value)| self.set(key, value)),
            Op::Remove(keys) => keys.iter().for_each(|key| self.remove(key)),
        }
    }

    /// Named twice in one command, a key keeps the place of the first.
    fn remove(&mut self, key: &Bytes) {
        if !self.uses.contains_key(key) {
            self.uses.insert(key.clone(), (Use::Remove, self.removes.len()));
            self.removes.push(key.clone());
        }
    }

    fn read(&mut self, key: &Bytes) {
        if !self.uses.contains_key(key) {
            self.uses.insert(key.clone(), (Use::Read, self.reads.len()));
            self.reads.push(key.clone());
        }
    }

    fn set(&mut self, key: &Bytes, value: &Bytes) {
        match self.uses.get(key) {
            Some((_, at)) => self.sets.get_mut(*at).into_iter().for_each(|(_, last)| *last = value.clone()),
            None => {
                self.uses.insert(key.clone(), (Use::Set, self.sets.len()));
                self.sets.push((key.clone(), value.clone()));
            }
        }
    }

    /// Carries everything out. Values of more than `answer_bytes` together are not all fetched.
    pub async fn run(self, client: &Client, answer_bytes: usize) -> Done {
        let (found, written, removed) = tokio::join!(
            fetch(client, self.reads, answer_bytes),
            put(client, self.sets),
            remove(client, self.removes, answer_bytes)
        );
        Done { uses: self.uses, found, written, removed, answer_bytes }
    }
}

/// What a key's value was found to be.
#[derive(Debug)]
enum Found {
    Got(Result<Option<Value>, Error>),
    /// It was not asked for: what was found already is too much.
    TooMuch,
}

async fn fetch(client: &Client, keys: Vec<Bytes>, answer_bytes: usize) -> Vec<Found> {
    let (mut found, mut bytes, mut keys) = (Vec::with_capacity(keys.len()), 0, &keys[..]);
    while !keys.is_empty() {
        let (now, rest) = keys.split_at(keys.len().min(CALL_KEYS));
        if bytes > answer_bytes {
            found.extend(now.iter().map(|_| Found::TooMuch));
        } else {
            let values = client.get_many(now).await;
            bytes += values
                .iter()
                .map(|value| value.as_ref().ok().and_then(Option::as_ref).map_or(0, |v| v.len()))
                .sum::<usize>();
            found.extend(values.into_iter().map(Found::Got));
        }
        keys = rest;
    }
    found
}

async fn put(client: &Client, mut pairs: Vec<(Bytes, Bytes)>) -> Vec<Result<Written, Error>> {
    let mut written = Vec::with_capacity(pairs.len());
    while !pairs.is_empty() {
        let rest = pairs.split_off(pairs.len().min(CALL_KEYS));
        written.extend(client.put_many(pairs).await);
        pairs = rest;
    }
    written
}

/// Looks which keys are there, and removes those. Two clients that remove the same key at the same time may both be told
/// that it was there.
async fn remove(client: &Client, keys: Vec<Bytes>, answer_bytes: usize) -> Vec<Result<bool, Error>> {
    let found = fetch(client, keys.clone(), answer_bytes).await;
    let one = |(key, found): (Bytes, Found)| async move {
        match found {
            Found::Got(Ok(None)) => Ok(false),
            Found::Got(Err(error)) => Err(error),
            Found::Got(Ok(Some(_))) | Found::TooMuch => client.delete(key).await.map(|_| true),
        }
    };
    let mut removed = Vec::with_capacity(found.len());
    let mut left = keys.into_iter().zip(found);
    loop {
        let some = join_all(left.by_ref().take(CALL_KEYS).map(one)).await;
        if some.is_empty() {
            return removed;
        }
        removed.extend(some);
    }
}

/// What came of a wave.
#[derive(Debug)]
pub struct Done {
    uses: HashMap<Bytes, (Use, usize)>,
    found: Vec<Found>,
    written: Vec<Result<Written, Error>>,
    removed: Vec<Result<bool, Error>>,
    /// Bytes that one answer may have: a key that is named often is found once, and told often.
    answer_bytes: usize,
}

impl Done {
    /// Appends the answer to one of the wave's commands.
    pub fn answer(&self, op: &Op, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        if let Err(text) = self.try_answer(op, version, out) {
            out.truncate(start);
            write::error(out, &text);
        }
    }

    fn try_answer(&self, op: &Op, version: Version, out: &mut Vec<u8>) -> Result<(), String> {
        match op {
            Op::Get(key) => self.tell(std::slice::from_ref(key), version, out)?,
            Op::Strlen(key) => write::integer(out, self.found(key)?.map_or(0, |value| value.len() as i64)),
            Op::Mget(keys) => {
                write::array(out, keys.len());
                self.tell(keys, version, out)?;
            }
            Op::Exists(keys) => {
                let mut there = 0;
                for key in keys {
                    there += i64::from(self.found(key)?.is_some());
                }
                write::integer(out, there);
            }
            Op::Set(pairs) => {
                let of = |key: &Bytes| self.written.get(self.place(key)?);
                failure(pairs.len(), pairs.iter().filter_map(|(key, _)| of(key)?.as_ref().err()))?;
                write::simple(out, "OK");
            }
            Op::Remove(keys) => {
                let mut places: Vec<usize> = keys.iter().filter_map(|key| self.place(key)).collect();
                places.sort_unstable();
                places.dedup();
                let results: Vec<_> = places.iter().filter_map(|at| self.removed.get(*at)).collect();
                failure(results.len(), results.iter().filter_map(|result| result.as_ref().err()))?;
                // An error that is left is of a remove that was applied.
                let there = results.iter().filter(|result| !matches!(result, Ok(false))).count();
                write::integer(out, there as i64);
            }
        }
        Ok(())
    }

    fn tell(&self, keys: &[Bytes], version: Version, out: &mut Vec<u8>) -> Result<(), String> {
        let mut bytes = 0;
        for key in keys {
            let found = self.found(key)?;
            bytes += found.map_or(0, |value| value.len());
            if bytes > self.answer_bytes {
                return Err(TOO_LONG.into());
            }
            match found {
                Some(found) => write::bulk(out, found),
                None => write::null(out, version),
            }
        }
        Ok(())
    }

    fn place(&self, key: &Bytes) -> Option<usize> {
        self.uses.get(key).map(|(_, at)| *at)
    }

    fn found(&self, key: &Bytes) -> Result<Option<&Value>, String> {
        match self.place(key).and_then(|at| self.found.get(at)) {
            Some(Found::Got(Ok(found))) => Ok(found.as_ref()),
            Some(Found::Got(Err(error))) => Err(classified(error)),
            Some(Found::TooMuch) | None => Err(TOO_LONG.into()),
        }
    }
}

/// The error of a write of `keys` keys of which some failed, when it is one.
fn failure<'e>(keys: usize, errors: impl Iterator<Item = &'e Error>) -> Result<(), String> {
    let errors: Vec<&Error> = errors.filter(|error| error.outcome() != Outcome::Applied).collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let unknown = errors.iter().find(|error| error.outcome() == Outcome::Unknown);
    if errors.len() == keys && unknown.is_none() {
        return Err(classified(first));
    }
    if keys == 1 {
        return Err(classified(unknown.unwrap_or(first)));
    }
    let done = keys - errors.len();
    let may = if unknown.is_some() { ", others may have been" } else { "" };
    Err(format!("UNKNOWN {done} of {keys} keys were written{may}: {}", unknown.unwrap_or(first)))
}

/// The error, with what became of the command in front.
fn classified(error: &Error) -> String {
    match (error.advice(), error.outcome()) {
        (Advice::Fix, _) => format!("ERR {error}"),
        (_, Outcome::NotApplied) => format!("NOTAPPLIED {error}"),
        (_, Outcome::Applied | Outcome::Unknown) => format!("UNKNOWN {error}"),
    }
}

#[cfg(test)]
mod tests;
