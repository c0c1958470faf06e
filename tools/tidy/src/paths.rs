//! The paths that code names: `use` trees taken apart, and `a::b::c` where it stands.

use crate::functions::is_word_byte;

/// One path with the offset at which it (or its `use`) begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Segments joined with `::`.
    pub path: String,
    /// Byte offset.
    pub offset: usize,
}

impl Named {
    /// Whether this path is `prefix` or lies below it.
    pub fn is_under(&self, prefix: &str) -> bool {
        self.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }
}

/// Every path named in masked code.
pub fn paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(word) = next_word(code, at) {
        let text = code.get(word.clone()).unwrap_or_default();
        at = word.end;
        if text == "use" {
            let rest = code.get(at..).unwrap_or_default();
            let end = rest.find(';').unwrap_or(rest.len());
            let tree = rest.get(..end).unwrap_or_default();
            expand("", tree, &mut |path| found.push(Named { path, offset: word.start }));
            at += end;
            continue;
        }
        let mut path = text.to_owned();
        while let Some(tail) = code.get(at..).and_then(|rest| rest.strip_prefix("::")) {
            let Some(next) = next_word(tail, 0).filter(|next| next.start == 0) else { break };
            path.push_str("::");
            path.push_str(tail.get(next.clone()).unwrap_or_default());
            at += 2 + next.end;
        }
        let continues = code.get(..word.start).is_some_and(|before| before.ends_with("::"));
        if path.contains("::") && !continues {
            found.push(Named { path, offset: word.start });
        }
    }
    found
}

/// The next identifier at or behind `from`.
fn next_word(code: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let bytes = code.as_bytes();
    let start = (from..bytes.len()).find(|at| is_word_byte(bytes.get(*at).copied()))?;
    let end = (start..bytes.len()).find(|at| !is_word_byte(bytes.get(*at).copied())).unwrap_or(bytes.len());
    Some(start..end)
}

/// Takes `a::{b, c::d as e}` apart.
fn expand(prefix: &str, tree: &str, found: &mut impl FnMut(String)) {
    for branch in branches(tree) {
        let branch = branch.trim().trim_start_matches("::");
        let plain = branch.split(" as ").next().unwrap_or_default();
        match branch.split_once('{') {
            Some((head, inner)) => {
                let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
                let head = head.trim().trim_end_matches("::");
                expand(&joined(prefix, head), inner, found);
            }
            None if plain.trim() == "self" => found(prefix.to_owned()),
            None if !plain.trim().is_empty() => found(joined(prefix, plain.trim().trim_end_matches("::*"))),
            None => {}
        }
    }
}

fn joined(prefix: &str, head: &str) -> String {
    match (prefix, head) {
        ("", head) => head.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, head) => format!("{prefix}::{head}"),
    }
}

/// Splits at the commas that stand outside braces.
fn branches(tree: &str) -> Vec<&str> {
    let (mut depth, mut start) = (0, 0);
    let mut found = Vec::new();
    for (at, byte) in tree.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.push(tree.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(tree.get(start..).unwrap_or_default());
    found
}

#[cfg(test)]
mod tests {
    use super::paths;

    #[test]
    fn use_trees_and_inline_paths_are_named_whole() {
        let code =
            "use std::{fs, time::{self, Instant as I}};\nuse a::*;\nfn f() { tokio::spawn(x); y.b(crate::net::z()) }";
        let names: Vec<String> = paths(code).into_iter().map(|named| named.path).collect();
        assert_eq!(names, ["std::fs", "std::time", "std::time::Instant", "a", "tokio::spawn", "crate::net::z"]);
    }
}
