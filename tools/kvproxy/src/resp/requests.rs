//! The commands of one client, as they arrive.

use super::framer::Framer;
use super::{ProtocolError, inline};
use crate::limits::COMMAND_BYTES_MAX;
use bytes::Bytes;
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;
use smallvec::SmallVec;

/// A whole command.
#[derive(Debug)]
pub struct Command<'b> {
    /// Its bytes in the array form.
    pub raw: &'b [u8],
    args: Args<'b>,
}

type Args<'b> = SmallVec<[&'b [u8]; 8]>;

impl<'b> Command<'b> {
    /// Its name in whatever case it came.
    pub fn name(&self) -> &'b [u8] {
        self.arg(0).unwrap_or_default()
    }

    /// Argument `at`; 0 is the name.
    pub fn arg(&self, at: usize) -> Option<&'b [u8]> {
        self.args.get(at).copied()
    }

    /// All arguments, the name first.
    pub fn args(&self) -> &[&'b [u8]] {
        &self.args
    }

    /// A copy of an argument of its own, the empty one when there is none.
    pub fn owned(&self, at: usize) -> Bytes {
        Bytes::copy_from_slice(self.arg(at).unwrap_or_default())
    }
}

/// Bytes of a client that are not yet taken as commands.
#[derive(Debug)]
pub struct Requests {
    bytes: Vec<u8>,
    /// Start of the present command.
    start: usize,
    /// End of what the framer has taken of it.
    scanned: usize,
    framer: Framer,
}

impl Default for Requests {
    fn default() -> Requests {
        let framer = Framer::requests(COMMAND_BYTES_MAX as u64);
        Requests { bytes: Vec::new(), start: 0, scanned: 0, framer }
    }
}

impl Requests {
    /// Bytes that came.
    pub fn push(&mut self, fresh: &[u8]) {
        if self.start == self.bytes.len() {
            self.clear();
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(fresh);
    }

    /// The bytes it holds in memory.
    pub fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives memory back when nothing is left. To be called when no more commands are there.
    pub fn settle(&mut self) {
        if self.start == self.bytes.len() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.bytes = Vec::new();
        (self.start, self.scanned) = (0, 0);
    }

    /// Hands the next whole command to `take`; false when there is none. Empty lines and empty arrays are passed over,
    /// as Redis does.
    ///
    /// # Errors
    /// When the bytes are no command: the connection cannot go on.
    pub fn next(&mut self, take: impl FnOnce(&Command<'_>)) -> Result<bool, ProtocolError> {
        loop {
            if self.scanned == self.bytes.len() {
                return Ok(false);
            }
            let scanned = self.framer.scan(self.bytes.get(self.scanned..).unwrap_or_default())?;
            self.scanned += scanned.bytes;
            let long = if scanned.whole { self.scanned } else { self.bytes.len() } - self.start > COMMAND_BYTES_MAX;
            if long {
                return Err(ProtocolError::Long(COMMAND_BYTES_MAX));
            }
            if !scanned.whole {
                return Ok(false);
            }
            let raw = self.bytes.get(self.start..self.scanned).unwrap_or_default();
            self.start = self.scanned;
            if raw.first() == Some(&b'*') {
                let command = Command { raw, args: decode(raw)? };
                if !command.args.is_empty() {
                    take(&command);
                    return Ok(true);
                }
            } else if let Some(raw) = inline::as_array(raw)? {
                take(&Command { raw: &raw, args: decode(&raw)? });
                return Ok(true);
            }
        }
    }
}

/// The arguments of a command in the array form.
fn decode(raw: &[u8]) -> Result<Args<'_>, ProtocolError> {
    match decode_range(raw) {
        Ok(Some((RangeFrame::Array(elements), bytes))) if bytes == raw.len() => {
            let text = |element: &RangeFrame| match element {
                RangeFrame::BulkString((from, to)) => raw.get(*from..*to),
                _ => None,
            };
            elements.iter().map(text).collect::<Option<Args<'_>>>().ok_or(ProtocolError::Undecodable)
        }
        Ok(Some((RangeFrame::Null, _))) => Ok(Args::new()),
        _ => Err(ProtocolError::Undecodable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(stream: &[u8], piece: usize) -> Result<Vec<Vec<String>>, ProtocolError> {
        let (mut requests, mut found) = (Requests::default(), Vec::new());
        for part in stream.chunks(piece) {
            requests.push(part);
            while requests.next(|command| {
                found.push(command.args().iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect());
            })? {}
            requests.settle();
        }
        assert_eq!(requests.held(), 0, "all was taken");
        Ok(found)
    }

    #[test]
    fn pipelines_of_both_forms_are_read_in_order() {
        let stream = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n\r\nSET a 'b c'\r\n*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n";
        let expected = vec![vec!["GET", "a"], vec!["SET", "a", "b c"], vec!["PING"]];
        for piece in [1, 2, 5, 1000] {
            assert_eq!(commands(stream, piece).unwrap(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn many_small_strings_cannot_make_a_command_longer_than_allowed() {
        let mut requests = Requests::default();
        requests.push(format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${COMMAND_BYTES_MAX}\r\n").as_bytes());
        let piece = vec![b'x'; 1 << 20];
        let mut pushed = 0;
        let error = loop {
            requests.push(&piece);
            pushed += piece.len();
            match requests.next(|_| ()) {
                Ok(more) => assert!(!more),
                Err(error) => break error,
            }
        };
        assert_eq!(error, ProtocolError::Long(COMMAND_BYTES_MAX));
        assert!(pushed <= COMMAND_BYTES_MAX, "{pushed} bytes were taken");
    }
}
