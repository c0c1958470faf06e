//! The asynchronous form: random work beside an ordered map on an executor that is a loop, and many tasks on a runtime of threads.

use super::model::{key, value};
use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use ringkv_storage::db::{AsyncDb, AsyncRange, AsyncSnapshot, AsyncTree, Db, Durability, Error};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Items = Vec<(Vec<u8>, Vec<u8>)>;

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// All the executor that is needed.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>, bool),
    Delete(Vec<u8>),
    Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>, bool),
    /// A write that is polled so often and then forgotten.
    Abandon(Vec<u8>, Vec<u8>, usize),
    Get(Vec<u8>),
    Many(Vec<Vec<u8>>),
    Range(Vec<u8>, bool),
    Add(Vec<u8>, i64),
    Swap(Vec<u8>, Vec<u8>),
    Snapshot,
    Flush,
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (key(), value(), any::<bool>()).prop_map(|(k, v, synced)| Step::Put(k, v, synced)),
        6 => key().prop_map(Step::Delete),
        5 => (proptest::collection::vec((key(), proptest::option::of(value())), 0..20), any::<bool>())
            .prop_map(|(ops, synced)| Step::Batch(ops, synced)),
        5 => (key(), value(), 0..3usize).prop_map(|(k, v, polls)| Step::Abandon(k, v, polls)),
        10 => key().prop_map(Step::Get),
        3 => proptest::collection::vec(key(), 0..40).prop_map(Step::Many),
        5 => (key(), any::<bool>()).prop_map(|(k, back)| Step::Range(k, back)),
        3 => (key(), -5..5i64).prop_map(|(k, n)| Step::Add(k, n)),
        3 => (key(), value()).prop_map(|(k, v)| Step::Swap(k, v)),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        2 => Just(Step::Reopen),
    ]
}

struct World {
    dir: tempfile::TempDir,
    db: AsyncDb,
    tree: AsyncTree,
    model: Map,
    snapshots: Vec<(AsyncSnapshot, Map)>,
}

async fn open(dir: &tempfile::TempDir) -> (AsyncDb, AsyncTree) {
    let builder = Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20);
    let db = builder.open_async(dir.path()).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    (db, tree)
}

/// One by one.
async fn told(mut range: AsyncRange) -> Items {
    let mut items = Items::new();
    while let Some(item) = range.next().await {
        let (key, value) = item.unwrap();
        items.push((key.to_vec(), value.to_vec()));
    }
    assert!(range.next().await.is_none(), "it goes on behind its end");
    items
}

