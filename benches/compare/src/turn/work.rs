//! The work of each row, call by call, and the look whether its answers were right.

use super::Turn;
use crate::data::{Key, Permutation, Random, USER_BYTES, VALUE_BYTES, Values, absent, number_of, present};
use crate::error::{Error, Failed};
use crate::figures::Latencies;
use crate::meters::{forget_pages, histogram};
use crate::peer::Peer;
use crate::row::Row;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Puts in a synced batch.
pub const BATCH: u64 = 128;
/// Entries of a scan.
const SCANNED: u64 = 100;
/// Keys that are looked at when writes are done.
const CHECKED: u64 = 1000;
/// How often an engine is asked whether it is busy.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// From disk, pages that reads have brought are dropped whenever one in so many entries may have been touched.
const FORGET_EVERY: u64 = 500;

/// The clock of calls: one reading each, the end of one being the start of the next.
pub struct Laps {
    /// Calls so far, for the progress.
    pub done: Arc<AtomicU64>,
    histogram: Histogram<u64>,
    begun: Instant,
    last: Instant,
    paused: Duration,
    calls: u64,
}

impl Laps {
    fn new() -> Laps {
        let now = Instant::now();
        let done = Arc::new(AtomicU64::new(0));
        Laps { done, histogram: histogram(), begun: now, last: now, paused: Duration::ZERO, calls: 0 }
    }

    /// From here on it counts.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
        self.last = self.begun;
    }

    fn lap(&mut self) {
        let now = Instant::now();
        self.histogram.saturating_record((now - self.last).as_nanos() as u64);
        self.last = now;
        self.calls += 1;
        self.done.store(self.calls, Ordering::Relaxed);
    }

    /// What was done since the last call does not count.
    fn resume(&mut self) {
        let now = Instant::now();
        self.paused += now - self.last;
        self.last = now;
    }

    /// From the beginning to the end of the last call.
    pub fn elapsed(&self) -> Duration {
        self.last - self.begun - self.paused
    }

    /// How many.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// How long they took.
    pub fn latencies(&self) -> Latencies {
        let at = |quantile: f64| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        let max = self.histogram.max() as f64 / 1e3;
        Latencies { p50: at(0.5), p99: at(0.99), p999: at(0.999), p9999: at(0.9999), max }
    }
}

/// An engine at work.
pub struct Work<'a> {
    turn: &'a Turn,
    values: &'a Values,
    /// Who works.
    pub peer: Box<dyn Peer>,
    /// How fast.
    pub laps: Laps,
    /// The pass that wrote each key last, where that differs from key to key.
    passes: Vec<u8>,
}

/// Bytes that a row's puts bring.
pub fn user_bytes(turn: &Turn) -> u64 {
    let puts = match turn.row {
        Row::LoadRandom | Row::LoadSequential | Row::Synced => turn.entries,
        Row::Overwrite => turn.entries * turn.passes,
        Row::Mixed => turn.gets / 2,
        _ => 0,
    };
    puts * USER_BYTES
}

