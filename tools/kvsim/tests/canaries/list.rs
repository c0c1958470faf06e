//! All canaries: what is wrong, and the words of the finding that says so.

use crate::clients::{KnowsNoRetry, ShipsTooLittle};
use crate::elections::{
    CommitsWhatIsNotMatched, CountsTheUnanswered, Heard, HearsThePast, HearsTwice, SwapsNeighbours, VotesForAnyLog,
    VotesTwice,
};
use crate::flaw::{Flaw, Life, Make, Right, Syncs, always};
use crate::rest;
use crate::time::{ClientsFirst, EndlessLease, LateAnswers, Lease, SlowClock};
use std::rc::Rc;

/// A store that is wrong on purpose.
pub struct Canary {
    /// What is wrong with it.
    pub name: &'static str,
    /// A seed that catches it, and after how many seconds of load: where the test begins. Found by `scan_quick`.
    pub at: (u64, u64),
    /// Words of the findings that count.
    pub says: &'static [&'static str],
    /// Begins a run of such stores.
    pub make: fn() -> Make,
}

struct Disk(Syncs);
impl Flaw for Disk {
    fn syncs(&self) -> Syncs {
        self.0
    }
}

/// After a restart a replica must have what its disk durably held.
const PROMISES: &[&str] = &["Promises survive"];
/// Nothing leaves before the disk holds it; the disk itself tells what it holds.
const DURABLE: &[&str] = &["Durable before answered", "Promises survive", "a store stopped"];
/// Recovery refuses to start from less than there was.
const RECOVERY: &[&str] = &["a store stopped", "Promises survive"];
/// What was committed is in every later leader's log, and the same everywhere.
const COMMITTED: &[&str] = &["Leader Completeness", "State Machine Safety", "Log Matching", "committed", "it commits"];
/// A client was told what no order explains.
const READS: &[&str] = &["not linearizable", "never written"];
/// An operation took effect twice, or not everywhere.
const ONCE: &[&str] = &["Exactly-once", "State Machine Safety", "applied twice", "not linearizable"];

/// A flaw that edits the disk before each life.
fn at_rest(edit: fn(&Life)) -> Make {
    Box::new(move |life| {
        edit(life);
        Rc::new(Right)
    })
}

/// A flaw that knows its life.
fn each<F: Flaw + 'static>(flaw: impl Fn(Life) -> F + 'static) -> Make {
    Box::new(move |life| Rc::new(flaw(Life { host: life.host.clone(), config: life.config.clone() })))
}

/// A flaw of one node; the others are right.
fn on_node_1<F: Flaw + Copy + 'static>(flaw: F) -> Make {
    Box::new(move |life| if life.config.id.node.0 == 1 { Rc::new(flaw) as Rc<dyn Flaw> } else { Rc::new(Right) })
}

/// How long after an acknowledgement the log is synced, ns.
const LATE_NS: u64 = 100_000_000;

/// Not wrong, or only as the protocol survives it: these must pass where the canaries are caught.
pub const SOUND: &[Canary] = &[
    sound("no flaw", || always(|| Right)),
    sound("peers' messages twice", || always(|| HearsTwice)),
    sound("messages from before the restart", || {
        let heard = Heard::default();
        Box::new(move |life| Rc::new(HearsThePast::new(life, &heard)))
    }),
    sound("late answers to heartbeats", || each(|life| LateAnswers::new(life, Lease::FromTheRound))),
    sound("clients before peers after a pause", || always(|| ClientsFirst::new(false))),
];

const fn sound(name: &'static str, make: fn() -> Make) -> Canary {
    Canary { name, at: (0, 0), says: &[], make }
}

macro_rules! canaries {
    ($($name:ident, $text:literal, $at:expr, $says:expr, $make:expr;)*) => {
        /// Each must be caught.
        pub const CANARIES: &[Canary] = &[$(Canary { name: $text, at: $at, says: $says, make: $make }),*];
        /// One test for each.
        mod caught {
            $(#[test]
            fn $name() {
                let canary = super::CANARIES.iter().find(|canary| canary.name == $text);
                crate::scan::must_be_caught(canary.expect("it is in the list"));
            })*
        }
    };
}

canaries! {
    vote_not_persisted, "vote not persisted", (1, 40), PROMISES, || at_rest(rest::votes_forgotten);
    two_votes, "two votes in a term", (2, 5), DURABLE, || always(VotesTwice::default);
    vote_for_a_shorter_log, "vote for a shorter log", (1, 30), COMMITTED, || always(|| VotesForAnyLog);
    acknowledged_before_fsync, "acknowledged before fsync", (4, 30), DURABLE, || always(|| Disk(Syncs::Late(LATE_NS)));
    failed_fsync, "failed fsync ignored", (1, 30), DURABLE, || always(|| Disk(Syncs::Deaf));
    names_not_synced, "names never synced", (2, 10), RECOVERY, || always(|| Disk(Syncs::Nameless));
    minority, "commit counted from a minority", (0, 10), COMMITTED, || each(|life| CountsTheUnanswered::new(life));
    commit_not_matched, "commit beyond what matched", (1, 60), COMMITTED, || always(CommitsWhatIsNotMatched::default);
    lease_from_the_answer, "lease counted from the answer", (10, 120), READS,
        || each(|life| LateAnswers::new(life, Lease::FromTheAnswer));
    endless_lease, "lease without end", (4, 120), READS, || each(EndlessLease::new);
    stale_after_a_pause, "stale read after a pause", (32, 40), READS, || always(|| ClientsFirst::new(true));
    slow_clock, "clock beyond its bound", (10, 40), READS, || each(|life| SlowClock::new(&life, 4));
    retry_taken_for_new, "retry taken for new", (0, 20), ONCE, || each(|life| KnowsNoRetry::new(&life));
    session_table, "session table forgotten", (0, 60), ONCE, || at_rest(rest::sessions_forgotten);
    log_cut, "log cut below commit", (1, 30), PROMISES, || at_rest(rest::cut_too_short);
    batch_chain, "batch chain ignored", (1, 10), PROMISES, || at_rest(rest::hole_passes);
    floor_lost, "floor lost at reuse", (2, 30), RECOVERY, || at_rest(rest::floor_lost);
    snapshot_lacks, "snapshot lacks a table", (11, 60), READS, || always(|| ShipsTooLittle);
    value_altered, "value altered at rest", (10, 40), READS, || at_rest(rest::value_altered);
    order_changed, "order of entries changed", (0, 10), COMMITTED, || on_node_1(SwapsNeighbours);
}
