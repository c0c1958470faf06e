//! What the disk itself can do: random reads of the same files by fio.

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// What fio measured.
pub struct Fio {
    pub reads_per_s: f64,
    pub p99_us: f64,
}

/// Reads 4 KiB at random places of `files`, `depth` at once, past the page cache, for `seconds`.
pub fn random_reads(files: &[PathBuf], depth: usize, seconds: u64) -> Result<Fio, String> {
    // Colons part names from each other.
    let names = files.iter().map(|file| file.display().to_string().replace(':', "\\:")).collect::<Vec<_>>().join(":");
    let output = Command::new("fio")
        .args(["--name=reads", "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=io_uring", "--readonly"])
        .args(["--time_based", "--randrepeat=0", "--norandommap", "--output-format=json"])
        .args([format!("--filename={names}"), format!("--iodepth={depth}"), format!("--runtime={seconds}")])
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => return Err(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => return Err(format!("fio cannot be run ({error}); on Debian: apt-get install fio")),
    };
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("fio's JSON: {error}"))?;
    let read = &told["jobs"][0]["read"];
    let p99_ns = read["clat_ns"]["percentile"]["99.000000"].as_f64().unwrap_or_default();
    match read["iops"].as_f64() {
        Some(reads_per_s) if reads_per_s > 0.0 => Ok(Fio { reads_per_s, p99_us: p99_ns / 1000.0 }),
        _ => Err("fio told no rate".to_owned()),
    }
}
