//! No acknowledged write is lost: said directly, beside what linearizability implies.

use lincheck::{Kind, Op, Outcome};
use std::collections::BTreeMap;

#[derive(Default)]
struct Key<'o> {
    /// The last read that was answered.
    last: Option<&'o Op>,
    writes: Vec<&'o Op>,
}

/// Keys whose last answered read, made after their writes, shows less than was acknowledged.
pub fn lost_writes(history: &[Op]) -> Vec<String> {
    let mut keys: BTreeMap<&str, Key> = BTreeMap::new();
    for op in history {
        let key = keys.entry(&op.key).or_default();
        match (op.kind, op.outcome) {
            (Kind::Get, Outcome::Ok) if key.last.is_none_or(|last| last.call < op.call) => key.last = Some(op),
            (Kind::Get, _) | (_, Outcome::Failed) => {}
            _ => key.writes.push(op),
        }
    }
    keys.iter().filter_map(|(name, key)| lost(name, key)).collect()
}

fn lost(name: &str, key: &Key) -> Option<String> {
    let last = key.last?;
    let before = key.writes.iter().filter(|w| w.outcome == Outcome::Ok && w.ret.is_some_and(|ret| ret < last.call));
    let write = before.max_by_key(|write| write.version)?;
    let version = write.version?;
    let explained = match (&last.value, last.version) {
        (Some(_), Some(found)) => found >= version,
        // Absent: by this very delete, or by one that nobody heard the end of.
        _ => {
            let deletes =
                |w: &&Op| w.kind == Kind::Delete && (w.outcome == Outcome::Unknown || w.version >= write.version);
            key.writes.iter().copied().any(|w| deletes(&w))
        }
    };
    let found = last.version;
    (!explained).then(|| format!("acknowledged and lost: {name} at version {version}: the last read found {found:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(kind: Kind, at: u64, outcome: Outcome, version: Option<u64>) -> Op {
        let value = match kind {
            Kind::Put => Some(format!("v{at}")),
            Kind::Get => version.map(|version| format!("w{version}")),
            Kind::Delete => None,
        };
        let ret = (outcome != Outcome::Unknown).then_some(at + 1);
        Op { client: 1, key: "k".into(), kind, value, call: at, ret, outcome, version, shard: None }
    }

    #[test]
    fn a_lost_write_is_named_and_an_overwritten_one_is_not() {
        use Kind::{Delete, Get, Put};
        use Outcome::{Ok, Unknown};
        let wrong: [&[Op]; 3] = [
            &[op(Put, 0, Ok, Some(3)), op(Get, 10, Ok, None)],
            &[op(Put, 0, Ok, Some(3)), op(Put, 4, Ok, Some(5)), op(Get, 10, Ok, Some(3))],
            &[op(Delete, 0, Ok, Some(4)), op(Put, 4, Ok, Some(5)), op(Get, 10, Ok, None)],
        ];
        assert!(wrong.iter().all(|history| lost_writes(history).len() == 1));
        let right: [&[Op]; 5] = [
            &[op(Put, 0, Ok, Some(3)), op(Get, 10, Ok, Some(3))],
            &[op(Put, 0, Ok, Some(3)), op(Get, 10, Ok, Some(9))],
            &[op(Put, 0, Ok, Some(3)), op(Delete, 4, Ok, Some(5)), op(Get, 10, Ok, None)],
            &[op(Put, 0, Ok, Some(3)), op(Delete, 4, Unknown, None), op(Get, 10, Ok, None)],
            // Still under way when the read was asked.
            &[op(Get, 0, Ok, None), op(Put, 0, Ok, Some(3))],
        ];
        for history in right {
            assert_eq!(lost_writes(history), Vec::<String>::new());
        }
    }
}
