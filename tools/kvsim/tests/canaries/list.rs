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

fn again(life: &Life) -> Life {
    Life { host: life.host.clone(), config: life.config.clone() }
}

/// How long after an acknowledgement the log is synced, ns.
const LATE_NS: u64 = 100_000_000;

/// Nothing is wrong, or nothing that the protocol does not survive: these must pass.
pub const SOUND: [Canary; 5] = [
    Canary { name: "no flaw", make: || always(|| Right) },
    Canary { name: "peers' messages twice", make: || always(|| HearsTwice) },
    Canary {
        name: "late answers to heartbeats",
        make: || Box::new(|life| Rc::new(LateAnswers::new(again(life), Lease::FromTheRound))),
    },
    Canary { name: "clients before peers after a pause", make: || always(|| ClientsFirst::new(false)) },
    Canary {
        name: "messages from before the restart",
        make: || {
            let heard = Heard::default();
            Box::new(move |life| Rc::new(HearsThePast::new(life, &heard)))
        },
    },
];

/// Each must be caught.
pub const CANARIES: [Canary; 20] =
    [
        Canary { name: "vote not persisted", make: || at_rest(rest::votes_forgotten) },
        Canary { name: "two votes in a term", make: || always(VotesTwice::default) },
        Canary { name: "vote for a shorter log", make: || always(|| VotesForAnyLog) },
        Canary { name: "acknowledged before fsync", make: || always(|| Disk(Syncs::Late(LATE_NS))) },
        Canary { name: "failed fsync ignored", make: || always(|| Disk(Syncs::Deaf)) },
        Canary { name: "names never synced", make: || always(|| Disk(Syncs::Nameless)) },
        Canary {
            name: "commit counted from a minority",
            make: || Box::new(|life| Rc::new(CountsTheUnanswered::new(again(life)))),
        },
        Canary { name: "commit beyond what matched", make: || always(CommitsWhatIsNotMatched::default) },
        Canary {
            name: "lease counted from the answer",
            make: || Box::new(|life| Rc::new(LateAnswers::new(again(life), Lease::FromTheAnswer))),
        },
        Canary { name: "lease without end", make: || Box::new(|life| Rc::new(EndlessLease::new(again(life)))) },
        Canary { name: "stale read after a pause", make: || always(|| ClientsFirst::new(true)) },
        Canary { name: "slow clock", make: || Box::new(|life| Rc::new(SlowClock::new(life, 4))) },
        Canary { name: "retry taken for new", make: || Box::new(|life| Rc::new(KnowsNoRetry::new(life))) },
        Canary { name: "session table forgotten", make: || at_rest(rest::sessions_forgotten) },
        Canary { name: "log cut below commit", make: || at_rest(rest::cut_too_short) },
        Canary { name: "batch chain ignored", make: || at_rest(rest::hole_passes) },
        Canary { name: "floor lost at reuse", make: || at_rest(rest::floor_lost) },
        Canary { name: "snapshot lacks a table", make: || always(|| ShipsTooLittle) },
        Canary { name: "value altered at rest", make: || at_rest(rest::value_altered) },
        Canary {
            name: "order of entries changed",
            make: || {
                Box::new(|life| {
                    if life.config.id.node.0 == 1 { Rc::new(SwapsNeighbours) as Rc<dyn Flaw> } else { Rc::new(Right) }
                })
            },
        },
    ];
