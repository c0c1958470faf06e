//! What answers, and the lack of them, mean for the keys that were asked about.

use super::Session;
use super::requests::{Body, Item, What};
use crate::call::Value;
use crate::calls::Slot;
use crate::conns::ConnKey;
use crate::error::{Cause, Error};
use crate::retry::{Next, backoff_ns, next};
use ringkv_wire::codec::WireError;
use ringkv_wire::frame::{Kind, Message};
use ringkv_wire::ids::{Now, StoreId};
use ringkv_wire::msg::client::{
    ReadResult, ReadResults, StatusHeader, WriteResult, decode_read_reply, decode_write_reply,
};
use ringkv_wire::msg::node;
use ringkv_wire::status::{Outcome, Status};

/// Redirects in a row that are followed without waiting.
const REDIRECTS_MAX: u32 = 4;
/// A key whose block is unreadable is asked for so often.
const UNREADABLE_ATTEMPTS: u16 = 3;
/// New expiries in a row that are tried without waiting.
const EXPIRIES_MAX: u16 = 2;

/// What a reply was, before the shard is told.
struct Heard {
    header: StatusHeader,
    from: Option<StoreId>,
    sent_ns: u64,
}

impl Session {
    /// Takes one message from a store. An error costs the connection.
    pub(super) fn reply(&mut self, now: Now, key: ConnKey, message: Message) -> Result<(), WireError> {
        // An answer to what was given up is no error.
        let Some(request) = self.requests.get(message.id) else {
            self.stats.late_answers += 1;
            return Ok(());
        };
        let wrong = WireError::Value { what: "kind of the reply", got: message.kind as u64 };
        if request.conn != key {
            return Err(wrong);
        }
        let sent_ns = request.sent_ns;
        let from = self.conns.table.get(&key).and_then(|c| c.store);
        match (&request.what, message.kind) {
            (What::Write(_, items), Kind::WriteReply | Kind::Refused) => {
                let (header, results) = decode_write_reply(message.body)?;
                check_count(&header, results.len(), items.len())?;
                self.write_reply(now, message.id, Heard { header, from, sent_ns }, &results);
            }
            (What::Read(_, items), Kind::ReadReply | Kind::Refused) => {
                let (header, results) = decode_read_reply(message.body)?;
                check_count(&header, results.len(), items.len())?;
                self.read_reply(now, message.id, Heard { header, from, sent_ns }, &results);
            }
            (What::Map, Kind::MapReply | Kind::Refused) => {
                self.end_request(message.id);
                let taken = self.map_reply(now, message.body);
                if taken.is_err() {
                    self.map_failed(now);
                }
                // A seed that has no map is no use: make room for the next.
                if self.map.current.is_none() {
                    self.drop_conn(now, key, Cause::Disconnected);
                }
                return taken;
            }
            (What::Status(_, call), Kind::StatusReply | Kind::Refused) => {
                let call = *call;
                let (header, text) = node::decode_status_reply(message.body)?;
                self.end_request(message.id);
                if header.status == Status::Ok {
                    self.settle_text(call, text);
                } else {
                    self.note(call, 0, Cause::Answered(header.status), false);
                    self.calls.refuse(call, 0, Error::Refused);
                }
            }
            _ => return Err(wrong),
        }
        Ok(())
    }

    fn write_reply(&mut self, now: Now, id: u64, heard: Heard, results: &[WriteResult]) {
        let Some(request) = self.end_request(id) else { return };
        let queued_ns = request.queued_ns;
        let What::Write(s, items) = request.what else { return };
        self.account(now, &heard, items.len(), queued_ns);
        self.heed(now, s, &heard);
        let (mut again, mut worst) = (Vec::new(), None);
        for (at, item) in items.into_iter().enumerate() {
            let whole = WriteResult { status: heard.header.status, version: 0 };
            let result = results.get(at).copied().unwrap_or(whole);
            if let Some((item, step)) = self.judge_write(now, s, item, result) {
                worst = worst.max(Some(step));
                again.push(item);
            }
        }
        self.try_again(now, s, again, worst, &heard);
    }

