//! One caller: takes a call, makes it, judges what comes back.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::feed::Slot;
use super::shift::Shift;
use crate::history::Asked;
use crate::store::{Failure, Found, Target};
use crate::workload::Act;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    /// Number of the caller.
    pub number: u64,
    /// Number of the client through which it calls.
    pub client: u64,
}

struct Caller<T> {
    shift: Rc<Shift>,
    target: T,
    who: Who,
    /// The keys of the present call.
    numbers: Vec<u64>,
    /// Values written under a history.
    writes: u64,
}

/// Makes calls until there are none left.
pub async fn run<T: Target>(shift: Rc<Shift>, target: T, who: Who) {
    let rest = shift.workload.rest;
    let mut caller = Caller { shift: shift.clone(), target, who, numbers: Vec::new(), writes: 0 };
    let mut now = Instant::now();
    while let Some(slot) = shift.feed.next(now).await {
        let act = shift.act();
        caller.choose(act, slot);
        now = Instant::now();
        let meant = slot.meant.unwrap_or(now);
        if slot.meant.is_some() {
            shift.made(meant, now);
        }
        let until = match act {
            Act::Get => caller.get(now).await,
            Act::Put | Act::Insert => caller.put(now).await,
            Act::Delete => caller.delete(now).await,
            Act::Change => {
                let read = caller.get(now).await;
                caller.put(read).await
            }
        };
        if act == Act::Insert {
            let mut keys = shift.keys.borrow_mut();
            caller.numbers.iter().for_each(|number| keys.inserted(*number));
        }
        shift.answered(caller.numbers.len() as u64, until.saturating_duration_since(meant));
        now = until;
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
            now = Instant::now();
        }
    }
}

impl<T: Target> Caller<T> {
    /// Chooses the keys of a call. Of a key written twice in one call either value may last, which no history can tell:
    /// there each stands once.
    fn choose(&mut self, act: Act, slot: Slot) {
        let all = self.shift.workload.keys;
        let mut keys = self.shift.keys.borrow_mut();
        self.numbers.clear();
        match act {
            _ if self.shift.kind.takes_each_once() => {
                self.numbers.extend((slot.first..slot.first + slot.count).map(|place| place % all));
            }
            Act::Insert => self.numbers.extend((0..slot.count).map(|_| keys.insert())),
            Act::Delete => self.numbers.push(keys.choose()),
            Act::Get | Act::Put | Act::Change => self.numbers.extend((0..slot.count).map(|_| keys.choose())),
        }
        if act != Act::Get && self.shift.notes.borrow().is_some() {
            self.numbers.sort_unstable();
            self.numbers.dedup();
        }
    }

    fn name(&self, number: u64) -> Bytes {
        self.shift.names.borrow_mut().name(number)
    }

    fn names(&self) -> Vec<Bytes> {
        let mut names = self.shift.names.borrow_mut();
        self.numbers.iter().map(|number| names.name(*number)).collect()
    }

    fn pairs(&self) -> Vec<(Bytes, Bytes)> {
        let mut names = self.shift.names.borrow_mut();
        self.numbers.iter().map(|number| (names.name(*number), self.shift.values.of(*number))).collect()
    }

    /// Reads; gives when the answer was there.
    async fn get(&mut self, from: Instant) -> Instant {
        if let [number] = self.numbers[..] {
            let answer = self.target.get(self.name(number)).await;
            let until = Instant::now();
            self.got(number, self.asked(from, until), &answer);
            return until;
        }
        let keys = self.names();
        let answers = self.target.get_many(keys).await;
        let until = Instant::now();
        let mut answered = 0;
        for (number, answer) in self.numbers.iter().zip(answers) {
            self.got(*number, self.asked(from, until), &answer);
            answered += 1;
        }
        self.count_unanswered(answered);
        until
    }

    /// Writes; gives when the answer was there.
    async fn put(&mut self, from: Instant) -> Instant {
        if self.shift.notes.borrow().is_some() {
            return self.put_noted(from).await;
        }
        if let [number] = self.numbers[..] {
            let answer = self.target.put(self.name(number), self.shift.values.of(number)).await;
            let until = Instant::now();
            self.count_failed(&answer);
            return until;
        }
        let pairs = self.pairs();
        let answers = self.target.put_many(pairs).await;
        let until = Instant::now();
        let mut answered = 0;
        for answer in answers.take(self.numbers.len()) {
            self.count_failed(&answer);
            answered += 1;
        }
        self.count_unanswered(answered);
        until
    }

    /// The same under a history, where each write has a value of its own.
    async fn put_noted(&mut self, from: Instant) -> Instant {
        let mut pairs = Vec::new();
        for number in &self.numbers {
            self.writes += 1;
            let phase = self.shift.kind.name().chars().next().unwrap_or('?');
            let name = self.name(*number);
            let tag = format!("{}{phase}{}.{}", self.who.number, self.shift.serial, self.writes);
            let value = self.shift.values.tagged(&tag, &name);
            pairs.push((name, value));
        }
        let answers: Vec<_> = match pairs.as_slice() {
            [(key, value)] => vec![self.target.put(key.clone(), value.clone()).await],
            _ => self.target.put_many(pairs.clone()).await.collect(),
        };
        let until = Instant::now();
        self.count_unanswered(answers.len());
        let asked = self.asked(from, until);
        for ((key, value), answer) in pairs.iter().zip(&answers) {
            self.count_failed(answer);
            if let Some(notes) = self.shift.notes.borrow_mut().as_mut() {
                notes.wrote(key, value, asked, answer);
            }
        }
        until
    }

    /// Removes the one key of the call; gives when the answer was there.
    async fn delete(&mut self, from: Instant) -> Instant {
        let Some(number) = self.numbers.first().copied() else { return from };
        let name = self.name(number);
        let answer = self.target.delete(name.clone()).await;
        let until = Instant::now();
        self.count_failed(&answer);
        if let Some(notes) = self.shift.notes.borrow_mut().as_mut() {
            notes.deleted(&name, self.asked(from, until), &answer);
        }
        until
    }

    fn asked(&self, from: Instant, until: Instant) -> Asked {
        Asked { client: self.who.client, from, until }
    }

    fn count_failed(&self, answer: &Result<u64, Failure>) {
        if let Err(failure) = answer {
            self.shift.tally.borrow_mut().errors.count(*failure);
        }
    }

    fn count_unanswered(&self, answered: usize) {
        let unanswered = self.numbers.len().saturating_sub(answered) as u64;
        self.shift.tally.borrow_mut().errors.unanswered += unanswered;
    }

    /// Judges what was read: a value tells whose it is.
    fn got(&self, number: u64, asked: Asked, answer: &Result<Option<Found>, Failure>) {
        match answer {
            Ok(Some(found)) => {
                let belongs = self.shift.values.belongs(&found.bytes, number, || self.name(number));
                if !belongs {
                    self.shift.tally.borrow_mut().errors.wrong += 1;
                }
            }
            Ok(None) if self.shift.absent_is_fine => {}
            Ok(None) => self.shift.tally.borrow_mut().errors.absent += 1,
            Err(failure) => self.shift.tally.borrow_mut().errors.count(*failure),
        }
        if let Some(notes) = self.shift.notes.borrow_mut().as_mut() {
            notes.got(&self.name(number), asked, answer);
        }
    }
}
