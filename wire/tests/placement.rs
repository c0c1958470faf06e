//! Placement: deterministic, balanced within one, distinct nodes and racks, and about K/N moves on a change.

use proptest::prelude::*;
use ringkv_wire::ids::{ClusterId, KeyspaceId, NodeId, Position, StoreId};
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::placement::Ring;
use ringkv_wire::ring::topology::{ClusterMap, KeyspaceInfo, Member, PoolInfo};
use std::collections::BTreeMap;

fn member(id: u32, stores: usize) -> Member {
    let address = |port: usize| ([127, 0, 0, 1], (7000 + port) as u16).into();
    Member {
        id: NodeId(id),
        address: address(0),
        weight: 100,
        rack: String::new(),
        stores: (1..=stores).map(address).collect(),
    }
}

fn map_of(members: &[Member], replicas: u8, shard_bits: u8) -> ClusterMap {
    let keyspace = KeyspaceInfo { id: KeyspaceId(1), name: "default".into(), pool: 1, routing: Routing::Whole };
    let pool = PoolInfo { id: 1, replicas, shard_bits };
    ClusterMap::from_members(ClusterId([7; 16]), members, &[keyspace], &[pool])
}

fn even(nodes: std::ops::RangeInclusive<u32>) -> Vec<Member> {
    nodes.map(|id| member(id, 2)).collect()
}

/// Replicas and leaderships by store, stores without any included.
fn loads(map: &ClusterMap) -> BTreeMap<StoreId, (usize, usize)> {
    let mut loads = BTreeMap::new();
    for node in &map.nodes {
        loads.extend((0..node.stores.len()).map(|s| (StoreId::new(node.id.0, s as u16), (0, 0))));
    }
    for shard in &map.shards {
        for (at, replica) in shard.replicas.iter().enumerate() {
            let load = loads.entry(*replica).or_default();
            load.0 += 1;
            load.1 += usize::from(at == 0);
        }
    }
    loads
}

