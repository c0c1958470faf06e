//! Commands typed as a line: words between spaces, `"quoted \n text"`, `'quoted text'`.

use super::{ProtocolError, write};

/// The line in the array form; `None` when it has no words.
///
/// # Errors
/// When a quote is not closed, or is followed by something other than a space.
pub fn as_array(line: &[u8]) -> Result<Option<Vec<u8>>, ProtocolError> {
    let words = words(line)?;
    if words.is_empty() {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(line.len() + 16 * words.len());
    write::array(&mut out, words.len());
    words.iter().for_each(|word| write::bulk(&mut out, word));
    Ok(Some(out))
}

fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let (mut words, mut bytes) = (Vec::new(), line.iter().copied().peekable());
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        if bytes.peek().is_none() {
            return Ok(words);
        }
        let mut word = Vec::new();
        while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
            match byte {
                b'"' | b'\'' => {
                    quoted(byte, &mut bytes, &mut word)?;
                    if bytes.peek().is_some_and(|next| !next.is_ascii_whitespace()) {
                        return Err(ProtocolError::Quotes);
                    }
                }
                plain => word.push(plain),
            }
        }
        words.push(word);
    }
}

/// Up to the closing `quote`.
fn quoted(
    quote: u8,
    bytes: &mut std::iter::Peekable<impl Iterator<Item = u8>>,
    word: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    loop {
        let byte = bytes.next().ok_or(ProtocolError::Quotes)?;
        if byte == quote {
            return Ok(());
        }
        if byte != b'\\' {
            word.push(byte);
            continue;
        }
        let escaped = bytes.next().ok_or(ProtocolError::Quotes)?;
        match (quote, escaped) {
            (b'\'', b'\'') => word.push(b'\''),
            (b'\'', other) => word.extend([b'\\', other]),
            (_, b'n') => word.push(b'\n'),
            (_, b'r') => word.push(b'\r'),
            (_, b't') => word.push(b'\t'),
            (_, b'a') => word.push(7),
            (_, b'b') => word.push(8),
            (_, b'x') => word.push(hex(bytes)?),
            (_, other) => word.push(other),
        }
    }
}

/// Two hexadecimal digits.
fn hex(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, ProtocolError> {
    let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(ProtocolError::Quotes);
    Ok((digit()? * 16 + digit()?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_at_spaces_outside_quotes() {
        let text = |line: &str| {
            words(line.as_bytes()).map(|w| w.into_iter().map(|w| String::from_utf8(w).unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(text(" get  a \r\n").unwrap(), ["get", "a"]);
        assert_eq!(text("set a \"b \\\"c\\\" \\x41\\n\"").unwrap(), ["set", "a", "b \"c\" A\n"]);
        assert_eq!(text("set a 'b \\' \\n'").unwrap(), ["set", "a", "b ' \\n"]);
        assert_eq!(text("set a ''").unwrap(), ["set", "a", ""]);
        assert_eq!(text("\r\n").unwrap(), Vec::<String>::new());
        for bad in ["get \"a", "get 'a", "get \"a\"b", "get \"\\x4\"", "get \"\\"] {
            assert_eq!(text(bad), Err(ProtocolError::Quotes), "{bad}");
        }
        assert_eq!(as_array(b"get a\r\n").unwrap().unwrap(), b"*2\r\n$3\r\nget\r\n$1\r\na\r\n");
    }
}
