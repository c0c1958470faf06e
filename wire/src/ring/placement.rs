//! From a list of nodes to a table of shards: the ring, bounded load, spread leadership.
//!
//! Consistent hashing (Karger et al. 1997) with virtual nodes (Dynamo §4.2) proposes the replicas of each shard. The
//! proposal is then evened out to exact quotas (consistent hashing with bounded loads, Mirrokni et al. 2018, with the bound
//! at one): the least number of replicas moves, each along a shortest augmenting path. Everything here is a pure function
//! of the nodes and the pool.

use crate::ids::{NodeId, Position, StoreId};
use crate::limits;
use crate::ring::hash::{key_hash, position};
use crate::ring::topology::{NodeInfo, PoolInfo};
use std::collections::{BTreeMap, VecDeque};

/// The virtual nodes of all nodes, by position.
pub struct Ring {
    /// (token, node id, index of the node); equal tokens are ordered by node id.
    tokens: Vec<(Position, NodeId, usize)>,
    nodes: usize,
}

impl Ring {
    /// The ring of these nodes: 150 x weight / 100 tokens each (at least one unless the weight is zero). Token `i` of a
    /// node is the position of xxh3_64(node id as u32 LE, i as u32 LE). Nodes without stores have none.
    pub fn new(nodes: &[NodeInfo]) -> Ring {
        let mut tokens = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            for i in 0..virtual_nodes(node) {
                let hash = key_hash(crate::ids::KeyspaceId(node.id.0), &i.to_le_bytes());
                tokens.push((position(hash), node.id, index));
            }
        }
        tokens.sort_unstable();
        Ring { tokens, nodes: nodes.len() }
    }

    /// Clockwise from `from` (a token at `from` counts): the index of each node, once.
    pub fn walk(&self, from: Position) -> impl Iterator<Item = usize> + '_ {
        let start = self.tokens.partition_point(|t| t.0 < from);
        let (before, behind) = self.tokens.split_at(start);
        let mut seen = vec![false; self.nodes];
        let indices = behind.iter().chain(before).map(|t| t.2);
        indices.filter(move |&node| !std::mem::replace(&mut seen[node], true))
    }

    /// The first node of [`Ring::walk`] that is admitted, without its memory of nodes seen.
    pub fn first(&self, from: Position, admits: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.tokens.partition_point(|t| t.0 < from);
        let (before, behind) = self.tokens.split_at(start);
        behind.iter().chain(before).map(|t| t.2).find(|&node| admits(node))
    }

    /// Every virtual node, clockwise from 0: its token, and the index of its node. It takes the keys behind the token
    /// before it, up to its own.
    pub fn tokens(&self) -> impl Iterator<Item = (Position, usize)> + '_ {
        self.tokens.iter().map(|&(token, _, index)| (token, index))
    }
}

fn virtual_nodes(node: &NodeInfo) -> u32 {
    if node.weight == 0 || node.stores.is_empty() {
        return 0;
    }
    (limits::VIRTUAL_NODES * u32::from(node.weight) / 100).max(1)
}

/// First position of arc number `arc` of a pool of 2^`shard_bits` shards.
pub fn arc_start(arc: u32, shard_bits: u8) -> Position {
    Position(u32::try_from(u64::from(arc) << (32 - u32::from(shard_bits))).unwrap_or(0))
}

/// The replicas of each of the pool's shards, by arc number; the first of each is its preferred leader.
///
/// `pool.replicas` distinct nodes each (fewer when there are not so many), in distinct racks where there are enough. In
/// proportion to weight, nodes, stores of one node, and leaders of stores differ by at most one.
pub fn table(nodes: &[NodeInfo], pool: &PoolInfo) -> Vec<Vec<StoreId>> {
    assert!(pool.shard_bits <= 24, "a pool has at most 2^24 shards");
    let shards = 1usize << pool.shard_bits;
    let usable = nodes.iter().filter(|n| virtual_nodes(n) > 0).count();
    let replicas = usize::from(pool.replicas).min(usable);
    if replicas == 0 {
        return vec![Vec::new(); shards];
    }
    let racks = Racks::new(nodes, replicas);
    let ring = Ring::new(nodes);
    let mut chosen: Vec<Vec<usize>> =
        (0..shards).map(|arc| propose(&ring, &racks, arc_start(arc as u32, pool.shard_bits), replicas)).collect();
    let quota = quotas(nodes, &racks, shards, replicas);
    even_out(&mut chosen, &ring, &racks, &quota, pool.shard_bits);
    let mut table = seat(&chosen, nodes);
    spread_leaders(&mut table);
    table
}

