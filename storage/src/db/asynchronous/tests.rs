//! What only somebody inside can bring about.

use crate::db::log::{Segment, SyncPages};
use crate::db::tests::stall;
use crate::db::{AsyncDb, AsyncTree, Db, Error};
use crate::error::StorageError;
use crate::sst::NEVER_MS;
use futures_util::future::{join_all, select_all};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tempfile::TempDir;

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor of one future.
pub(in crate::db) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

/// One poll by an executor that does nothing else.
fn once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// What a future comes to that waits for nobody.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match once(&mut Box::pin(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn open(dir: &TempDir) -> (AsyncDb, AsyncTree) {
    open_through(dir, Box::new(Segment::sync_pages))
}

fn open_through(dir: &TempDir, sync_pages: SyncPages) -> (AsyncDb, AsyncTree) {
    let builder = Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20);
    let db = builder.open_through(dir.path(), sync_pages).expect("opened").asynchronous();
    let tree = block_on(db.tree("t")).expect("a tree");
    (db, tree)
}

#[test]
fn what_memory_knows_is_told_in_the_first_poll() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, tree) = open(&dir);
    at_once(db.tree("t")).expect("a tree");
    at_once(tree.put(b"k", b"v")).expect("written");
    at_once(tree.put_for(b"k2", b"v", std::time::Duration::from_secs(1000))).expect("written");
    at_once(tree.delete(b"k2")).expect("written");
    let mut batch = db.batch();
    batch.put(tree.blocking(), b"k3", b"v");
    at_once(db.write(batch, Default::default())).expect("written");
    let snapshot = db.snapshot();
    let told = || {
        assert_eq!(at_once(tree.get(b"k")).expect("read").as_deref(), Some(&b"v"[..]));
        assert_eq!(at_once(snapshot.get(&tree, b"k")).expect("read").as_deref(), Some(&b"v"[..]));
        assert_eq!(at_once(tree.get(b"k2")).expect("read"), None);
        let many = at_once(tree.get_many(&[&b"k"[..], b"none", b"k3"])).expect("read");
        assert_eq!(many.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    };
    told();
    assert!(at_once(tree.compare_and_set(b"k", Some(b"v"), Some(b"v"))).expect("written"));
    assert_eq!(at_once(tree.add(b"n", 7)).expect("written"), 7);
    block_on(db.sync()).expect("synced");
    at_once(db.sync()).expect("nothing to be synced");
    block_on(db.compact()).expect("merged");
    // From the disk, then from the cache.
    for key in [&b"k"[..], b"k2", b"k3"] {
        block_on(tree.get(key)).expect("read");
    }
    told();
    assert_eq!(at_once(tree.add(b"n", 1)).expect("written"), 8);
}

#[test]
fn blocks_that_are_not_in_the_cache_are_read_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, tree) = open(&dir);
    let keys: Vec<[u8; 4]> = (0..20u32).map(u32::to_be_bytes).collect();
    block_on(join_all(keys.iter().map(|key| tree.put(key, &[7; 4000]))));
    block_on(db.compact()).expect("merged");
    let (_, misses) = db.0.core().cache.hits_and_misses();
    let mut waited = 0;
    for key in &keys {
        let mut get = Box::pin(tree.get(key));
        let found = match once(&mut get) {
            Poll::Ready(found) => found,
            Poll::Pending => {
                waited += 1;
                block_on(get)
            }
        };
        assert_eq!(found.expect("read").as_deref(), Some(&[7; 4000][..]));
    }
    // Somebody else may have been faster than the poll, but not each time.
    assert!(waited > 0, "its thread waited for the disk");
    assert_eq!(db.0.core().cache.hits_and_misses().1, misses + 20, "one look at each, not two");
    at_once(tree.get(&keys[0])).expect("in the cache now");
    // What was deleted since is not told by the table below.
    block_on(tree.delete(&keys[0])).expect("written");
    assert_eq!(at_once(tree.get(&keys[0])).expect("read"), None);
}

