//! Words that do not belong in finished code.

use crate::functions::is_word_byte;
use crate::tree::File;
use crate::{Finding, Tree};

/// In code: what it is, and what to do instead.
const CODE: [(&str, &str); 5] = [
    ("todo!", "finish it, or leave it out"),
    ("unimplemented!", "finish it, or leave it out"),
    ("dbg!", "take it out; `tracing` stays"),
    ("#[allow(", "`#[expect(lint, reason = \"..\")]` says why and goes when it is no longer needed"),
    ("#![allow(", "`#![expect(lint, reason = \"..\")]` says why and goes when it is no longer needed"),
];

/// Anywhere in text: notes to oneself. Written in halves so that this file does not name them.
const NOTES: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with(".lock")) {
        for (word, instead) in CODE {
            for offset in words(&file.code, word) {
                findings.push(Finding::new(file, offset, format!("`{word}`: {instead}")));
            }
        }
        for note in NOTES {
            for offset in words(&file.text, note) {
                findings.push(Finding::new(file, offset, format!("a note to oneself ({note}): do it, or file it")));
            }
        }
        bare_matches(file, &mut findings);
    }
    findings
}

/// Places of `word` that are not part of a longer word.
fn words<'f>(text: &'f str, word: &'f str) -> impl Iterator<Item = usize> + 'f {
    text.match_indices(word).map(|(offset, _)| offset).filter(move |offset| {
        let before = offset.checked_sub(1).and_then(|at| text.as_bytes().get(at)).copied();
        let after = text.as_bytes().get(offset + word.len()).copied();
        let open_ended = word.ends_with(['(', '!']);
        !is_word_byte(before) && (open_ended || !is_word_byte(after))
    })
}

/// `matches!(..);` as a statement computes a bool and drops it: an assertion that cannot fail.
fn bare_matches(file: &File, findings: &mut Vec<Finding>) {
    for offset in words(&file.code, "matches!") {
        let before = file.code.get(..offset).unwrap_or_default().trim_end();
        let starts_statement = before.is_empty() || before.ends_with([';', '{', '}']);
        let mut depth = 0;
        let end = file.code.bytes().enumerate().skip(offset).find_map(|(at, byte)| {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => return None,
            }
            (depth == 0).then_some(at + 1)
        });
        let after = end.and_then(|end| file.code.get(end..)).unwrap_or_default();
        if starts_statement && after.trim_start().starts_with(';') {
            findings.push(Finding::new(file, offset, "a bare `matches!(..);` checks nothing: put it in an `assert!`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn canary_banned_calls() {
        assert_eq!(found("a.rs", "fn f() { todo!() }"), 1);
        assert_eq!(found("a.rs", "fn f() { unimplemented!(\"x\") }"), 1);
        assert_eq!(found("a.rs", "fn f() { dbg!(1); }"), 1);
        assert_eq!(found("a.rs", "#[allow(dead_code)]\nfn f() {}"), 1);
        assert_eq!(found("a.rs", "#![allow(dead_code)]"), 1);
        assert_eq!(found("a.rs", "// todo! and #[allow( in prose are fine\nfn not_a_todo!() {}"), 0);
    }

    #[test]
    fn canary_notes() {
        for note in NOTES {
            assert_eq!(found("a.rs", &format!("// {note}: later")), 1, "{note}");
            assert_eq!(found("a.md", &format!("{note} later")), 1, "{note}");
            assert_eq!(found("a.md", &format!("x{note}y")), 0, "{note}");
        }
    }

    #[test]
    fn canary_bare_matches() {
        assert_eq!(found("a.rs", "fn f() { g();\n matches!(x, Some((_, 1))); }"), 1);
        assert_eq!(found("a.rs", "fn f() { assert!(matches!(x, Some(_))); let y = matches!(x, 1); }"), 0);
        assert_eq!(found("a.rs", "fn f() -> bool { matches!(x, 1) }"), 0);
    }
}