    /// Settles a write, or gives it back with what to do next.
    fn judge_write(&mut self, now: Now, s: usize, mut item: Item, result: WriteResult) -> Option<(Item, Next)> {
        let cause = Cause::Answered(result.status);
        let step = match result.status {
            Status::Ok => {
                self.shards[s].sequences.finish(item.seq());
                self.calls.settle(item.call, item.at, Slot::Written(result.version));
                return None;
            }
            Status::AnswerGone => {
                self.shards[s].sequences.finish(item.seq());
                self.note(item.call, item.at, cause, false);
                if let Some(mut failure) = self.calls.failure(item.call, item.at) {
                    failure.outcome = Outcome::Applied;
                    self.calls.settle(item.call, item.at, Slot::Failed(Error::AnswerGone(failure)));
                }
                return None;
            }
            Status::ExpiryWindow if item.undecided => Next::GiveUp,
            status => next(status),
        };
        item.undecided |= result.status == Status::Unknown;
        self.note(item.call, item.at, cause, item.undecided);
        if step == Next::GiveUp {
            self.shards[s].sequences.finish(item.seq());
            self.calls.refuse(item.call, item.at, Error::Refused);
            return None;
        }
        if let (Next::NewExpiry, Body::Write(op)) = (step, &mut item.body) {
            op.expiry_ms = self.shards[s].clock.expiry_ms(now);
        }
        let step = if step == Next::NewExpiry && item.attempts >= EXPIRIES_MAX { Next::Later } else { step };
        Some((item, step))
    }

    fn read_reply(&mut self, now: Now, id: u64, heard: Heard, results: &ReadResults) {
        let Some(request) = self.end_request(id) else { return };
        let queued_ns = request.queued_ns;
        let What::Read(s, items) = request.what else { return };
        self.account(now, &heard, items.len(), queued_ns);
        self.heed(now, s, &heard);
        let (mut again, mut worst) = (Vec::new(), None);
        let answered = results.ask_again() < results.len();
        let mut results = results.iter();
        for item in items {
            let status = match results.next() {
                Some(ReadResult::Found { value, version }) => {
                    let value = Value { value, version };
                    self.calls.settle(item.call, item.at, Slot::Got(Some(value)));
                    continue;
                }
                Some(ReadResult::Absent) => {
                    self.calls.settle(item.call, item.at, Slot::Got(None));
                    continue;
                }
                Some(ReadResult::AskAgain) if answered => {
                    self.note(item.call, item.at, Cause::NotSent, false);
                    again.push(item);
                    continue;
                }
                Some(ReadResult::AskAgain) => Status::Busy,
                Some(ReadResult::Unreadable) => Status::Unreadable,
                None => heard.header.status,
            };
            self.note(item.call, item.at, Cause::Answered(status), false);
            let hopeless = status == Status::Unreadable && item.attempts + 1 >= UNREADABLE_ATTEMPTS;
            if hopeless || next(status) == Next::GiveUp {
                self.calls.refuse(item.call, item.at, Error::Refused);
                continue;
            }
            worst = worst.max(Some(next(status)));
            again.push(item);
        }
        self.try_again(now, s, again, worst, &heard);
    }

    /// Where the time of a request's keys went, if it was answered.
    fn account(&mut self, now: Now, heard: &Heard, keys: usize, queued_ns: u64) {
        if heard.header.status == Status::Ok {
            let (keys, stages) = (keys as u64, &mut self.stats.stages);
            let away_ns = now.boot_ns.saturating_sub(heard.sent_ns);
            stages.keys += keys;
            stages.queued_ns += queued_ns;
            stages.away_ns += keys * away_ns;
            stages.store_ns += keys * away_ns.min(u64::from(heard.header.store_us) * 1_000);
        }
    }

