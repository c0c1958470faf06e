//! Numbers that people look at; nothing fails on them.

use std::fmt;

use crate::functions::functions;
use crate::modules::{reached, test_ranges};
use crate::tree::{File, Tree};

/// Folders whose assertions are counted.
const ASSERTED: [&str; 2] = ["storage/src/", "server/core/src/"];

/// What the tree looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Rust files.
    pub files: usize,
    /// Lines in them.
    pub lines: usize,
    /// Lines of the median file.
    pub file_lines_median: usize,
    /// The longest file and its lines.
    pub file_longest: (String, usize),
    /// Lines of the median function.
    pub function_lines_median: usize,
    /// Per folder: assertions, and lines, tests left out.
    pub assertions: Vec<(String, usize, usize)>,
}

impl Figures {
    /// Measures `tree`.
    pub fn of(tree: &Tree) -> Figures {
        let files: Vec<&File> = tree.rust().collect();
        let longest = files.iter().max_by_key(|file| file.lines());
        let reached = reached(tree);
        let assertions = ASSERTED.map(|folder| {
            let product =
                files.iter().filter(|file| file.path.starts_with(folder) && reached.get(&file.path) == Some(&false));
            let (mut assertions, mut lines) = (0, 0);
            for file in product {
                let code = without_tests(file);
                assertions += ["assert!", "assert_eq!", "assert_ne!"]
                    .map(|word| code.matches(word).count())
                    .iter()
                    .sum::<usize>();
                lines += code.lines().filter(|line| !line.trim().is_empty()).count();
            }
            (folder.trim_end_matches("/src/").to_owned(), assertions, lines)
        });
        Figures {
            files: files.len(),
            lines: files.iter().map(|file| file.lines()).sum(),
            file_lines_median: median(files.iter().map(|file| file.lines()).collect()),
            file_longest: longest.map(|file| (file.path.clone(), file.lines())).unwrap_or_default(),
            function_lines_median: median(files.iter().flat_map(|file| functions(file)).map(|f| f.lines).collect()),
            assertions: assertions.to_vec(),
        }
    }
}

/// The code of a file with its `#[cfg(test)]` items cut out.
fn without_tests(file: &File) -> String {
    let tests = test_ranges(file);
    let kept = file.code.char_indices().filter(|(at, _)| !tests.iter().any(|range| range.contains(at)));
    kept.map(|(_, char)| char).collect()
}

fn median(mut values: Vec<usize>) -> usize {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, lines) = &self.file_longest;
        writeln!(
            f,
            "{} Rust files, {} lines; median file {} lines, longest {lines} ({path}); median function {} lines",
            self.files, self.lines, self.file_lines_median, self.function_lines_median
        )?;
        for (folder, assertions, lines) in &self.assertions {
            let per_thousand = (assertions * 1_000).checked_div(*lines).unwrap_or_default();
            writeln!(f, "{folder}: {assertions} assertions in {lines} lines of code, {per_thousand} per 1,000")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assertions_of_tests_do_not_count() {
        let text =
            "fn f() { assert!(x); debug_assert_eq!(a, b); }\n#[cfg(test)]\nmod tests { fn t() { assert!(y); } }\n";
        let figures = Figures::of(&Tree::of(&[("storage/Cargo.toml", ""), ("storage/src/lib.rs", text)]));
        assert_eq!(figures.assertions.first(), Some(&("storage".to_owned(), 2, 1)));
    }
}
