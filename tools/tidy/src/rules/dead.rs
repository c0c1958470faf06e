//! Rust files that no `mod` reaches are compiled by nobody and rot.

use crate::modules::reached;
use crate::{Finding, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let reached = reached(tree);
    let dead = tree.rust().filter(|file| !reached.contains_key(&file.path));
    dead.map(|file| Finding::whole(&file.path, "no `mod` reaches this file: delete it or declare it")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canary_dead_file() {
        let files =
            [("a/Cargo.toml", ""), ("a/src/lib.rs", "mod b; // mod c;"), ("a/src/b.rs", ""), ("a/src/c.rs", "")];
        let found = check(&Tree::of(&files));
        assert_eq!(found.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["a/src/c.rs"]);
    }
}
