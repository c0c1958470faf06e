//! `kvsim fuzz`: many seeds.

use super::{Shape, run_seed, say};
use clap::Args;
use comfy_table::{Table, TableStyle};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvsim::marks::{Tally, WANTED_PER_1000};
use kvsim::report;
use kvsim::sim::quiet_panics;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Without a terminal the progress is told this often.
const TELL: Duration = Duration::from_secs(10);

/// See [`fuzz`].
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// For so long, in real seconds. Without it and without --seeds: until interrupted.
    #[arg(long)]
    seconds: Option<u64>,
    /// So many.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: u64,
    /// Runs each seed once: faster, but nobody sees whether two runs are the same.
    #[arg(long)]
    once: bool,
    /// Exit code 1 also when a mark was reached by too few of the seeds that count.
    #[arg(long)]
    require_marks: bool,
    /// One JSON object for each seed, and one at the end, instead of the table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shape: Shape,
}

/// Runs seeds until the time is up or there are no more. Exit code 1 when something is wrong.
pub fn fuzz(args: &FuzzArgs) -> ExitCode {
    quiet_panics();
    let show = Show::new();
    let work = Work { args, next: AtomicU64::new(args.from), tally: Mutex::default(), begun: Instant::now(), show };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            // A run never leaves its thread, and its panics are reported with its seed.
            scope.spawn(|| work.seeds());
        }
    });
    work.end()
}

struct Work<'a> {
    args: &'a FuzzArgs,
    next: AtomicU64,
    tally: Mutex<Tally>,
    begun: Instant,
    show: Show,
}

impl Work<'_> {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seeds(&self) {
        let options = self.args.shape.options();
        let end = self.args.seeds.map_or(u64::MAX, |seeds| self.args.from.saturating_add(seeds));
        let until = self.args.seconds.map(|seconds| self.begun + Duration::from_secs(seconds));
        while until.is_none_or(|until| Instant::now() < until) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let (outcome, cpu_ns) = run_seed(seed, &options, self.args.once);
            let runs = if self.args.once { 1 } else { 2 };
            let mut tally = self.tally();
            tally.add(seed, &outcome, runs, cpu_ns);
            self.show.progress(|| progress(&tally, self.begun.elapsed()));
            if self.args.json {
                self.show.say(report::json(seed, &options, &outcome, cpu_ns));
            } else if !outcome.wrong.is_empty() {
                self.show.say(report::line(seed, &options, &outcome));
            }
        }
    }

    fn end(self) -> ExitCode {
        self.show.end();
        let elapsed = self.begun.elapsed();
        let tally = self.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.args.json {
            say(report::summary(&tally, elapsed.as_secs_f64()));
        } else {
            say(table(&tally));
            say(format_args!("{}\n{}", counted(&tally), progress(&tally, elapsed)));
            if !tally.wrong.is_empty() {
                say(format_args!("seeds with findings: {:?}", tally.wrong));
            }
        }
        let missing = self.args.require_marks && !tally.missing().is_empty();
        ExitCode::from(u8::from(missing || !tally.wrong.is_empty()))
    }
}

/// What all came to, in one line.
fn progress(tally: &Tally, elapsed: Duration) -> String {
    format!(
        "{} seeds, {:.2}/s, {:.1} simulated hours, {:.0} times real time, {} faults, {} operations ({} acknowledged), {} findings",
        tally.seeds,
        tally.seeds as f64 / elapsed.as_secs_f64().max(1e-3),
        tally.virtual_ns as f64 / 3.6e12,
        tally.times_real(),
        tally.faults,
        tally.operations.0,
        tally.operations.1,
        tally.wrong.len(),
    )
}

fn counted(tally: &Tally) -> String {
    format!(
        "{} of {} seeds count (50 operations asked per simulated second, 30% of them acknowledged)",
        tally.counted, tally.seeds
    )
}

/// How often each mark was reached.
fn table(tally: &Tally) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(["mark", "times", "seeds", "per 1000", ""]);
    for (mark, reached) in &tally.marks {
        let per_1000 = tally.per_1000(reached).map_or_else(|| "-".to_owned(), |n| n.to_string());
        let verdict = if tally.is_missing(reached) { format!("MISSING (< {WANTED_PER_1000})") } else { String::new() };
        table.add_row([mark.clone(), reached.times.to_string(), reached.seeds.to_string(), per_1000, verdict]);
    }
    table
}

/// Where progress is shown: a line that changes on a terminal, else a line now and then.
struct Show {
    bar: ProgressBar,
    terminal: bool,
    told: Mutex<Instant>,
}

impl Show {
    fn new() -> Show {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Show { bar, terminal, told: Mutex::new(Instant::now()) }
    }

    fn progress(&self, line: impl FnOnce() -> String) {
        if self.terminal {
            self.bar.set_message(line());
            self.bar.tick();
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= TELL {
            *told = Instant::now();
            eprintln!("{}", line());
        }
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.bar.suspend(|| say(what));
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvsim::sim::Outcome;

    #[test]
    fn the_table_says_what_is_missing() {
        let mut tally = Tally::default();
        let counts = [("flushes".to_owned(), 3)].into_iter().collect();
        let (operations, load_ns) = ((100, 90), 1_000_000_000);
        tally.add(0, &Outcome { operations, in_load: operations, load_ns, counts, ..Outcome::default() }, 1, 1);
        let text = table(&tally).to_string();
        let row =
            |mark: &str| text.lines().find(|line| line.trim_start().starts_with(mark)).unwrap_or_default().to_owned();
        assert!(row("flush").contains("1000") && !row("flush").contains("MISSING"), "{text}");
        assert!(row("merge").contains("MISSING"), "{text}");
    }
}
