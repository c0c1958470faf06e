//! Runs a script. Time stands still but for `advance`, `sleep` and `timeout`; messages move by `deliver` and `settle`; what is
//! written becomes durable by `persist` and `settle`.
//!
//! | command | |
//! |---|---|
//! | `boot 3` | three voters with empty disks, 1 s after the epoch of all clocks |
//! | `boot 2 learner 1` | two voters, a learner |
//! | `advance 200ms` | time passes; ticks, disks and messages work as they do |
//! | `sleep 200ms` | time passes and nobody notices yet |
//! | `timeout 1` | time passes up to 1's deadline; only 1 ticks |
//! | `deliver [2->1]` | what is queued now arrives (on one link, or everywhere) |
//! | `drop 1->2` | what is queued on a link is lost |
//! | `cut 1->2`, `cut 1`, `heal` | links are down, all links of a replica, up again |
//! | `persist 1 [all]` | the oldest write, or all, of 1 become durable |
//! | `settle` | disks and messages, until nothing moves; only answers are shown |
//! | `propose 1 hello`, `propose 1 big 70000 x5` | |
//! | `configure 1 voters 1,2 [outgoing 2,3]` | proposes a configuration |
//! | `read 1 [index]`, `transfer 1 [2]`, `retire 1`, `tick 1` | |
//! | `crash 1 [keep 2]`, `restart 1`, `stop 1`, `cont 1` | |
//! | `flush 1`, `reclaim 1 5`, `fetched 1 2 [none]`, `ship 1->2`, `shipped 1->2 failed` | |
//! | `wall 1 +5000` | 1's wall clock jumps, ms |
//! | `status`, `log 1`, `time 1` | |

use crate::replica::Replica;
use crate::show;
use bytes::Bytes;
use ringkv_core::effects::{Effects, Outgoing};
use ringkv_core::raft::Input;
use ringkv_wire::entry::EntryKind;
use ringkv_wire::ids::{Now, StoreId};
use ringkv_wire::msg::config::Configuration;
use std::collections::BTreeSet;

const MS: u64 = 1_000_000;

#[derive(Default)]
struct World {
    now_ns: u64,
    wall_offset: Vec<i64>,
    nodes: Vec<Replica>,
    stopped: BTreeSet<usize>,
    queue: Vec<(StoreId, StoreId, Outgoing)>,
    cuts: BTreeSet<(u32, u32)>,
    token: u64,
    lines: Vec<String>,
    /// Messages and writes are not shown.
    quiet: bool,
}

