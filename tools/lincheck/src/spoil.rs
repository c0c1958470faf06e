//! Canaries: a good history with one answer edited so that nothing can explain it. A judge that accepts one is blind.

use crate::history::{Kind, Op, Outcome};
use std::collections::BTreeMap;

/// One wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// A read finds the value before the one it must find.
    Stale,
    /// A read finds nothing although a put was acknowledged before and nobody deletes.
    Lost,
    /// A read finds what nobody wrote.
    Phantom,
    /// Two puts, one after the other, were applied at one index.
    SharedVersion,
}

impl Spoil {
    /// All of them.
    pub const ALL: [Spoil; 4] = [Spoil::Stale, Spoil::Lost, Spoil::Phantom, Spoil::SharedVersion];

    /// A copy of `history` with this one wrong answer; `None` when the history offers no place for it.
    pub fn apply(self, history: &[Op]) -> Option<Vec<Op>> {
        let mut keys: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, op) in history.iter().enumerate() {
            keys.entry(&op.key).or_default().push(at);
        }
        let (at, edited) = keys.values().find_map(|of_key| self.edit(history, of_key))?;
        let mut spoilt = history.to_vec();
        *spoilt.get_mut(at)? = edited;
        Some(spoilt)
    }

    /// An operation to edit among those of one key, and what becomes of it.
    fn edit(self, history: &[Op], of_key: &[usize]) -> Option<(usize, Op)> {
        let ops = || of_key.iter().filter_map(|&at| history.get(at));
        let puts: Vec<&Op> = ops().filter(|op| op.kind == Kind::Put && op.outcome == Outcome::Ok).collect();
        let last_before = |time: u64| {
            let before = puts.iter().copied().filter(|put| put.ret.is_some_and(|ret| ret < time));
            before.max_by_key(|put| put.call)
        };
        let is_found = |op: &Op| op.kind == Kind::Get && op.outcome == Outcome::Ok && op.value.is_some();
        of_key.iter().find_map(|&at| {
            let op = history.get(at)?;
            let mut edited = op.clone();
            match self {
                Spoil::Stale if is_found(op) => {
                    let newer = last_before(op.call)?;
                    let older = last_before(newer.call)?;
                    let once = ops().filter(|put| put.kind == Kind::Put && put.value == older.value).count() == 1;
                    (edited.value, edited.version) = once.then(|| (older.value.clone(), older.version))?;
                }
                Spoil::Lost if is_found(op) => {
                    let put = last_before(op.call)?;
                    let apart =
                        |delete: &Op| delete.ret.is_some_and(|ret| ret < put.call) || op.ret < Some(delete.call);
                    let deletes = ops().filter(|other| other.kind == Kind::Delete && other.outcome != Outcome::Failed);
                    (edited.value, edited.version) = deletes.into_iter().all(apart).then_some((None, None))?;
                }
                Spoil::Phantom if is_found(op) => {
                    (edited.value, edited.version) = (Some("nobody wrote this".to_owned()), None);
                }
                Spoil::SharedVersion if op.kind == Kind::Put && op.outcome == Outcome::Ok && op.version().is_some() => {
                    let earlier = last_before(op.call)?;
                    edited.version = Some(earlier.version()?);
                }
                _ => return None,
            }
            Some((at, edited))
        })
    }
}
