//! The cluster map as bytes (PROTOCOL.md §6.3), and the digest of what stores must agree on (§7).

use crate::codec::{Put, Reader, WireError};
use crate::ids::{ClusterId, Generation, KeyspaceId, NodeId, Position, ShardId, StoreId};
use crate::ring::hash::Routing;
use crate::ring::topology::{ClusterMap, KeyspaceInfo, NodeInfo, PoolInfo, ShardInfo};
use bytes::Bytes;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const ADDRESS_BYTES: usize = 20;
const NODE_BYTES_LEAST: usize = 12 + ADDRESS_BYTES;
const KEYSPACE_BYTES_LEAST: usize = 8;
const POOL_BYTES: usize = 4;
const SHARD_BYTES_LEAST: usize = 16;

impl ClusterMap {
    /// Appends the map. The scope and flow of IPv6 addresses are not carried.
    ///
    /// # Panics
    /// When a rack or a keyspace's name is longer than 255 bytes: names are checked where they are made.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_parts(true, out);
    }

    /// What stores must agree on: xxh3_64 over the encoded map without addresses.
    pub fn settings_digest(&self) -> u64 {
        let mut bytes = Vec::new();
        self.encode_parts(false, &mut bytes);
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    fn encode_parts(&self, addresses: bool, out: &mut Vec<u8>) {
        out.put(&self.cluster.0);
        out.put_u64(self.epoch);
        out.put_u32(self.nodes.len() as u32);
        for node in &self.nodes {
            assert!(node.rack.len() <= 255, "a rack's name of {} bytes", node.rack.len());
            out.put_u32(node.id.0);
            out.put_u16(node.weight);
            out.put_u16(node.stores.len() as u16);
            out.put_u32(node.rack.len() as u32);
            out.put(node.rack.as_bytes());
            for address in [&node.address].into_iter().chain(&node.stores).filter(|_| addresses) {
                put_address(address, out);
            }
        }
        out.put_u32(self.keyspaces.len() as u32);
        for keyspace in &self.keyspaces {
            assert!(keyspace.name.len() <= 255, "a keyspace's name of {} bytes", keyspace.name.len());
            let (routing, delimiter) = match keyspace.routing {
                Routing::Whole => (1, 0),
                Routing::Prefix(delimiter) => (2, delimiter),
                Routing::HashTag => (3, 0),
            };
            out.put_u32(keyspace.id.0);
            out.put(&[keyspace.pool, routing, delimiter, keyspace.name.len() as u8]);
            out.put(keyspace.name.as_bytes());
        }
        out.put_u32(self.pools.len() as u32);
        for pool in &self.pools {
            out.put(&[pool.id, pool.replicas, pool.shard_bits, 0]);
        }
        out.put_u32(self.shards.len() as u32);
        for shard in &self.shards {
            out.put_u32(shard.id.0);
            out.put_u32(shard.generation.0);
            out.put_u32(shard.start.0);
            out.put_u32(shard.replicas.len() as u32);
            for replica in &shard.replicas {
                out.put_u32(replica.node.0);
                out.put_u16(replica.store);
                out.put_u16(0);
            }
        }
    }

    /// Reads a whole map and checks it: lists are sorted, every name that is used exists, every pool's arcs begin at 0.
    /// Memory taken is bounded by the bytes given.
    pub fn decode(bytes: Bytes) -> Result<ClusterMap, WireError> {
        let mut r = Reader::new(bytes);
        let (cluster, epoch) = (ClusterId(r.layout()?), r.u64()?);
        let nodes = list(&mut r, "nodes", NODE_BYTES_LEAST, decode_node)?;
        let keyspaces = list(&mut r, "keyspaces", KEYSPACE_BYTES_LEAST, decode_keyspace)?;
        let pools = list(&mut r, "pools", POOL_BYTES, decode_pool)?;
        let shards = list(&mut r, "shards", SHARD_BYTES_LEAST, decode_shard)?;
        r.finish()?;
        let map = ClusterMap { cluster, epoch, nodes, keyspaces, pools, shards };
        map.check()?;
        Ok(map)
    }

    fn check(&self) -> Result<(), WireError> {
        let ensure = |holds: bool, what: &'static str, got: u64| {
            if holds { Ok(()) } else { Err(WireError::Value { what, got }) }
        };
        ensure(self.nodes.is_sorted_by(|a, b| a.id < b.id), "order of nodes", 0)?;
        ensure(self.keyspaces.is_sorted_by(|a, b| a.id < b.id), "order of keyspaces", 0)?;
        ensure(self.pools.is_sorted_by(|a, b| a.id < b.id), "order of pools", 0)?;
        let place = |s: &ShardInfo| (s.id.pool(), s.start);
        ensure(self.shards.is_sorted_by(|a, b| place(a) < place(b)), "order of shards", 0)?;
        for keyspace in &self.keyspaces {
            let known = self.pools.binary_search_by_key(&keyspace.pool, |p| p.id).is_ok();
            ensure(known, "pool of a keyspace", u64::from(keyspace.pool))?;
        }
        for pool in &self.pools {
            let first = self.shards.partition_point(|s| s.id.pool() < pool.id);
            let whole = self.shards.get(first).is_some_and(|s| s.id.pool() == pool.id && s.start.0 == 0);
            ensure(whole, "first shard of pool", u64::from(pool.id))?;
        }
        for shard in &self.shards {
            let known = self.pools.binary_search_by_key(&shard.id.pool(), |p| p.id).is_ok();
            ensure(known, "pool of a shard", u64::from(shard.id.0))?;
            for (at, replica) in shard.replicas.iter().enumerate() {
                ensure(self.address(*replica).is_some(), "node of a replica", u64::from(replica.node.0))?;
                let twice = shard.replicas.iter().take(at).any(|r| r.node == replica.node);
                ensure(!twice, "second replica on node", u64::from(replica.node.0))?;
            }
        }
        Ok(())
    }
}

