//! All that clients asked and were told.

use crate::client::{Client, name_of};
use crate::cluster::KEYSPACE;
use crate::exec::Executor;
use crate::watch::Watch;
use lincheck::{Kind, Op, Outcome};
use ringkv_session::{Error, Value, Written};
use ringkv_wire::ring::topology::ClusterMap;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
    clients: RefCell<Vec<Client>>,
}

impl History {
    /// Nothing yet.
    pub fn new(exec: Executor, map: Arc<ClusterMap>, watch: Rc<Watch>) -> History {
        let (ops, last, names, clients) = Default::default();
        History { exec, map, watch, ops, last, names, clients }
    }

    /// Virtual time, ns, made strictly growing: what happens later in one instant is later.
    fn stamp(&self) -> u64 {
        self.last.set(self.exec.now_ns().max(self.last.get() + 1));
        self.last.get()
    }

    /// A name that no value has had.
    pub(crate) fn name(&self, client: u64) -> String {
        self.names.set(self.names.get() + 1);
        format!("c{client}.{}", self.names.get())
    }

    /// An operation begins; until it ends its outcome is unknown. Its place in the history.
    pub(crate) fn begin(&self, client: u64, key: &str, kind: Kind, value: Option<String>) -> usize {
        let shard = self.map.shard_of(KEYSPACE, key.as_bytes()).map(|s| u64::from(s.id.0));
        let (key, call) = (key.to_owned(), self.stamp());
        let outcome = Outcome::Unknown;
        let op = Op { client, key, kind, value, call, ret: None, outcome, version: None, shard };
        self.ops.borrow_mut().push(op);
        self.ops.borrow().len() - 1
    }

    /// An operation ends.
    pub(crate) fn end(&self, at: usize, outcome: Outcome, version: Option<u64>) {
        let ret = self.stamp();
        let mut ops = self.ops.borrow_mut();
        let op = &mut ops[at];
        (op.outcome, op.version, op.ret) = (outcome, version, Some(ret));
        tracing::info!(target: "kvsim", "{}", crate::report::operation(op));
        self.exec.note(ret ^ version.unwrap_or(0));
    }

    /// A write ends. Whether it was acknowledged.
    pub(crate) fn written(&self, at: usize, result: Result<Written, Error>) -> bool {
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

    /// A read ends. Whether it was answered.
    pub(crate) fn got(&self, at: usize, result: Result<Option<Value>, Error>) -> bool {
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

    /// A client whose calls are recorded here.
    pub(crate) fn met(&self, client: &Client) {
        self.clients.borrow_mut().push(client.clone());
    }

    /// Looks at what waits in the sessions of all clients.
    pub fn glance(&self) {
        for client in self.clients.borrow().iter() {
            let (held, asked) = client.held();
            self.watch.session_glanced(&held, asked, self.map.nodes.iter().map(|node| node.stores.len()).sum());
        }
    }

    /// What all clients together have counted.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for (name, n) in self.clients.borrow().iter().flat_map(|client| client.stats().named()) {
            *all.entry(name).or_default() += n;
        }
        all
    }

    /// The operations so far.
    pub fn take(&self) -> Vec<Op> {
        std::mem::take(&mut self.ops.borrow_mut())
    }
}
