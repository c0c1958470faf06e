//! Where each function starts and ends.

use crate::tree::File;

/// One function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name alone.
    pub name: String,
    /// Byte offset of `fn`.
    pub offset: usize,
    /// Lines from the `fn` to the closing brace, both counted.
    pub lines: usize,
}

/// The functions of a Rust file, nested ones too.
pub fn functions(file: &File) -> Vec<Function> {
    let code = file.code.as_str();
    let mut found = Vec::new();
    for (offset, _) in code.match_indices("fn ") {
        if is_word_byte(code.as_bytes().get(offset.wrapping_sub(1)).copied()) {
            continue;
        }
        let after = code.get(offset + 3..).unwrap_or_default();
        let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(after) {
            let body = after.get(..end).unwrap_or_default();
            found.push(Function { name, offset, lines: body.matches('\n').count() + 1 });
        }
    }
    found
}

/// End of the body in `after` (the text behind `fn `), or `None` for a signature alone.
fn body_end(after: &str) -> Option<usize> {
    let mut round = 0i32;
    let mut open = None;
    for (at, byte) in after.bytes().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b';' if round == 0 => return None,
            b'{' if round == 0 => {
                open = Some(at);
                break;
            }
            _ => {}
        }
    }
    closing_brace(after, open?)
}

/// The offset behind the brace that closes the one at `open`.
pub fn closing_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Whether `byte` can stand inside a word.
pub fn is_word_byte(byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_counted_from_fn_to_brace() {
        let file = File::new("a.rs", "trait T {\n  fn a();\n  fn b(x: [u8; 2]) -> u8\n  {\n  1 }\n}\nlet f: fn(u8);\n");
        assert_eq!(functions(&file), vec![Function { name: "b".into(), offset: 22, lines: 3 }]);
    }
}
