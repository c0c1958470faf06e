//! What callers do, and the history of it.

use crate::client::{Client, name_of, value};
use crate::cluster::KEYSPACE;
use crate::dice::Dice;
use crate::exec::Executor;
use crate::watch::Watch;
use bytes::Bytes;
use lincheck::{Kind, Op, Outcome};
use ringkv_session::{Ask, Completion, Error, ReadLevel, Value, Written};
use ringkv_wire::ring::topology::ClusterMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// All that clients asked and were told.
pub struct History {
    exec: Executor,
    map: Arc<ClusterMap>,
    watch: Rc<Watch>,
    ops: RefCell<Vec<Op>>,
    last: Cell<u64>,
    names: Cell<u64>,
}

impl History {
    /// Nothing yet.
    pub fn new(exec: Executor, map: Arc<ClusterMap>, watch: Rc<Watch>) -> History {
        let (ops, last, names) = (RefCell::default(), Cell::new(0), Cell::new(0));
        History { exec, map, watch, ops, last, names }
    }

    /// Virtual time, ns, made strictly growing: what happens later in one instant is later.
    fn stamp(&self) -> u64 {
        self.last.set(self.exec.now_ns().max(self.last.get() + 1));
        self.last.get()
    }

    /// A name that no value has had.
    fn name(&self, client: u64) -> String {
        self.names.set(self.names.get() + 1);
        format!("c{client}.{}", self.names.get())
    }

    /// An operation begins; until it ends its outcome is unknown.
    fn begin(&self, client: u64, key: &str, kind: Kind, value: Option<String>) -> usize {
        let shard = self.map.shard_of(KEYSPACE, key.as_bytes()).map(|s| u64::from(s.id.0));
        let (key, call) = (key.to_owned(), self.stamp());
        let outcome = Outcome::Unknown;
        let op = Op { client, key, kind, value, call, ret: None, outcome, version: None, shard };
        self.ops.borrow_mut().push(op);
        self.ops.borrow().len() - 1
    }

    fn end(&self, at: usize, outcome: Outcome, version: Option<u64>) {
        let ret = self.stamp();
        let mut ops = self.ops.borrow_mut();
        let op = &mut ops[at];
        (op.outcome, op.version, op.ret) = (outcome, version, Some(ret));
        self.exec.note(ret ^ version.unwrap_or(0));
    }

    fn written(&self, at: usize, result: Result<Written, Error>) -> bool {
        match result {
            Ok(written) => self.end(at, Outcome::Ok, Some(written.version)),
            Err(error) => match error.outcome() {
                ringkv_session::Outcome::Applied => self.end(at, Outcome::Ok, None),
                ringkv_session::Outcome::NotApplied => self.end(at, Outcome::Failed, None),
                ringkv_session::Outcome::Unknown => return false,
            },
        }
        self.ops.borrow()[at].outcome == Outcome::Ok
    }

    fn got(&self, at: usize, result: Result<Option<Value>, Error>) -> bool {
        let Ok(found) = result else {
            self.end(at, Outcome::Failed, None);
            return false;
        };
        let version = found.as_ref().map(|value| value.version);
        let name = found.as_ref().map(|value| name_of(&value.value));
        if let Some(None) = name {
            let key = self.ops.borrow()[at].key.clone();
            self.watch.wrong(format!("the value of {key} that was read was never written"));
        }
        self.ops.borrow_mut()[at].value = name.map(|name| name.unwrap_or_else(|| "?".to_owned()));
        self.end(at, Outcome::Ok, version);
        true
    }

    /// The operations so far.
    pub fn take(&self) -> Vec<Op> {
        std::mem::take(&mut self.ops.borrow_mut())
    }
}

/// Calls through one client, recorded.
#[derive(Clone)]
pub struct Caller {
    /// The client.
    pub client: Client,
    /// Its number in the history.
    pub number: u64,
    /// Where it is recorded.
    pub history: Rc<History>,
}

