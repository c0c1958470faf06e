//! `kvsim replay`: one seed, followed.

mod objects;

use super::{Chosen, say};
use clap::Args;
use kvsim::events::seconds;
use kvsim::plan::Options;
use kvsim::report;
use kvsim::sim::{run, virtual_now_ns};
use objects::Objects;
use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// See [`replay`].
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Up to this virtual time: `37.5s`, `1500ms`, `2m`; to the end when not given.
    #[arg(long)]
    until: Option<VirtualTime>,
    /// Quiet before this virtual time.
    #[arg(long, default_value = "0s")]
    from_time: VirtualTime,
    /// Says also what the stores log at levels below `info`, and how they are every virtual second.
    #[arg(short, long)]
    verbose: bool,
    /// One JSON object for each event (`at_ns`, `level`, `target`, `message` and what else it tells), and at the end the one
    /// that `run --json` gives.
    #[arg(long)]
    json: bool,
}

/// A virtual time, ns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VirtualTime(u64);

impl FromStr for VirtualTime {
    type Err = String;

    fn from_str(text: &str) -> Result<VirtualTime, String> {
        let units = [("ms", 1e6), ("s", 1e9), ("m", 60e9), ("", 1e9)];
        let parsed = units.iter().find_map(|(unit, ns)| Some((text.strip_suffix(unit)?.parse::<f64>().ok()?, ns)));
        match parsed {
            Some((number, ns)) if number >= 0.0 && number.is_finite() => Ok(VirtualTime((number * ns) as u64)),
            _ => Err(format!("{text} is no time: say 37.5s, 1500ms or 2m")),
        }
    }
}

/// Runs a seed once and tells all that happens. Exit code 1 when something is wrong up to then.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let level = if args.verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let from_ns = args.from_time.0;
    let told = tracing_subscriber::fmt().with_max_level(level).with_writer(move || From { from_ns });
    if args.json {
        told.event_format(Objects).init();
    } else {
        told.with_timer(Virtual).with_ansi(false).init();
    }
    let until_ns = args.until.map(|until| until.0);
    let options = Options { follow: true, verbose: args.verbose, until_ns, quiet_ns: from_ns, ..args.chosen.options() };
    let outcome = run(args.chosen.seed, &options);
    let code = ExitCode::from(u8::from(!outcome.wrong.is_empty()));
    if args.json {
        say(report::json(args.chosen.seed, &options, &outcome, 0));
        return Ok(code);
    }
    for what in &outcome.wrong {
        say(format_args!("WRONG {}", what.trim_end()));
    }
    let faults = outcome.faults.len();
    say(format_args!("{} the end: trace {:016x}, {faults} faults", seconds(outcome.virtual_ns), outcome.trace));
    Ok(code)
}

/// Virtual time in front of each line.
struct Virtual;

impl FormatTime for Virtual {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", seconds(virtual_now_ns()))
    }
}

/// Standard output from a virtual time on.
struct From {
    from_ns: u64,
}

impl Write for From {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if virtual_now_ns() >= self.from_ns {
            let _nobody_reads = io::stdout().write_all(bytes);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        let _nobody_reads = io::stdout().flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, ns) in
            [("37.5s", 37_500_000_000), ("1500ms", 1_500_000_000), ("2m", 120_000_000_000), ("3", 3_000_000_000)]
        {
            assert_eq!(text.parse(), Ok(VirtualTime(ns)), "{text}");
        }
        for bad in ["", "s", "-1s", "soon", "1h", "infs"] {
            assert!(bad.parse::<VirtualTime>().is_err(), "{bad}");
        }
    }
}
