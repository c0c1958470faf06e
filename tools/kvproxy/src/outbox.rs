//! The answers of one client, in the order of its commands, whatever the order in which they come.

use crate::budget::Budget;
use crate::metrics::Metrics;
use crate::resp::replies::Reply;
use crate::ring::gather::Gather;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::Notify;

/// What a command waits for.
#[derive(Debug)]
enum Slot {
    /// One answer.
    Waiting,
    /// Nothing more: an earlier command is not answered yet.
    Ready(Bytes),
    /// The answers of several servers.
    Gather(Box<Gather>),
}

/// A command's place in the order of its client's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    number: u64,
    /// Which part of the answer, where it has several.
    part: u32,
}

impl Place {
    /// Part `part` of the same command.
    pub fn part(self, part: u32) -> Place {
        Place { part, ..self }
    }
}

/// The answers of one client.
#[derive(Debug)]
pub struct Outbox {
    inner: RefCell<Inner>,
    /// Told when there is something to write, or the client is lost.
    pub wake: Notify,
    metrics: Rc<Metrics>,
}

#[derive(Debug)]
struct Inner {
    /// Number of the command of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Answers in order, to be written.
    out: Vec<u8>,
    /// Bytes of answers that are not in order yet, or not whole.
    early: usize,
    /// Bytes that were taken to be written.
    leaving: usize,
    most: usize,
    budget: Rc<Budget>,
    /// What `budget` was told.
    counted: usize,
    /// Too much waits for this client, or the client is gone.
    lost: bool,
}

impl Outbox {
    /// For a client that may have `most` bytes of answers waiting.
    pub fn new(most: usize, budget: Rc<Budget>, metrics: Rc<Metrics>) -> Rc<Outbox> {
        let inner = Inner {
            first: 0,
            slots: VecDeque::new(),
            out: Vec::new(),
            early: 0,
            leaving: 0,
            most,
            budget,
            counted: 0,
            lost: false,
        };
        Rc::new(Outbox { inner: RefCell::new(inner), wake: Notify::new(), metrics })
    }

    /// A place for the answer of the next command.
    pub fn wait(&self) -> Place {
        self.open(Slot::Waiting)
    }

    /// The same, for an answer in several parts.
    pub fn gather(&self, gather: Gather) -> Place {
        self.open(Slot::Gather(Box::new(gather)))
    }

    fn open(&self, slot: Slot) -> Place {
        let mut inner = self.inner.borrow_mut();
        inner.slots.push_back(slot);
        Place { number: inner.first + inner.slots.len() as u64 - 1, part: 0 }
    }

    /// The next command is answered already.
    pub fn say(&self, answer: &[u8]) {
        let place = self.wait();
        self.answer(place, Reply::Whole(answer));
    }

    /// An answer, or a part of one. It is kept until those before it are there.
    pub fn answer(&self, place: Place, reply: Reply<'_>) {
        let inner = &mut *self.inner.borrow_mut();
        let Some(at) = place.number.checked_sub(inner.first).filter(|_| !inner.lost) else { return };
        let bytes = match reply {
            Reply::Whole(bytes) => bytes,
            Reply::TooLong => b"-ERR the answer is longer than this proxy takes\r\n",
        };
        let Some(slot) = inner.slots.get_mut(at as usize) else { return };
        let whole;
        let bytes = match slot {
            Slot::Ready(_) => return,
            Slot::Waiting => bytes,
            Slot::Gather(gather) => {
                let before = gather.held();
                let done = gather.part(place.part as usize, bytes);
                inner.early = inner.early - before + gather.held();
                let Some(done) = done else {
                    if !inner.count() {
                        self.wake.notify_one();
                    }
                    return;
                };
                whole = done;
                &whole[..]
            }
        };
        self.metrics.answered(bytes);
        if at > 0 {
            *slot = Slot::Ready(Bytes::copy_from_slice(bytes));
            inner.early += bytes.len();
        } else {
            inner.out.extend_from_slice(bytes);
            inner.slots.pop_front();
            inner.first += 1;
            inner.settle();
            self.wake.notify_one();
        }
        if !inner.count() {
            self.wake.notify_one();
        }
    }

    /// Commands that are not answered.
    pub fn pending(&self) -> usize {
        self.inner.borrow().slots.len()
    }

    /// Too much waits: the client must go.
    pub fn is_lost(&self) -> bool {
        self.inner.borrow().lost
    }

    /// The client must go once it has what can be written at once.
    pub fn lose(&self) {
        self.inner.borrow_mut().lost = true;
    }

