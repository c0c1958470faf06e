//! The same work on ringkv's engine and on other embedded engines, in turn.
//!
//! `cargo run --release -p ringkv-compare --features peers -- [--entries N] [--engines ..] [--rows ..]`

mod args;
mod compare;
mod data;
mod error;
mod figures;
mod meters;
mod peer;
mod report;
mod row;
mod sweep;
mod turn;

use args::{Args, Inner};
use clap::Parser;
use error::Error;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::process::ExitCode;
use turn::Word;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.inner {
        None => compare::run(&args),
        Some(Inner::Sweep { dir }) => sweep::wait_and_remove(dir),
        Some(Inner::Turn { turn }) => {
            take(turn).unwrap_or_else(|error| Word::Failed(error.to_string()).say());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringkv-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes a turn and says its figures. Who started it may be killed: then nobody wants them.
fn take(text: &str) -> Result<(), Error> {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let turn = serde_json::from_str(text).map_err(|_| Error::Garbled { text: text.to_owned() })?;
    let figures = turn::run(&turn)?;
    Word::Figures(Box::new(figures)).say();
    Ok(())
}