fn of(model: &Map) -> Items {
    model.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let (db, tree) = open(&dir).await;
        World { dir, db, tree, model: Map::new(), snapshots: Vec::new() }
    }

    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.model.insert(key.to_vec(), value),
            None => self.model.remove(key),
        };
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Put(key, value, synced) => {
                let put =
                    if *synced { self.tree.put_synced(key, value).await } else { self.tree.put(key, value).await };
                put.unwrap();
                self.write(key, Some(value.clone()));
            }
            Step::Delete(key) => {
                self.tree.delete(key).await.unwrap();
                self.write(key, None);
            }
            Step::Batch(ops, synced) => self.batch(ops, *synced).await,
            Step::Abandon(key, value, polls) => self.abandon(key, value, *polls).await,
            Step::Get(key) => {
                let found = self.tree.get(key).await.unwrap();
                assert_eq!(found.as_deref(), self.model.get(key).map(|value| &value[..]));
            }
            Step::Many(keys) => {
                let found = self.tree.get_many(keys).await.unwrap();
                assert_eq!(found.len(), keys.len());
                for (key, found) in keys.iter().zip(found) {
                    assert_eq!(found.as_deref(), self.model.get(key).map(|value| &value[..]));
                }
            }
            Step::Range(from, back) => {
                let range = self.tree.range(&from[..]..);
                let mut expected: Items = of(&self.model);
                expected.retain(|(key, _)| key[..] >= from[..]);
                if *back {
                    expected.reverse();
                }
                assert_eq!(told(if *back { range.backwards() } else { range }).await, expected);
            }
            Step::Add(key, by) => self.add(key, *by).await,
            Step::Swap(key, value) => {
                let now = self.model.get(key).cloned();
                assert!(!self.tree.compare_and_set(key, Some(b"\x01surely not"), Some(value)).await.unwrap());
                assert!(self.tree.compare_and_set(key, now.as_deref(), Some(value)).await.unwrap());
                self.write(key, Some(value.clone()));
            }
            Step::Snapshot => self.snapshots.push((self.db.snapshot(), self.model.clone())),
            Step::Flush => self.db.flush().await.unwrap(),
            Step::Compact => self.db.compact().await.unwrap(),
            Step::Reopen => self.reopen().await,
        }
    }

    async fn batch(&mut self, ops: &[(Vec<u8>, Option<Vec<u8>>)], synced: bool) {
        let mut batch = self.db.batch();
        for (key, value) in ops {
            match value {
                Some(value) => batch.put(self.tree.blocking(), key, value),
                None => batch.delete(self.tree.blocking(), key),
            }
            self.write(key, value.clone());
        }
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        self.db.write(batch, durability).await.unwrap();
    }

    /// It is made or not; nobody knows which before what came after it is done.
    async fn abandon(&mut self, key: &[u8], value: &[u8], polls: usize) {
        {
            let mut put = Box::pin(self.tree.put_synced(key, value));
            let mut polled = |_| put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            let _ = (0..polls).any(&mut polled);
        }
        self.db.flush().await.unwrap();
        let found = self.tree.get(key).await.unwrap().map(|found| found.to_vec());
        assert!(found.as_ref() == self.model.get(key) || (polls > 0 && found.as_deref() == Some(value)));
        self.write(key, found);
    }

    async fn add(&mut self, key: &[u8], by: i64) {
        let now = self.model.get(key);
        let before = now.map_or(Some(0), |now| <[u8; 8]>::try_from(&now[..]).ok().map(i64::from_le_bytes));
        match before.and_then(|before| before.checked_add(by)) {
            Some(sum) => {
                assert_eq!(self.tree.add(key, by).await.unwrap(), sum);
                self.write(key, Some(sum.to_le_bytes().to_vec()));
            }
            None => assert!(self.tree.add(key, by).await.is_err()),
        }
    }

    async fn reopen(&mut self) {
        assert_eq!(told(self.tree.range(..)).await, of(&self.model));
        for (snapshot, model) in std::mem::take(&mut self.snapshots) {
            assert_eq!(told(snapshot.range(&self.tree, ..)).await, of(&model));
            for (key, value) in model.iter().take(3) {
                assert_eq!(snapshot.get(&self.tree, key).await.unwrap().as_deref(), Some(&value[..]));
            }
        }
        let other = tempfile::tempdir().unwrap();
        let elsewhere = open(&other).await;
        (_, self.tree) = (std::mem::replace(&mut self.db, elsewhere.0).close().await, elsewhere.1);
        (self.db, self.tree) = open(&self.dir).await;
        assert_eq!(told(self.tree.range(..)).await, of(&self.model));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn it_is_an_ordered_map_without_any_runtime(steps in proptest::collection::vec(step(), 1..120)) {
        block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.take(step).await;
            }
            world.reopen().await;
        });
    }
}

/// On a runtime with threads: no write is lost, counters count each, walks see them in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn tasks_do_not_lose_each_others_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (db, tree) = open(&dir).await;
    let life = |task: u32| {
        let (db, tree) = (db.clone(), tree.clone());
        async move {
            for n in 0..1000u32 {
                let key = (task * 10_000 + n).to_be_bytes();
                match n % 100 {
                    0 => tree.put_synced(&key, &[1; 200]).await?,
                    1 => db.sync().await?,
                    2 => {
                        assert_eq!(tree.get(&(task * 10_000).to_be_bytes()).await?.map(|value| value.len()), Some(200))
                    }
                    _ => tree.put(&key, &[1; 200]).await?,
                }
                tree.add(b"count", 1).await?;
            }
            Ok::<(), Error>(())
        }
    };
    let tasks: Vec<_> = (0..8).map(|task| tokio::spawn(life(task))).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for _ in 0..2 {
        assert_eq!(tree.get(b"count").await.unwrap().as_deref(), Some(&8000i64.to_le_bytes()[..]));
        assert_eq!(tree.range(..).count().await, 8 * (1000 - 20) + 1);
        db.compact().await.unwrap();
    }
}

/// Of a long walk a little is read at first; a step that is given up loses nothing; the stream is the same.
#[test]
fn walks_go_on_where_a_step_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let (db, tree) = open(&dir).await;
        let keys: Vec<[u8; 4]> = (0..5000u32).map(u32::to_be_bytes).collect();
        try_join_all(keys.iter().map(|key| tree.put(key, &[7; 300]))).await.unwrap();
        db.compact().await.unwrap();
        let mut range = tree.prefix(b"").backwards();
        for key in keys.iter().rev() {
            // Polled once, then dropped.
            let given_up = Box::pin(range.next()).as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let item = match given_up {
                Poll::Ready(item) => item,
                Poll::Pending => range.next().await,
            };
            assert_eq!(item.unwrap().unwrap().0, key[..]);
        }
        assert!(range.next().await.is_none());
        let all: Vec<_> = tree.range(..).map_ok(|(key, _)| key).try_collect().await.unwrap();
        assert!(all.iter().zip(&keys).all(|(found, key)| found == &key[..]) && all.len() == 5000);
        let firsts = join_all((0..20).map(|_| async { tree.range(..).next().await.is_some() })).await;
        assert_eq!(firsts, [true; 20]);
    });
}
