//! Where a message ends, found piece by piece: every byte is looked at once, nothing is allocated for what a peer
//! announces, nothing recurses.

use super::ProtocolError;
use crate::limits::{ARGUMENTS_MAX, DEPTH_MAX, LINE_BYTES_MAX};
use memchr::memchr;

/// What is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Arrays of bulk strings, or a line.
    Requests,
    /// Anything.
    Replies,
}

/// How far a message was followed.
#[derive(Debug)]
pub struct Framer {
    side: Side,
    bulk_bytes_max: u64,
    /// Of each array that is open: elements still to come.
    open: Vec<u64>,
    /// Bytes of the present string, its end of line among them, still to come.
    skip: u64,
    /// Something of the message has been taken.
    begun: bool,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Bytes that need not be looked at again.
    pub bytes: usize,
    /// They end with the end of a message.
    pub whole: bool,
}

impl Framer {
    /// For commands: an array of at most [`ARGUMENTS_MAX`] strings of at most `bulk_bytes_max` bytes, or a line.
    pub fn requests(bulk_bytes_max: u64) -> Framer {
        Framer { side: Side::Requests, bulk_bytes_max, open: Vec::new(), skip: 0, begun: false }
    }

    /// For replies of either version, but for RESP3's streams of unknown length, which no server sends.
    pub fn replies() -> Framer {
        Framer { side: Side::Replies, bulk_bytes_max: 1 << 40, open: Vec::new(), skip: 0, begun: false }
    }

    /// Looks at bytes which follow those that an earlier scan has taken, up to the end of a message. After a whole one it
    /// is ready for the next.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, ProtocolError> {
        let mut at = 0;
        loop {
            if self.skip > 0 {
                let here = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += here;
                self.skip -= here as u64;
                if self.skip > 0 {
                    return Ok(Scanned { bytes: at, whole: false });
                }
                if !bytes[..at].ends_with(b"\n") {
                    return Err(ProtocolError::LineEnd);
                }
            } else {
                let rest = bytes.get(at..).unwrap_or_default();
                let end = memchr(b'\n', rest);
                if end.unwrap_or(rest.len()) > LINE_BYTES_MAX {
                    return Err(ProtocolError::Line);
                }
                let Some(end) = end else { return Ok(Scanned { bytes: at, whole: false }) };
                self.line(rest.get(..end).unwrap_or_default())?;
                at += end + 1;
                if self.skip > 0 {
                    continue;
                }
            }
            if self.close() {
                self.begun = false;
                return Ok(Scanned { bytes: at, whole: true });
            }
        }
    }

    /// Takes finished arrays off; whether the message is whole.
    fn close(&mut self) -> bool {
        while self.open.last() == Some(&0) {
            self.open.pop();
        }
        self.open.is_empty()
    }

    /// A line, without its end: an element, or the head of one.
    fn line(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        let first = !std::mem::replace(&mut self.begun, true);
        let inline = self.side == Side::Requests && first && line.first() != Some(&b'*');
        if inline {
            return Ok(());
        }
        let (&[kind, ref text @ ..], Some(b'\r')) = (line.strip_suffix(b"\r").unwrap_or(line), line.last()) else {
            return Err(ProtocolError::LineEnd);
        };
        if self.side == Side::Requests && !first && kind != b'$' {
            return Err(ProtocolError::Argument(kind));
        }
        if kind != b'|' {
            self.open.last_mut().into_iter().for_each(|left| *left -= 1);
        }
        match kind {
            b'$' | b'=' | b'!' => self.string(text),
            b'*' | b'~' | b'>' => self.array(text, 1),
            b'%' => self.array(text, 2),
            // An attribute stands before the value that it belongs to.
            b'|' if self.open.is_empty() => self.array(text, 2).map(|()| self.widen()),
            b'|' => self.array(text, 2),
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(()),
            other => Err(ProtocolError::Type(other)),
        }
    }

    /// The outermost attribute takes its value in, so that both are one message.
    fn widen(&mut self) {
        self.open.last_mut().into_iter().for_each(|left| *left += 1);
    }

    fn string(&mut self, text: &[u8]) -> Result<(), ProtocolError> {
        let wrong = ProtocolError::Length { what: "bulk" };
        match number(text) {
            Some(bytes) if bytes <= self.bulk_bytes_max => self.skip = bytes + 2,
            None if text == b"-1" && self.side == Side::Replies => {}
            _ => return Err(wrong),
        }
        Ok(())
    }

    fn array(&mut self, text: &[u8], each: u64) -> Result<(), ProtocolError> {
        let wrong = ProtocolError::Length { what: "multibulk" };
        let most = if self.side == Side::Requests { ARGUMENTS_MAX as u64 } else { 1 << 40 };
        let count = match number(text) {
            Some(count) if count <= most => count,
            None if text == b"-1" => 0,
            _ => return Err(wrong),
        };
        if self.open.len() >= DEPTH_MAX {
            return Err(ProtocolError::Depth(DEPTH_MAX));
        }
        self.open.push(count * each);
        Ok(())
    }
}

