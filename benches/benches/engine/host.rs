//! What a run was measured on, since a number without its conditions is no number; and the clocks of its CPU time.

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Date, commit, processor, kernel, file system below `dir`, for each JSON line.
pub fn facts(dir: &Path, scale: f64) -> Map<String, Value> {
    let facts = json!({
        "date": said_by("date", &["-u", "+%F"]),
        "commit": commit(),
        "cpu": cpu_model(),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "file_system": file_system(dir),
        "scale": scale,
    });
    facts.as_object().expect("it was made as one").clone()
}

/// The commit in short, with a plus when files differ from it.
fn commit() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
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

/// The type of the file system that holds `dir`: that of the longest mount point above it.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && dir.starts_with(fields[1]));
    above.max_by_key(|fields| fields[1].len()).map(|fields| fields[2].to_owned())
}

/// CPU time of this thread.
pub fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process, those that the kernel runs for its ring too.
pub fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
