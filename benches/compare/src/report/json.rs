//! One line of JSON a turn: its figures, its run, and on what it was measured.

use crate::error::Error;
use crate::figures::Figures;
use crate::turn::Turn;
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that lines are appended to.
pub struct Lines {
    path: PathBuf,
    file: File,
    host: Map<String, Value>,
}

impl Lines {
    /// Opens it; `dir` is where engines work.
    pub fn open(path: &Path, dir: &Path) -> Result<Lines, Error> {
        let file = File::options().create(true).append(true).open(path).map_err(Error::file("open", path))?;
        Ok(Lines { path: path.to_owned(), file, host: host(dir) })
    }

    /// Appends a turn.
    pub fn add(&mut self, run: u64, turn: &Turn, figures: &Figures) -> Result<(), Error> {
        let mut line = json!({
            "run": run,
            "entries": turn.entries,
            "compression": turn.compression,
            "write_buffer_bytes": turn.write_buffer_bytes,
            "cache_bytes": turn.cache_bytes,
        });
        let figures = serde_json::to_value(figures).expect("it is made of what JSON has");
        if let (Value::Object(line), Value::Object(figures)) = (&mut line, figures) {
            line.extend(figures);
            line.extend(self.host.clone());
        }
        writeln!(self.file, "{line}").map_err(Error::file("write", &self.path))
    }
}

/// Date, commit, processor, kernel, file system.
fn host(dir: &Path) -> Map<String, Value> {
    let facts = json!({
        "date": said_by("date", &["-u", "+%F"]),
        "commit": commit(),
        "cpu": cpu_model(),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "file_system": said_by("stat", &["-f", "-c", "%T", &dir.to_string_lossy()]),
    });
    facts.as_object().cloned().unwrap_or_default()
}

/// The commit in short, with a plus when files differ from it.
fn commit() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let changed = said_by("git", &["-C", root, "status", "--porcelain"]);
    let plus = if changed.is_empty() { "" } else { "+" };
    said_by("git", &["-C", root, "rev-parse", "--short", "HEAD"]) + plus
}

/// What a program prints, trimmed; nothing when it cannot be run.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}
