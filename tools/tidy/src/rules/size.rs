//! Files up to 1,000 lines, functions up to 70. Functions that are longer today are listed in `tools/tidy/long-functions.txt`:
//! they may shrink, they may not grow, and no new one may join.

use std::collections::BTreeMap;

use crate::functions::functions;
use crate::{Finding, Tree};

const FILE_LINES_MAX: usize = 1_000;
const FUNCTION_LINES_MAX: usize = 70;
/// The known offenders: `path name lines`, one a line.
const RATCHET: &str = "tools/tidy/long-functions.txt";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| file.lines() > FILE_LINES_MAX) {
        let what = format!("{} lines; a file has at most {FILE_LINES_MAX}: give it rooms", file.lines());
        findings.push(Finding::whole(&file.path, what));
    }
    let known = known(tree, &mut findings);
    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for file in tree.rust() {
        for function in functions(file).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let allowed =
                known.get(&(file.path.as_str(), function.name.as_str())).copied().unwrap_or(FUNCTION_LINES_MAX);
            if function.lines > allowed {
                let what = format!("`{}` has {} lines; at most {allowed}", function.name, function.lines);
                findings.push(Finding::new(file, function.offset, what));
            }
            let longest = seen.entry((file.path.as_str(), function.name)).or_default();
            *longest = function.lines.max(*longest);
        }
    }
    for ((path, name), allowed) in known {
        let now = seen.get(&(path, name.to_owned())).copied().unwrap_or_default();
        if now < allowed {
            let what = match now {
                0 => format!("`{name}` in {path} is no longer too long: take it off the list"),
                _ => format!("`{name}` in {path} shrank to {now} lines: write that number"),
            };
            findings.push(Finding::whole(RATCHET, what));
        }
    }
    findings
}

fn known<'t>(tree: &'t Tree, findings: &mut Vec<Finding>) -> BTreeMap<(&'t str, &'t str), usize> {
    let text = tree.get(RATCHET).map_or("", |file| file.text.as_str());
    let mut known = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next().and_then(|lines| lines.parse().ok())) {
            (Some(path), Some(name), Some(lines)) => {
                known.insert((path, name), lines);
            }
            _ => findings.push(Finding::whole(RATCHET, format!("not `path name lines`: {line}"))),
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(lines: usize) -> String {
        format!("fn long() {{{}}}", "\n".repeat(lines - 1))
    }

    #[test]
    fn canary_long_file() {
        assert_eq!(check(&Tree::of(&[("a.rs", &"\n".repeat(1_001))])).len(), 1);
        assert_eq!(check(&Tree::of(&[("a.rs", &"\n".repeat(1_000))])), vec![]);
    }

    #[test]
    fn canary_long_function() {
        assert_eq!(check(&Tree::of(&[("a.rs", &long(71))])).len(), 1);
        assert_eq!(check(&Tree::of(&[("a.rs", &long(70))])), vec![]);
    }

    #[test]
    fn canary_the_ratchet_only_shrinks() {
        let listed = |lines: usize| check(&Tree::of(&[("a.rs", &long(lines)), (RATCHET, "# known\na.rs long 80\n")]));
        assert_eq!(listed(80), vec![]);
        assert!(listed(81).iter().any(|finding| finding.what.contains("at most 80")));
        assert!(listed(75).iter().any(|finding| finding.what.contains("shrank to 75")));
        assert!(listed(60).iter().any(|finding| finding.what.contains("no longer")));
        assert_eq!(check(&Tree::of(&[(RATCHET, "a.rs long many")])).len(), 1);
    }
}
