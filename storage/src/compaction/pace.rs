//! How writers, flushes and merges share a thread and a disk: pure functions of how far the jobs are behind. Nothing is ever
//! stopped: who writes faster than merges and flushes can work waits a little for each byte, from the first one that is owed on.

/// What tables weigh, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// All of them.
    pub all: u64,
    /// Those that are not in a last level.
    pub upper: u64,
    /// What merges have to read before none is wanted, about.
    pub debt: u64,
    /// Of them in memory: indexes, filters and properties.
    pub mapped: u64,
}

impl Weight {
    /// Of both together.
    pub fn plus(self, other: Weight) -> Weight {
        let mapped = self.mapped + other.mapped;
        Weight { all: self.all + other.all, upper: self.upper + other.upper, debt: self.debt + other.debt, mapped }
    }

    /// This without a part of it.
    pub fn minus(self, part: Weight) -> Weight {
        let mapped = self.mapped - part.mapped;
        Weight { all: self.all - part.all, upper: self.upper - part.upper, debt: self.debt - part.debt, mapped }
    }

    /// How far merges are behind. At 1 there is as much above the last levels as in them, and all of it is to be merged: the
    /// tables take twice what they hold. What is less than `least` bytes is soon done.
    pub fn pressure(&self, least: u64) -> f64 {
        let part = |bytes: u64, of: u64| bytes as f64 / of.max(least).max(1) as f64;
        part(self.debt, self.all).min(part(self.upper, self.all - self.upper))
    }
}

/// Turns that a flush leaves to a merge after each of its own, and a merge to a flush. Flushes have most while merges are hardly
/// behind, or as soon as memory fills; merges have the more the further they are behind: the end of a flush only adds to that.
pub fn turns_left(pressure: f64, filled: f64) -> (usize, usize) {
    match pressure {
        _ if filled > FILLED_HURRIED => (0, 15),
        p if p < 0.15 => (0, 3),
        p if p < 0.25 => (0, 1),
        p if p < 0.35 => (0, 0),
        p if p < 0.45 => (1, 0),
        _ => (3, 0),
    }
}

/// How full the memory behind a running flush is when that gets most turns: well before writers wait for it, else they wait for what
/// merges take meanwhile.
const FILLED_HURRIED: f64 = 0.2;

/// What the jobs need for a byte that is written, about, ns: at so much a writer leaves them as much time as they take.
const JOBS_NS: f64 = 10.0;
/// The pressure, and how full the memory behind a running flush is, at which a writer does.
const PRESSURE_EVEN: f64 = 0.4;
const FILLED_EVEN: f64 = 0.5;

/// The pressure as writers feel it: as it was over the last `memtable_bytes` written, about. Each flush and each merge changes it at
/// once by as much as it wrote, which must not be a shock for whoever comes next.
pub fn felt(before: f64, pressure: f64, written_bytes: u64, memtable_bytes: usize) -> f64 {
    let part = written_bytes as f64 / memtable_bytes.max(1) as f64;
    before + (pressure - before) * part.min(1.0)
}

/// How long a writer waits for each byte it writes, ns, at a pressure as [`felt`]. `filled`: memory that memtables take beyond their budget, as a part of it.
pub fn wait_ns_per_byte(pressure: f64, filled: f64) -> f64 {
    let merges = (pressure / PRESSURE_EVEN).powi(6);
    let flushes = (filled.max(0.0) / FILLED_EVEN).powi(4);
    JOBS_NS * (merges + flushes)
}

/// [`turns_left`] where the jobs have a thread of their own: a flush never waits longer than a merge beside it.
pub fn turns_left_beside(pressure: f64, filled: f64) -> (usize, usize) {
    match pressure {
        _ if filled > FILLED_EVEN => (0, 3),
        p if p < 0.3 => (0, 3),
        p if p < 0.6 => (0, 1),
        _ => (0, 0),
    }
}

