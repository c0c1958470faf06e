//! What a run leaves: tables, files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use kvbench::{Recorder, Report, compare, hgrm, svg};

use crate::args::Args;

/// Whether standard output is for JSON alone.
pub fn is_json_alone(args: &Args) -> bool {
    args.json.as_deref() == Some(Path::new("-"))
}

/// A file's name without its extension, and the reports in it.
type Named = (String, Vec<Report>);

/// Reads a file of reports.
pub fn read(path: &Path) -> anyhow::Result<Named> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let reports = compare::read(&text).with_context(|| format!("{} is no report of kvbench", path.display()))?;
    Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), reports))
}

/// Tells all that was asked for.
pub fn tell(args: &Args, report: &Report, recorder: Option<Recorder>, old: Option<Named>) -> anyhow::Result<()> {
    if let (Some(path), Some(recorder)) = (&args.history, recorder) {
        write(path, |file| recorder.write(file))?;
    }
    if let Some(path) = &args.svg {
        write(path, |file| svg::write(report, file))?;
    }
    if let Some(path) = &args.hgrm {
        for (phase, path) in report.phases.iter().zip(paths(path, report)) {
            write(&path, |file| hgrm::write(&phase.latencies, file))?;
        }
    }
    let mut told = format!("{report}\n");
    let broken_down = report.phases.iter().filter_map(|phase| Some(phase.breakdown_us?.line(&phase.phase)));
    for line in broken_down.filter(|_| args.breakdown) {
        told.push_str(&format!("{line}\n"));
    }
    if let Some((then, old)) = old {
        let now = ("now", std::slice::from_ref(report));
        told.push_str(&format!("\n{}", compare::compare((&then, &old), now)));
    }
    let json = serde_json::to_string_pretty(report)?;
    if is_json_alone(args) {
        println!("{json}");
        eprint!("{told}");
        return Ok(());
    }
    print!("{told}");
    match &args.json {
        Some(path) => write(path, |file| writeln!(file, "{json}")),
        None => Ok(()),
    }
}

fn write(path: &Path, what: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| format!("creating {}", path.display()))?);
    what(&mut file).and_then(|()| file.flush()).with_context(|| format!("writing {}", path.display()))
}

/// A file for each phase: `run.hgrm` itself for a single one, `run-get.hgrm`, `run-get-2.hgrm` and so on for several.
fn paths(path: &Path, report: &Report) -> Vec<PathBuf> {
    if report.phases.len() == 1 {
        return vec![path.to_owned()];
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    let mut paths = Vec::new();
    for phase in &report.phases {
        let place = seen.entry(&phase.phase).or_default();
        *place += 1;
        let number = if *place > 1 { format!("-{place}") } else { String::new() };
        paths.push(path.with_file_name(format!("{stem}-{}{number}{extension}", phase.phase)));
    }
    paths
}
