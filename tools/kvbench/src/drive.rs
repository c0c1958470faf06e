//! The callers of one phase.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;

use crate::history::{Notes, Recorder};
use crate::keys::{self, Keys};
use crate::latency::Latencies;
use crate::report::{Errors, PhaseReport};
use crate::target::{Failure, Found, Target};
use crate::workload::{Kind, Phase, Workload};

/// How often the progress bar is told.
const TICK: Duration = Duration::from_millis(100);

/// What all callers of a phase share.
struct Shared {
    workload: Workload,
    phase: Phase,
    /// Keys handed out; the next call takes from here.
    taken: AtomicU64,
    /// Keys answered.
    done: AtomicU64,
    ends: Option<Instant>,
}

/// One caller.
struct Caller<T> {
    target: T,
    number: u64,
    shared: Arc<Shared>,
    keys: Keys,
    writes: u64,
    notes: Option<Notes>,
    told: Told,
}

/// What one call does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Read,
    Write,
    Delete,
}

/// What a caller has to tell.
#[derive(Default)]
struct Told {
    latencies: Latencies,
    calls: u64,
    keys: u64,
    errors: Errors,
}

/// Runs one phase to its end.
pub async fn phase<T: Target>(
    targets: &[T],
    workload: &Workload,
    phase: &Phase,
    bar: &ProgressBar,
    mut recorder: Option<&mut Recorder>,
) -> PhaseReport {
    let started = Instant::now();
    let shared = Arc::new(Shared {
        workload: workload.clone(),
        phase: phase.clone(),
        taken: AtomicU64::new(0),
        done: AtomicU64::new(0),
        ends: phase.seconds.map(|seconds| started + Duration::from_secs_f64(seconds)),
    });
    bar.reset();
    bar.set_length(phase.keys);
    bar.set_message(phase.kind.name());
    let callers = targets.iter().cycle().take(workload.tasks).zip(0..).map(|(target, number)| {
        let caller = Caller {
            target: target.clone(),
            number,
            shared: shared.clone(),
            keys: Keys::new(workload.distribution, workload.keys, workload.seed, stream(phase.kind, number)),
            writes: 0,
            // Calls of one client travel together, whoever made them: that is who asks, in a history.
            notes: recorder.as_deref().map(|recorder| recorder.notes(number % targets.len() as u64)),
            told: Told::default(),
        };
        tokio::spawn(caller.run())
    });
    let callers: Vec<_> = callers.collect();
    let ticker = tokio::spawn(tell(bar.clone(), shared));
    let mut all = Told::default();
    for caller in callers {
        let Ok((told, notes)) = caller.await else {
            all.errors.lost_callers += 1;
            continue;
        };
        all.latencies.merge(&told.latencies);
        all.calls += told.calls;
        all.keys += told.keys;
        all.errors.add(&told.errors);
        if let (Some(recorder), Some(notes)) = (recorder.as_deref_mut(), notes) {
            recorder.absorb(notes);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    ticker.abort();
    bar.finish_and_clear();
    PhaseReport::new(phase.kind, seconds, all.calls, all.keys, &all.latencies, all.errors)
}

async fn tell(bar: ProgressBar, shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(TICK).await;
        bar.set_position(shared.done.load(Ordering::Relaxed));
    }
}

/// Phases choose independently of each other.
fn stream(kind: Kind, caller: u64) -> u64 {
    let phase = match kind {
        Kind::Load | Kind::Sweep => 0,
        Kind::Read => 1,
        Kind::Write => 2,
        Kind::Mixed { .. } => 3,
    };
    caller * 4 + phase
}

impl<T: Target> Caller<T> {
    async fn run(mut self) -> (Told, Option<Notes>) {
        while let Some((first, count)) = self.take() {
            let act = self.act();
            let mut names = self.names(first, count, act != Act::Read);
            if act == Act::Delete {
                names.truncate(1);
            }
            let asked = names.len() as u64;
            match act {
                Act::Read => self.read(names).await,
                Act::Write => self.write(names).await,
                Act::Delete => self.delete(names).await,
            }
            self.told.calls += 1;
            self.told.keys += asked;
            self.shared.done.fetch_add(count, Ordering::Relaxed);
            if !self.shared.workload.rest.is_zero() {
                tokio::time::sleep(self.shared.workload.rest).await;
            }
        }
        (self.told, self.notes)
    }

    /// What the next call does.
    fn act(&mut self) -> Act {
        match self.shared.phase.kind {
            Kind::Load | Kind::Write => Act::Write,
            Kind::Read | Kind::Sweep => Act::Read,
            Kind::Mixed { reads_percent } if self.keys.chance(reads_percent) => Act::Read,
            Kind::Mixed { .. } if self.keys.chance(self.shared.workload.deletes_percent) => Act::Delete,
            Kind::Mixed { .. } => Act::Write,
        }
    }

    /// The next keys to ask for, by place in the phase; `None` at its end.
    fn take(&self) -> Option<(u64, u64)> {
        if self.shared.ends.is_some_and(|ends| Instant::now() >= ends) {
            return None;
        }
        let batch = self.shared.workload.batch as u64;
        let first = self.shared.taken.fetch_add(batch, Ordering::Relaxed);
        let left = self.shared.phase.keys.checked_sub(first).filter(|left| *left > 0)?;
        Some((first, batch.min(left)))
    }

    /// The keys of one call. Of a key written twice in one call either value may last, which no history can tell: with
    /// `distinct` each stands there once.
    fn names(&mut self, first: u64, count: u64, distinct: bool) -> Vec<Bytes> {
        let (kind, all) = (self.shared.phase.kind, self.shared.workload.keys);
        let places = first..first + count;
        let each_once = matches!(kind, Kind::Load | Kind::Sweep);
        let mut numbers: Vec<u64> =
            places.map(|place| if each_once { place % all } else { self.keys.choose() }).collect();
        if distinct {
            numbers.sort_unstable();
            numbers.dedup();
        }
        let prefix = self.shared.workload.prefix.as_str();
        numbers.into_iter().map(|number| keys::name(prefix, number)).collect()
    }

    /// A value that nobody else writes: its tag, the key, filler.
    fn value(&mut self, key: &Bytes) -> Bytes {
        self.writes += 1;
        let phase = self.shared.phase.kind.name().as_bytes().first().copied().unwrap_or(b'?') as char;
        let mut value = format!("{}{phase}{} ", self.number, self.writes).into_bytes();
        value.extend_from_slice(key);
        let least = if self.notes.is_some() { value.len() } else { 0 };
        value.resize(self.shared.workload.value_bytes.max(least), b'.');
        Bytes::from(value)
    }

    async fn read(&mut self, names: Vec<Bytes>) {
        let from = Instant::now();
        let answers = match names.as_slice() {
            [one] => vec![self.target.get(one.clone()).await],
            _ => self.target.get_many(names.clone()).await,
        };
        let until = Instant::now();
        self.told.latencies.record(until - from);
        self.told.errors.unanswered += names.len().saturating_sub(answers.len()) as u64;
        for (name, answer) in names.iter().zip(&answers) {
            self.judge(name, answer);
            if let Some(notes) = &mut self.notes {
                notes.got(name, from, until, answer);
            }
        }
    }

    async fn write(&mut self, names: Vec<Bytes>) {
        let pairs: Vec<(Bytes, Bytes)> = names.into_iter().map(|name| (name.clone(), self.value(&name))).collect();
        let from = Instant::now();
        let answers = match pairs.as_slice() {
            [(key, value)] => vec![self.target.put(key.clone(), value.clone()).await],
            _ => self.target.put_many(pairs.clone()).await,
        };
        let until = Instant::now();
        self.told.latencies.record(until - from);
        self.told.errors.unanswered += pairs.len().saturating_sub(answers.len()) as u64;
        for ((key, value), answer) in pairs.iter().zip(&answers) {
            if let Err(failure) = answer {
                self.told.errors.count(*failure);
            }
            if let Some(notes) = &mut self.notes {
                notes.wrote(key, value, from, until, answer);
            }
        }
    }

    async fn delete(&mut self, names: Vec<Bytes>) {
        for name in names {
            let from = Instant::now();
            let answer = self.target.delete(name.clone()).await;
            let until = Instant::now();
            self.told.latencies.record(until - from);
            if let Err(failure) = &answer {
                self.told.errors.count(*failure);
            }
            if let Some(notes) = &mut self.notes {
                notes.deleted(&name, from, until, &answer);
            }
        }
    }

    /// A value carries its key: an answer that belongs to another key is told apart.
    fn judge(&mut self, name: &Bytes, answer: &Result<Option<Found>, Failure>) {
        match answer {
            Ok(Some(found)) => {
                let carried = found.bytes.split(|byte| *byte == b' ').nth(1);
                let wrong = carried.is_some_and(|rest| rest.len() >= name.len() && !rest.starts_with(name));
                self.told.errors.wrong += u64::from(wrong);
            }
            // Where keys are deleted, one that is not there is no error.
            Ok(None) => self.told.errors.absent += u64::from(self.shared.workload.deletes_percent == 0),
            Err(failure) => self.told.errors.count(*failure),
        }
    }
}
