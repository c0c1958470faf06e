//! Commands, as far as a cluster has the operations for them.

use crate::resp::requests::Command;
use crate::ring::{printable, wrong_arguments};
use bytes::Bytes;

/// What a command asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A key's value.
    Get(Bytes),
    /// How long it is.
    Strlen(Bytes),
    /// The values of keys.
    Mget(Vec<Bytes>),
    /// How many of these are there; one that is named twice counts twice.
    Exists(Vec<Bytes>),
    /// Sets keys.
    Set(Vec<(Bytes, Bytes)>),
    /// Removes keys, and says how many were there.
    Remove(Vec<Bytes>),
}

/// What the command asks; `None` when the proxy does not know it, the error when it is wrong.
pub fn parse(command: &Command<'_>) -> Option<Result<Op, String>> {
    let mut upper = [0; 8];
    let upper = upper.get_mut(..command.name().len())?;
    upper.copy_from_slice(command.name());
    upper.make_ascii_uppercase();
    let keys = || command.args().iter().skip(1).map(|key| Bytes::copy_from_slice(key)).collect();
    let wrong = || Err(wrong_arguments(command.name()));
    let arguments = command.args().len() - 1;
    Some(match (&*upper, arguments) {
        (b"GET", 1) => Ok(Op::Get(command.owned(1))),
        (b"SET", 2) => Ok(Op::Set(vec![(command.owned(1), command.owned(2))])),
        (b"SET", 3..) => {
            Err(format!("ERR SET: the option '{}' does not exist here", printable(command.arg(3).unwrap_or_default())))
        }
        (b"STRLEN", 1) => Ok(Op::Strlen(command.owned(1))),
        (b"MGET", 1..) => Ok(Op::Mget(keys())),
        (b"EXISTS", 1..) => Ok(Op::Exists(keys())),
        (b"DEL" | b"UNLINK", 1..) => Ok(Op::Remove(keys())),
        (b"MSET", 2..) if arguments.is_multiple_of(2) => {
            let pairs = (1..arguments).step_by(2).map(|at| (command.owned(at), command.owned(at + 1)));
            Ok(Op::Set(pairs.collect()))
        }
        (b"GET" | b"SET" | b"STRLEN" | b"MGET" | b"EXISTS" | b"DEL" | b"UNLINK" | b"MSET", _) => wrong(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::requests::Requests;

    fn parsed(line: &str) -> Option<Result<Op, String>> {
        let (mut requests, mut found) = (Requests::default(), None);
        requests.push(format!("{line}\r\n").as_bytes());
        requests.next(|command| found = parse(command)).unwrap();
        found
    }

    #[test]
    fn commands_are_understood_or_refused() {
        assert_eq!(parsed("get a"), Some(Ok(Op::Get("a".into()))));
        assert_eq!(parsed("Mset a 1 b 2"), Some(Ok(Op::Set(vec![("a".into(), "1".into()), ("b".into(), "2".into())]))));
        assert_eq!(parsed("unlink a a"), Some(Ok(Op::Remove(vec!["a".into(), "a".into()]))));
        for wrong in ["get", "get a b", "set a", "mset a", "mset a 1 b", "del", "strlen", "set a b ex 5", "set a b nx"]
        {
            assert!(matches!(parsed(wrong), Some(Err(text)) if text.starts_with("ERR ")), "{wrong}");
        }
        for unknown in ["incr a", "touch a", "getset a b", "averyverylongname a"] {
            assert_eq!(parsed(unknown), None, "{unknown}");
        }
    }
}
