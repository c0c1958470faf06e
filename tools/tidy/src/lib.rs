//! The project's own style test. It reads the source tree as text and fails on what no compiler looks at: files and functions
//! that grew too long, words that do not belong in finished code, imports across crate boundaries, files that no `mod` reaches,
//! format documents that no longer say what the code does, traces of the machine something was built on.
//!
//! `cargo test -p tidy` judges the tree; `cargo run -p tidy` prints the figures too. Each rule has a canary beside it: a
//! known-bad snippet that it must catch.

mod figures;
mod functions;
mod mask;
mod modules;
mod paths;
mod rules;
mod tree;

pub use figures::Figures;
pub use tree::{File, Tree};

use std::fmt;

/// One thing that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the root of the project.
    pub path: String,
    /// The line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// What is wrong, and what to do instead.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(file: &File, offset: usize, what: impl Into<String>) -> Finding {
        Finding { path: file.path.clone(), line: file.line_of(offset), what: what.into() }
    }

    pub(crate) fn whole(path: &str, what: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line: 0, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{}: {}", self.path, line, self.what),
        }
    }
}

/// Everything that the rules found in `tree`, in order of path and line.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in rules::ALL {
        findings.extend(rule(tree));
    }
    findings.sort();
    findings.dedup();
    findings
}
