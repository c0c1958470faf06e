//! `tidy [ROOT]`: judges the source tree, prints what it found and the figures; exits 1 when a rule is broken.

use std::path::PathBuf;
use std::process::ExitCode;

use tidy::{Figures, Tree};

fn main() -> ExitCode {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from(here), PathBuf::from);
    let tree = match Tree::read(&root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("tidy: cannot read {}: {error}", root.display());
            return ExitCode::from(2);
        }
    };
    let findings = tidy::check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    print!("{}", Figures::of(&tree));
    println!("tidy: {} broken rules", findings.len());
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