/// [`wait_ns_per_byte`] where the jobs have a thread of their own and space may grow further: what counts is that memory is not outrun
/// (`filled`: memtables beyond the one that is written, in memtables), and that reads do not have too many runs to look at.
pub fn wait_beside_ns_per_byte(pressure: f64, filled: f64, runs: usize) -> f64 {
    let merges = (pressure / PRESSURE_BESIDE).powi(2) + (runs as f64 / RUNS_BESIDE).powi(6);
    let flushes = (filled.max(0.0) / FILLED_BESIDE).powi(6);
    JOBS_BESIDE_NS * (merges + flushes)
}

/// As above, for [`wait_beside_ns_per_byte`].
const JOBS_BESIDE_NS: f64 = 3.5;
const PRESSURE_BESIDE: f64 = 1.0;
const RUNS_BESIDE: f64 = 20.0;
const FILLED_BESIDE: f64 = 1.6;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn weight(all: u64, upper: u64, debt: u64) -> Weight {
        Weight { all: all * MIB, upper: upper * MIB, debt: debt * MIB, mapped: 0 }
    }

    #[test]
    fn what_is_not_owed_does_not_press() {
        assert_eq!(weight(0, 0, 0).pressure(0), 0.0);
        assert_eq!(weight(500, 500, 0).pressure(MIB), 0.0, "a first load piles up what nobody wants merged");
        assert_eq!(weight(500, 0, 500).pressure(MIB), 0.0, "nothing lies above the last level");
        assert!(weight(4, 2, 4).pressure(64 * MIB) < 0.05, "a little is soon done");
        assert_eq!(weight(200, 100, 200).pressure(MIB), 1.0);
    }

    #[test]
    fn a_leap_is_felt_little_by_little() {
        let mut now = 0.2;
        for step in 0..64 {
            let next = felt(now, 0.8, MIB, 64 << 20);
            assert!(next > now && next - now < 0.01, "step {step}: {next} after {now}");
            now = next;
        }
        assert!(now > 0.5);
        assert_eq!(felt(0.2, 0.8, 100 * MIB, 64 << 20), 0.8);
    }

    #[test]
    fn writers_wait_longer_step_by_step_and_never_for_good() {
        let (mut before, mut turns) = (0.0, (0, usize::MAX));
        for step in 0..=150 {
            let pressure = f64::from(step) / 100.0;
            let wait = wait_ns_per_byte(pressure, 0.0);
            assert!(wait >= before && wait.is_finite(), "at {pressure}: {wait} after {before}");
            assert!(wait < 0.2 || before > wait * 0.5 || step < 20, "no jump at {pressure}: {wait} after {before}");
            let (flushes_leave, merges_leave) = turns_left(pressure, 0.0);
            assert!(flushes_leave >= turns.0 && merges_leave <= turns.1);
            (before, turns) = (wait, (flushes_leave, merges_leave));
        }
        assert!(wait_ns_per_byte(0.15, 0.1) < 0.1, "in everyday work nobody notices");
        assert!(wait_ns_per_byte(0.0, 3.0) > 5_000.0, "memory is not outrun");
        assert_eq!(wait_ns_per_byte(0.0, -0.5), 0.0);
        assert_eq!(turns_left(0.9, 0.8), (0, 15), "memory comes first");
        assert!(wait_ns_per_byte(0.0, FILLED_HURRIED) < 0.5, "a flush is hurried before anybody waits for it");
    }

    #[test]
    fn beside_a_writer_memory_comes_first_and_runs_have_an_end() {
        let mut before = 0.0;
        for step in 0..=200 {
            let part = f64::from(step) / 100.0;
            let wait = wait_beside_ns_per_byte(part, part, step as usize / 5);
            assert!(wait >= before && wait.is_finite(), "at {part}: {wait} after {before}");
            before = wait;
            let (flushes_leave, merges_leave) = turns_left_beside(part, 0.0);
            assert!(flushes_leave == 0 && merges_leave <= turns_left_beside(part - 0.01, 0.0).1);
        }
        assert!(wait_beside_ns_per_byte(0.2, 0.9, 5) < 0.5, "in everyday work nobody notices");
        assert!(wait_beside_ns_per_byte(0.0, 0.0, 60) > 2_000.0, "runs do not grow without end");
        assert!(wait_beside_ns_per_byte(0.0, 2.0, 0) > 10.0, "memory is not outrun");
        assert_eq!(turns_left_beside(0.9, 0.8), (0, 3));
    }
}
