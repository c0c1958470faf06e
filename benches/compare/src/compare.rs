//! Engines take turns, and what they show is told.

use crate::args::Args;
use crate::error::Error;
use crate::figures::Figures;
use crate::peer::Engine;
use crate::report::json::Lines;
use crate::report::{Report, bars, number::short, table};
use crate::row::Row;
use crate::sweep::Folder;
use crate::turn::{Compression, Turn, Word};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs all turns and tells their figures; those that there are when one failed.
///
/// # Errors
/// Those of the first turn that failed.
pub fn run(args: &Args) -> Result<(), Error> {
    let (engines, rows) = (args.engines()?, args.rows());
    let mut report = Report::default();
    let taken = take_all(args, &engines, &rows, &mut report);
    if !report.rows().is_empty() {
        print!("{}", table::tables(&report));
        println!("{}", conditions(args));
    }
    if let Some(dir) = &args.svg {
        bars::write(&report, &conditions(args), dir)?;
    }
    taken
}

fn take_all(args: &Args, engines: &[Engine], rows: &[Row], report: &mut Report) -> Result<(), Error> {
    let folder = Folder::new(&args.dir)?;
    let mut lines = args.json.as_deref().map(|path| Lines::open(path, folder.path())).transpose()?;
    let turns = args.runs * (rows.len() * engines.len()) as u64;
    let mut taken = 0;
    for run in 1..=args.runs {
        for (row, engine) in order(rows, engines, run) {
            taken += 1;
            let label = format!("{taken}/{turns}: run {run} of {}, {row}, {engine}", args.runs);
            let turn = args.turn(engine, row, &place(&folder, engine, row));
            let figures = prepared(args, &turn, &label)?;
            if let Some(lines) = &mut lines {
                lines.add(run, &turn, &figures)?;
            }
            report.add(figures);
            if is_last_in_place(row, rows) {
                remove(&turn.dir)?;
            }
        }
    }
    Ok(())
}

/// Row by row, in each all engines; in every run another is the first.
fn order(rows: &[Row], engines: &[Engine], run: u64) -> Vec<(Row, Engine)> {
    let mut engines = engines.to_vec();
    let first = run as usize % engines.len();
    engines.rotate_left(first);
    rows.iter().flat_map(|row| engines.iter().map(|engine| (*row, *engine))).collect()
}

/// Rows that need data find it where the first row has left it.
fn place(folder: &Folder, engine: Engine, row: Row) -> PathBuf {
    let row = if row.needs_data() { Row::LoadRandom } else { row };
    folder.join(&format!("{engine}-{row}"))
}

/// Whether no later row works on what this one leaves.
fn is_last_in_place(row: Row, rows: &[Row]) -> bool {
    let shares = |row: Row| row == Row::LoadRandom || row.needs_data();
    !shares(row) || !rows.iter().any(|later| *later > row && shares(*later))
}

/// Takes a turn, and before it the one that writes what it needs where nobody has.
fn prepared(args: &Args, turn: &Turn, label: &str) -> Result<Figures, Error> {
    if !turn.dir.exists() {
        fs::create_dir(&turn.dir).map_err(Error::file("make", &turn.dir))?;
        if turn.row.needs_data() {
            let load = args.turn(turn.engine, Row::LoadRandom, &turn.dir);
            take(&load, &format!("{label}: loading"))?;
        }
    }
    take(turn, label)
}

/// Takes a turn in a process of its own. What it leaves unwritten is on the disk before the next begins.
fn take(turn: &Turn, label: &str) -> Result<Figures, Error> {
    let program = std::env::current_exe().map_err(Error::file("find", Path::new("this program")))?;
    let text = serde_json::to_string(turn).expect("it is made of what JSON has");
    let mut command = Command::new(&program);
    let mut child = command
        .args(["turn", &text])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::file("start", &program))?;
    let progress = progress(label, turn.calls());
    let mut last = Ok(None);
    for line in child.stdout.take().into_iter().flat_map(|words| BufReader::new(words).lines()) {
        let text = line.map_err(Error::file("hear", &program))?;
        match serde_json::from_str(&text) {
            Ok(Word::Done(calls)) => progress.set_position(calls),
            Ok(Word::Figures(figures)) => last = Ok(Some(*figures)),
            Ok(Word::Failed(why)) => last = Err(Error::Said(why)),
            Err(_) => last = Err(Error::Garbled { text }),
        }
    }
    progress.finish_and_clear();
    let status = child.wait().map_err(Error::file("wait for", &program))?;
    sync(&turn.dir)?;
    let silent = Error::Silent { engine: turn.engine, row: turn.row, status };
    last?.filter(|_| status.success()).ok_or(silent)
}

/// Writes all of a file system that is not on the disk.
fn sync(dir: &Path) -> Result<(), Error> {
    let synced = File::open(dir).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
    synced.map_err(Error::file("sync", dir))
}

fn remove(dir: &Path) -> Result<(), Error> {
    let parent = dir.parent().unwrap_or(dir).to_owned();
    fs::remove_dir_all(dir).map_err(Error::file("remove", dir))?;
    sync(&parent)
}

/// Shows how far a turn is; draws only on a terminal.
fn progress(label: &str, calls: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}").expect("the template is sound");
    let bar = ProgressBar::with_draw_target(Some(calls), ProgressDrawTarget::stderr_with_hz(4));
    bar.with_style(style).with_message(label.to_owned())
}

/// What all figures stand under.
fn conditions(args: &Args) -> String {
    let compression = match args.compression {
        Compression::None => "no compression",
        Compression::Lz4 => "LZ4, half of each value zeros",
    };
    let runs = if args.runs == 1 { "1 run".to_owned() } else { format!("{} runs", args.runs) };
    let [entries, overwritten] = [args.entries, args.overwrite_entries].map(|count| short(count as f64));
    format!(
        "{entries} entries ({overwritten} overwritten {} times), 16 + 100 bytes, write buffer {} MiB, cache {} MiB, {compression}, {runs}",
        args.overwrites, args.write_buffer_mib, args.cache_mib
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_take_turns() {
        let (rows, engines) = ([Row::LoadRandom, Row::Scan], [Engine::Fjall, Engine::Lmdb]);
        let [odd, even] = [1, 2].map(|run| order(&rows, &engines, run));
        assert_eq!(odd.first(), Some(&(Row::LoadRandom, Engine::Lmdb)));
        assert_eq!(even.first(), Some(&(Row::LoadRandom, Engine::Fjall)));
        assert_eq!(even.get(2), Some(&(Row::Scan, Engine::Fjall)));
    }

    #[test]
    fn data_is_kept_for_the_last_that_needs_it() {
        let rows = [Row::LoadRandom, Row::Scan, Row::Mixed, Row::Synced];
        let last: Vec<bool> = rows.iter().map(|row| is_last_in_place(*row, &rows)).collect();
        assert_eq!(last, [false, false, true, true]);
    }
}
