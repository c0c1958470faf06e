//! The replies of one server, as they arrive.

use super::ProtocolError;
use super::framer::Framer;
use crate::limits::REPLY_BYTES_MAX;
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;

/// A reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'b> {
    /// Its bytes.
    Whole(&'b [u8]),
    /// It was longer than [`REPLY_BYTES_MAX`], and was thrown away as it came.
    TooLong,
}

/// Bytes of a server that are not yet a whole reply.
#[derive(Debug)]
pub struct Replies {
    /// What is there of the present reply.
    part: Vec<u8>,
    /// How much of it the framer has taken.
    scanned: usize,
    framer: Framer,
    too_long: bool,
}

impl Default for Replies {
    fn default() -> Replies {
        Replies { part: Vec::new(), scanned: 0, framer: Framer::replies(), too_long: false }
    }
}

impl Replies {
    /// Hands every reply that is whole now to `each`. Those that nobody asked for (RESP3's pushes) are passed over.
    ///
    /// # Errors
    /// When these are no replies.
    pub fn take(&mut self, fresh: &[u8], mut each: impl FnMut(Reply<'_>)) -> Result<(), ProtocolError> {
        let mut joined = std::mem::take(&mut self.part);
        let bytes = if joined.is_empty() {
            fresh
        } else {
            joined.extend_from_slice(fresh);
            &joined[..]
        };
        let mut start = 0;
        let mut at = self.scanned;
        while at < bytes.len() {
            let scanned = self.framer.scan(bytes.get(at..).unwrap_or_default())?;
            at += scanned.bytes;
            if !scanned.whole {
                break;
            }
            let reply = bytes.get(start..at).unwrap_or_default();
            if std::mem::take(&mut self.too_long) {
                each(Reply::TooLong);
            } else if reply.first() != Some(&b'>') {
                each(Reply::Whole(reply));
            }
            start = at;
        }
        self.too_long |= bytes.len() - start > REPLY_BYTES_MAX;
        if self.too_long {
            start = at;
        }
        self.scanned = at - start;
        if joined.is_empty() || start > 0 {
            self.part = bytes.get(start..).unwrap_or_default().to_vec();
        } else {
            self.part = joined;
        }
        Ok(())
    }
}

/// The elements of an array of strings and nulls, each with its own bytes; `None` when the reply is something else.
pub fn elements(reply: &[u8]) -> Option<Vec<&[u8]>> {
    let mut framer = Framer::replies();
    let head = memchr::memchr(b'\n', reply)? + 1;
    let (count, mut at) = (reply.get(1..head)?.trim_ascii(), head);
    let count: usize = std::str::from_utf8(count).ok().filter(|_| reply.first() == Some(&b'*'))?.parse().ok()?;
    let mut found = Vec::new();
    for _ in 0..count {
        let scanned = framer.scan(reply.get(at..)?).ok().filter(|scanned| scanned.whole)?;
        found.push(reply.get(at..at + scanned.bytes)?);
        at += scanned.bytes;
    }
    (at == reply.len()).then_some(found)
}

/// The number that a reply is.
pub fn integer(reply: &[u8]) -> Option<i64> {
    match decode_range(reply) {
        Ok(Some((RangeFrame::Integer(number), bytes))) if bytes == reply.len() => Some(number),
        _ => None,
    }
}

/// The text of an error reply.
pub fn error(reply: &[u8]) -> Option<&[u8]> {
    reply.strip_prefix(b"-")?.strip_suffix(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_in_order_however_they_arrive() {
        let stream = b"+OK\r\n$3\r\na\r\n\r\n>2\r\n+invalidate\r\n*0\r\n*2\r\n:1\r\n$-1\r\n:5\r\n";
        let expected = ["+OK\r\n", "$3\r\na\r\n\r\n", "*2\r\n:1\r\n$-1\r\n", ":5\r\n"];
        for piece in [1, 3, 10, 100] {
            let (mut replies, mut found) = (Replies::default(), Vec::new());
            for part in stream.chunks(piece) {
                let each = |reply: Reply<'_>| match reply {
                    Reply::Whole(bytes) => found.push(String::from_utf8(bytes.to_vec()).unwrap()),
                    Reply::TooLong => panic!("none is"),
                };
                replies.take(part, each).unwrap();
            }
            assert_eq!(found, expected, "pieces of {piece}");
            assert!(replies.part.is_empty());
        }
    }

    #[test]
    fn a_reply_that_is_too_long_is_thrown_away_alone() {
        let (mut replies, mut found) = (Replies::default(), Vec::new());
        let long = REPLY_BYTES_MAX + (1 << 20);
        let mut note = |reply: Reply<'_>| found.push(reply == Reply::TooLong);
        replies.take(format!("+OK\r\n${long}\r\n").as_bytes(), &mut note).unwrap();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..long / piece.len() {
            replies.take(&piece, &mut note).unwrap();
            assert!(replies.part.len() <= REPLY_BYTES_MAX + piece.len());
        }
        replies.take(b"\r\n+OK\r\n", &mut note).unwrap();
        assert_eq!(found, [false, true, false]);
    }

    #[test]
    fn replies_are_understood() {
        assert_eq!(elements(b"*2\r\n$1\r\na\r\n_\r\n").unwrap(), [&b"$1\r\na\r\n"[..], b"_\r\n"]);
        assert_eq!(elements(b"*1\r\n"), None);
        assert_eq!(elements(b"*1\r\n:1\r\n:2\r\n"), None);
        assert_eq!(elements(b"-ERR\r\n"), None);
        assert_eq!((integer(b":-3\r\n"), integer(b"+OK\r\n")), (Some(-3), None));
        assert_eq!((error(b"-ERR x\r\n"), error(b"+OK\r\n")), (Some(&b"ERR x"[..]), None));
    }
}