    /// Notes what the last attempt of a key came to.
    fn note(&mut self, call: crate::call::CallId, at: u32, cause: Cause, undecided: bool) {
        if let Some(progress) = self.calls.progress(call, at) {
            (progress.in_flight, progress.cause) = (false, cause);
            progress.undecided |= undecided;
        }
    }

    /// What any reply says: log time, a newer map, who leads.
    fn heed(&mut self, now: Now, s: usize, heard: &Heard) {
        self.stats.redirects += u64::from(heard.header.status == Status::NotLeader);
        let epoch = self.map.current.as_ref().map_or(0, |m| m.epoch);
        self.map.want(heard.header.epoch > epoch);
        let shard = &mut self.shards[s];
        // Only a leader knows: a follower's log time is that of its last entry, which may be long past.
        if !matches!(heard.header.status, Status::NotLeader | Status::Moved) {
            shard.clock.hear(heard.header.log_time_ms, now);
        }
        if heard.header.status == Status::Ok {
            (shard.failures, shard.redirects) = (0, 0);
            shard.target = heard.from.unwrap_or(shard.target);
        }
    }

    /// Puts keys back, and decides where and when their shard is asked next.
    fn try_again(&mut self, now: Now, s: usize, items: Vec<Item>, worst: Option<Next>, heard: &Heard) {
        if items.is_empty() {
            return;
        }
        self.requeue(s, items);
        let Some(step) = worst.filter(|_| heard.sent_ns >= self.shards[s].changed_ns) else { return };
        let hint = heard.header.leader.filter(|&l| Some(l) != heard.from);
        let hint_down = hint.is_some_and(|l| self.conns.failing(l));
        let shard = &mut self.shards[s];
        shard.changed_ns = now.boot_ns;
        match step {
            Next::Elsewhere => {
                let asked = heard.from.unwrap_or(shard.target);
                shard.target = hint.unwrap_or_else(|| shard.after(asked));
                if hint.is_some() && !hint_down && shard.redirects < REDIRECTS_MAX {
                    shard.redirects += 1;
                    return;
                }
            }
            Next::Remap => self.map.want(true),
            Next::NewExpiry => return,
            Next::Later | Next::GiveUp => {}
        }
        self.wait_a_while(now, s);
    }

    /// The shard is left alone for a moment, longer with each failure, and no sooner than the retry budget allows.
    fn wait_a_while(&mut self, now: Now, s: usize) {
        let shard = &mut self.shards[s];
        shard.failures += 1;
        let wait_ns = backoff_ns(shard.failures, self.chance.next());
        shard.ready_ns = (now.boot_ns + wait_ns).max(self.budget.take(now.boot_ns));
    }

    /// A request came to nothing: no answer will come. Its keys are tried again with the tokens they have.
    pub(super) fn fail(&mut self, now: Now, id: u64, cause: Cause) {
        let Some(request) = self.end_request(id) else { return };
        let (s, mut items) = match request.what {
            What::Write(s, items) | What::Read(s, items) => (s, items),
            What::Map => return self.map_failed(now),
            What::Status(store, call) => {
                self.note(call, 0, cause, false);
                self.asks.push((store, call));
                return;
            }
        };
        self.stats.lost += 1;
        for item in &mut items {
            item.undecided = matches!(item.body, Body::Write(_));
            self.note(item.call, item.at, cause, item.undecided);
        }
        self.requeue(s, items);
        let shard = &mut self.shards[s];
        if request.sent_ns >= shard.changed_ns {
            shard.changed_ns = now.boot_ns;
            shard.target = shard.after(shard.target);
            self.wait_a_while(now, s);
        }
    }
}

fn check_count(header: &StatusHeader, results: usize, items: usize) -> Result<(), WireError> {
    let wanted = if header.status == Status::Ok { items } else { 0 };
    if results == wanted {
        return Ok(());
    }
    Err(WireError::Value { what: "number of results", got: results as u64 })
}
