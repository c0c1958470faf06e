//! What clients and servers of the Redis protocol send to the proxy.

use kvproxy::resp::ProtocolError;
use kvproxy::resp::replies::{self, Replies, Reply};
use kvproxy::resp::requests::Requests;

/// Commands and the error behind them, when they arrive in pieces of so many bytes.
fn commands(stream: &[u8], piece: usize) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let (mut requests, mut found) = (Requests::default(), Vec::new());
    for part in stream.chunks(piece) {
        requests.push(part);
        loop {
            match requests.next(|command| found.push(command.args().iter().map(|arg| arg.to_vec()).collect())) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        requests.settle();
        assert!(
            requests.held() <= 2 * stream.len() + 64,
            "memory is taken for bytes that came, not for what they announce"
        );
    }
    (found, None)
}

/// Replies, whether an error followed, when they arrive in pieces of so many bytes.
fn answers(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut replies, mut found) = (Replies::default(), Vec::new());
    for part in stream.chunks(piece) {
        let each = |reply: Reply<'_>| match reply {
            Reply::Whole(bytes) => found.push(bytes.to_vec()),
            Reply::TooLong => panic!("none of these is long"),
        };
        if replies.take(part, each).is_err() {
            return (found, true);
        }
    }
    (found, false)
}

/// A stream of commands, and of replies. First byte: the size of the pieces in which it arrives. However it arrives, the
/// same commands and replies come out, up to the same error.
pub fn resp(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let piece = usize::from(*piece) + 1;
    let (whole, pieces) = (commands(stream, stream.len().max(1)), commands(stream, piece));
    assert_eq!(whole, pieces, "commands hang on how they arrive");
    let (whole, pieces) = (answers(stream, stream.len().max(1)), answers(stream, piece));
    assert_eq!(whole, pieces, "replies hang on how they arrive");
    for reply in whole.0 {
        if let Some(elements) = replies::elements(&reply) {
            assert!(elements.iter().map(|element| element.len()).sum::<usize>() < reply.len());
        }
        assert!(replies::integer(&reply).is_none() || reply.starts_with(b":"));
    }
}

/// What fuzzing starts from.
pub fn seeds() -> Vec<Vec<u8>> {
    let streams = [
        &b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\x00\r\n\xff\r\n"[..],
        b"PING\r\nSET a \"b \\x41\\n\" 'c\\''\r\n\r\n*0\r\n*-1\r\n",
        b"+OK\r\n:5\r\n$-1\r\n*2\r\n$1\r\na\r\n*1\r\n_\r\n%1\r\n+a\r\n#t\r\n>1\r\n+push\r\n",
        b"|1\r\n+ttl\r\n:3\r\n~2\r\n,1.5\r\n(3492890328409238509324850943850943825024385\r\n=7\r\ntxt:abc\r\n!3\r\nERR\r\n",
        b"*1\r\n$-1\r\n",
        b"*99999999999\r\n$5\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    ];
    let pieced = |stream: &&[u8]| [0, 2, 100].map(|piece| [&[piece], *stream].concat());
    streams.iter().flat_map(pieced).collect()
}
