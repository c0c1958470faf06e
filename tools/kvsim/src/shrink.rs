//! A smaller variant of a seed that still fails in the same way: fewer faults, less time, fewer clients.
//!
//! Each fault has dice of its own (see [`crate::faults`]), so leaving one out leaves the others as they are. What is tried is
//! delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002): halves first, then
//! smaller parts. Each variant runs once: a second run would be the same.

use crate::ordinals::Ordinals;
use crate::plan::{FaultKind, Options};
use crate::sim::Outcome;
use std::collections::BTreeSet;

/// The smallest variant found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What to run.
    pub options: Options,
    /// What that comes to.
    pub outcome: Outcome,
    /// Runs that it took.
    pub runs: u64,
}

/// Which property a message says is broken: its words without times, names and numbers, or where it panicked.
pub fn property(what: &str) -> String {
    let what = what.split_once(" ms: ").filter(|(head, _)| head.starts_with("at ")).map_or(what, |(_, rest)| rest);
    if let Some(panic) = what.strip_prefix("panic at ") {
        return format!("panic at {}", panic.split(": ").next().unwrap_or(panic));
    }
    let words = what.lines().next().unwrap_or_default().split(|c: char| c.is_whitespace() || ",:;()".contains(c));
    let plain = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic());
    words.filter(plain).take(8).collect::<Vec<_>>().join(" ")
}

/// Tries smaller variants of `options` with `run`, at most `runs_max` of them. `say` hears of each that still fails. `None`:
/// nothing fails to begin with.
pub fn shrink(
    options: &Options,
    runs_max: u64,
    mut run: impl FnMut(&Options) -> Outcome,
    say: impl FnMut(&Shrunk),
) -> Option<Shrunk> {
    let outcome = run(options);
    let target = property(outcome.wrong.first()?);
    let mut best = Shrunk { options: options.clone(), outcome, runs: 1 };
    let mut search = Search { run, say, target, runs: 1, runs_max };
    search.time(&mut best);
    search.clients(&mut best);
    search.kinds(&mut best);
    search.faults(&mut best);
    search.time(&mut best);
    best.runs = search.runs;
    Some(best)
}

struct Search<R, S> {
    run: R,
    say: S,
    /// The property that must stay broken.
    target: String,
    runs: u64,
    runs_max: u64,
}

impl<R: FnMut(&Options) -> Outcome, S: FnMut(&Shrunk)> Search<R, S> {
    /// Whether this variant fails in the same way; if so it is the best so far.
    fn try_one(&mut self, best: &mut Shrunk, options: Options) -> bool {
        if self.runs >= self.runs_max {
            return false;
        }
        self.runs += 1;
        let outcome = (self.run)(&options);
        let same = outcome.wrong.iter().any(|what| property(what) == self.target);
        if same {
            *best = Shrunk { options, outcome, runs: self.runs };
            (self.say)(best);
        }
        same
    }

    /// A shorter load: until just behind the failure, an eighth, a quarter, a half, three quarters; until none of them fails.
    fn time(&mut self, best: &mut Shrunk) {
        loop {
            let now = best.outcome.load_ns / 1_000_000_000;
            let ended = best.outcome.virtual_ns / 1_000_000_000 + 1;
            let mut shorter = vec![now / 8, now / 4, now / 2, now * 3 / 4, ended];
            shorter.retain(|&seconds| seconds > 0 && seconds < now);
            shorter.sort_unstable();
            shorter.dedup();
            let found = shorter.into_iter().any(|seconds| {
                let options = Options { seconds: Some(seconds), ..best.options.clone() };
                self.try_one(best, options)
            });
            if !found {
                return;
            }
        }
    }

    fn clients(&mut self, best: &mut Shrunk) {
        for clients in 1..best.outcome.clients {
            let options = Options { clients: Some(clients), ..best.options.clone() };
            if self.try_one(best, options) {
                return;
            }
        }
    }