impl Caller {
    /// Puts a fresh value of so many bytes beside its name. Whether it was acknowledged.
    pub async fn put(&self, key: &str, bytes: usize, timeout_ms: u64) -> bool {
        let name = self.history.name(self.number);
        let value = value(&name, bytes);
        let at = self.history.begin(self.number, key, Kind::Put, Some(name));
        let ask = Ask::Put { keyspace: KEYSPACE, key: Bytes::copy_from_slice(key.as_bytes()), value };
        let Completion::Written(result) = self.client.call(ask, timeout_ms, None).await else {
            unreachable!("a put is answered as a put")
        };
        self.history.written(at, result)
    }

    /// Removes a key. Whether it was acknowledged.
    pub async fn delete(&self, key: &str, timeout_ms: u64) -> bool {
        let at = self.history.begin(self.number, key, Kind::Delete, None);
        let ask = Ask::Delete { keyspace: KEYSPACE, key: Bytes::copy_from_slice(key.as_bytes()) };
        let Completion::Written(result) = self.client.call(ask, timeout_ms, None).await else {
            unreachable!("a delete is answered as a write")
        };
        self.history.written(at, result)
    }

    /// Reads a key. Whether it was answered.
    pub async fn get(&self, key: &str, timeout_ms: u64, level: ReadLevel) -> bool {
        let at = self.history.begin(self.number, key, Kind::Get, None);
        let ask = Ask::Get { keyspace: KEYSPACE, key: Bytes::copy_from_slice(key.as_bytes()) };
        let Completion::Got(result) = self.client.call(ask, timeout_ms, Some(level)).await else {
            unreachable!("a get is answered as a get")
        };
        self.history.got(at, result)
    }

    /// Puts fresh values under distinct keys.
    pub async fn put_many(&self, keys: &[String], timeout_ms: u64) {
        let (mut pairs, mut at) = (Vec::new(), Vec::new());
        for key in keys {
            let name = self.history.name(self.number);
            pairs.push((Bytes::copy_from_slice(key.as_bytes()), value(&name, 10)));
            at.push(self.history.begin(self.number, key, Kind::Put, Some(name)));
        }
        let ask = Ask::PutMany { keyspace: KEYSPACE, pairs };
        let Completion::WrittenMany(results) = self.client.call(ask, timeout_ms, None).await else {
            unreachable!("a put of many is answered as such")
        };
        for (at, result) in at.into_iter().zip(results) {
            self.history.written(at, result);
        }
    }

    /// Reads distinct keys.
    pub async fn get_many(&self, keys: &[String], timeout_ms: u64) {
        let at: Vec<usize> = keys.iter().map(|key| self.history.begin(self.number, key, Kind::Get, None)).collect();
        let keys = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
        let ask = Ask::GetMany { keyspace: KEYSPACE, keys };
        let Completion::GotMany(results) = self.client.call(ask, timeout_ms, None).await else {
            unreachable!("a get of many is answered as such")
        };
        for (at, result) in at.into_iter().zip(results) {
            self.history.got(at, result);
        }
    }

    /// Calls at random until `until_ns`.
    pub async fn load(self, dice: Dice, keys: u64, think_ns: u64, until_ns: u64) {
        let exec = self.client.host().exec().clone();
        while exec.now_ns() < until_ns {
            exec.sleep(dice.between(0, think_ns)).await;
            let key = format!("k{}", dice.below(keys));
            let timeout_ms = *dice.pick(&[200, 2_000, 2_000, 10_000]);
            match dice.below(20) {
                0..=7 => drop(self.put(&key, size(&dice), timeout_ms).await),
                8..=9 => drop(self.delete(&key, timeout_ms).await),
                10..=15 => drop(self.get(&key, timeout_ms, ReadLevel::Linearizable).await),
                16..=17 => drop(self.get(&key, timeout_ms, ReadLevel::ReadIndex).await),
                18 => self.put_many(&several(&dice, keys), timeout_ms).await,
                _ => self.get_many(&several(&dice, keys), timeout_ms).await,
            }
        }
    }
}

fn size(dice: &Dice) -> usize {
    let most = *dice.pick(&[16, 16, 16, 16, 100, 100, 2_000, 20_000]);
    let most = if dice.chance(1, 400) { 600_000 } else { most };
    dice.between(0, most) as usize
}

fn several(dice: &Dice, keys: u64) -> Vec<String> {
    let first = dice.below(keys);
    (0..dice.between(1, 5).min(keys)).map(|n| format!("k{}", (first + n) % keys)).collect()
}
