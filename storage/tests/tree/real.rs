//! The same on real files.

mod same_bytes;

use crate::harness::{DIR, SHARD, at, options};
use bytes::Bytes;
use ringkv_storage::disk::Disk;
use ringkv_storage::disk::plain::PlainDisk;
use ringkv_storage::disk::uring::UringDisk;
use ringkv_storage::disk::uring::ring::{Ring, RingOptions};
use ringkv_storage::engine::Engine;
use ringkv_wire::ids::KeyspaceId;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread; the disk's thread wakes it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

const K: KeyspaceId = KeyspaceId(1);

async fn life<D: Disk>(disk: D) {
    let big = vec![5; 300_000];
    for boot in 1..=3u64 {
        let engine = Engine::open(disk.clone(), DIR, options(boot)).await.expect("opens");
        let tree = engine.tree(SHARD);
        for key in 0..500 * (boot - 1) {
            let got = tree.get(K, &key.to_be_bytes()).await.expect("readable").expect("there");
            assert_eq!((got.value.len() as u64, got.version), (key % 300, key + 1));
        }
        for key in 500 * (boot - 1)..500 * boot {
            tree.put(key + 1, K, &key.to_be_bytes(), Bytes::copy_from_slice(&big[..(key % 300) as usize]));
        }
        tree.put(500 * boot, KeyspaceId(2), b"big", Bytes::copy_from_slice(&big));
        tree.flush(at(500 * boot), vec![]).await.expect("flushes");
        if boot == 2 {
            tree.settle().await.expect("merges");
        }
        assert_eq!(tree.table_count() as u64, [1, 1, 2][boot as usize - 1]);
        let (mut iter, mut keys) = (tree.iter(), 0);
        while iter.next().await.expect("readable").is_some() {
            keys += 1;
        }
        assert_eq!(keys, 500 * boot + 1);
        let got = tree.get(KeyspaceId(2), b"big").await.expect("readable").expect("there");
        assert_eq!(got.value, big);
    }
    assert_eq!(disk.list(&format!("{DIR}/tables")).await.expect("listed").len(), 2);
    let names = disk.list(DIR).await.expect("listed");
    assert_eq!(names, ["CURRENT", "MANIFEST-0000000000000003", "tables"]);
}

#[test]
fn on_the_plain_disk() {
    let dir = tempfile::tempdir().unwrap();
    block_on(life(PlainDisk::open(dir.path()).unwrap()));
}

#[test]
fn on_the_uring_disk() {
    let ring = match Ring::new(RingOptions { submissions: 16, completions: 64 }) {
        Ok(ring) => ring,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let dir = tempfile::tempdir().unwrap();
    ring.block_on(life(UringDisk::open(dir.path(), ring.clone()).unwrap())).unwrap();
    ring.shutdown().unwrap();
}
