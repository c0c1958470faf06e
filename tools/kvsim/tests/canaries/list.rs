//! All canaries: what is wrong with them, and where each is caught soonest.

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
    /// What it breaks: the finding has one of these words; any other finding is not this canary's.
    pub words: &'static [&'static str],
    /// Begins a run of such stores.
    pub make: fn() -> Make,
}

struct Disk(Syncs);
impl Flaw for Disk {
    fn syncs(&self) -> Syncs {
        self.0
    }
}

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
    Canary { name, at: (0, 0), words: &[], make }
}

/// A promise left a store before the disk held it.
const ANSWERED: &str = "Durable before answered";
/// A read did not show what had been acknowledged before it began.
const STALE: &[&str] = &["acknowledged and lost", "not linearizable"];

macro_rules! canaries {
    ($($(#[$attribute:meta])* $name:ident, $text:literal, $at:expr, $words:expr, $make:expr;)*) => {
        /// Each must be caught.
        pub const CANARIES: &[Canary] = &[$(Canary { name: $text, at: $at, words: $words, make: $make }),*];
        /// One test for each.
        mod caught {
            $(#[test]
            $(#[$attribute])*
            fn $name() {
                let canary = super::CANARIES.iter().find(|canary| canary.name == $text);
                crate::scan::must_be_caught(canary.expect("it is in the list"));
            })*
        }
    };
}

canaries! {
    vote_not_persisted, "vote not persisted", (0, 8), &["Promises survive"],
        || at_rest(rest::votes_forgotten);
    two_votes, "two votes in a term", (1, 105), &[ANSWERED], || always(VotesTwice::default);
    vote_for_a_shorter_log, "vote for a shorter log", (0, 6), &["Leader Completeness"],
        || always(|| VotesForAnyLog);
    acknowledged_before_fsync, "acknowledged before fsync", (0, 2), &[ANSWERED],
        || always(|| Disk(Syncs::Late(LATE_NS)));
    failed_fsync, "failed fsync ignored", (0, 17), &[ANSWERED, "durable on less than a majority", "Promises survive"],
        || always(|| Disk(Syncs::Deaf));
    names_not_synced, "names never synced", (0, 9), &["Promises survive", "a store stopped"],
        || always(|| Disk(Syncs::Nameless));
    minority, "commit counted from a minority", (0, 2), &["durable on less than a majority"],
        || each(CountsTheUnanswered::new);
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    commit_not_matched, "commit beyond what matched", (2, 46), &["it commits entry"],
        || always(CommitsWhatIsNotMatched::default);
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    lease_from_the_answer, "lease counted from the answer", (2, 120), STALE,
        || each(|life| LateAnswers::new(life, Lease::FromTheAnswer));
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    endless_lease, "lease without end", (0, 120), STALE, || each(EndlessLease::new);
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    stale_after_a_pause, "stale read after a pause", (10, 120), STALE, || always(|| ClientsFirst::new(true));
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    slow_clock, "clock beyond its bound", (2, 120), STALE, || each(|life| SlowClock::new(&life, 4));
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    retry_taken_for_new, "retry taken for new", (0, 120), &["applied twice", "Exactly-once"],
        || each(|life| KnowsNoRetry::new(&life));
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    session_table, "session table forgotten", (0, 30), &["replicas differ", "Exactly-once"],
        || at_rest(rest::sessions_forgotten);
    log_cut, "log cut below commit", (0, 9), &["Promises survive"], || at_rest(rest::cut_too_short);
    batch_chain, "batch chain ignored", (0, 9), &["Promises survive"], || at_rest(rest::hole_passes);
    floor_lost, "floor lost at reuse", (0, 26), &["a store stopped"], || at_rest(rest::floor_lost);
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    snapshot_lacks, "snapshot lacks a table", (2, 30), &["replicas differ", "State Machine Safety"],
        || always(|| ShipsTooLittle);
    #[cfg_attr(debug_assertions, ignore = "whole minutes of a cluster: in release builds only")]
    value_altered, "value altered at rest", (0, 30), &["replicas differ", "was never written"],
        || at_rest(rest::value_altered);
    order_changed, "order of entries changed", (0, 3), &["Log Matching"], || on_node_1(SwapsNeighbours);
}
