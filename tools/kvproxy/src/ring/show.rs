//! `kvproxy ring`: who holds how much of the ring, and what a join or a leave would move, beside `hash % N`.

use super::servers::{self, Server, ServersError};
use comfy_table::{Table, TableStyle};
use ringkv_wire::ids::Position;
use ringkv_wire::ring::placement::Ring;
use serde::Serialize;
use std::fmt;

/// Positions there are.
const WHOLE: f64 = 4_294_967_296.0;
/// Keys of which is counted how many `hash % N` would move.
const SAMPLE: u32 = 100_000;

/// A ring, told.
#[derive(Debug, Serialize)]
pub struct Tale {
    /// Of each server.
    pub servers: Vec<Share>,
    /// What changes would move: each server's leave, then the join that was asked for, or of one more ordinary server.
    pub changes: Vec<Change>,
    /// Every virtual node, clockwise; only when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

/// A server's part.
#[derive(Debug, Serialize)]
pub struct Share {
    /// `host:port`.
    pub server: String,
    /// 100 is ordinary.
    pub weight: u16,
    /// Virtual nodes.
    pub tokens: usize,
    /// Part of the ring, percent.
    pub percent: f64,
}

/// What a change moves.
#[derive(Debug, Serialize)]
pub struct Change {
    /// `join` or `leave`.
    pub change: &'static str,
    /// Who.
    pub server: String,
    /// Keys that change their server, percent.
    pub moves_percent: f64,
    /// The same were keys placed by `hash % N`.
    pub modulo_moves_percent: f64,
}

/// A virtual node.
#[derive(Debug, Serialize)]
pub struct Token {
    /// Where it stands: it takes the keys behind the token before it, up to this position.
    pub position: u32,
    /// Whose it is.
    pub server: String,
}

/// Tells of the ring of `servers`, with the join of `joining`, and every token when `tokens` says so.
///
/// # Errors
/// When the list of servers is wrong, with the one that joins or without.
pub fn tell(servers: &[Server], joining: Option<Server>, tokens: bool) -> Result<Tale, ServersError> {
    let ring = servers::ring(servers)?;
    let one_more = || (1..).map(|n| Server { name: format!("new-server:{n}"), weight: 100 });
    let fresh = |server: &Server| servers.iter().all(|other| other.name != server.name);
    let joining = joining.or_else(|| one_more().find(fresh)).ok_or(ServersError::None)?;
    let mut changes = Vec::new();
    for (at, leaving) in servers.iter().enumerate().filter(|_| servers.len() > 1) {
        let mut rest = servers.to_vec();
        rest.remove(at);
        changes.push(change("leave", leaving, (&ring, servers), &rest)?);
    }
    let more: Vec<Server> = servers.iter().chain([&joining]).cloned().collect();
    changes.push(change("join", &joining, (&ring, servers), &more)?);
    let name = |at: usize| servers.get(at).map_or_else(String::new, |server| server.name.clone());
    let all = ring.tokens().map(|(Position(position), at)| Token { position, server: name(at) });
    let tokens = all.filter(|_| tokens).collect();
    Ok(Tale { servers: shares(servers, &ring), changes, tokens })
}

fn shares(servers: &[Server], ring: &Ring) -> Vec<Share> {
    let mut widths = vec![(0, 0u64); servers.len()];
    for (width, at) in arcs(ring) {
        widths.get_mut(at).into_iter().for_each(|(tokens, sum)| (*tokens, *sum) = (*tokens + 1, *sum + width));
    }
    let share = |(server, (tokens, sum)): (&Server, (usize, u64))| Share {
        server: server.name.clone(),
        weight: server.weight,
        tokens,
        percent: sum as f64 / WHOLE * 100.0,
    };
    servers.iter().zip(widths).map(share).collect()
}

/// The width of each token's arc, with its owner.
fn arcs(ring: &Ring) -> Vec<(u64, usize)> {
    let tokens: Vec<(u32, usize)> = ring.tokens().map(|(position, at)| (position.0, at)).collect();
    let mut before = tokens.last().map_or(0, |last| i64::from(last.0) - (1 << 32));
    let arc = |(position, at): (u32, usize)| {
        let width = i64::from(position) - std::mem::replace(&mut before, i64::from(position));
        (width.unsigned_abs(), at)
    };
    tokens.into_iter().map(arc).collect()
}

/// What moves when the servers become `after`.
fn change(
    change: &'static str,
    server: &Server,
    (ring, before): (&Ring, &[Server]),
    after: &[Server],
) -> Result<Change, ServersError> {
    let ring_after = servers::ring(after)?;
    // Between two neighbouring tokens of both rings together nothing changes its owner but as a whole.
    let mut edges: Vec<u32> = ring.tokens().chain(ring_after.tokens()).map(|(position, _)| position.0).collect();
    edges.sort_unstable();
    edges.dedup();
    let owner = |ring: &Ring, servers: &[Server], at: u32| {
        ring.first(Position(at), |_| true).and_then(|at| servers.get(at)).map(|server| server.name.clone())
    };
    let mut last = edges.last().map_or(0, |last| i64::from(*last) - (1 << 32));
    let mut moved = 0;
    for edge in edges {
        let width = i64::from(edge) - std::mem::replace(&mut last, i64::from(edge));
        if owner(ring, before, edge) != owner(&ring_after, after, edge) {
            moved += width;
        }
    }
    Ok(Change {
        change,
        server: server.name.clone(),
        moves_percent: moved as f64 / WHOLE * 100.0,
        modulo_moves_percent: modulo(before, after),
    })
}

/// The same for `hash % N`, counted over keys.
fn modulo(before: &[Server], after: &[Server]) -> f64 {
    let of =
        |servers: &[Server], hash: u64| servers.get((hash % servers.len() as u64) as usize).map(|s| s.name.clone());
    let moves = |key: &u32| {
        let (hash, _) = servers::place(format!("key:{key}").as_bytes());
        of(before, hash) != of(after, hash)
    };
    (0..SAMPLE).filter(moves).count() as f64 / f64::from(SAMPLE) * 100.0
}

impl fmt::Display for Tale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shares = Table::new();
        shares.load_style(TableStyle::new()).set_header(["server", "weight", "virtual nodes", "share"]);
        for share in &self.servers {
            let [weight, tokens] = [usize::from(share.weight), share.tokens].map(|number| number.to_string());
            shares.add_row([share.server.clone(), weight, tokens, format!("{:.2}%", share.percent)]);
        }
        let mut changes = Table::new();
        changes.load_style(TableStyle::new()).set_header(["change", "keys that move", "with hash % N"]);
        for change in &self.changes {
            let moved = [change.moves_percent, change.modulo_moves_percent].map(|percent| format!("{percent:.2}%"));
            let [ring, modulo] = moved;
            changes.add_row([format!("{} {}", change.server, change.change), ring, modulo]);
        }
        write!(f, "{shares}\n\n{changes}")?;
        for token in &self.tokens {
            write!(f, "\n{:#010x} {}", token.position, token.server)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_changes_move_no_more_than_they_must() {
        let servers: Vec<Server> = ["a:1", "b:1", "c:1*200"].map(|server| server.parse().unwrap()).into();
        let tale = tell(&servers, None, true).unwrap();
        let sum: f64 = tale.servers.iter().map(|share| share.percent).sum();
        assert!((sum - 100.0).abs() < 1e-6, "{sum}");
        assert_eq!(tale.tokens.len(), 150 + 150 + 300);
        assert!(tale.tokens.is_sorted_by_key(|token| token.position));
        assert_eq!(tale.changes.len(), 4);
        for (share, leave) in tale.servers.iter().zip(&tale.changes) {
            assert!((share.percent - leave.moves_percent).abs() < 1e-6, "a leave moves what the server had: {leave:?}");
            assert!(leave.modulo_moves_percent > leave.moves_percent, "{leave:?}");
        }
        let join = &tale.changes[3];
        assert!((15.0..25.0).contains(&join.moves_percent), "a fifth of the weight: {join:?}");
        assert!((70.0..80.0).contains(&join.modulo_moves_percent), "three of four: {join:?}");
    }

    #[test]
    fn one_server_holds_all() {
        let tale = tell(&["a:1".parse().unwrap()], Some("b:1".parse().unwrap()), false).unwrap();
        assert!((tale.servers[0].percent - 100.0).abs() < 1e-6);
        assert_eq!(tale.changes.len(), 1);
        assert!(tale.to_string().contains("b:1 join"));
    }
}
