//! Between callers and the driver: calls on their way in, completions on their way back, in slots that are used again.
//!
//! A call takes no memory of its own: its slot was another's before. The locks are held for a few instructions, never across an
//! await, and on one thread they are never waited for.

use ringkv_session::{Call, CallId, Completion};
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Slots kept for later calls.
const FREE_MAX: usize = 16_384;

/// Where calls go. Clones share it; when the last is dropped the driver ends.
#[derive(Clone, Debug)]
pub(crate) struct Calls(Arc<Entrance>);

#[derive(Debug)]
struct Entrance(Arc<Desk>);

impl Drop for Entrance {
    fn drop(&mut self) {
        let mut inbox = lock(&self.0.inbox);
        inbox.left = true;
        let driver = inbox.driver.take();
        drop(inbox);
        driver.into_iter().for_each(Waker::wake);
    }
}

#[derive(Debug)]
struct Desk {
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    calls: Vec<(Call, Arc<Slot>)>,
    free: Vec<Arc<Slot>>,
    /// The driver, waiting for calls.
    driver: Option<Waker>,
    /// No caller is left.
    left: bool,
    /// No driver is left.
    closed: bool,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("calls", &self.calls.len()).field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// A call's place. Two hold it: who waits, and the driver.
struct Slot(Mutex<State>);

enum State {
    Waiting(Option<Waker>),
    Done(Completion),
    /// The driver is gone.
    Lost,
    /// Who waited is gone.
    Abandoned,
}

/// Locks; what a panic left behind is as whole as anything else here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// Sets the state and wakes who waits. Nothing happens when nobody does.
    fn settle(&self, state: State) {
        let mut now = lock(&self.0);
        let State::Waiting(waker) = &mut *now else { return };
        let waker = waker.take();
        *now = state;
        drop(now);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Calls {
    /// Gives a call to the driver; what comes of it, or `None` when the driver is gone.
    pub fn submit(&self, call: Call) -> Answer<'_> {
        let desk = &*self.0.0;
        let mut inbox = lock(&desk.inbox);
        let slot = inbox.free.pop().unwrap_or_else(|| Arc::new(Slot(Mutex::new(State::Waiting(None)))));
        if inbox.closed {
            slot.settle(State::Lost);
        } else {
            inbox.calls.push((call, slot.clone()));
        }
        let driver = inbox.driver.take();
        drop(inbox);
        driver.into_iter().for_each(Waker::wake);
        Answer { desk, slot: Some(slot) }
    }
}

/// What comes of a call. Dropping it abandons the call.
#[must_use = "a call is waited for by polling it"]
pub(crate) struct Answer<'a> {
    desk: &'a Desk,
    slot: Option<Arc<Slot>>,
}

impl Future for Answer<'_> {
    type Output = Option<Completion>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Completion>> {
        let Some(slot) = &self.slot else { return Poll::Ready(None) };
        let mut state = lock(&slot.0);
        if let State::Waiting(waker) = &mut *state {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let done = mem::replace(&mut *state, State::Waiting(None));
        drop(state);
        if let (State::Done(completion), Some(slot)) = (done, self.slot.take()) {
            let mut inbox = lock(&self.desk.inbox);
            if inbox.free.len() < FREE_MAX {
                inbox.free.push(slot);
            }
            return Poll::Ready(Some(completion));
        }
        Poll::Ready(None)
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            *lock(&slot.0) = State::Abandoned;
        }
    }
}

/// The driver's side. Dropping it tells everyone who waits.
pub(crate) struct Seat {
    desk: Arc<Desk>,
    /// Who waits for which call. The session names calls by a slot that it uses again and how often it did: the slot is the
    /// place here too.
    waiting: Vec<Option<(CallId, Arc<Slot>)>>,
}

/// Both sides.
pub(crate) fn open() -> (Calls, Seat) {
    let desk = Arc::new(Desk { inbox: Mutex::default() });
    (Calls(Arc::new(Entrance(desk.clone()))), Seat { desk, waiting: Vec::new() })
}

/// A call that the driver has taken, and has yet to name.
pub(crate) struct Taken(Arc<Slot>);

