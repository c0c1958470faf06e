//! What the demo says while it runs: one line a step, a spinner meanwhile when a person watches.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Tells the steps on standard output, or on standard error when that is taken by JSON.
pub struct Story {
    to_stderr: bool,
    started: Instant,
    spinner: ProgressBar,
}

impl Story {
    /// A story that begins now.
    pub fn begin(to_stderr: bool) -> Story {
        let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(100));
        Story { to_stderr, started: Instant::now(), spinner }
    }

    /// What is going on now.
    pub fn now(&self, what: &str) {
        self.spinner.set_message(format!("{what} ..."));
    }

    /// A step that is done.
    pub fn done(&self, verb: &str, what: &str) {
        self.line(&format!("  \u{2713} {verb:<10} {what}"));
    }

    /// A step that went wrong.
    pub fn wrong(&self, verb: &str, what: &str) {
        self.line(&format!("  \u{2717} {verb:<10} {what}"));
    }

    /// More about the step before.
    pub fn more(&self, text: &str) {
        for line in text.lines() {
            self.line(format!("      {line}").trim_end());
        }
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        self.spinner.suspend(|| if self.to_stderr { eprintln!("{text}") } else { crate::say(text) });
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// No more spinner.
    pub fn end(&self) {
        self.spinner.finish_and_clear();
    }
}
