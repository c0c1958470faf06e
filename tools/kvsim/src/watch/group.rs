//! What is known of one group from all its replicas together: who led which term, which entries there are, which are
//! committed.

use super::Life;
use super::look::{Look, Seen, majority};
use super::platter::{Platters, held};
use ringkv_core::raft::Role;
use ringkv_storage::wal::shadow::Held;
use ringkv_wire::ids::{ShardId, StoreId};
use std::collections::BTreeMap;

/// An entry, wherever it stands: the term of the one before it, and its body's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Term of the entry before it.
    pub before: u64,
    /// Checksum of its body.
    pub crc: u32,
}

/// One replica in its present life, as it was after its last step.
pub struct Replica {
    /// Its life.
    pub life: Life,
    /// All but the log.
    pub seen: Seen,
    /// Its log.
    pub log: Held,
}

/// One group.
pub struct Group {
    /// Which.
    pub shard: ShardId,
    /// Who led each term.
    pub leaders: BTreeMap<u64, Life>,
    /// Every entry that was ever in a log, by index and term.
    pub entries: BTreeMap<(u64, u64), Known>,
    /// Of each committed entry, at its index - 1: its term, and the term of the leader that committed it.
    pub committed: Vec<(u64, u64)>,
    /// The replicas that were looked at.
    pub replicas: BTreeMap<StoreId, Replica>,
    /// Role and term of the replica that stepped last, when the step changed them.
    pub turned: Option<(Role, u64)>,
}

impl Group {
    /// Nothing is known.
    pub fn new(shard: ShardId) -> Group {
        let (leaders, entries, committed, replicas) = Default::default();
        Group { shard, leaders, entries, committed, replicas, turned: None }
    }

    /// The term of a committed entry.
    pub fn committed(&self, index: u64) -> Option<u64> {
        self.committed.get(usize::try_from(index.checked_sub(1)?).ok()?).map(|(term, _)| *term)
    }

    /// Somebody leads. Election Safety (Raft §5.2).
    pub fn leads(&mut self, life: Life, term: u64) -> Option<String> {
        let first = *self.leaders.entry(term).or_insert(life);
        let (a, b) = (first.0, life.0);
        (first != life).then(|| format!("Election Safety: {}: two leaders of term {term}: {a} and {b}", self.shard))
    }

    /// A replica was opened: all of it is new to the checks. Its disk has judged what it must hold.
    pub fn opened(&mut self, life: Life, look: &dyn Look, platters: &Platters) -> Vec<String> {
        let log = held(look);
        let floor = log.floor;
        let empty = Held::new(log.hard, floor, []);
        let seen = Seen { role: Role::Follower, commit: floor.0, last: floor, ..look.seen() };
        self.replicas.insert(life.0, Replica { life, seen, log: empty });
        let mut wrong: Vec<String> = self.floor_fits(floor).into_iter().collect();
        wrong.extend(self.stepped(life, look, platters));
        wrong
    }

    /// What lies below a floor was applied, so it was committed.
    pub fn floor_fits(&self, floor: (u64, u64)) -> Option<String> {
        let known = if floor.0 == 0 { Some(0) } else { self.committed(floor.0) };
        (known != Some(floor.1))
            .then(|| format!("a log begins behind {floor:?}, but the term committed there is {known:?}"))
    }

    /// A leader was elected: a majority's durable votes stand behind it.
    pub fn elected(&self, leader: StoreId, term: u64, look: &dyn Look, platters: &Platters) -> Option<String> {
        let voted = |store: StoreId| {
            let Some(platter) = platters.get(&store) else { return true };
            let hard = platter.held(self.shard).map(|held| held.hard).unwrap_or_default();
            platter.damaged || hard.term > term || (hard.term == term && hard.vote == Some(leader))
        };
        (!majority(look.config(), voted))
            .then(|| format!("Election Safety: {leader} leads term {term} without a majority's durable votes"))
    }

    /// A new leader has every entry that leaders of lower terms committed. Its log matches all others (checked by itself), so
    /// the last one stands for all. Leader Completeness (Raft §5.4.3).
    pub fn is_complete(&self, term: u64, log: &Held) -> Option<String> {
        let at = self.committed.iter().rposition(|(_, by)| *by < term)?;
        let (index, entry_term) = (at as u64 + 1, self.committed[at].0);
        let has = log.floor.0 >= index || log.term_at(index) == Some(entry_term);
        (!has).then(|| {
            let found = log.term_at(index);
            format!(
                "Leader Completeness: term {term} began without committed entry {index} of term {entry_term}: {found:?}"
            )
        })
    }

    /// A leader of `term` says that everything up to `index` is committed: durable on a majority, as the disks tell.
    pub fn commits(&mut self, term: u64, index: u64, look: &dyn Look, platters: &Platters) -> Vec<String> {
        let mut wrong = Vec::new();
        let entry = look.term_at(index);
        if entry != Some(term) {
            wrong.push(format!(
                "a leader of term {term} commits by counting entry {index} of term {entry:?} (Raft §5.4.2)"
            ));
        }
        let has = |store: StoreId| {
            let Some(platter) = platters.get(&store) else { return true };
            let there = platter.held(self.shard);
            platter.damaged || there.is_some_and(|held| held.floor.0 >= index || held.term_at(index) == entry)
        };
        if !majority(look.config(), has) {
            wrong.push(format!("entry {index} of term {entry:?} counts as committed, durable on less than a majority"));
        }
        for at in self.committed.len() as u64 + 1..=index {
            self.committed.push((look.term_at(at).unwrap_or_default(), term));
        }
        // Leaders of later terms must have had it from the start.
        let later = self.replicas.values().filter(|r| r.seen.role == Role::Leader && r.seen.hard.0 > term);
        let missing = later.filter_map(|r| self.is_complete(r.seen.hard.0, &r.log));
        wrong.extend(missing.collect::<Vec<_>>());
        wrong
    }

    /// An entry stands in a log. Log Matching (Raft §5.3): equal index and term mean equal entries, and equal ones before;
    /// and only the leader of a term makes its entries.
    pub fn holds(&mut self, at: (u64, u64), known: Known, made: bool) -> Option<String> {
        match self.entries.get(&at) {
            Some(first) if *first != known => {
                Some(format!("Log Matching: entry {} of term {} is {first:?} and {known:?}", at.0, at.1))
            }
            Some(_) => None,
            None => {
                self.entries.insert(at, known);
                (!made).then(|| format!("entry {} of term {} stands in a log, and no leader made it", at.0, at.1))
            }
        }
    }
}