fn spread(values: impl Iterator<Item = usize> + Clone) -> usize {
    values.clone().max().unwrap_or(0) - values.min().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn stores_differ_by_at_most_one(nodes in 1u32..12, stores in 1usize..5, replicas in 1u8..6, bits in 0u8..8) {
        let members: Vec<Member> = (1..=nodes).map(|id| member(id * 3, stores)).collect();
        let map = map_of(&members, replicas, bits);
        prop_assert_eq!(map.shards.len(), 1 << bits);
        let loads = loads(&map);
        prop_assert!(spread(loads.values().map(|l| l.0)) <= 1, "replicas {:?}", loads);
        prop_assert!(spread(loads.values().map(|l| l.1)) <= 1, "leaders {:?}", loads);
        for shard in &map.shards {
            prop_assert_eq!(shard.replicas.len(), usize::from(replicas).min(nodes as usize));
            let mut on: Vec<NodeId> = shard.replicas.iter().map(|r| r.node).collect();
            on.sort();
            on.dedup();
            prop_assert_eq!(on.len(), shard.replicas.len(), "distinct nodes");
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(seed in any::<u64>(), nodes in 2u32..9) {
        let mut members = even(1..=nodes);
        let map = map_of(&members, 3, 6);
        members.sort_by_key(|m| (u64::from(m.id.0) + 1).wrapping_mul(seed | 1));
        prop_assert_eq!(map_of(&members, 3, 6), map);
    }

    #[test]
    fn weight_is_followed(weights in prop::collection::vec(1u16..=4, 4..8)) {
        let mut members = even(1..=weights.len() as u32);
        members.iter_mut().zip(&weights).for_each(|(m, w)| m.weight = w * 100);
        let map = map_of(&members, 2, 8);
        let total: usize = weights.iter().map(|&w| usize::from(w)).sum();
        let mut held: BTreeMap<NodeId, usize> = BTreeMap::new();
        map.shards.iter().flat_map(|s| &s.replicas).for_each(|r| *held.entry(r.node).or_default() += 1);
        // A node can hold no more than all shards once: only where nobody is that heavy, shares are exact.
        if weights.iter().all(|&w| usize::from(w) * 2 <= total) {
            for (member, weight) in members.iter().zip(&weights) {
                let (got, fair) = (held[&member.id] * total, 512 * usize::from(*weight));
                prop_assert!(got.abs_diff(fair) <= total, "{} holds {}: {:?}", member.id, held[&member.id], weights);
            }
        }
    }

    #[test]
    fn racks_are_distinct_where_there_are_enough(racks in prop::collection::vec(1u32..4, 2..5), replicas in 2u8..5) {
        let mut members = Vec::new();
        for (rack, size) in racks.iter().enumerate() {
            for _ in 0..*size {
                let id = members.len() as u32 + 1;
                members.push(Member { rack: format!("r{rack}"), ..member(id, 2) });
            }
        }
        let map = map_of(&members, replicas, 6);
        let rack = |node: NodeId| map.node(node).map(|n| n.rack.clone()).unwrap_or_default();
        for shard in &map.shards {
            let mut held: BTreeMap<String, usize> = BTreeMap::new();
            shard.replicas.iter().for_each(|r| *held.entry(rack(r.node)).or_default() += 1);
            let wanted = shard.replicas.len();
            let room = |most: usize| racks.iter().map(|&size| most.min(size as usize)).sum::<usize>();
            let most = (1..).find(|&most| room(most) >= wanted).unwrap_or(1);
            prop_assert!(held.values().all(|&n| n <= most), "{:?}: at most {}", held, most);
            prop_assert!(racks.len() < wanted || held.len() == wanted, "distinct where there are enough: {:?}", held);
        }
    }
}

/// A change of one node in `n` moves about K/n of the replicas between nodes: never less than the fair share, and
/// not much more.
#[test]
fn a_join_or_leave_moves_about_its_share() {
    for n in [4u32, 5, 8, 16] {
        let (small, large) = (map_of(&even(1..=n - 1), 3, 10), map_of(&even(1..=n), 3, 10));
        let share = 3 * 1024 / n as usize;
        for (what, moved) in [("join", small.moved_replicas(&large)), ("leave", large.moved_replicas(&small))] {
            println!("{what} of node {n}: {moved} replicas, share {share}");
            assert!(moved >= share, "{what} of node {n}: {moved} of at least {share}");
            assert!(moved <= share * 2, "{what} of node {n}: {moved}, share {share}");
        }
    }
}

#[test]
fn a_node_that_leaves_from_the_middle_moves_about_its_share() {
    let all = even(1..=9);
    let before = map_of(&all, 3, 10);
    for gone in [1usize, 5, 9] {
        let rest: Vec<Member> = all.iter().filter(|m| m.id != NodeId(gone as u32)).cloned().collect();
        let (moved, share) = (before.moved_replicas(&map_of(&rest, 3, 10)), 3 * 1024 / 9);
        assert!((share..=share * 2).contains(&moved), "node {gone} left: {moved} moved, share {share}");
    }
}

#[test]
fn a_node_has_150_virtual_nodes_by_weight() {
    let mut nodes = even(1..=3);
    nodes[1].weight = 50;
    nodes[2].weight = 0;
    let ring = Ring::new(&nodes);
    // Walking from every 2^20th position meets every node that has tokens once, and never the one of weight zero.
    let mut first = [0usize; 3];
    for i in 0..4096u32 {
        let walk: Vec<usize> = ring.walk(Position(i << 20)).collect();
        assert_eq!(walk.len(), 2);
        first[walk[0]] += 1;
        assert_eq!(ring.first(Position(i << 20), |_| true), Some(walk[0]));
        assert_eq!(ring.first(Position(i << 20), |node| node != walk[0]), Some(walk[1]));
    }
    assert_eq!(ring.first(Position(0), |_| false), None);
    let tokens: Vec<(Position, usize)> = ring.tokens().collect();
    assert!(tokens.is_sorted());
    assert_eq!([0, 1, 2].map(|node| tokens.iter().filter(|token| token.1 == node).count()), [150, 75, 0]);
    assert!(first[0] > first[1] && first[1] > 4096 / 5, "twice the weight, about twice the arcs: {first:?}");
}

#[test]
fn a_key_has_one_shard_and_its_arc_holds_its_position() {
    let map = map_of(&even(1..=3), 3, 4);
    for i in 0..1000u32 {
        let shard = map.shard_of(KeyspaceId(1), &i.to_le_bytes()).expect("every position is in an arc");
        let at = ringkv_wire::ring::hash::key_hash(KeyspaceId(1), &i.to_le_bytes()) >> 32;
        let arc = u64::from(shard.id.arc());
        assert!((arc << 28..(arc + 1) << 28).contains(&at));
    }
    assert!(map.shard_of(KeyspaceId(2), b"a").is_none());
    assert_eq!(map.shards_on(StoreId::new(1, 0)).count(), 8);
    assert_eq!(map.address(StoreId::new(2, 1)), Some(([127, 0, 0, 1], 7002).into()));
    assert_eq!(map.address(StoreId::new(2, 2)), None);
    assert_eq!(map.address(StoreId::new(4, 0)), None);
}

#[test]
fn nobody_to_hold_a_shard() {
    let map = map_of(&[], 3, 2);
    assert!(map.shards.iter().all(|s| s.replicas.is_empty()));
    let idle = Member { weight: 0, ..member(1, 2) };
    assert!(map_of(&[idle], 3, 2).shards.iter().all(|s| s.replicas.is_empty()));
}

#[test]
fn the_map_survives_its_bytes() {
    let mut members = even(1..=4);
    members[0].rack = "süd".into();
    members[1].address = "[2001:db8::1]:7000".parse().expect("an address");
    let mut map = map_of(&members, 3, 5);
    map.keyspaces.push(KeyspaceInfo { id: KeyspaceId(2), name: "p".into(), pool: 1, routing: Routing::Prefix(b'/') });
    map.keyspaces.push(KeyspaceInfo { id: KeyspaceId(3), name: "t".into(), pool: 1, routing: Routing::HashTag });
    let mut bytes = Vec::new();
    map.encode(&mut bytes);
    assert_eq!(ClusterMap::decode(bytes.clone().into()), Ok(map.clone()));
    for len in 0..bytes.len() {
        assert!(ClusterMap::decode(bytes[..len].to_vec().into()).is_err(), "cut at {len}");
    }
    for at in 0..bytes.len() {
        for flip in [1u8, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            if let Ok(other) = ClusterMap::decode(bad.clone().into()) {
                let mut again = Vec::new();
                other.encode(&mut again);
                assert_eq!(again, bad, "what decodes encodes to the same bytes");
            }
        }
    }
}

#[test]
fn the_digest_leaves_addresses_out() {
    let mut members = even(1..=3);
    let digest = map_of(&members, 3, 4).settings_digest();
    members[0].address = ([10, 0, 0, 1], 1).into();
    members[2].stores[1] = ([10, 0, 0, 1], 2).into();
    assert_eq!(map_of(&members, 3, 4).settings_digest(), digest);
    assert_ne!(map_of(&members, 2, 4).settings_digest(), digest);
    members[0].stores.pop();
    assert_ne!(map_of(&members, 3, 4).settings_digest(), digest);
}

#[test]
fn a_finder_finds_what_the_map_says_in_every_pool() {
    let keyspace = |id: u32, pool, routing| KeyspaceInfo { id: KeyspaceId(id), name: format!("k{id}"), pool, routing };
    let keyspaces = [
        keyspace(1, 1, Routing::Whole),
        keyspace(2, 4, Routing::Prefix(b'/')),
        keyspace(9, 1, Routing::HashTag),
        keyspace(11, 7, Routing::Whole),
    ];
    let pools = [(1, 3), (4, 0), (7, 5)].map(|(id, shard_bits)| PoolInfo { id, replicas: 3, shard_bits });
    let mut map = ClusterMap::from_members(ClusterId([7; 16]), &even(1..=3), &keyspaces, &pools);
    // Arcs of different lengths, as after a merge.
    map.shards.retain(|shard| shard.id.arc() != 3);
    let finder = map.finder();
    for i in 0..4000u32 {
        let key = format!("{{{}}}/{i}", i % 97);
        for id in [1, 2, 9, 11] {
            let found = finder.find(KeyspaceId(id), key.as_bytes()).map(|at| &map.shards[at]);
            assert_eq!(found, map.shard_of(KeyspaceId(id), key.as_bytes()), "{key} in {id}");
            assert!(found.is_some());
        }
        assert_eq!(finder.find(KeyspaceId(3), key.as_bytes()), None);
    }
}