/// Which rack each node is in, and how many replicas of one shard a rack may hold.
struct Racks {
    of_node: Vec<usize>,
    count: usize,
    most: usize,
}

impl Racks {
    fn new(nodes: &[NodeInfo], replicas: usize) -> Racks {
        let mut names = BTreeMap::new();
        let mut sizes: Vec<usize> = Vec::new();
        let mut of_node = Vec::new();
        for node in nodes {
            let fresh = sizes.len();
            let rack = if node.rack.is_empty() { fresh } else { *names.entry(&node.rack).or_insert(fresh) };
            if rack == fresh {
                sizes.push(0);
            }
            sizes[rack] += usize::from(virtual_nodes(node) > 0);
            of_node.push(rack);
        }
        let room = |most: usize| sizes.iter().map(|&size| size.min(most)).sum::<usize>();
        let most = (1..=replicas).find(|&most| room(most) >= replicas).unwrap_or(replicas);
        Racks { of_node, count: sizes.len(), most }
    }

    /// Whether `add` may join `shard` once `gone` has left it.
    fn admit(&self, shard: &[usize], gone: Option<usize>, add: usize) -> bool {
        let rack = self.of_node[add];
        let there = shard.iter().filter(|&&n| Some(n) != gone && self.of_node[n] == rack).count();
        !shard.contains(&add) && there < self.most
    }
}

fn propose(ring: &Ring, racks: &Racks, from: Position, replicas: usize) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(replicas);
    for node in ring.walk(from) {
        if chosen.len() < replicas && racks.admit(&chosen, None, node) {
            chosen.push(node);
        }
    }
    assert_eq!(chosen.len(), replicas);
    chosen
}

/// How many replicas each node holds: Sainte-Laguë's method over the weights. No node holds a shard twice, no rack more than
/// its share.
fn quotas(nodes: &[NodeInfo], racks: &Racks, shards: usize, replicas: usize) -> Vec<usize> {
    let mut quota = vec![0usize; nodes.len()];
    let mut in_rack = vec![0usize; racks.count];
    for _ in 0..shards * replicas {
        let open = |n: &usize| {
            virtual_nodes(&nodes[*n]) > 0 && quota[*n] < shards && in_rack[racks.of_node[*n]] < shards * racks.most
        };
        // (2a + 1) / weight, compared without division; ties go to the lower index.
        let next = (0..nodes.len()).filter(open).min_by(|&a, &b| {
            let left = (2 * quota[a] as u64 + 1) * u64::from(nodes[b].weight);
            let right = (2 * quota[b] as u64 + 1) * u64::from(nodes[a].weight);
            left.cmp(&right)
        });
        let Some(next) = next else { unreachable!("the racks have room for every replica") };
        quota[next] += 1;
        in_rack[racks.of_node[next]] += 1;
    }
    quota
}

/// Moves replicas from nodes above their quota to nodes below it.
fn even_out(chosen: &mut [Vec<usize>], ring: &Ring, racks: &Racks, quota: &[usize], shard_bits: u8) {
    let mut load = vec![0usize; quota.len()];
    chosen.iter().flatten().for_each(|&node| load[node] += 1);
    for over in 0..quota.len() {
        // First what the ring would do: on to the next node clockwise that has room. Third choices move before first ones.
        for place in (0..chosen.first().map_or(0, Vec::len)).rev() {
            for (arc, shard) in chosen.iter_mut().enumerate() {
                if load[over] <= quota[over] {
                    break;
                }
                if shard[place] != over {
                    continue;
                }
                let fits = |&n: &usize| load[n] < quota[n] && racks.admit(shard, Some(over), n);
                if let Some(to) = ring.walk(arc_start(arc as u32, shard_bits)).find(fits) {
                    shard[place] = to;
                    load[over] -= 1;
                    load[to] += 1;
                }
            }
        }
        while load[over] > quota[over] {
            let edges = |from: usize| {
                let mut to = Vec::new();
                for (arc, shard) in chosen.iter().enumerate().filter(|(_, s)| s.contains(&from)) {
                    to.extend((0..quota.len()).filter(|&n| racks.admit(shard, Some(from), n)).map(|n| (n, arc)));
                }
                to
            };
            let Some(path) = shortest(quota.len(), over, edges, |n| load[n] < quota[n]) else {
                unreachable!("the quotas are a feasible flow")
            };
            for &(from, to, arc) in &path {
                let place = chosen[arc].iter().position(|&n| n == from);
                chosen[arc][place.unwrap_or(0)] = to;
                load[from] -= 1;
                load[to] += 1;
            }
        }
    }
    assert_eq!(load, quota);
}

