//! Effects as lines of text.

use ringkv_core::effects::{Effects, Outgoing, Persist, Refusal};
use ringkv_core::raft::{Raft, Role};
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::peer::PeerBody;

pub fn node(store: StoreId) -> u32 {
    store.node.0
}

pub fn maybe(store: Option<StoreId>) -> String {
    store.map_or("-".into(), |store| node(store).to_string())
}

pub fn entry(entry: &Entry) -> String {
    let what = match entry.kind {
        EntryKind::Empty => "empty".into(),
        EntryKind::Operations if entry.body.len() > 20 => format!("{} bytes", entry.body.len()),
        EntryKind::Operations => String::from_utf8_lossy(&entry.body).into_owned(),
        EntryKind::Configuration => "config".into(),
        EntryKind::Tick => "tick".into(),
    };
    format!("{}@{} {what}", entry.index, entry.term)
}

fn entries(list: &[Entry]) -> String {
    match list {
        [] => "[]".into(),
        [one] => format!("[{}]", entry(one)),
        [first, .., last] => format!("[{} .. {}]", entry(first), entry(last)),
    }
}

pub fn message(from: StoreId, to: StoreId, out: &Outgoing) -> String {
    let granted = |yes: &bool| if *yes { "granted" } else { "refused" };
    let flag = |transfer: &bool| if *transfer { " transfer" } else { "" };
    let body = match &out.body {
        PeerBody::PreVote { last_index, last_term, transfer } => {
            format!("pre-vote? last {last_index}@{last_term}{}", flag(transfer))
        }
        PeerBody::PreVoteReply { granted: yes } => format!("pre-vote {}", granted(yes)),
        PeerBody::Vote { last_index, last_term, transfer } => {
            format!("vote? last {last_index}@{last_term}{}", flag(transfer))
        }
        PeerBody::VoteReply { granted: yes } => format!("vote {}", granted(yes)),
        PeerBody::Append { round, prev_index, prev_term, commit, entries: list } => {
            format!("append r{round} after {prev_index}@{prev_term} {} commit {commit}", entries(list))
        }
        PeerBody::AppendReply { round, accepted: true, index, .. } => format!("append r{round} accepted to {index}"),
        PeerBody::AppendReply { round, index, term, .. } => format!("append r{round} refused, try {index}@{term}"),
        PeerBody::Heartbeat { round, commit } => format!("heartbeat r{round} commit {commit}"),
        PeerBody::HeartbeatReply { round, follows, .. } => {
            format!("heartbeat r{round} {}", if *follows { "follows" } else { "does not follow" })
        }
        PeerBody::TimeoutNow => "timeout now".into(),
    };
    format!("{}->{} t{} {body}", node(from), node(to), out.term)
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotLeader { hint } => format!("not leader, try {}", maybe(*hint)),
        Refusal::Busy => "busy".into(),
    }
}

/// What a step did apart from messages.
pub fn events(me: StoreId, out: &Effects, lines: &mut Vec<String>) {
    let me = node(me);
    for record in &out.persist {
        lines.push(match record {
            Persist::Entry(e) => format!("{me} persist {}", entry(e)),
            Persist::HardState { term, vote } => format!("{me} persist term {term} vote {}", maybe(*vote)),
        });
    }
    answers(me, out, lines);
}

/// What the clients see.
pub fn answers(me: u32, out: &Effects, lines: &mut Vec<String>) {
    for committed in &out.apply {
        let token = if committed.token == 0 { String::new() } else { format!(" (token {})", committed.token) };
        lines.push(format!("{me} apply {}{token}", entry(&committed.entry)));
    }
    for grant in &out.reads {
        lines.push(match &grant.index {
            Ok(at) => {
                let by = if at.lease { "lease" } else { "round" };
                format!("{me} read {} granted at {} by {by}", grant.token, at.index)
            }
            Err(why) => format!("{me} read {} refused: {}", grant.token, refusal(why)),
        });
    }
    for token in &out.dropped {
        lines.push(format!("{me} dropped token {token}: outcome unknown"));
    }
    for (token, why) in &out.refused {
        lines.push(format!("{me} refused token {token}: {}", refusal(why)));
    }
    for fetch in &out.fetch {
        lines.push(format!("{me} fetch for {} from {}", node(fetch.to), fetch.from));
    }
    for to in &out.snapshot {
        lines.push(format!("{me} snapshot for {}", node(*to)));
    }
}

pub fn role(raft: &Raft) -> String {
    let name = match raft.role() {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    format!("{name} t{} of {}", raft.term(), maybe(raft.leader()))
}
