//! Micro-benchmarks of ringkv's hot parts, through their public faces; and what the benches share.

use bytes::Bytes;
use ringkv_wire::entry::{OpKind, Operation, Operations};
use ringkv_wire::ids::{ClientId, KeyspaceId};

/// The keyspace of all benches.
pub const KEYSPACE: KeyspaceId = KeyspaceId(1);

/// A key of 16 bytes.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("key-{number:012}"))
}

/// A value of 100 bytes.
pub fn value() -> Bytes {
    Bytes::from_static(&[7; 100])
}

/// `count` puts of one client, as they stand in the log.
pub fn operations(count: u64) -> Operations {
    let op = |n: u64| Operation {
        seq: n + 1,
        expiry_ms: 1,
        keyspace: KEYSPACE,
        kind: OpKind::Put,
        key: key(n),
        value: value(),
    };
    Operations { client: ClientId([1; 16]), floor: 1, ops: (0..count).map(op).collect() }
}

/// Numbers below `count` in an order without a pattern: the same for everyone, so that runs compare.
pub fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (0u64..).map(move |n| {
        let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x ^ (x >> 31)) % count
    })
}