/// Breadth-first search: the steps (from, to, by way of which arc) from `start` to the nearest goal.
fn shortest(
    size: usize,
    start: usize,
    edges: impl Fn(usize) -> Vec<(usize, usize)>,
    goal: impl Fn(usize) -> bool,
) -> Option<Vec<(usize, usize, usize)>> {
    let mut came: Vec<Option<(usize, usize)>> = vec![None; size];
    let mut queue = VecDeque::from([start]);
    while let Some(from) = queue.pop_front() {
        for (to, arc) in edges(from) {
            if to == start || came[to].is_some() {
                continue;
            }
            came[to] = Some((from, arc));
            if !goal(to) {
                queue.push_back(to);
                continue;
            }
            let (mut path, mut at) = (Vec::new(), to);
            while let (true, Some((from, arc))) = (at != start, came[at]) {
                path.push((from, at, arc));
                at = from;
            }
            return Some(path);
        }
    }
    None
}

/// Gives each replica a store of its node: the one its hash names, or the next with room.
fn seat(chosen: &[Vec<usize>], nodes: &[NodeInfo]) -> Vec<Vec<StoreId>> {
    let mut load = vec![0usize; nodes.len()];
    chosen.iter().flatten().for_each(|&node| load[node] += 1);
    let mut taken: Vec<Vec<usize>> = nodes.iter().map(|n| vec![0; n.stores.len()]).collect();
    let mut seat_one = |arc: usize, node: usize| {
        let stores = taken[node].len();
        let (each, extra) = (load[node] / stores, load[node] % stores);
        let above = taken[node].iter().filter(|&&t| t > each).count();
        let first = key_hash(crate::ids::KeyspaceId(nodes[node].id.0), &(arc as u64).to_le_bytes()) as usize % stores;
        let room = |s: &usize| taken[node][*s] < each || (taken[node][*s] == each && above < extra);
        let Some(store) = (first..stores).chain(0..first).find(room) else {
            unreachable!("the stores have room for their node's load")
        };
        taken[node][store] += 1;
        StoreId { node: nodes[node].id, store: store as u16 }
    };
    let of_shard = |(arc, shard): (usize, &Vec<usize>)| shard.iter().map(|&node| seat_one(arc, node)).collect();
    chosen.iter().enumerate().map(of_shard).collect()
}

/// Puts a leader first in each shard, so that a store leads a `1 / replicas` of its replicas, give or take one.
fn spread_leaders(table: &mut [Vec<StoreId>]) {
    let mut load: BTreeMap<StoreId, usize> = BTreeMap::new();
    table.iter().flatten().for_each(|&store| *load.entry(store).or_default() += 1);
    let stores: Vec<StoreId> = load.keys().copied().collect();
    let index: BTreeMap<StoreId, usize> = stores.iter().enumerate().map(|(i, &s)| (s, i)).collect();
    let replicas = table.first().map_or(1, Vec::len);
    let least: Vec<usize> = load.values().map(|l| l / replicas).collect();
    let most: Vec<usize> = load.values().map(|l| l.div_ceil(replicas)).collect();
    let mut leads = vec![0usize; stores.len()];
    let mut led: Vec<Vec<usize>> = vec![Vec::new(); stores.len()];
    for (arc, shard) in table.iter().enumerate() {
        leads[index[&shard[0]]] += 1;
        led[index[&shard[0]]].push(arc);
    }
    // First nobody above its most, then nobody below its least: both have a solution, every store leading load / replicas.
    for goal_is_least in [false, true] {
        for start in 0..stores.len() {
            loop {
                let done = if goal_is_least {
                    leads.iter().zip(&least).all(|(l, m)| l >= m)
                } else {
                    leads[start] <= most[start]
                };
                if done || (goal_is_least && leads[start] <= least[start]) {
                    break;
                }
                let edges = |from: usize| {
                    let arcs = led[from].iter();
                    arcs.flat_map(|&arc| table[arc].iter().skip(1).map(move |s| (arc, s)))
                        .map(|(arc, s)| (index[s], arc))
                        .collect()
                };
                let goal = |s: usize| if goal_is_least { leads[s] < least[s] } else { leads[s] < most[s] };
                let Some(path) = shortest(stores.len(), start, edges, goal) else { break };
                for (from, to, arc) in path {
                    let place = table[arc].iter().position(|&s| s == stores[to]).unwrap_or(0);
                    table[arc].swap(0, place);
                    led[from].retain(|&a| a != arc);
                    led[to].push(arc);
                    leads[from] -= 1;
                    leads[to] += 1;
                }
            }
        }
    }
}
