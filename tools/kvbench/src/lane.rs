//! One thread's part in a run: its clients, its callers, its own figures. Lanes share nothing while a phase runs.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use ringkv::SessionStats;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::sleep_until;

use crate::history::Notes;
use crate::latency::Latencies;
use crate::store::Target;
use crate::tally::Tally;
use crate::workload::{Phase, Workload};

mod caller;
mod feed;
mod pace;
mod shift;

use caller::Who;
use feed::Feed;
use shift::Shift;

/// What a lane shall do: its share of a stretch of one phase.
pub(crate) struct Order {
    pub workload: Arc<Workload>,
    pub phase: Phase,
    /// Of this lane: place of its first key, and how many keys.
    pub first: u64,
    pub keys: u64,
    pub started: Instant,
    pub ends: Option<Instant>,
    /// In an open loop: keys a second, of all lanes.
    pub rate: Option<f64>,
    pub notes: Option<Notes>,
    /// Differs from stretch to stretch, so that values under a history do.
    pub serial: u64,
    /// Where it tells what it did.
    pub told: mpsc::UnboundedSender<Told>,
}

/// What a lane tells.
pub(crate) enum Told {
    /// What it counted since it told last; the `second`th second is over, counted from 0.
    Second { lane: usize, second: u64, tally: Tally },
    /// It is done.
    Done { rest: Tally, open: Open, notes: Option<Notes> },
}

/// What only an open loop has to tell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open {
    /// How late calls were made.
    pub late: Latencies,
    /// Calls that were due and never made, since all callers were waiting until the end. Their latencies count as the time
    /// from when they were due to the end.
    pub unmade: u64,
}

/// What the conductor holds of a lane.
#[derive(Clone)]
pub(crate) struct LaneHandle {
    pub orders: mpsc::UnboundedSender<Order>,
    /// Keys answered in the present stretch.
    pub answered: Arc<AtomicU64>,
}

/// A lane.
pub(crate) struct Lane<T> {
    number: usize,
    /// Lanes in all.
    lanes: usize,
    targets: Vec<T>,
    orders: mpsc::UnboundedReceiver<Order>,
    answered: Arc<AtomicU64>,
}

impl<T: Target> Lane<T> {
    /// Lane `number` of `lanes`, with its clients, at least one.
    pub fn new(number: usize, lanes: usize, targets: Vec<T>) -> (LaneHandle, Lane<T>) {
        assert!(!targets.is_empty(), "a lane needs a client");
        assert!(number < lanes, "lanes are counted from 0");
        let (sender, orders) = mpsc::unbounded_channel();
        let answered = Arc::new(AtomicU64::new(0));
        let handle = LaneHandle { orders: sender, answered: answered.clone() };
        (handle, Lane { number, lanes, targets, orders, answered })
    }

    /// Carries out orders until nobody is left who could give one. Needs a `LocalSet` around it.
    pub async fn serve(mut self) {
        while let Some(order) = self.orders.recv().await {
            self.carry_out(order).await;
        }
    }

    /// Of each client that knows.
    async fn stats(&self) -> Vec<SessionStats> {
        let mut all = Vec::new();
        for target in &self.targets {
            all.extend(target.stats().await);
        }
        all
    }

    async fn carry_out(&self, order: Order) {
        let (told, started) = (order.told.clone(), order.started);
        let before = self.stats().await;
        let shift = Rc::new(Shift::new(order, (self.number, self.lanes), self.answered.clone()));
        let mut callers = JoinSet::new();
        let own = (0..shift.workload.tasks).skip(self.number).step_by(self.lanes);
        for (place, number) in own.enumerate() {
            let client = place % self.targets.len();
            let Some(target) = self.targets.get(client) else { continue };
            let who = Who { number: number as u64, client: (client * self.lanes + self.number) as u64 };
            callers.spawn_local(caller::run(shift.clone(), target.clone(), who));
        }
        let pacer = match &shift.feed {
            Feed::Open(_) => Some(spawn_local(pace::pace(shift.clone()))),
            Feed::Closed(_) => None,
        };
        let mut second = 0;
        loop {
            tokio::select! {
                biased;
                ended = callers.join_next() => match ended {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(_panic)) => shift.tally.borrow_mut().errors.lost_callers += 1,
                },
                () = sleep_until((started + Duration::from_secs(second + 1)).into()) => {
                    let passed = started.elapsed().as_secs().max(second + 1);
                    // A conductor that is gone needs no telling.
                    drop(told.send(Told::Second { lane: self.number, second: passed - 1, tally: shift.tally.take() }));
                    second = passed;
                }
            }
        }
        if let Some(pacer) = pacer {
            pacer.abort();
        }
        let open = shift.end();
        for (before, after) in before.into_iter().zip(self.stats().await) {
            let again = after.retries - before.retries;
            shift.tally.borrow_mut().spent(after.stages.since(before.stages), again);
        }
        drop(told.send(Told::Done { rest: shift.tally.take(), open, notes: shift.notes.take() }));
    }
}