    /// The bytes to be written, in exchange for an empty buffer. They are held until the next call.
    pub fn take(&self, empty: &mut Vec<u8>) {
        let mut inner = self.inner.borrow_mut();
        std::mem::swap(&mut inner.out, empty);
        inner.leaving = empty.len();
        inner.count();
    }

    /// The client is gone: nothing is kept any more.
    pub fn close(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.lost = true;
        inner.slots.clear();
        inner.out = Vec::new();
        (inner.early, inner.leaving) = (0, 0);
        inner.count();
    }
}

impl Inner {
    /// Moves what is in order now.
    fn settle(&mut self) {
        while let Some(Slot::Ready(bytes)) = self.slots.front() {
            self.out.extend_from_slice(bytes);
            self.early -= bytes.len();
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Tells the budget; false when this client has too much.
    fn count(&mut self) -> bool {
        let now = self.out.len() + self.early + self.leaving;
        let fits = self.budget.change(self.counted, now) && now <= self.most;
        self.counted = now;
        self.lost |= !fits;
        fits
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.change(self.counted, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::gather::Join;

    fn outbox(most: usize, total: usize) -> (Rc<Outbox>, Rc<Budget>) {
        let budget = Budget::new(total);
        (Outbox::new(most, budget.clone(), Rc::default()), budget)
    }

    fn taken(outbox: &Outbox) -> String {
        let mut out = Vec::new();
        outbox.take(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answers_leave_in_the_order_of_their_commands() {
        let (outbox, budget) = outbox(100, 100);
        let places = [outbox.wait(), outbox.wait(), outbox.wait()];
        outbox.answer(places[2], Reply::Whole(b"3"));
        outbox.answer(places[2], Reply::Whole(b"3 again"));
        outbox.answer(places[1], Reply::Whole(b"2"));
        assert_eq!((taken(&outbox).as_str(), budget.held()), ("", 2));
        outbox.answer(places[0], Reply::Whole(b"1"));
        outbox.say(b"4");
        assert_eq!((taken(&outbox).as_str(), outbox.pending()), ("1234", 0));
        outbox.answer(places[1], Reply::Whole(b"again"));
        assert_eq!((taken(&outbox).as_str(), budget.held()), ("", 0));
    }

    #[test]
    fn a_client_that_takes_nothing_is_lost_at_its_limit_and_gives_all_back() {
        let (outbox, budget) = outbox(10, 100);
        outbox.say(&[b'x'; 10]);
        assert!(!outbox.is_lost());
        outbox.say(b"y");
        assert!(outbox.is_lost());
        outbox.close();
        outbox.say(b"z");
        assert_eq!((budget.held(), taken(&outbox).as_str()), (0, ""));
    }

    #[test]
    fn bytes_count_until_they_are_written() {
        let (outbox, budget) = outbox(10, 100);
        outbox.say(&[b'x'; 6]);
        assert_eq!((taken(&outbox).len(), budget.held()), (6, 6));
        outbox.say(&[b'y'; 4]);
        assert!(!outbox.is_lost());
        assert_eq!((taken(&outbox).len(), budget.held()), (4, 4), "the first have left");
        outbox.say(&[b'z'; 7]);
        assert!(outbox.is_lost());
    }

    #[test]
    fn parts_count_before_they_are_a_whole() {
        let (outbox, budget) = outbox(20, 100);
        let gather = || Gather::new(Join::Elements(vec![vec![0], vec![1]]), 2, false);
        let places = [outbox.gather(gather()), outbox.gather(gather())];
        outbox.answer(places[0].part(1), Reply::Whole(b"*1\r\n:2\r\n"));
        assert_eq!((budget.held(), outbox.pending()), (8, 2));
        outbox.answer(places[0].part(0), Reply::Whole(b"*1\r\n:1\r\n"));
        assert_eq!((taken(&outbox).as_str(), taken(&outbox).as_str()), ("*2\r\n:1\r\n:2\r\n", ""));
        assert_eq!((budget.held(), outbox.pending()), (0, 1));
        outbox.answer(places[1].part(0), Reply::Whole(b"*1\r\n$100\r\n..............."));
        assert!(outbox.is_lost(), "more than it may have waits, though nothing is whole");
    }

    #[test]
    fn the_limit_for_all_hits_who_asks_for_more() {
        let budget = Budget::new(15);
        let [one, two] = [0, 1].map(|_| Outbox::new(10, budget.clone(), Rc::default()));
        one.say(&[b'x'; 10]);
        two.say(&[b'x'; 10]);
        assert!(!one.is_lost() && two.is_lost());
        drop((one, two));
        assert_eq!(budget.held(), 0);
    }
}
