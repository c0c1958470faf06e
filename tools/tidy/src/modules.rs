//! Which files the `mod` declarations reach, and which of them are compiled for tests only.

use std::collections::BTreeMap;

use crate::functions::{closing_brace, is_word_byte};
use crate::tree::{File, Tree};

/// One `mod name;` in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    /// The file it means, without `.rs`, relative to the folder of the file's own modules.
    path: String,
    /// What `#[path = ".."]` says, relative to the folder of the file.
    override_path: Option<String>,
    /// Declared under `#[cfg(test)]`.
    test: bool,
}

/// Every Rust file that some crate compiles, with whether only tests do.
pub fn reached(tree: &Tree) -> BTreeMap<String, bool> {
    let mut reached = BTreeMap::new();
    let mut todo: Vec<(String, bool)> = tree.rust().filter_map(|file| root(tree, &file.path)).collect();
    while let Some((path, test)) = todo.pop() {
        let Some(file) = tree.get(&path) else { continue };
        match reached.get(&path) {
            Some(false) => continue,
            Some(true) if test => continue,
            _ => reached.insert(path.clone(), test),
        };
        for declared in declarations(file) {
            let test = test || declared.test;
            for candidate in candidates(&path, &declared) {
                todo.push((candidate, test));
            }
        }
    }
    reached
}

/// Whether the file at `path` is the root of a crate, and if so whether of a test.
fn root(tree: &Tree, path: &str) -> Option<(String, bool)> {
    let parts: Vec<&str> = path.split('/').collect();
    let has_manifest = |depth: usize| {
        let folder = parts.get(..depth).unwrap_or_default().join("/");
        let manifest = if folder.is_empty() { "Cargo.toml".to_owned() } else { format!("{folder}/Cargo.toml") };
        tree.get(&manifest).is_some()
    };
    let count = parts.len();
    let tail = |back: usize| count.checked_sub(back).and_then(|at| parts.get(at)).copied().unwrap_or_default();
    let (is_root, test) = match (tail(3), tail(2), tail(1)) {
        (_, "src", "lib.rs" | "main.rs") => (has_manifest(count - 2), false),
        ("src", "bin", _) => (has_manifest(count - 3), false),
        (_, "examples", _) => (has_manifest(count - 2), false),
        (_, "tests" | "benches", _) => (has_manifest(count - 2), true),
        ("tests" | "benches", _, "main.rs") => (count > 3 && has_manifest(count - 3), true),
        ("examples", _, "main.rs") => (count > 3 && has_manifest(count - 3), false),
        ("fuzz", "fuzz_targets", _) => (has_manifest(count - 2), true),
        (_, _, "build.rs") => (has_manifest(count - 1), false),
        _ => (false, false),
    };
    is_root.then(|| (path.to_owned(), test))
}

/// Files that a declaration in the file at `path` can mean.
fn candidates(path: &str, declared: &Declared) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(own) = &declared.override_path {
        return vec![resolved(folder, own)];
    }
    let stem = name.trim_end_matches(".rs");
    let is_root = matches!(stem, "lib" | "main" | "mod" | "build")
        || ["/src/bin", "/tests", "/benches", "/examples"].iter().any(|end| folder.ends_with(end));
    let base = if is_root { folder.to_owned() } else { join(folder, stem) };
    vec![join(&base, &format!("{}.rs", declared.path)), join(&base, &format!("{}/mod.rs", declared.path))]
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// `own` seen from `folder`, with its `..` taken.
fn resolved(folder: &str, own: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in own.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The `mod name;` declarations of a file, those inside `mod name { .. }` blocks too.
fn declarations(file: &File) -> Vec<Declared> {
    let mut found = Vec::new();
    collect(file, 0, file.code.len(), "", false, &mut found);
    found
}

fn collect(file: &File, from: usize, to: usize, outer: &str, test: bool, found: &mut Vec<Declared>) {
    let code = file.code.as_str();
    let mut at = from;
    while let Some(offset) = code.get(at..to).and_then(|rest| rest.find("mod ")).map(|found| at + found) {
        at = offset + 4;
        if is_word_byte(code.as_bytes().get(offset.wrapping_sub(1)).copied()) {
            continue;
        }
        let after = code.get(at..to).unwrap_or_default();
        let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let behind = at + name.len();
        let next = code.get(behind..to).unwrap_or_default();
        let attributes = attributes_before(file, offset);
        let test = test || attributes.contains("cfg(test)") || attributes.contains("cfg(all(test");
        let path = join(outer, &name);
        match next.trim_start().chars().next() {
            Some(';') => found.push(Declared { path, override_path: path_attribute(attributes), test }),
            Some('{') => {
                let open = behind + next.find('{').unwrap_or_default();
                let end = closing_brace(code, open).unwrap_or(to);
                collect(file, open + 1, end, &path, test, found);
                at = end;
            }
            _ => {}
        }
    }
}

/// The text between the end of the item before and the `mod` at `offset`: its attributes and visibility.
fn attributes_before(file: &File, offset: usize) -> &str {
    let before = file.code.get(..offset).unwrap_or_default();
    let start = before.rfind([';', '{', '}']).map_or(0, |at| at + 1);
    file.text.get(start..offset).unwrap_or_default()
}

fn path_attribute(attributes: &str) -> Option<String> {
    let (_, rest) = attributes.split_once("path = \"")?;
    rest.split_once('"').map(|(path, _)| path.to_owned())
}

/// Byte ranges of a file that only tests compile: `#[cfg(test)]` items with a body.
pub fn test_ranges(file: &File) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    for (offset, _) in file.code.match_indices("#[cfg(test)]") {
        let rest = file.code.get(offset..).unwrap_or_default();
        if let Some(open) = rest.find(['{', ';']).filter(|at| rest.as_bytes().get(*at) == Some(&b'{'))
            && let Some(end) = closing_brace(&file.code, offset + open)
        {
            ranges.push(offset..end);
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_followed() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", ""),
            ("a/src/lib.rs", "mod b;\nmod inner { mod c; }\n#[cfg(test)]\nmod t;\n#[path = \"odd.rs\"]\nmod d;"),
            ("a/src/b.rs", "pub mod deep;"),
            ("a/src/b/deep.rs", ""),
            ("a/src/inner/c.rs", ""),
            ("a/src/t.rs", "mod deeper;"),
            ("a/src/t/deeper.rs", ""),
            ("a/src/odd.rs", ""),
            ("a/src/dead.rs", "mod b;"),
            ("a/tests/all.rs", "mod common;"),
            ("a/tests/common/mod.rs", ""),
            ("a/tests/big/main.rs", "#[path = \"../odd/mod.rs\"]\nmod odd;\nmod near;"),
            ("a/tests/big/near.rs", ""),
            ("a/tests/odd/mod.rs", ""),
        ]);
        let reached = reached(&tree);
        let test_only: Vec<&str> = reached.iter().filter(|(_, test)| **test).map(|(path, _)| path.as_str()).collect();
        let expected = [
            "a/src/t.rs",
            "a/src/t/deeper.rs",
            "a/tests/all.rs",
            "a/tests/big/main.rs",
            "a/tests/big/near.rs",
            "a/tests/common/mod.rs",
            "a/tests/odd/mod.rs",
        ];
        assert_eq!(test_only, expected);
        assert!(!reached.contains_key("a/src/dead.rs"));
        assert_eq!(reached.len(), 12);
    }
}
