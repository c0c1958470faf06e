//! What one step of a replica may change (Raft, figure 3). The work is in proportion to what it changed.

use super::Life;
use super::group::{Group, Known};
use super::look::{Look, Seen};
use super::platter::Platters;
use ringkv_core::raft::Role;
use ringkv_storage::wal::HardState;
use ringkv_storage::wal::shadow::Held;

impl Group {
    /// A replica took a step.
    pub fn stepped(&mut self, life: Life, look: &dyn Look, platters: &Platters) -> Vec<String> {
        let Some(replica) = self.replicas.get_mut(&life.0).filter(|replica| replica.life == life) else {
            return vec![format!("{} steps and was never opened", life.0)];
        };
        let (was, now) = (replica.seen, look.seen());
        if was == now {
            return Vec::new();
        }
        replica.seen = now;
        if (was.role, was.hard.0) != (now.role, now.hard.0) {
            self.turned = Some((now.role, now.hard.0));
        }
        let mut log = std::mem::take(&mut replica.log);
        let mut wrong: Vec<String> = kept(&was, &now).into_iter().collect();
        if now.last != was.last || now.floor != was.floor {
            wrong.extend(self.log_changed(&was, &now, &mut log, look));
        }
        log.hard = HardState { term: now.hard.0, vote: now.hard.1 };
        if now.role == Role::Leader && (was.role != Role::Leader || was.hard.0 != now.hard.0) {
            wrong.extend(self.leads(life, now.hard.0));
            wrong.extend(self.elected(life.0, now.hard.0, look, platters));
            wrong.extend(self.is_complete(now.hard.0, &log));
        }
        if let Some(replica) = self.replicas.get_mut(&life.0) {
            replica.log = log;
        }
        if now.commit != was.commit {
            wrong.extend(self.commit_moved(&was, &now, look, platters));
        }
        wrong.into_iter().map(|what| format!("{} {}: {what}", life.0, self.shard)).collect()
    }

    fn log_changed(&mut self, was: &Seen, now: &Seen, log: &mut Held, look: &dyn Look) -> Vec<String> {
        let mut wrong = Vec::new();
        if now.floor != was.floor {
            wrong.extend(self.floor_fits(now.floor));
            log.raise(now.floor);
        }
        // Equal terms at one index mean equal logs up to there: everything that was appended is checked for that.
        let mut same = log.last().min(now.last.0);
        while same > log.floor.0 && look.term_at(same) != log.term_at(same) {
            same -= 1;
        }
        let leads = was.role == Role::Leader && now.role == Role::Leader && was.hard.0 == now.hard.0;
        for index in same + 1..=log.last() {
            let term = log.term_at(index);
            if leads {
                wrong.push(format!("Leader Append-Only: a leader dropped its entry {index} of term {term:?}"));
            }
            if index <= was.commit || (self.committed(index) == term && term.is_some()) {
                wrong.push(format!("entry {index} of term {term:?} was committed, and is dropped"));
            }
        }
        log.keep_to(same);
        for index in same + 1..=now.last.0 {
            let before = log.last_term();
            let Some(term) = look.term_at(index) else {
                wrong.push(format!("its log has a gap at {index}"));
                break;
            };
            log.push(term);
            if term < before || term > now.hard.0 {
                wrong.push(format!("in term {} entry {index} of term {term} follows one of term {before}", now.hard.0));
            }
            // Of a long log that was read back, the oldest entries are not in memory any more.
            let Some(crc) = look.crc_at(index) else { continue };
            let made = now.role == Role::Leader && term == now.hard.0;
            wrong.extend(self.holds((index, term), Known { before, crc }, made));
        }
        wrong
    }

    fn commit_moved(&mut self, was: &Seen, now: &Seen, look: &dyn Look, platters: &Platters) -> Vec<String> {
        let mut wrong = Vec::new();
        let known = self.committed.len() as u64;
        for index in was.commit.max(now.floor.0) + 1..=now.commit.min(known) {
            let (term, committed) = (look.term_at(index), self.committed(index));
            if term != committed {
                wrong.push(format!(
                    "it commits entry {index} of term {term:?}, and term {committed:?} is committed there"
                ));
            }
        }
        if now.commit > known && now.role == Role::Leader {
            wrong.extend(self.commits(now.hard.0, now.commit, look, platters));
        } else if now.commit > known {
            wrong.push(format!("it commits {}, and no leader has committed more than {known}", now.commit));
        }
        wrong
    }
}

/// What never goes back within one life.
fn kept(was: &Seen, now: &Seen) -> Option<String> {
    let ((old_term, old_vote), (term, vote)) = (was.hard, now.hard);
    if term < old_term {
        return Some(format!("term went back from {old_term} to {term}"));
    }
    if term == old_term && old_vote.is_some() && vote != old_vote {
        return Some(format!("in term {term} its vote changed from {old_vote:?} to {vote:?}"));
    }
    if now.commit < was.commit {
        return Some(format!("commit went back from {} to {}", was.commit, now.commit));
    }
    if now.floor.0 < was.floor.0 {
        return Some(format!("floor went back from {} to {}", was.floor.0, now.floor.0));
    }
    let (floor, commit, last) = (now.floor.0, now.commit, now.last.0);
    (floor > commit || commit > last).then(|| format!("floor {floor} <= commit {commit} <= last {last} does not hold"))
}
