//! The two format documents say what the code does: numbers of `wire/src/limits.rs` where PROTOCOL.md states them, and magic
//! strings.

use crate::tree::File;
use crate::{Finding, Tree};

const LIMITS: &str = "wire/src/limits.rs";
const PROTOCOL: &str = "wire/PROTOCOL.md";
const FORMAT: &str = "storage/FORMAT.md";

/// Where PROTOCOL.md states a limit, with `{}` for the number. A limit that is not listed here must be named or stated
/// somewhere on the page.
const STATED: [(&str, &str); 10] = [
    ("VERSION", "Version {}. All numbers little-endian"),
    ("KEY_BYTES_MAX", "key bytes, 1..={}"),
    ("VALUE_BYTES_MAX", "value bytes, at most {}"),
    ("FRAME_BYTES_MAX", "body bytes in this frame, at most {} - 32"),
    ("MESSAGE_BYTES_MAX", "bytes of the whole message, at most {}"),
    ("ENTRY_BODY_BYTES_MAX", "body bytes, at most {}"),
    ("OPERATIONS_MAX", "operations, 1..={}"),
    ("EXPIRY_WINDOW_MS", "refuse an expiry outside (L, L + {}]"),
    ("EXPIRY_DEFAULT_MS", "(at first contact: its own wall clock) plus {}"),
    ("HELLO_TIMEOUT_MS", "exactly its size within {}"),
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let (Some(limits), Some(page)) = (tree.get(LIMITS), tree.get(PROTOCOL)) {
        check_limits(limits, page, &mut findings);
    }
    for path in [PROTOCOL, FORMAT] {
        if let Some(page) = tree.get(path) {
            check_magics(tree, page, &mut findings);
        }
    }
    findings
}

fn check_limits(limits: &File, page: &File, findings: &mut Vec<Finding>) {
    let words = flat(&page.text);
    for (name, value, offset) in constants(limits) {
        let Some(value) = value else {
            findings.push(Finding::new(limits, offset, format!("`{name}`: tidy cannot read this number")));
            continue;
        };
        let spelled = spellings(&name, value);
        let phrase = STATED.iter().find(|(stated, _)| *stated == name).map(|(_, phrase)| *phrase);
        let said = match phrase {
            Some(phrase) => spelled.iter().any(|number| words.contains(&phrase.replace("{}", number))),
            None => words.contains(&name) || spelled.iter().any(|number| has_number(&words, number)),
        };
        if !said {
            let first = spelled.first().cloned().unwrap_or_default();
            let wanted = phrase.map_or(format!("`{name}` or {first}"), |phrase| phrase.replace("{}", &first));
            findings.push(Finding::new(limits, offset, format!("{PROTOCOL} does not say so: `{wanted}` is not on it")));
        }
    }
}

/// The text with line breaks and runs of spaces made one space.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `pub const NAME: type = number;` with the number when it is a literal, a shift or a product of literals.
fn constants(file: &File) -> Vec<(String, Option<u64>, usize)> {
    let mut found = Vec::new();
    for (offset, _) in file.code.match_indices("pub const ") {
        let rest = file.code.get(offset + "pub const ".len()..).unwrap_or_default();
        let Some((name, rest)) = rest.split_once(':') else { continue };
        let Some((_, value)) = rest.split_once('=') else { continue };
        let value = value.split(';').next().unwrap_or_default();
        found.push((name.trim().to_owned(), evaluate(value), offset));
    }
    found
}

fn evaluate(text: &str) -> Option<u64> {
    if let Some((left, right)) = text.split_once("<<") {
        return evaluate(left)?.checked_shl(u32::try_from(evaluate(right)?).ok()?);
    }
    if let Some((left, right)) = text.split_once('*') {
        return evaluate(left)?.checked_mul(evaluate(right)?);
    }
    text.trim().replace('_', "").parse().ok()
}

/// The ways in which a page may write the number.
fn spellings(name: &str, value: u64) -> Vec<String> {
    let mut ways = Vec::new();
    if name.ends_with("_MS") && value.is_multiple_of(1_000) {
        ways.push(format!("{} s", value / 1_000));
    }
    if name.ends_with("_MS") {
        ways.push(format!("{} ms", with_commas(value)));
        return ways;
    }
    for (unit, bytes) in [("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if value >= bytes && value.is_multiple_of(bytes) {
            ways.push(format!("{} {unit}", value / bytes));
        }
    }
    ways.push(with_commas(value));
    ways.push(value.to_string());
    ways
}

fn with_commas(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Whether `number` stands in `words` and is not a part of a longer one.
fn has_number(words: &str, number: &str) -> bool {
    words.match_indices(number).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| words.as_bytes().get(at)).copied();
        let after = words.as_bytes().get(at + number.len()).copied();
        !before.is_some_and(|b| b.is_ascii_digit() || b == b',') && !after.is_some_and(|b| b.is_ascii_digit())
    })
}

/// Every "magic `NAME`" of a page is a byte string in the code beside it.
fn check_magics(tree: &Tree, page: &File, findings: &mut Vec<Finding>) {
    let folder = page.path.split('/').next().unwrap_or_default();
    for (offset, _) in page.text.match_indices("magic `") {
        let rest = page.text.get(offset + "magic `".len()..).unwrap_or_default();
        let magic = rest.split('`').next().unwrap_or_default();
        let literal = format!("b\"{magic}\"");
        let mut code = tree.rust().filter(|file| file.path.starts_with(&format!("{folder}/src/")));
        if !code.any(|file| file.text.contains(&literal)) {
            let what = format!("the magic `{magic}` is nowhere in {folder}/src (as {literal})");
            findings.push(Finding::new(page, offset, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: &str, page: &str) -> usize {
        check(&Tree::of(&[(LIMITS, limit), (PROTOCOL, page)])).len()
    }

    #[test]
    fn canary_limits() {
        assert_eq!(found("pub const KEY_BYTES_MAX: usize = 65_535;", "key bytes,\n 1..=65,535 |"), 0);
        assert_eq!(found("pub const KEY_BYTES_MAX: usize = 65_534;", "key bytes, 1..=65,535 |"), 1);
        assert_eq!(found("pub const VALUE_BYTES_MAX: usize = 16 << 20;", "value bytes, at most 16 MiB"), 0);
        assert_eq!(found("pub const VALUE_BYTES_MAX: usize = 17 << 20;", "value bytes, at most 16 MiB"), 1);
        assert_eq!(found("pub const HELLO_TIMEOUT_MS: u64 = 3_000;", "exactly its size within 2 s"), 1);
        assert_eq!(found("pub const NEW: u64 = 77;", "177 and 770"), 1);
        assert_eq!(found("pub const NEW: u64 = 77;", "77 of them"), 0);
        assert_eq!(found("pub const ODD: u64 = other();", "77"), 1);
    }

    #[test]
    fn canary_magics() {
        let with =
            |code: &str| check(&Tree::of(&[(FORMAT, "| 4 | magic `RKLB` |"), ("storage/src/wal.rs", code)])).len();
        assert_eq!(with("const MAGIC: [u8; 4] = *b\"RKLB\";"), 0);
        assert_eq!(with("const MAGIC: [u8; 4] = *b\"RKLC\";"), 1);
    }
}
