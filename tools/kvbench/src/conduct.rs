//! Leads the lanes through the phases of a run and puts together what they tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::Surroundings;
use crate::beside::Beside;
use crate::history::Recorder;
use crate::knee::{Search, Tried};
use crate::lane::{LaneHandle, Open, Order, Told};
use crate::report::{PhaseReport, RateStep, SecondReport};
use crate::tally::{Errors, Tally};
use crate::workload::{Climb, Pace, Phase, Workload};

/// How often the progress bar is told.
const TICK: Duration = Duration::from_millis(100);

/// The conductor of one run.
pub(crate) struct Conductor<'a> {
    pub lanes: &'a [LaneHandle],
    pub workload: Arc<Workload>,
    pub surroundings: &'a Surroundings,
    pub recorder: Option<&'a mut Recorder>,
    /// Stretches so far.
    pub serial: u64,
}

/// What one stretch of work came to.
pub(crate) struct Stretch {
    pub tally: Tally,
    pub open: Open,
    pub seconds: Vec<SecondReport>,
    pub took: Duration,
}

impl Conductor<'_> {
    /// Runs one phase to its end.
    pub async fn phase(&mut self, phase: &Phase) -> PhaseReport {
        let each_once = phase.kind.takes_each_once();
        let mut early = Errors::default();
        if !self.workload.warmup.is_zero() && !each_once {
            let seconds = Some(self.workload.warmup.as_secs_f64());
            let warm = Phase { keys: u64::MAX / 2, seconds, ..phase.clone() };
            let rate = match self.workload.pace {
                Pace::Closed => None,
                Pace::Rate(rate) | Pace::Climb(Climb { from: rate, .. }) => Some(rate),
            };
            early = self.stretch(&warm, rate, "warm-up").await.tally.errors;
        }
        let beside = Beside::start(self.surroundings.probe_dir.as_deref());
        let mut report = match self.workload.pace {
            Pace::Rate(rate) if !each_once => self.at_rate(phase, rate).await,
            Pace::Climb(climb) if !each_once => self.climb(phase, climb).await,
            _ => {
                let stretch = self.stretch(phase, None, phase.kind.name()).await;
                PhaseReport::new(phase.kind, self.workload.distribution_of(phase.kind), stretch)
            }
        };
        report.beside = beside.stop();
        report.errors.add(&early);
        report
    }

    async fn at_rate(&mut self, phase: &Phase, rate: f64) -> PhaseReport {
        let stretch = self.stretch(phase, Some(rate), phase.kind.name()).await;
        let (late, unmade) = (stretch.open.late.percentiles(), stretch.open.unmade);
        let report = PhaseReport::new(phase.kind, self.workload.distribution_of(phase.kind), stretch);
        PhaseReport { offered_keys_per_s: Some(rate), late_us: Some(late), unmade, ..report }
    }

    /// Rising rates; tells of the best that was served well, or of the last when none was.
    async fn climb(&mut self, phase: &Phase, climb: Climb) -> PhaseReport {
        let mut search = Search::new(climb);
        let (mut best, mut last, mut rates, mut errors) = (None, None, Vec::new(), Errors::default());
        while let Some(offered) = search.next() {
            let report = self.at_rate(phase, offered).await;
            let (answered, p99_us) = (report.keys_per_s, report.latency_us.p99);
            let well = search.told(Tried { offered, answered, p99_us, errors: report.errors.total() });
            rates.push(RateStep::new(&report, offered, well));
            errors.add(&report.errors);
            match well {
                true if search.knee() == Some(offered) => best = Some(report),
                _ => last = Some(report),
            }
        }
        rates.sort_by(|a, b| a.offered_keys_per_s.total_cmp(&b.offered_keys_per_s));
        let found = best.or(last).unwrap_or_default();
        PhaseReport { knee_keys_per_s: search.knee(), rates, errors, ..found }
    }

    /// All lanes at work until there is none left.
    async fn stretch(&mut self, phase: &Phase, rate: Option<f64>, name: &str) -> Stretch {
        let bar = self.surroundings.progress.clone().unwrap_or_else(ProgressBar::hidden);
        let whole = match (phase.seconds, rate) {
            (Some(seconds), Some(rate)) => phase.keys.min((seconds * rate) as u64),
            _ => phase.keys,
        };
        let timed = phase.seconds.filter(|_| whole == phase.keys && phase.keys >= u64::MAX / 4);
        bar.reset();
        bar.set_length(timed.map_or(whole, |seconds| (seconds * 1e3) as u64));
        bar.set_message(name.to_owned());
        let (told, mut telling) = mpsc::unbounded_channel();
        let started = Instant::now();
        self.order(phase, rate, started, &told);
        drop(told);
        let mut record = Record::new(self.lanes.len(), name, rate);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                told = telling.recv() => match told {
                    None => break,
                    Some(told) => self.hear(&mut record, told),
                },
                _ = ticks.tick() => {
                    let answered = self.lanes.iter().map(|lane| lane.answered.load(Ordering::Relaxed)).sum();
                    bar.set_position(timed.map_or(answered, |_| started.elapsed().as_millis() as u64));
                    let rate = answered as f64 / started.elapsed().as_secs_f64();
                    bar.set_message(format!("{name}: {} keys/s", crate::thousands(rate)));
                }
            }
        }
        let took = started.elapsed();
        bar.finish_and_clear();
        record.finish(took, self.surroundings)
    }

    /// Gives each lane its share of the keys.
    fn order(&mut self, phase: &Phase, rate: Option<f64>, started: Instant, told: &mpsc::UnboundedSender<Told>) {
        self.serial += 1;
        let ends = phase.seconds.map(|seconds| started + Duration::from_secs_f64(seconds));
        let lanes = self.lanes.len() as u64;
        let from = |lane: u64| phase.keys / lanes * lane + (phase.keys % lanes).min(lane);
        for (lane, number) in self.lanes.iter().zip(0..) {
            let order = Order {
                workload: self.workload.clone(),
                phase: phase.clone(),
                first: from(number),
                keys: from(number + 1) - from(number),
                started,
                ends,
                rate,
                notes: self.recorder.as_deref().map(Recorder::notes),
                serial: self.serial,
                told: told.clone(),
            };
            lane.answered.store(0, Ordering::Relaxed);
            // A lane that is gone does not tell that it is done, and is missed.
            drop(lane.orders.send(order));
        }
    }

    fn hear(&mut self, record: &mut Record, told: Told) {
        match told {
            Told::Second { lane, second, tally } => record.second(lane, second, &tally, self.surroundings),
            Told::Done { rest, open, notes } => {
                record.done(&rest, &open);
                if let (Some(recorder), Some(notes)) = (self.recorder.as_deref_mut(), notes) {
                    recorder.absorb(notes);
                }
            }
        }
    }
}

