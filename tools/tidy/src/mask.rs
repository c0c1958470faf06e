//! Blanks what is not code: comments, strings, character literals. Bytes keep their places, newlines stay.

/// `text` with everything that is not code replaced by spaces, byte for byte.
pub fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let previous = out.chars().next_back();
        let blank = skipped(rest, previous);
        if blank > 0 {
            let (gone, after) = rest.split_at(blank);
            out.extend(gone.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            rest = after;
        } else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    assert_eq!(out.len(), text.len(), "masking must keep every byte in its place");
    out
}

/// Bytes at the start of `rest` that are a comment or a literal, 0 when it starts with code.
fn skipped(rest: &str, previous: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return string(rest);
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    let in_word = previous.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word { raw_string(rest) } else { 0 }
}

fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the string literal that opens `rest` with its quotes.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Length of the character literal that opens `rest`; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            rest.get(from..).and_then(|tail| tail.find('\'')).map_or(0, |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Length of the raw string (`r"`, `br#"`, ..) that opens `rest`; 0 when none does.
fn raw_string(rest: &str) -> usize {
    let prefix = if rest.starts_with('r') {
        1
    } else if rest.starts_with("br") || rest.starts_with("cr") {
        2
    } else {
        return 0;
    };
    let hashes = rest.bytes().skip(prefix).take_while(|byte| *byte == b'#').count();
    let open = prefix + hashes;
    if rest.as_bytes().get(open) != Some(&b'"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    rest.get(open + 1..).and_then(|tail| tail.find(&close)).map_or(rest.len(), |end| open + 1 + end + close.len())
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn what_is_not_code_is_blanked_in_place() {
        assert_eq!(code("a // b {\nc"), "a       \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"f("x \" {", 1)"#), "f(        , 1)");
        assert_eq!(code("let c = '{'; let d: &'a str = '\\'';"), "let c =    ; let d: &'a str =     ;");
        assert_eq!(code("r#\"a \" b\"# x"), "           x");
        assert_eq!(code("br\"a\" r#type bar"), "      r#type bar");
        assert_eq!(code("'§' é").len(), "'§' é".len());
    }
}
