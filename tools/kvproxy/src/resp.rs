//! RESP, versions 2 and 3: where messages end, what commands say, how replies are written.
//!
//! `redis-protocol` reads what is whole. Before it stands [`framer`], since a decoder that starts anew with each piece
//! of a long message takes time in the square of its length, and one that follows nesting by recursion can be made to
//! run out of stack.

pub mod framer;
pub mod inline;
pub mod replies;
pub mod requests;
pub mod write;

/// Which version of the protocol a client asked for with `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The one every connection starts with.
    #[default]
    Two,
    /// Maps and nulls of their own.
    Three,
}

/// What a peer sent that is no RESP, or more than is taken. The connection ends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A length or count that is no number, is negative, or is too large.
    #[error("invalid {what} length")]
    Length {
        /// `bulk` or `multibulk`, as Redis names them.
        what: &'static str,
    },
    /// A command's argument that is no bulk string.
    #[error("expected '$', got '{}'", char::from(*.0).escape_default())]
    Argument(u8),
    /// A reply of no known type.
    #[error("no reply begins with '{}'", char::from(*.0).escape_default())]
    Type(u8),
    /// A line that does not end.
    #[error("too big inline request")]
    Line,
    /// A line or string without its end of line.
    #[error("expected the end of a line")]
    LineEnd,
    /// Arrays in arrays.
    #[error("nested deeper than {0}")]
    Depth(usize),
    /// All of a command.
    #[error("a command of more than {0} bytes")]
    Long(usize),
    /// An inline command with a quote that is not closed.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// The decoder does not agree with the framer.
    #[error("no command")]
    Undecodable,
}
