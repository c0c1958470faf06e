//! Looks for the knee: the highest rate that is still served well. Rates double until one is too much, or halve until one is not;
//! then the gap is halved, in ratio, until it is small.

use crate::workload::Climb;

/// A gap of this ratio is small enough.
const PRECISE: f64 = 1.06;
/// Rates tried, at most.
const TRIES_MAX: usize = 24;
/// Less than this share of the offered keys answered: the rate is too much.
const GOODPUT_LEAST: f64 = 0.95;

/// The search.
#[derive(Debug, Clone)]
pub struct Search {
    climb: Climb,
    well: Option<f64>,
    too_much: Option<f64>,
    tries: usize,
}

/// What came of one rate.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// Keys a second that were offered.
    pub offered: f64,
    /// Keys a second that were answered.
    pub answered: f64,
    /// 99th percentile of the latency, microseconds.
    pub p99_us: f64,
    /// Keys that did not go well.
    pub errors: u64,
}

impl Search {
    /// A search that begins at the climb's first rate.
    pub fn new(climb: Climb) -> Search {
        Search { climb, well: None, too_much: None, tries: 0 }
    }

    /// The next rate to try; `None` when the knee is known well enough.
    pub fn next(&self) -> Option<f64> {
        if self.tries == TRIES_MAX {
            return None;
        }
        let next = match (self.well, self.too_much) {
            (None, None) => self.climb.from,
            (Some(well), None) => well * 2.0,
            (None, Some(too_much)) => too_much / 2.0,
            (Some(well), Some(too_much)) if too_much / well > PRECISE => (well * too_much).sqrt(),
            (Some(_), Some(_)) => return None,
        };
        (next >= 1.0).then_some(next)
    }

    /// Takes what came of a rate; true when it was served well.
    pub fn told(&mut self, tried: Tried) -> bool {
        self.tries += 1;
        let kept_up = tried.answered >= tried.offered * GOODPUT_LEAST;
        let well = kept_up && tried.p99_us <= self.climb.p99_us && tried.errors == 0;
        match well {
            true => self.well = Some(self.well.map_or(tried.offered, |best| best.max(tried.offered))),
            false => self.too_much = Some(self.too_much.map_or(tried.offered, |least| least.min(tried.offered))),
        }
        well
    }

    /// The highest rate that was served well, keys a second.
    pub fn knee(&self) -> Option<f64> {
        self.well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that serves so many keys a second, and answers later the fuller it is.
    fn search(from: f64, capacity: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(Climb { from, p99_us: 10_000.0 });
        while let Some(offered) = search.next() {
            let p99_us = if offered < capacity { 100.0 / (1.0 - offered / capacity) } else { 1e6 };
            search.told(Tried { offered, answered: offered.min(capacity), p99_us, errors: 0 });
        }
        (search.knee(), search.tries)
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for from in [1.0, 1_000.0, 100_000.0, 1e7] {
            let (knee, tries) = search(from, 300_000.0);
            let knee = knee.unwrap();
            assert!((275_000.0..300_000.0).contains(&knee), "from {from}: {knee}");
            assert!(tries <= TRIES_MAX);
        }
    }

    #[test]
    fn a_store_that_serves_nothing_has_no_knee() {
        assert_eq!(search(1_000.0, 0.5).0, None);
    }

    #[test]
    fn errors_are_too_much() {
        let mut search = Search::new(Climb { from: 10.0, p99_us: 1.0 });
        assert!(!search.told(Tried { offered: 10.0, answered: 10.0, p99_us: 0.5, errors: 1 }));
        assert!(search.told(Tried { offered: 5.0, answered: 5.0, p99_us: 0.5, errors: 0 }));
        assert!(!search.told(Tried { offered: 7.0, answered: 7.0, p99_us: 1.5, errors: 0 }));
        assert!(!search.told(Tried { offered: 7.0, answered: 6.0, p99_us: 0.5, errors: 0 }));
    }
}
