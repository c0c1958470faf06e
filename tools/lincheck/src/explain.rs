//! From "not linearizable" to the smallest window that shows it.

use crate::check::{Role, problem};
use crate::history::{Kind, Op};
use crate::search::{Verdict, decide};

/// Windows larger than this are not thinned out operation by operation.
const THIN_MAX: usize = 2_000;

struct Window<'o> {
    ops: &'o [&'o Op],
    steps: u64,
}

/// The operations of a smallest window found, by time of call. `ops` are one key's and must be a violation.
pub(crate) fn window(ops: &[&Op], steps: u64) -> Vec<Op> {
    let w = Window { ops, steps };
    let mut roles = w.prefix();
    let any_start = w.suffix(&mut roles);
    w.thin(&mut roles, any_start);
    let read = |value: &Option<String>| {
        let mut gets = ops.iter().zip(&roles).filter(|(op, r)| op.kind == Kind::Get && **r == Role::Required);
        gets.any(|(get, _)| get.value == *value)
    };
    let shown = |op: &Op, role: &Role| match role {
        Role::Required => true,
        Role::Optional => read(&op.value),
        Role::Dropped => false,
    };
    let mut out: Vec<Op> =
        ops.iter().zip(&roles).filter(|(op, role)| shown(op, role)).map(|(op, _)| (*op).clone()).collect();
    out.sort_by_key(|op| (op.call, op.ret));
    out
}

impl Window<'_> {
    fn bad(&self, roles: &[Role], any_start: bool) -> bool {
        decide(&problem(self.ops, roles, any_start), self.steps) == Verdict::Violation
    }

    /// Roles when nobody looks beyond time `end`: what is under way then may or may not have happened.
    fn until(&self, end: u64) -> Vec<Role> {
        let role = |op: &&Op| match Role::of(op) {
            _ if op.call > end => Role::Dropped,
            Role::Required if op.ret.is_none_or(|ret| ret > end) => weaker(op),
            role => role,
        };
        self.ops.iter().map(role).collect()
    }

    /// The shortest bad prefix. A prefix of a good history is good, so bisection finds it.
    fn prefix(&self) -> Vec<Role> {
        let mut ends: Vec<u64> = self.ops.iter().filter_map(|op| op.ret).collect();
        ends.sort_unstable();
        let at = ends.partition_point(|&end| !self.bad(&self.until(end), false));
        ends.get(at).map_or_else(|| self.ops.iter().map(|op| Role::of(op)).collect(), |&end| self.until(end))
    }

    /// Leaves out the longest beginning without which it is still bad, whatever the register held. True when some was.
    fn suffix(&self, roles: &mut Vec<Role>) -> bool {
        let mut starts: Vec<u64> = self.ops.iter().filter_map(|op| op.ret).collect();
        starts.sort_unstable();
        let since = |start: u64| -> Vec<Role> {
            let kept = |op: &Op| op.ret.is_none_or(|ret| ret >= start);
            let first = self.ops.iter().filter(|op| kept(op)).map(|op| op.call).min().unwrap_or(start);
            let role = |(op, role): (&&Op, &Role)| match role {
                Role::Required if kept(op) => Role::Required,
                Role::Required if op.ret.is_some_and(|ret| ret < first) => Role::Dropped,
                Role::Required => weaker(op),
                role => *role,
            };
            self.ops.iter().zip(roles.iter()).map(role).collect()
        };
        let at = starts.partition_point(|&start| self.bad(&since(start), true));
        let Some(&start) = at.checked_sub(1).and_then(|at| starts.get(at)) else { return false };
        let shorter = since(start);
        let holds = self.bad(&shorter, true);
        if holds {
            *roles = shorter;
        }
        holds
    }

    /// Weakens one operation after another as long as the rest is bad by itself.
    fn thin(&self, roles: &mut [Role], any_start: bool) {
        let mut required: Vec<usize> = (0..roles.len()).filter(|&i| roles[i] == Role::Required).collect();
        required.sort_by_key(|&i| self.ops[i].kind != Kind::Get);
        if required.len() > THIN_MAX {
            return;
        }
        for i in required {
            roles[i] = weaker(self.ops[i]);
            if !self.bad(roles, any_start) {
                roles[i] = Role::Required;
            }
        }
    }
}

fn weaker(op: &Op) -> Role {
    if op.kind == Kind::Get { Role::Dropped } else { Role::Optional }
}
