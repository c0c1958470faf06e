//! A ringkv cluster behind the proxy: what comes in one piece of a pipeline travels as one batch.

mod op;
mod wave;

use crate::budget::{Budget, Holding, TOO_MUCH_HELD};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Place};
use crate::resp::replies::Reply;
use crate::resp::requests::Command;
use crate::resp::{Version, write};
use crate::ring::printable;
use op::Op;
use ringkv::Client;
use std::rc::Rc;
use tokio::task::spawn_local;

/// The cluster.
pub struct Cluster {
    client: Client,
    /// Bytes that one answer may have.
    answer_bytes: usize,
    metrics: Rc<Metrics>,
}

impl Cluster {
    /// Through this client. An answer of more than `answer_bytes` becomes an error.
    pub fn new(client: Client, answer_bytes: usize, metrics: Rc<Metrics>) -> Rc<Cluster> {
        Rc::new(Cluster { client, answer_bytes, metrics })
    }

    /// An empty batch, to be answered in this version. What is in it is held in `budget` until then.
    pub fn batch(self: &Rc<Cluster>, version: Version, budget: &Rc<Budget>) -> Batch {
        Batch { cluster: self.clone(), ops: Vec::new(), version, held: budget.holding() }
    }
}

/// Commands of one client that came together.
pub struct Batch {
    cluster: Rc<Cluster>,
    ops: Vec<(Place, Op)>,
    version: Version,
    held: Holding,
}

impl Batch {
    /// Takes a command, or refuses it.
    pub fn take(&mut self, command: &Command<'_>, outbox: &Rc<Outbox>) {
        match op::parse(command) {
            Some(Ok(_)) if !self.held.more(command.raw.len()) => outbox.say(TOO_MUCH_HELD),
            Some(Ok(op)) => self.ops.push((outbox.wait(), op)),
            Some(Err(text)) => outbox.say(&write::error_reply(&text)),
            None => {
                outbox.say(&write::error_reply(&format!("ERR unknown command '{}'", printable(command.name()))));
            }
        }
    }

    /// Sends what was taken; the answers go to the places of the commands.
    pub fn send(self, outbox: &Rc<Outbox>) {
        if self.ops.is_empty() {
            return;
        }
        self.cluster.metrics.batches.inc();
        spawn_local(self.run(outbox.clone()));
    }

    async fn run(self, outbox: Rc<Outbox>) {
        let (places, ops): (Vec<Place>, Vec<Op>) = self.ops.into_iter().unzip();
        let (mut places, mut ops) = (places.into_iter(), &ops[..]);
        let mut out = Vec::new();
        while !ops.is_empty() {
            let (wave, now) = wave::next(ops);
            let done = wave.run(&self.cluster.client, self.cluster.answer_bytes).await;
            let (these, rest) = ops.split_at(now);
            for (op, place) in these.iter().zip(places.by_ref()) {
                out.clear();
                done.answer(op, self.version, &mut out);
                outbox.answer(place, Reply::Whole(&out));
            }
            ops = rest;
        }
    }
}