/// Somebody holds the writers' lock, as one does who waits for memory.
#[test]
fn neither_a_busy_writer_nor_a_large_value_keeps_the_executor() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, tree) = open(&dir);
    at_once(tree.put(b"k", b"v")).expect("written");
    let busy = db.0.core().writer();
    let keys: Vec<[u8; 4]> = (0..100u32).map(u32::to_be_bytes).collect();
    let mut puts: Vec<_> = keys.iter().map(|key| Box::pin(tree.put(key, b"v"))).collect();
    assert!(puts.iter_mut().all(|put| once(put).is_pending()));
    let mut add = Box::pin(tree.add(b"n", 1));
    assert!(once(&mut add).is_pending());
    assert_eq!(at_once(tree.get(b"k")).expect("read").as_deref(), Some(&b"v"[..]));
    drop(busy);
    block_on(join_all(puts)).into_iter().collect::<Result<Vec<()>, Error>>().expect("written");
    assert_eq!(block_on(add).expect("written"), 1);
    block_on(db.flush()).expect("flushed");
    for (bytes, soon) in [(1 << 10, true), (300 << 10, false)] {
        let value = vec![7; bytes];
        let op = tree.blocking().op(b"large", Some(&value), NEVER_MS).expect("allowed");
        assert_eq!(db.0.core().try_write(&[op], None).expect("sound").is_some(), soon, "{bytes} bytes");
    }
    assert_eq!(tree.blocking().range(..).count(), 103);
}

/// No memory is left and none comes: a write waits, elsewhere, and reads go on, also those that need the disk.
#[test]
fn a_full_memtable_does_not_keep_the_executor() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, tree) = open(&dir);
    block_on(async {
        tree.put(b"on disk", b"v").await.expect("written");
        db.compact().await.expect("merged");
    });
    let go_on = stall(&db.0);
    let (mut written, value) = (0u32, [7; 1000]);
    let mut waiting = loop {
        let key = written.to_be_bytes();
        let tree = tree.clone();
        let mut put: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> =
            Box::pin(async move { tree.put(&key, &value).await });
        // A change of memtables is quick while there is memory; who waits for longer waits for the flush.
        let mut polls = 0;
        while once(&mut put).is_pending() && polls < 200 {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
            polls += 1;
        }
        if polls == 200 {
            break put;
        }
        written += 1;
    };
    assert!(written > 500, "all memory is used: {written}");
    let mut more: Vec<_> = (0..50u32).map(|n| Box::pin(tree_put(&tree, n))).collect();
    assert!(more.iter_mut().all(|put| once(put).is_pending()));
    assert_eq!(at_once(tree.get(&7u32.to_be_bytes())).expect("read").as_deref(), Some(&value[..]));
    assert_eq!(block_on(tree.get(b"on disk")).expect("read").as_deref(), Some(&b"v"[..]));
    assert!(once(&mut waiting).is_pending());
    drop(go_on);
    block_on(waiting).expect("written");
    block_on(join_all(more)).into_iter().collect::<Result<Vec<()>, Error>>().expect("written");
    assert_eq!(tree.blocking().range(..).count() as u32, written + 52);
}

async fn tree_put(tree: &AsyncTree, n: u32) -> Result<(), Error> {
    tree.put(&(1 << 20 | n).to_be_bytes(), &[1; 1000]).await
}

/// Syncs that are counted, the opening's own not, slowed down, and one of which fails.
fn counted(calls: &Arc<AtomicUsize>, failing: usize) -> SyncPages {
    let calls = calls.clone();
    Box::new(move |segment: &Segment, range| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        std::thread::park_timeout(std::time::Duration::from_millis(2));
        if call == failing { Err(std::io::Error::from_raw_os_error(5)) } else { segment.sync_pages(range) }
    })
}

#[test]
fn many_synced_writers_share_few_syncs_and_none_returns_before_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let calls = Arc::new(AtomicUsize::new(0));
    let (db, tree) = open_through(&dir, counted(&calls, usize::MAX));
    let before = calls.load(Ordering::SeqCst);
    let put = |n: u32| {
        let (db, tree) = (&db, &tree);
        async move {
            tree.put_synced(&n.to_be_bytes(), b"v").await.expect("synced");
            let core = db.0.core();
            let newest = core.view.load().get(&core.cache, sought(tree, &n.to_be_bytes()), u64::MAX);
            let version = newest.expect("read").expect("written").version;
            assert!(core.log.is_synced(crate::db::log::Position(version)).expect("sound"), "it was not synced");
        }
    };
    block_on(join_all((0..200).map(put)));
    let syncs = calls.load(Ordering::SeqCst) - before;
    assert!((1..=50).contains(&syncs), "{syncs} syncs of 200 writes");
    assert_eq!(tree.blocking().range(..).count(), 200);
}

