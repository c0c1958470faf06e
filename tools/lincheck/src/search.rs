//! The search for an order, for one register (Wing and Gong 1993; Lowe 2017; Porcupine).
//!
//! Operations that must be in the order are **required**; writes of unknown outcome are **optional**. A depth-first search
//! takes one operation after another among those whose call lies before the earliest return still waiting, and remembers
//! every set it has been in with the value it ended on. Four facts about registers keep it small:
//!
//! 1. A read that fits the present value is taken at once: moving it forward disturbs nobody.
//! 2. An optional write matters only when a read of its value follows it directly, so it is taken together with one; equal
//!    optional writes are interchangeable, so the one called first is taken.
//! 3. A required write whose value nobody has yet to read is taken just before some other write, or alone.
//! 4. A value that is still to be read and that nobody can write again must not be overwritten.

use std::collections::HashSet;

/// A value's number in one problem; 0 is "absent".
pub(crate) type ValueId = u32;
pub(crate) const ABSENT: ValueId = 0;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Write(ValueId),
    Read(ValueId),
}

/// A required operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub call: u64,
    pub ret: u64,
    pub action: Action,
    /// Writes are tried in this order first: the version when there is one.
    pub hint: u64,
}

/// One register's history.
pub(crate) struct Problem {
    pub required: Vec<Item>,
    /// Optional writes: (value, call).
    pub optional: Vec<(ValueId, u64)>,
    /// Values are numbered below this.
    pub values: usize,
    /// Whether the register may hold anything at first (else it is absent).
    pub any_start: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    Violation,
    /// The search was given up.
    Undecided,
}

/// Decides `problem`, looking at no more than `steps` sets.
pub(crate) fn decide(problem: &Problem, steps: u64) -> Verdict {
    Search::new(problem).run(steps)
}

#[derive(Clone, Copy)]
enum Move {
    /// Take this required write.
    Write(usize),
    /// Take an optional write, then this read of its value.
    Optional(usize),
    /// Take only writes that nobody has yet to read.
    Unread,
    /// The register held this at first.
    Assume(ValueId),
}

enum Done {
    Lifted(usize),
    Optional(ValueId),
}

struct Frame {
    mark: usize,
    state: ValueId,
    moves: Vec<Move>,
    next: usize,
}

struct Search<'p> {
    problem: &'p Problem,
    /// A list of calls and returns in time order: node 0 the head, 2i + 1 the call of operation i, 2i + 2 its return.
    next: Vec<u32>,
    prev: Vec<u32>,
    end: u32,
    taken: Vec<u64>,
    left: usize,
    readers: Vec<u32>,
    writers: Vec<u32>,
    /// Per value: calls of its optional writes, ascending, and how many are used.
    optional: Vec<(Vec<u64>, usize)>,
    trail: Vec<Done>,
    seen: HashSet<Box<[u64]>>,
}

impl<'p> Search<'p> {
    fn new(problem: &'p Problem) -> Search<'p> {
        let n = problem.required.len();
        let mut events: Vec<(u64, bool, u32)> = Vec::with_capacity(2 * n);
        for (i, item) in problem.required.iter().enumerate() {
            assert!(item.call <= item.ret, "an operation returns before its call");
            events.push((item.call, false, 2 * i as u32 + 1));
            events.push((item.ret, true, 2 * i as u32 + 2));
        }
        events.sort_unstable();
        let end = 2 * n as u32 + 1;
        let (mut next, mut prev) = (vec![end; 2 * n + 2], vec![0; 2 * n + 2]);
        let mut last = 0;
        for &(_, _, node) in &events {
            next[last as usize] = node;
            prev[node as usize] = last;
            last = node;
        }
        next[last as usize] = end;
        prev[end as usize] = last;
        // Two values beyond the history's own: "unread" and "anything".
        let (mut readers, mut writers) = (vec![0; problem.values + 2], vec![0; problem.values + 2]);
        for item in &problem.required {
            match item.action {
                Action::Write(v) => writers[v as usize] += 1,
                Action::Read(v) => readers[v as usize] += 1,
            }
        }
        let mut optional = vec![(Vec::new(), 0); problem.values];
        for &(v, call) in problem.optional.iter().filter(|(v, _)| readers[*v as usize] > 0) {
            writers[v as usize] += 1;
            optional[v as usize].0.push(call);
        }
        optional.iter_mut().for_each(|(calls, _)| calls.sort_unstable());
        let taken = vec![0; n.div_ceil(64)];
        let (trail, seen) = (Vec::new(), HashSet::new());
        Search { problem, next, prev, end, taken, left: n, readers, writers, optional, trail, seen }
    }

    /// The value that nobody has yet to read.
    fn unread(&self) -> ValueId {
        self.problem.values as ValueId
    }
    /// Any value: only at the start.
    fn anything(&self) -> ValueId {
        self.problem.values as ValueId + 1
    }

    fn run(mut self, steps: u64) -> Verdict {
        let mut stack: Vec<Frame> = Vec::new();
        let mut state = if self.problem.any_start { self.anything() } else { ABSENT };
        for _ in 0..steps {
            self.settle(state);
            if self.left == 0 {
                return Verdict::Linearizable;
            }
            if self.remember(state) {
                let moves = self.moves(state);
                stack.push(Frame { mark: self.trail.len(), state, moves, next: 0 });
            }
            state = loop {
                let Some(frame) = stack.last_mut() else { return Verdict::Violation };
                self.undo(frame.mark);
                let Some(&chosen) = frame.moves.get(frame.next) else {
                    stack.pop();
                    continue;
                };
                frame.next += 1;
                if let Some(state) = self.play(chosen, frame.state) {
                    break state;
                }
            };
        }
        Verdict::Undecided
    }

    /// Operations that may come next: those called before the earliest return still waiting.
    fn available(&self) -> impl Iterator<Item = usize> + '_ {
        let mut at = 0u32;
        std::iter::from_fn(move || {
            at = self.next[at as usize];
            (at != self.end && at % 2 == 1).then(|| (at as usize - 1) / 2)
        })
    }