/// A stretch as it is being told.
struct Record<'n> {
    name: &'n str,
    rate: Option<f64>,
    all: Tally,
    open: Open,
    /// Seconds of which not all lanes have told.
    seconds: BTreeMap<u64, Tally>,
    /// Seconds over, of each lane.
    over: Vec<u64>,
    reports: Vec<SecondReport>,
    rest: Tally,
    missing: usize,
}

impl<'n> Record<'n> {
    fn new(lanes: usize, name: &'n str, rate: Option<f64>) -> Record<'n> {
        let (all, open, rest) = Default::default();
        let (seconds, reports) = Default::default();
        Record { name, rate, all, open, seconds, over: vec![0; lanes], reports, rest, missing: lanes }
    }

    fn second(&mut self, lane: usize, second: u64, tally: &Tally, surroundings: &Surroundings) {
        self.all.merge(tally);
        self.seconds.entry(second).or_default().merge(tally);
        if let Some(over) = self.over.get_mut(lane) {
            *over = second + 1;
        }
        let over = self.over.iter().copied().min().unwrap_or_default();
        while let Some((second, tally)) = self.seconds.pop_first() {
            if second >= over {
                self.seconds.insert(second, tally);
                break;
            }
            self.tell(second, &tally, 1.0, surroundings);
        }
    }

    fn done(&mut self, rest: &Tally, open: &Open) {
        self.all.merge(rest);
        self.rest.merge(rest);
        self.open.late.merge(&open.late);
        self.open.unmade += open.unmade;
        self.missing -= 1;
    }

    fn tell(&mut self, second: u64, tally: &Tally, width: f64, surroundings: &Surroundings) {
        let report = SecondReport::new(second as f64 + width, width, tally);
        if let Some(each_second) = &surroundings.each_second {
            each_second(self.name, self.rate, &report);
        }
        self.reports.push(report);
    }

    fn finish(mut self, took: Duration, surroundings: &Surroundings) -> Stretch {
        let mut last = self.reports.len() as u64;
        // Lanes that ended before the others leave seconds open.
        let open: Vec<_> = std::mem::take(&mut self.seconds).into_iter().collect();
        for (second, tally) in open {
            self.tell(second, &tally, 1.0, surroundings);
            last = second + 1;
        }
        let width = took.as_secs_f64() - last as f64;
        let rest = std::mem::take(&mut self.rest);
        if rest.calls > 0 && width > 0.0 {
            self.tell(last, &rest, width, surroundings);
        }
        self.all.errors.lost_callers += self.missing as u64;
        Stretch { tally: self.all, open: self.open, seconds: self.reports, took }
    }
}
