//! Replies and commands, written.

use super::Version;

/// The head of a reply of so many elements.
pub fn array(out: &mut Vec<u8>, elements: usize) {
    head(out, b'*', elements);
}

/// The head of a map of so many pairs; version 2 knows only arrays.
pub fn map(out: &mut Vec<u8>, version: Version, pairs: usize) {
    match version {
        Version::Two => head(out, b'*', pairs * 2),
        Version::Three => head(out, b'%', pairs),
    }
}

/// A string of any bytes.
pub fn bulk(out: &mut Vec<u8>, text: &[u8]) {
    head(out, b'$', text.len());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// Text for people: a string that version 3 marks as such.
pub fn text(out: &mut Vec<u8>, version: Version, text: &str) {
    match version {
        Version::Two => bulk(out, text.as_bytes()),
        Version::Three => {
            head(out, b'=', text.len() + 4);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// That there is nothing.
pub fn null(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Two => b"$-1\r\n",
        Version::Three => b"_\r\n",
    });
}

/// A number.
pub fn integer(out: &mut Vec<u8>, number: i64) {
    line(out, b':', number.to_string().as_bytes());
}

/// A word without line ends, such as `OK`.
pub fn simple(out: &mut Vec<u8>, word: &str) {
    line(out, b'+', word.as_bytes());
}

/// An error; its first word is its kind. What would break the line becomes spaces.
pub fn error(out: &mut Vec<u8>, what: &str) {
    let safe: Vec<u8> = what.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }).collect();
    line(out, b'-', &safe);
}

/// An error as a reply of its own.
pub fn error_reply(what: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(what.len() + 3);
    error(&mut out, what);
    out
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn head(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    // Through a buffer on the stack: heads are written for every value.
    let (mut digits, mut at, mut rest) = ([0; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_the_same_in_their_own_way() {
        let said = |version| {
            let mut out = Vec::new();
            map(&mut out, version, 1);
            text(&mut out, version, "hi");
            null(&mut out, version);
            integer(&mut out, -7);
            simple(&mut out, "OK");
            bulk(&mut out, &[b'x'; 10]);
            error(&mut out, "ERR a\r\nb");
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(Version::Two), "*2\r\n$2\r\nhi\r\n$-1\r\n:-7\r\n+OK\r\n$10\r\nxxxxxxxxxx\r\n-ERR a  b\r\n");
        assert_eq!(said(Version::Three), "%1\r\n=6\r\ntxt:hi\r\n_\r\n:-7\r\n+OK\r\n$10\r\nxxxxxxxxxx\r\n-ERR a  b\r\n");
    }
}