fn sought<'k>(tree: &AsyncTree, key: &'k [u8]) -> crate::tree::Sought<'k> {
    crate::tree::Sought::new(tree.blocking().keyspace(), key)
}

#[test]
fn a_failed_sync_is_told_to_all_who_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let calls = Arc::new(AtomicUsize::new(0));
    let (db, tree) = open_through(&dir, counted(&calls, 1));
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the opening's own");
    let keys: Vec<[u8; 4]> = (0..50u32).map(u32::to_be_bytes).collect();
    let results = block_on(join_all(keys.iter().map(|key| tree.put_synced(key, b"v"))));
    let poisoned = |result: &Result<(), Error>| matches!(result, Err(Error::Storage(StorageError::Poisoned { .. })));
    assert!(results.iter().all(poisoned), "{results:?}");
    assert!(poisoned(&block_on(db.sync())) && poisoned(&at_once(tree.put(b"k", b"v"))));
    // It was written before anybody synced.
    assert_eq!(at_once(tree.get(&keys[0])).expect("read").as_deref(), Some(&b"v"[..]));
}

/// A future that nobody polls any more stands in nobody's way, whether it is dropped or only forgotten.
#[test]
fn futures_that_are_dropped_or_not_polled_keep_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let calls = Arc::new(AtomicUsize::new(0));
    let (db, tree) = open_through(&dir, counted(&calls, usize::MAX));
    let keys: Vec<[u8; 4]> = (0..40u32).map(u32::to_be_bytes).collect();
    let mut futures: Vec<_> = keys.iter().map(|key| Box::pin(tree.put_synced(key, b"v"))).collect();
    futures.retain_mut(|future| once(future).is_pending());
    futures.truncate(20);
    let busy = db.0.core().writer();
    let mut puts: Vec<_> = keys.iter().map(|key| Box::pin(tree.put(key, b"newer"))).collect();
    assert!(puts.iter_mut().all(|put| once(put).is_pending()));
    puts.truncate(10);
    drop(busy);
    block_on(tree.put_synced(b"k", b"v")).expect("written, while the others rest");
    // Those that were on their way are made, dropped or not, before one that came later.
    block_on(select_all([Box::pin(db.flush())])).0.expect("flushed");
    assert!(keys.iter().all(|key| tree.blocking().get(key).expect("read").as_deref() == Some(&b"newer"[..])));
    block_on(join_all(futures)).into_iter().collect::<Result<Vec<()>, Error>>().expect("synced");
    drop(puts);
    drop((tree, db));
    let db = Db::open(dir.path()).expect("closed by then");
    assert_eq!(db.tree("t").expect("a tree").range(..).count(), 41);
}

#[test]
fn work_that_panics_fails_its_own_future_and_the_next_is_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, tree) = open(&dir);
    let lanes = &db.0.0.lanes;
    let (go_on, may_go_on) = channel::<()>();
    let first = lanes.writes.run(move || may_go_on.recv().is_err());
    let (panics, next) = (lanes.writes.run(|| panic!("on purpose")), lanes.writes.run(|| 7));
    drop(go_on);
    assert_eq!((block_on(first), block_on(panics), block_on(next)), (Some(true), None::<()>, Some(7)));
    assert_eq!(block_on(super::pool::run(|| panic!("on purpose"))), None::<()>);
    block_on(tree.put_synced(b"k", b"v")).expect("written");
}

#[test]
fn all_of_it_goes_to_any_thread() {
    fn send<T: Send>(_: &T) {}
    fn shared<T: Send + Sync>() {}
    shared::<(Db, crate::db::Tree, crate::db::Snapshot, crate::db::Batch)>();
    shared::<(AsyncDb, AsyncTree, crate::db::AsyncSnapshot)>();
    fn moves<T: Send>() {}
    moves::<(crate::db::Range, crate::db::AsyncRange)>();
    let dir = tempfile::tempdir().expect("a directory");
    let (db, tree) = open(&dir);
    let (snapshot, mut range) = (db.snapshot(), tree.range(..));
    send(&AsyncDb::open("path"));
    send(&Db::builder().open_async("path"));
    send(&db.tree("t"));
    send(&db.write(db.batch(), Default::default()));
    send(&(db.sync(), db.flush(), db.settle(), db.compact(), db.checkpoint("path")));
    send(&db.clone().close());
    send(&(tree.get(b"k"), tree.get_many(&[b"k"]), tree.put(b"k", b"v"), tree.put_synced(b"k", b"v")));
    send(&(tree.put_for(b"k", b"v", std::time::Duration::ZERO), tree.delete(b"k")));
    send(&(tree.compare_and_set(b"k", None, None), tree.add(b"k", 1)));
    send(&snapshot.get(&tree, b"k"));
    send(&range.next());
}