impl Seat {
    /// Waits for calls; false when there are none and no caller is left. What came is in `calls`.
    pub async fn take(&self, calls: &mut Vec<(Call, Taken)>) -> bool {
        poll_fn(|cx| {
            let mut inbox = lock(&self.desk.inbox);
            if !inbox.calls.is_empty() {
                calls.extend(inbox.calls.drain(..).map(|(call, slot)| (call, Taken(slot))));
                return Poll::Ready(true);
            }
            if inbox.left {
                return Poll::Ready(false);
            }
            inbox.driver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// What is there already.
    pub fn take_more(&self, calls: &mut Vec<(Call, Taken)>) {
        calls.extend(lock(&self.desk.inbox).calls.drain(..).map(|(call, slot)| (call, Taken(slot))));
    }

    /// Whether nothing waits to be taken.
    pub fn is_idle(&self) -> bool {
        let inbox = lock(&self.desk.inbox);
        inbox.calls.is_empty() && !inbox.left
    }

    /// The call has a name now.
    pub fn seat(&mut self, call: CallId, Taken(slot): Taken) {
        let at = call.slot();
        if at >= self.waiting.len() {
            self.waiting.resize_with(at + 1, || None);
        }
        self.waiting[at] = Some((call, slot));
    }

    /// Tells the caller, if there still is one.
    pub fn complete(&mut self, call: CallId, completion: Completion) {
        if let Some(slot) = self.remove(call) {
            slot.settle(State::Done(completion));
        }
    }

    /// Takes out the calls whose caller is gone.
    pub fn abandoned(&mut self) -> Vec<CallId> {
        let gone = |(call, slot): &(CallId, Arc<Slot>)| matches!(*lock(&slot.0), State::Abandoned).then_some(*call);
        let calls: Vec<CallId> = self.waiting.iter().flatten().filter_map(gone).collect();
        calls.iter().for_each(|call| drop(self.remove(*call)));
        calls
    }

    fn remove(&mut self, call: CallId) -> Option<Arc<Slot>> {
        let place = self.waiting.get_mut(call.slot())?;
        match place.take() {
            Some((waits, slot)) if waits == call => Some(slot),
            other => {
                *place = other;
                None
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inbox = lock(&self.desk.inbox);
        inbox.closed = true;
        let calls = mem::take(&mut inbox.calls);
        drop(inbox);
        calls.iter().for_each(|(_, slot)| slot.settle(State::Lost));
        self.waiting.iter().flatten().for_each(|(_, slot)| slot.settle(State::Lost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use ringkv_session::{Ask, ClientId, Session, SessionConfig};
    use std::pin::pin;

    fn poll(answer: Pin<&mut Answer<'_>>) -> Poll<Option<Completion>> {
        answer.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(seat: &Seat) -> Vec<(Call, Taken)> {
        let mut calls = Vec::new();
        seat.take_more(&mut calls);
        calls
    }

    #[test]
    fn a_slot_is_used_again_by_the_next_call_only_when_its_caller_was_answered() {
        let (calls, seat) = open();
        {
            let mut answered = pin!(calls.submit(Call::new(Ask::Map)));
            let [(_, Taken(slot))] = &taken(&seat)[..] else { panic!("one call was made") };
            assert!(poll(answered.as_mut()).is_pending());
            slot.settle(State::Done(Completion::Got(Ok(None))));
            assert!(matches!(poll(answered.as_mut()), Poll::Ready(Some(Completion::Got(Ok(None))))));
        }
        assert_eq!(lock(&calls.0.0.inbox).free.len(), 1);
        let abandoned = calls.submit(Call::new(Ask::Map));
        let [(_, Taken(slot))] = &taken(&seat)[..] else { panic!("one call was made") };
        drop(abandoned);
        assert_eq!(lock(&calls.0.0.inbox).free.len(), 0, "the driver still holds it");
        slot.settle(State::Done(Completion::Got(Ok(None))));
        assert!(matches!(*lock(&slot.0), State::Abandoned));
    }

    #[test]
    fn who_waits_is_told_when_the_driver_goes() {
        let (calls, mut seat) = open();
        let mut session = Session::new(SessionConfig::new(Vec::new(), ClientId([1; 16])), clock::now(), 0);
        let mut seated = pin!(calls.submit(Call::new(Ask::Map)));
        for (call, slot) in taken(&seat) {
            seat.seat(session.submit(clock::now(), call), slot);
        }
        let mut queued = pin!(calls.submit(Call::new(Ask::Map)));
        assert!(poll(seated.as_mut()).is_pending() && poll(queued.as_mut()).is_pending());
        drop(seat);
        assert!(matches!(poll(seated.as_mut()), Poll::Ready(None)));
        assert!(matches!(poll(queued.as_mut()), Poll::Ready(None)));
        assert!(
            matches!(poll(pin!(calls.submit(Call::new(Ask::Map))).as_mut()), Poll::Ready(None)),
            "nobody will take it"
        );
    }

    #[test]
    fn the_driver_is_told_when_the_last_caller_goes() {
        let (calls, seat) = open();
        let other = calls.clone();
        let mut out = Vec::new();
        let mut take = pin!(seat.take(&mut out));
        let mut poll = || take.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(calls);
        assert!(poll().is_pending());
        drop(other);
        assert_eq!(poll(), Poll::Ready(false));
    }
}