fn list<T>(
    r: &mut Reader,
    what: &'static str,
    least_bytes: usize,
    one: impl Fn(&mut Reader) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = r.count(what, least_bytes)?;
    (0..count).map(|_| one(r)).collect()
}

fn decode_node(r: &mut Reader) -> Result<NodeInfo, WireError> {
    let (id, weight, stores) = (NodeId(r.u32()?), r.u16()?, r.u16()?);
    let rack_bytes = r.u32()? as usize;
    crate::entry::limit("rack bytes", rack_bytes, 255)?;
    let rack = text("rack", r.take(rack_bytes)?)?;
    let address = decode_address(r)?;
    let stores = (0..stores).map(|_| decode_address(r)).collect::<Result<_, _>>()?;
    Ok(NodeInfo { id, address, weight, rack, stores })
}

fn decode_keyspace(r: &mut Reader) -> Result<KeyspaceInfo, WireError> {
    let (id, pool) = (KeyspaceId(r.u32()?), r.u8()?);
    let (routing, delimiter, name_bytes) = (r.u8()?, r.u8()?, usize::from(r.u8()?));
    let routing = match (routing, delimiter) {
        (1, 0) => Routing::Whole,
        (2, delimiter) => Routing::Prefix(delimiter),
        (3, 0) => Routing::HashTag,
        _ => return Err(WireError::Value { what: "routing", got: u64::from(routing) }),
    };
    Ok(KeyspaceInfo { id, pool, routing, name: text("keyspace name", r.take(name_bytes)?)? })
}

fn decode_pool(r: &mut Reader) -> Result<PoolInfo, WireError> {
    let pool = PoolInfo { id: r.u8()?, replicas: r.u8()?, shard_bits: r.u8()? };
    r.zeros(1)?;
    crate::entry::limit("shard bits", usize::from(pool.shard_bits), 24)?;
    Ok(pool)
}

fn decode_shard(r: &mut Reader) -> Result<ShardInfo, WireError> {
    let (id, generation, start) = (ShardId(r.u32()?), Generation(r.u32()?), Position(r.u32()?));
    let count = r.count("replicas", 8)?;
    let mut replicas = Vec::with_capacity(count);
    for _ in 0..count {
        replicas.push(StoreId { node: NodeId(r.u32()?), store: r.u16()? });
        r.zeros(2)?;
    }
    Ok(ShardInfo { id, generation, start, replicas })
}

fn put_address(address: &SocketAddr, out: &mut Vec<u8>) {
    let mut bytes = [0; 16];
    let family = match address.ip() {
        IpAddr::V4(ip) => {
            bytes[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            bytes = ip.octets();
            6
        }
    };
    out.put(&[family, 0]);
    out.put_u16(address.port());
    out.put(&bytes);
}

fn decode_address(r: &mut Reader) -> Result<SocketAddr, WireError> {
    let family = r.u8()?;
    r.zeros(1)?;
    let port = r.u16()?;
    let ip = match family {
        4 => {
            let ip = IpAddr::V4(Ipv4Addr::from(r.layout::<[u8; 4]>()?));
            r.zeros(12)?;
            ip
        }
        6 => IpAddr::V6(Ipv6Addr::from(r.layout::<[u8; 16]>()?)),
        got => return Err(WireError::Value { what: "address family", got: u64::from(got) }),
    };
    Ok(SocketAddr::new(ip, port))
}

fn text(what: &'static str, bytes: Bytes) -> Result<String, WireError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Value { what, got: bytes.len() as u64 })
}