/// Runs a script; gives it with the output it produces now.
pub fn run(script: &str) -> String {
    let mut world = World { now_ns: 1_000 * MS, ..World::default() };
    let mut out = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            out.push_str(line);
            out.push('\n');
            world.command(command);
            for line in world.lines.drain(..) {
                out.push_str(&format!("  {line}\n"));
            }
        } else if line.is_empty() || line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn number(word: &str) -> u64 {
    word.trim_end_matches("ms").parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn stores(list: &str) -> Vec<StoreId> {
    list.split(',').map(|n| StoreId::new(number(n) as u32, 0)).collect()
}

fn link(word: &str) -> (u32, u32) {
    let (from, to) = word.split_once("->").unwrap_or_else(|| panic!("{word} is no link"));
    (number(from) as u32, number(to) as u32)
}

impl World {
    fn command(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let at = |i: usize| number(words[i]) as usize - 1;
        match words.as_slice() {
            ["boot", n, rest @ ..] => self.boot(number(n) as u32, rest.get(1).map_or(0, |n| number(n) as u32)),
            ["advance", ms] => self.advance(number(ms)),
            ["sleep", ms] => self.now_ns += number(ms) * MS,
            ["timeout", _] => self.timeout(at(1)),
            ["deliver"] => self.deliver(None),
            ["deliver", on] => self.deliver(Some(link(on))),
            ["drop", on] => self.queue.retain(|(from, to, _)| (from.node.0, to.node.0) != link(on)),
            ["cut", on] => self.cut(on),
            ["heal"] => self.cuts.clear(),
            ["persist", _] => self.persist(at(1)),
            ["persist", _, "all"] => (0..self.nodes[at(1)].queue.len()).for_each(|_| self.persist(at(1))),
            ["settle"] => self.quietly(|world| world.settle()),
            ["propose", _, "big", bytes, times] => {
                for _ in 0..number(times.trim_start_matches('x')) {
                    self.propose(at(1), EntryKind::Operations, vec![7; number(bytes) as usize]);
                }
            }
            ["propose", _, what] => self.propose(at(1), EntryKind::Operations, what.as_bytes().to_vec()),
            ["configure", _, "voters", voters, rest @ ..] => {
                let mut config = Configuration::of_voters(&stores(voters));
                if let ["outgoing", outgoing] = rest {
                    config.outgoing = Configuration::of_voters(&stores(outgoing)).voters;
                }
                let mut body = Vec::new();
                config.encode(&mut body);
                self.propose(at(1), EntryKind::Configuration, body);
            }
            ["read", _, rest @ ..] => {
                self.token += 1;
                let token = self.token;
                self.step(at(1), Input::Read { token, read_index: !rest.is_empty() });
            }
            ["transfer", _, rest @ ..] => {
                let to = rest.first().map(|n| StoreId::new(number(n) as u32, 0));
                self.step(at(1), Input::Transfer { to });
            }
            ["retire", _] => self.step(at(1), Input::Retire),
            ["tick", _] => self.step(at(1), Input::Tick),
            ["crash", _, rest @ ..] => self.nodes[at(1)].crash(rest.get(1).map_or(0, |n| number(n) as usize)),
            ["restart", _] => {
                let now = self.now(at(1));
                self.nodes[at(1)].boot(now, 0);
            }
            ["stop", _] => _ = self.stopped.insert(at(1)),
            ["cont", _] => _ = self.stopped.remove(&at(1)),
            ["flush", _] => self.nodes[at(1)].flush_tree(),
            ["reclaim", _, index] => self.reclaim(at(1), number(index)),
            ["fetched", _, to, rest @ ..] => self.fetched(at(1), number(to) as u32, rest.is_empty()),
            ["ship", on] => self.ship(link(on)),
            ["shipped", on, "failed"] => {
                let (from, to) = link(on);
                self.step(from as usize - 1, Input::SnapshotDone { to: StoreId::new(to, 0), index: 0 });
            }
            ["wall", _, by] => self.wall_offset[at(1)] += by.parse::<i64>().expect("milliseconds"),
            ["status"] => self.status(),
            ["log", _] => self.log(at(1)),
            ["time", _] => {
                let raft = self.nodes[at(1)].raft.as_ref().expect("it runs");
                let (log_time, wall) = (raft.log_time_now(self.now(at(1))), self.now(at(1)).wall_ms);
                self.lines.push(format!("log time {log_time}, own wall clock {wall}"));
            }
            _ => panic!("not a command: {command}"),
        }
    }

    fn now(&self, i: usize) -> Now {
        let wall_ms = (self.now_ns / MS).saturating_add_signed(self.wall_offset[i]);
        Now { boot_ns: self.now_ns, wall_ms }
    }

    fn boot(&mut self, voters: u32, learners: u32) {
        let stores = |range: std::ops::RangeInclusive<u32>| range.map(|n| StoreId::new(n, 0)).collect::<Vec<_>>();
        let mut config = Configuration::of_voters(&stores(1..=voters));
        config.learners = Configuration::of_voters(&stores(voters + 1..=voters + learners)).voters;
        for store in stores(1..=voters + learners) {
            self.wall_offset.push(0);
            self.nodes.push(Replica::new(store, config.clone()));
            let i = self.nodes.len() - 1;
            let now = self.now(i);
            // Elections time out after 150, 175, 200 .. ms.
            self.nodes[i].boot(now, i as u64 * 25 * MS);
        }
    }

    fn quietly(&mut self, run: impl FnOnce(&mut World)) {
        let before = std::mem::replace(&mut self.quiet, true);
        run(self);
        self.quiet = before;
    }

    fn step(&mut self, i: usize, input: Input) {
        let (now, node) = (self.now(i), &mut self.nodes[i]);
        let Some(raft) = &mut node.raft else { return };
        let before = show::role(raft);
        let mut out = Effects::default();
        raft.step(now, i as u64 * 25 * MS, input, &mut out);
        let after = show::role(raft);
        let me = node.me;
        if before != after {
            self.lines.push(format!("{} {before} -> {after}", show::node(me)));
        }
        if self.quiet {
            show::answers(show::node(me), &out, &mut self.lines);
        } else {
            show::events(me, &out, &mut self.lines);
            let send = out.send.iter().map(|(to, m)| show::message(me, *to, m));
            let after = out.after_persist.iter().map(|(to, m)| show::message(me, *to, m) + ", once durable");
            self.lines.extend(send.chain(after));
        }
        node.take(&mut out);
        self.queue.extend(out.send.into_iter().map(|(to, message)| (me, to, message)));
    }

    fn propose(&mut self, i: usize, kind: EntryKind, body: Vec<u8>) {
        self.token += 1;
        let token = self.token;
        self.step(i, Input::Propose { kind, body: Bytes::from(body), body_crc: 0, token });
    }

    fn cut(&mut self, on: &str) {
        if on.contains("->") {
            _ = self.cuts.insert(link(on));
            return;
        }
        let me = number(on) as u32;
        for other in 1..=self.nodes.len() as u32 {
            self.cuts.extend([(me, other), (other, me)]);
        }
    }

    fn deliver(&mut self, on: Option<(u32, u32)>) {
        let (cuts, stopped) = (self.cuts.clone(), self.stopped.clone());
        let chosen = |from: &StoreId, to: &StoreId| {
            on.is_none_or(|on| on == (from.node.0, to.node.0)) && !stopped.contains(&(to.node.0 as usize - 1))
        };
        let due: Vec<_> = self.queue.extract_if(.., |(from, to, _)| chosen(from, to)).collect();
        for (from, to, message) in due {
            if cuts.contains(&(from.node.0, to.node.0)) {
                continue;
            }
            self.step(to.node.0 as usize - 1, Input::Message { from, term: message.term, body: message.body });
        }
    }

    fn persist(&mut self, i: usize) {
        let me = self.nodes[i].me;
        let Some((ticket, after)) = self.nodes[i].flush_one() else { return };
        self.queue.extend(after.into_iter().map(|(to, message)| (me, to, message)));
        self.step(i, Input::Persisted { ticket });
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            let running: Vec<usize> = (0..self.nodes.len()).filter(|i| !self.stopped.contains(i)).collect();
            let busy = running.iter().any(|&i| !self.nodes[i].queue.is_empty());
            if !busy && self.queue.iter().all(|(_, to, _)| self.stopped.contains(&(to.node.0 as usize - 1))) {
                return;
            }
            running.into_iter().for_each(|i| self.persist(i));
            self.deliver(None);
        }
        panic!("never quiet");
    }

    /// The next deadline among the running replicas.
    fn next_due(&self) -> Option<(u64, usize)> {
        let running = (0..self.nodes.len()).filter(|i| !self.stopped.contains(i));
        running.filter_map(|i| Some((self.nodes[i].raft.as_ref()?.next_deadline_ns(), i))).min()
    }

    fn advance(&mut self, ms: u64) {
        let until = self.now_ns + ms * MS;
        self.quietly(|world| {
            world.settle();
            while let Some((due, i)) = world.next_due().filter(|(due, _)| *due <= until) {
                world.now_ns = world.now_ns.max(due);
                world.step(i, Input::Tick);
                world.settle();
            }
        });
        self.now_ns = until;
    }

    fn timeout(&mut self, i: usize) {
        let due = self.nodes[i].raft.as_ref().map_or(0, |raft| raft.next_deadline_ns());
        assert!(due < u64::MAX, "it never times out");
        self.now_ns = self.now_ns.max(due);
        self.step(i, Input::Tick);
    }

    fn reclaim(&mut self, i: usize, index: u64) {
        let node = &mut self.nodes[i];
        let term = node.disk.get(index).expect("it is durable").term;
        node.disk.raise_floor(index, term);
        node.believed.raise_floor(index, term);
        self.step(i, Input::Reclaimed { index });
    }

    fn fetched(&mut self, i: usize, to: u32, found: bool) {
        let to = StoreId::new(to, 0);
        let status = self.nodes[i].raft.as_ref().expect("it runs").status();
        let next = status.peers.iter().find(|peer| peer.store == to).expect("a follower").next;
        let disk = &self.nodes[i].disk;
        let entries = disk.entries.iter().filter(|entry| found && entry.index >= next).take(2).cloned().collect();
        self.step(i, Input::Fetched { to, entries });
    }

    /// The follower installs the leader's tree, and the leader hears of it.
    fn ship(&mut self, (from, to): (u32, u32)) {
        let (leader, i) = (from as usize - 1, to as usize - 1);
        self.nodes[leader].flush_tree();
        let disk = &self.nodes[leader].disk;
        let (at, config) = (disk.flushed, disk.config.clone());
        let now = self.now(i);
        match self.nodes[i].install(now, 0, at, config) {
            Some(_) => self.lines.push(format!("{to} installed {}@{}", at.0, at.1)),
            None => self.lines.push(format!("{to} does not need {}@{}", at.0, at.1)),
        }
        self.step(leader, Input::SnapshotDone { to: StoreId::new(to, 0), index: at.0 });
    }

    fn status(&mut self) {
        for node in &self.nodes {
            let Some(raft) = &node.raft else {
                self.lines.push(format!("{} down", show::node(node.me)));
                continue;
            };
            let s = raft.status();
            let lease = if raft.has_lease(Now { boot_ns: self.now_ns, wall_ms: 0 }) { ", lease" } else { "" };
            let (last, durable, commit) = (s.last_index, s.durable_index, s.commit);
            let (me, vote) = (show::node(node.me), show::maybe(raft.hard_state().1));
            self.lines.push(format!(
                "{me} {} vote {vote} last {last} durable {durable} commit {commit}{lease}",
                show::role(raft)
            ));
            for peer in &s.peers {
                let (to, state, matched, next) = (show::node(peer.store), peer.state, peer.matched, peer.next);
                self.lines.push(format!("  {to}: {state:?} matched {matched} next {next}"));
            }
        }
    }

    fn log(&mut self, i: usize) {
        let node = &self.nodes[i];
        let believed: Vec<_> = node.believed.entries.iter().map(show::entry).collect();
        let (floor, durable) = (node.believed.floor, node.disk.last_index());
        self.lines.push(format!("behind {}@{}: {}; on disk to {durable}", floor.0, floor.1, believed.join(", ")));
    }
}