/// A number of decimal digits, nothing else.
fn number(text: &[u8]) -> Option<u64> {
    let digit = |sum: u64, byte: &u8| {
        let value = byte.checked_sub(b'0').filter(|value| *value <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(value))
    };
    (!text.is_empty()).then(|| text.iter().try_fold(0, digit)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the messages in `stream`, which arrives in pieces of `piece` bytes, and the error behind them.
    fn lengths(mut framer: Framer, stream: &[u8], piece: usize) -> (Vec<usize>, Option<ProtocolError>) {
        let (mut found, mut start, mut taken, mut there) = (Vec::new(), 0, 0, 0);
        while there < stream.len() {
            there = (there + piece).min(stream.len());
            loop {
                match framer.scan(&stream[taken..there]) {
                    Err(error) => return (found, Some(error)),
                    Ok(scanned) => taken += scanned.bytes,
                }
                if framer.begun || taken == start {
                    break;
                }
                found.push(taken - start);
                start = taken;
            }
        }
        (found, None)
    }

    #[test]
    fn messages_end_where_they_end_however_they_arrive() {
        let requests =
            [&b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n"[..], b"PING\r\n", b"*0\r\n", b"*1\r\n$0\r\n\r\n", b"*-1\r\n"];
        let replies = [
            &b"+OK\r\n"[..],
            b"$-1\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:5\r\n",
            b"%1\r\n+a\r\n_\r\n",
            b"*0\r\n",
            b"|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n",
            b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n",
            b"*-1\r\n",
        ];
        for piece in [1, 2, 3, 7, 100] {
            for (framer, messages) in
                [(Framer::requests as fn(u64) -> Framer, &requests[..]), (|_| Framer::replies(), &replies[..])]
            {
                let stream = messages.concat();
                let expected: Vec<usize> = messages.iter().map(|message| message.len()).collect();
                assert_eq!(lengths(framer(100), &stream, piece), (expected, None), "pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_refused_at_its_head() {
        let bulk = ProtocolError::Length { what: "bulk" };
        let multibulk = ProtocolError::Length { what: "multibulk" };
        for (bytes, error) in [
            (&b"*1\r\n$-1\r\n"[..], bulk.clone()),
            (b"*1\r\n$101\r\n", bulk.clone()),
            (b"*1\r\n$99999999999999999999999\r\n", bulk.clone()),
            (b"*1\r\n$+3\r\n", bulk.clone()),
            (b"*1\r\n$\r\n", bulk),
            (b"*65537\r\n", multibulk.clone()),
            (b"*-2\r\n", multibulk.clone()),
            (b"*many\r\n", multibulk),
            (b"*1\r\n*1\r\n", ProtocolError::Argument(b'*')),
            (b"*1\r\n:1\r\n", ProtocolError::Argument(b':')),
            (b"*1\r\n$1\r\nabc", ProtocolError::LineEnd),
            (b"*1\n", ProtocolError::LineEnd),
        ] {
            let found = lengths(Framer::requests(100), bytes, bytes.len());
            assert_eq!(found, (vec![], Some(error)), "{}", bytes.escape_ascii());
        }
        let deep = b"*1\r\n".repeat(DEPTH_MAX + 1);
        assert_eq!(lengths(Framer::replies(), &deep, 1).1, Some(ProtocolError::Depth(DEPTH_MAX)));
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(lengths(Framer::requests(100), &endless, 1000).1, Some(ProtocolError::Line));
    }
}