    /// Time of the earliest return still waiting.
    fn frontier(&self) -> u64 {
        let mut at = self.next[0];
        while at != self.end {
            if at.is_multiple_of(2) {
                return self.problem.required[(at as usize - 2) / 2].ret;
            }
            at = self.next[at as usize];
        }
        u64::MAX
    }

    /// Takes every read that fits (fact 1).
    fn settle(&mut self, state: ValueId) {
        self.take_all(|_, action| matches!(action, Action::Read(v) if v == state));
    }

    fn take_all(&mut self, wanted: impl Fn(&Self, Action) -> bool) {
        loop {
            let found = self.available().find(|&i| wanted(self, self.problem.required[i].action));
            let Some(i) = found else { return };
            self.lift(i);
        }
    }

    fn moves(&self, state: ValueId) -> Vec<Move> {
        let frontier = self.frontier();
        let mut moves: Vec<(u64, Move)> = Vec::new();
        let mut tried: Vec<ValueId> = Vec::new();
        let mut unread: Option<u64> = None;
        for i in self.available() {
            let item = &self.problem.required[i];
            match item.action {
                Action::Write(v) if self.readers[v as usize] > 0 => moves.push((item.hint, Move::Write(i))),
                Action::Write(_) => unread = Some(unread.unwrap_or(u64::MAX).min(item.hint)),
                Action::Read(v) if !tried.contains(&v) => {
                    tried.push(v);
                    let (calls, used) = &self.optional[v as usize];
                    if calls.get(*used).is_some_and(|&call| call <= frontier) {
                        moves.push((item.hint, Move::Optional(i)));
                    }
                    if state == self.anything() {
                        moves.push((0, Move::Assume(v)));
                    }
                }
                Action::Read(_) => {}
            }
        }
        moves.extend(unread.map(|hint| (hint, Move::Unread)));
        moves.sort_by_key(|m| m.0);
        moves.into_iter().map(|m| m.1).collect()
    }

    /// Makes a move; `None` when it cannot lead anywhere.
    fn play(&mut self, chosen: Move, from: ValueId) -> Option<ValueId> {
        let to = match chosen {
            Move::Assume(v) => return Some(v),
            Move::Unread => self.unread(),
            Move::Write(i) | Move::Optional(i) => match self.problem.required[i].action {
                Action::Write(v) | Action::Read(v) => v,
            },
        };
        let overwritten = self.readers[from as usize] > 0 && self.writers[from as usize] == 0;
        if to != from && overwritten {
            return None; // fact 4
        }
        self.absorb();
        match chosen {
            Move::Write(i) => self.lift(i),
            Move::Optional(i) => {
                self.optional[to as usize].1 += 1;
                self.writers[to as usize] -= 1;
                self.trail.push(Done::Optional(to));
                self.lift(i);
            }
            Move::Unread | Move::Assume(_) => {}
        }
        Some(to)
    }

    /// Takes every available write that nobody has yet to read (fact 3).
    fn absorb(&mut self) {
        self.take_all(|s, action| matches!(action, Action::Write(v) if s.readers[v as usize] == 0));
    }

    fn lift(&mut self, i: usize) {
        for node in [2 * i + 1, 2 * i + 2] {
            let (p, n) = (self.prev[node], self.next[node]);
            self.next[p as usize] = n;
            self.prev[n as usize] = p;
        }
        *self.counter(i) -= 1;
        self.taken[i / 64] |= 1 << (i % 64);
        self.left -= 1;
        self.trail.push(Done::Lifted(i));
    }

    fn counter(&mut self, i: usize) -> &mut u32 {
        match self.problem.required[i].action {
            Action::Write(v) => &mut self.writers[v as usize],
            Action::Read(v) => &mut self.readers[v as usize],
        }
    }

    fn undo(&mut self, mark: usize) {
        while self.trail.len() > mark {
            match self.trail.pop() {
                Some(Done::Lifted(i)) => {
                    for node in [2 * i + 2, 2 * i + 1] {
                        let (p, n) = (self.prev[node], self.next[node]);
                        self.next[p as usize] = node as u32;
                        self.prev[n as usize] = node as u32;
                    }
                    *self.counter(i) += 1;
                    self.taken[i / 64] &= !(1 << (i % 64));
                    self.left += 1;
                }
                Some(Done::Optional(v)) => {
                    self.optional[v as usize].1 -= 1;
                    self.writers[v as usize] += 1;
                }
                None => return,
            }
        }
    }

    /// Whether this set with this value is new. The set is kept from its first gap on: what lies before is all taken.
    fn remember(&mut self, state: ValueId) -> bool {
        let first = self.taken.iter().position(|&w| w != u64::MAX).unwrap_or(self.taken.len());
        let last = self.taken.iter().rposition(|&w| w != 0).map_or(first, |at| (at + 1).max(first));
        let mut key = Vec::with_capacity(last - first + 4);
        key.push(u64::from(state) << 32 | first as u64);
        key.extend_from_slice(&self.taken[first..last]);
        key.push(u64::MAX);
        let used = self.optional.iter().enumerate().filter(|(_, (_, used))| *used > 0);
        key.extend(used.map(|(v, (_, used))| (v as u64) << 32 | *used as u64));
        self.seen.insert(key.into())
    }
}