/// Of syncs only one is in a thread, however many wait for it.
#[test]
fn waiting_syncs_leave_threads_to_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let (go_on, may_go_on) = channel();
    let (may_go_on, calls) = (Mutex::new(may_go_on), AtomicUsize::new(0));
    let stalls = Box::new(move |segment: &Segment, range| {
        // The opening's own is the first, one before the merge the second.
        if calls.fetch_add(1, Ordering::SeqCst) == 1 {
            let _: Result<(), _> = may_go_on.lock().expect("no panic").recv();
        }
        segment.sync_pages(range)
    });
    let (db, tree) = open_through(&dir, stalls);
    block_on(tree.put(b"on disk", b"v")).expect("written");
    block_on(db.compact()).expect("merged");
    let keys: Vec<[u8; 4]> = (0..200u32).map(u32::to_be_bytes).collect();
    let mut puts: Vec<_> = keys.iter().map(|key| Box::pin(tree.put_synced(key, b"v"))).collect();
    assert!(puts.iter_mut().all(|put| once(put).is_pending()));
    assert_eq!(block_on(tree.get(b"on disk")).expect("read").as_deref(), Some(&b"v"[..]));
    assert!(puts.iter_mut().all(|put| once(put).is_pending()));
    drop(go_on);
    block_on(join_all(puts)).into_iter().collect::<Result<Vec<()>, Error>>().expect("synced");
}

/// Flushes are behind: a writer waits for them, not in the poll, and readers see what it wrote before it has waited.
#[test]
fn what_a_writer_owes_is_waited_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, tree) = open(&dir);
    let mut waited = 0;
    for n in 0..50u32 {
        // The database's thread knows that nothing is behind, and says so from time to time.
        db.0.core().wait_ns_per_byte.store(1e5_f64.to_bits(), Ordering::Relaxed);
        let key = n.to_be_bytes();
        let mut put = Box::pin(tree.put(&key, b"v"));
        if once(&mut put).is_pending() {
            waited += 1;
            assert_eq!(at_once(tree.get(&key)).expect("read").as_deref(), Some(&b"v"[..]));
            block_on(put).expect("written");
        }
    }
    assert!(waited > 0, "nobody waited");
}

/// Who takes only the first of many has few blocks read.
#[test]
fn the_first_step_of_a_walk_reads_little() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, tree) = open(&dir);
    let keys: Vec<[u8; 4]> = (0..2000u32).map(u32::to_be_bytes).collect();
    block_on(join_all(keys.iter().map(|key| tree.put(key, &[7; 300]))));
    block_on(db.compact()).expect("merged");
    let looks = || {
        let (hits, misses) = db.0.core().cache.hits_and_misses();
        hits + misses
    };
    let before = looks();
    assert_eq!(block_on(tree.range(..).next()).expect("an item").expect("read").0, keys[0][..]);
    assert!((1..=4).contains(&(looks() - before)), "{} blocks for one item", looks() - before);
    let mut range = tree.range(..);
    for key in &keys {
        assert_eq!(block_on(range.next()).expect("an item").expect("read").0, key[..]);
    }
}

/// Somebody else writes the key between the look at it and the write, which is made in the poll, or elsewhere because it is large.
#[test]
fn a_change_is_made_of_what_nobody_has_changed_since() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_db, tree) = open(&dir);
    for bytes in [4, 300 << 10] {
        let (mut asked, mine) = (0, vec![7; bytes]);
        let change = |found: Option<&[u8]>| {
            asked += 1;
            if asked == 1 {
                tree.blocking().put(b"k", b"somebody's")?;
            } else {
                assert_eq!(found, Some(&b"somebody's"[..]));
            }
            Ok(Some(Some(bytes::Bytes::copy_from_slice(&mine))))
        };
        block_on(tree.update(b"k", change)).expect("written");
        assert_eq!(asked, 2, "{bytes} bytes");
        assert_eq!(block_on(tree.get(b"k")).expect("read").as_deref(), Some(&mine[..]));
    }
}
