//! Walking keys in their order, some at a time in a thread that may wait.

use crate::db::asynchronous::{pool, told};
use crate::db::{Error, Range};
use crate::disk::helper::Answer;
use bytes::Bytes;
use futures_core::Stream;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem::replace;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Items that are walked at once: at first, and at most.
const ITEMS: std::ops::RangeInclusive<usize> = 16..=1024;
/// No more are walked when those that are there have so many bytes.
const BYTES: usize = 256 << 10;

type Item = Result<(Bytes, Bytes), Error>;

/// Keys and values of a tree, in order, as they were when it was made; as [`Range`].
///
/// [`AsyncRange::next`] gives them one by one; it is a [`Stream`] too. They are read ahead: 16 at first, then twice as many each time,
/// up to 1,024 or 256 KiB. After an error it ends.
#[derive(Debug)]
pub struct AsyncRange {
    found: VecDeque<Item>,
    /// How many to walk at once.
    items: usize,
    walk: Walk,
}

#[derive(Debug)]
enum Walk {
    Rests(Box<Range>),
    Walks(Answer<Walked>),
    Ended,
}

/// What was walked at once, and the rest unless that was all.
type Walked = (VecDeque<Item>, Option<Box<Range>>);

impl AsyncRange {
    pub(super) fn of(range: Range) -> AsyncRange {
        AsyncRange { found: VecDeque::new(), items: *ITEMS.start(), walk: Walk::Rests(Box::new(range)) }
    }

    /// The same from the last key to the first, to be said before the first step.
    ///
    /// # Panics
    /// When it has begun.
    pub fn backwards(mut self) -> AsyncRange {
        let Walk::Rests(range) = replace(&mut self.walk, Walk::Ended) else { panic!("a walk does not turn around") };
        AsyncRange::of(range.backwards())
    }

    /// The next key with its value; none at the end. A future that is dropped half way loses nothing: the next one goes on with it.
    ///
    /// # Errors
    /// As a step of a [`Range`].
    pub async fn next(&mut self) -> Option<Result<(Bytes, Bytes), Error>> {
        poll_fn(|cx| self.step(cx)).await
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            if let Some(item) = self.found.pop_front() {
                return Poll::Ready(Some(item));
            }
            let answer = match &mut self.walk {
                Walk::Walks(answer) => ready!(Pin::new(answer).poll(cx)),
                Walk::Ended => return Poll::Ready(None),
                Walk::Rests(_) => {
                    self.go_on();
                    continue;
                }
            };
            let (found, rest) = match told(answer.map(Ok)) {
                Ok(walked) => walked,
                Err(error) => (VecDeque::from([Err(error)]), None),
            };
            (self.found, self.walk) = (found, rest.map_or(Walk::Ended, Walk::Rests));
        }
    }

    /// Has the next items walked.
    fn go_on(&mut self) {
        if let Walk::Rests(range) = replace(&mut self.walk, Walk::Ended) {
            let items = self.items;
            self.items = (items * 2).min(*ITEMS.end());
            self.walk = Walk::Walks(pool::run(move || walked(range, items)));
        }
    }
}

fn walked(mut range: Box<Range>, items: usize) -> Walked {
    let (mut found, mut bytes) = (VecDeque::new(), 0);
    while found.len() < items && bytes < BYTES {
        let Some(item) = range.next() else { return (found, None) };
        bytes += item.as_ref().map_or(0, |(key, value)| key.len() + value.len());
        found.push_back(item);
    }
    (found, Some(range))
}

impl Stream for AsyncRange {
    type Item = Result<(Bytes, Bytes), Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.step(cx)
    }
}