impl<'a> Work<'a> {
    /// Nothing is done yet.
    pub fn new(turn: &'a Turn, values: &'a Values, peer: Box<dyn Peer>) -> Work<'a> {
        Work { turn, values, peer, laps: Laps::new(), passes: Vec::new() }
    }

    /// What comes before the clock starts: what is overwritten is loaded, what is read is in the caches that it may be in.
    pub fn prepare(&mut self) -> Result<(), Error> {
        let entries = self.turn.entries;
        match self.turn.row {
            Row::Overwrite => {
                let order = Permutation::new(entries, 0);
                (0..entries).try_for_each(|place| self.put(order.at(place), 0))?;
                self.settle()?;
            }
            Row::GetCached => (0..entries).try_for_each(|number| self.get_right(number, 0))?,
            Row::GetMissing | Row::Scan | Row::Mixed if self.peer.remembers() => self.read_through()?,
            _ => {}
        }
        if self.turn.row == Row::Mixed {
            self.passes = vec![0; entries as usize];
        }
        Ok(())
    }

    /// Reads all entries once, and counts them.
    fn read_through(&mut self) -> Result<(), Error> {
        let mut count = 0;
        let result = self.peer.scan(&present(0), usize::MAX, &mut |_, _| count += 1);
        self.engine(result, "scanning all entries")?;
        self.right(count == self.turn.entries, || format!("{count} entries of {}", self.turn.entries))
    }

    /// The calls that count.
    pub fn timed(&mut self) -> Result<(), Error> {
        let (entries, calls) = (self.turn.entries, self.turn.calls());
        match self.turn.row {
            Row::LoadRandom => self.load(|order, place| order.at(place)),
            Row::LoadSequential => self.load(|_, place| place),
            Row::Synced => self.synced(),
            Row::Overwrite => self.overwrite(),
            Row::Mixed => self.mixed(),
            Row::Scan => self.scans(),
            Row::GetDisk => self.gets_from_disk(),
            Row::GetCached => {
                let mut random = Random::new(2);
                (0..calls).try_for_each(|_| {
                    self.get_right(random.below(entries), 0)?;
                    self.laps.lap();
                    Ok(())
                })
            }
            Row::GetMissing => {
                let mut random = Random::new(3);
                (0..calls).try_for_each(|_| self.get_missing(random.below(entries)))
            }
        }
    }

    fn load(&mut self, number: impl Fn(&Permutation, u64) -> u64) -> Result<(), Error> {
        let order = Permutation::new(self.turn.entries, 1);
        for place in 0..self.turn.entries {
            self.put(number(&order, place), 0)?;
            self.laps.lap();
        }
        Ok(())
    }

    fn overwrite(&mut self) -> Result<(), Error> {
        for pass in 1..=self.turn.passes {
            let order = Permutation::new(self.turn.entries, pass);
            for place in 0..self.turn.entries {
                self.put(order.at(place), pass)?;
                self.laps.lap();
            }
        }
        Ok(())
    }

    fn synced(&mut self) -> Result<(), Error> {
        let entries = self.turn.entries;
        let order = Permutation::new(entries, 1);
        let mut batch: Vec<(Key, &[u8])> = Vec::with_capacity(BATCH as usize);
        for first in (0..entries).step_by(BATCH as usize) {
            let numbers = (first..entries.min(first + BATCH)).map(|place| order.at(place));
            batch.clear();
            batch.extend(numbers.map(|number| (present(number), self.values.of(number, 0))));
            let result = self.peer.put_synced(&batch);
            self.engine(result, "putting a synced batch")?;
            self.laps.lap();
        }
        Ok(())
    }

    fn mixed(&mut self) -> Result<(), Error> {
        let mut random = Random::new(4);
        for _ in 0..self.turn.calls() {
            let number = random.below(self.turn.entries);
            let coin = random.next() & 1;
            if coin == 0 {
                let pass = self.passes[number as usize];
                self.get_right(number, pass.into())?;
            } else {
                self.passes[number as usize] = 1;
                self.put(number, 1)?;
            }
            self.laps.lap();
        }
        Ok(())
    }

    fn scans(&mut self) -> Result<(), Error> {
        let most = SCANNED.min(self.turn.entries);
        let mut random = Random::new(5);
        for _ in 0..self.turn.calls() {
            let first = random.below(self.turn.entries - most + 1);
            let (mut count, mut in_order, mut bytes) = (0, true, 0);
            let result = self.peer.scan(&present(first), most as usize, &mut |key, value| {
                in_order &= number_of(key) == Some(first + count);
                bytes += value.len() as u64;
                count += 1;
            });
            self.engine(result, "scanning")?;
            let all = in_order && (count, bytes) == (most, most * (VALUE_BYTES as u64));
            self.right(all, || format!("a scan from key {first} gave {count} entries, {bytes} bytes"))?;
            self.laps.lap();
        }
        Ok(())
    }

    fn gets_from_disk(&mut self) -> Result<(), Error> {
        let entries = self.turn.entries;
        let each = (entries / FORGET_EVERY).max(1);
        let mut random = Random::new(6);
        for call in 0..self.turn.calls() {
            if call > 0 && call % each == 0 {
                forget_pages(&self.turn.dir)?;
                self.laps.resume();
            }
            self.get_right(random.below(entries), 0)?;
            self.laps.lap();
        }
        Ok(())
    }

    fn put(&mut self, number: u64, pass: u64) -> Result<(), Error> {
        let result = self.peer.put(&present(number), self.values.of(number, pass));
        self.engine(result, "putting an entry")
    }

    /// Gets what must be there.
    fn get_right(&mut self, number: u64, pass: u64) -> Result<(), Error> {
        let wanted = self.values.of(number, pass);
        let mut is_right = false;
        let result = self.peer.get(&present(number), &mut |value| is_right = value == wanted);
        self.engine(result, "getting an entry")?;
        self.right(is_right, || format!("key {number} has not the value of pass {pass}"))
    }

    fn get_missing(&mut self, number: u64) -> Result<(), Error> {
        let mut is_there = false;
        let result = self.peer.get(&absent(number), &mut |_| is_there = true);
        self.engine(result, "getting an entry")?;
        self.right(!is_there, || format!("the key behind key {number} is there, and was never put"))?;
        self.laps.lap();
        Ok(())
    }

    /// Flushes, and waits until nothing is compacted any more: tells when that began.
    pub fn settle(&mut self) -> Result<Instant, Error> {
        let result = self.peer.flush();
        self.engine(result, "flushing")?;
        let mut quiet = Instant::now();
        while quiet.elapsed() < self.peer.quiet() {
            thread::sleep(ASK_EVERY);
            let busy = self.peer.is_busy();
            if self.engine(busy, "telling whether it compacts")? {
                quiet = Instant::now();
            }
        }
        Ok(quiet)
    }

    /// Looks whether what was written is there.
    pub fn check(&mut self) -> Result<(), Error> {
        if self.turn.row.only_reads() {
            return Ok(());
        }
        let mut random = Random::new(7);
        for _ in 0..CHECKED {
            let number = random.below(self.turn.entries);
            let pass = match self.turn.row {
                Row::Overwrite => self.turn.passes,
                Row::Mixed => self.passes[number as usize].into(),
                _ => 0,
            };
            self.get_right(number, pass)?;
        }
        if self.peer.remembers() { self.read_through() } else { Ok(()) }
    }

    fn engine<T>(&self, result: Result<T, Failed>, doing: &'static str) -> Result<T, Error> {
        result.map_err(Error::engine(self.turn.engine, doing))
    }

    fn right(&self, is_right: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
        if is_right || !self.peer.remembers() {
            return Ok(());
        }
        Err(Error::Wrong { engine: self.turn.engine, row: self.turn.row, what: what() })
    }
}