    /// Without all faults of a kind.
    fn kinds(&mut self, best: &mut Shrunk) {
        let kinds: BTreeSet<FaultKind> = best.outcome.faults.iter().map(|fault| fault.kind).collect();
        if !kinds.is_empty() && self.keep(best, &[]) {
            return;
        }
        for kind in kinds {
            let of = |kept: bool| best.outcome.faults.iter().filter(move |fault| (fault.kind == kind) != kept);
            let others: Vec<u32> = of(true).map(|fault| fault.ordinal).collect();
            self.keep(best, &others);
        }
    }

    /// Without parts of the faults, ever smaller ones.
    fn faults(&mut self, best: &mut Shrunk) {
        let mut parts = 2;
        loop {
            let kept: Vec<u32> = best.outcome.faults.iter().map(|fault| fault.ordinal).collect();
            if kept.is_empty() || self.runs >= self.runs_max {
                return;
            }
            let size = kept.len().div_ceil(parts);
            let without = |at: usize| [&kept[..at], &kept[kept.len().min(at + size)..]].concat();
            let found = (0..kept.len()).step_by(size).any(|at| self.keep(best, &without(at)));
            match found {
                true => parts = (parts - 1).max(2),
                false if size == 1 => return,
                false => parts = (parts * 2).min(kept.len()),
            }
        }
    }

    fn keep(&mut self, best: &mut Shrunk, kept: &[u32]) -> bool {
        let options = Options { skip_faults: Ordinals::all_but(kept), ..best.options.clone() };
        self.try_one(best, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Caused;

    #[test]
    fn messages_of_one_property_are_alike() {
        let one = property("at 1234 ms: s1.0: two leaders of term 3: n1/0 and n2/0");
        assert_eq!(one, "two leaders of term and");
        assert_eq!(one, property("at 9 ms: s1.7: two leaders of term 14: n3/1 and n2/0"));
        assert_ne!(one, property("at 9 ms: n1/0 s1.7: commit went back from 4 to 3"));
        let panic = property("at 77 ms: panic at server/core/src/raft.rs:10:5: index 3 of 2");
        assert_eq!(panic, "panic at server/core/src/raft.rs:10:5");
        let history = property("key k1: not linearizable: no order explains these 3 operations\n  at 5 ms: x");
        assert_eq!(history, "not linearizable no order explains these operations".replace("not", "key not"));
    }

    /// Fails when faults 3 and 40 both happen: at 1.2 and 16 seconds.
    fn toy(options: &Options) -> Outcome {
        let load_ns = options.seconds.unwrap_or(120) * 1_000_000_000;
        let kind = |n: u32| if n.is_multiple_of(2) { FaultKind::Reset } else { FaultKind::Pause };
        let caused = |n: u32| Caused { ordinal: n, kind: kind(n), at_ns: u64::from(n) * 400_000_000 };
        let faults: Vec<Caused> =
            (0..300).filter(|n| !options.skip_faults.contains(*n)).map(caused).filter(|f| f.at_ns < load_ns).collect();
        let both = [3, 40].iter().all(|n| faults.iter().any(|f| f.ordinal == *n));
        let wrong = if both { vec![format!("at {} ms: it broke", load_ns / 1_000_000)] } else { Vec::new() };
        Outcome { wrong, faults, load_ns, clients: 4.min(options.clients.unwrap_or(4)), ..Outcome::default() }
    }

    #[test]
    fn what_matters_is_left() {
        let shrunk = shrink(&Options::default(), 500, toy, |_| {}).expect("it fails");
        let left: Vec<u32> = shrunk.outcome.faults.iter().map(|fault| fault.ordinal).collect();
        assert_eq!(left, [3, 40]);
        assert_eq!(shrunk.options.skip_faults.to_string(), "0-2,4-39,41-");
        assert_eq!(shrunk.options.clients, Some(1));
        assert!(shrunk.options.seconds.is_some_and(|s| (17..=22).contains(&s)), "{:?}", shrunk.options);
        assert!(shrunk.runs < 100, "{} runs", shrunk.runs);
    }

    #[test]
    fn what_does_not_fail_is_not_made_smaller() {
        let options = Options { seconds: Some(5), ..Options::default() };
        assert!(shrink(&options, 10, toy, |_| {}).is_none());
    }
}
