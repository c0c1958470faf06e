//! What only somebody inside can bring about.

mod cache;
mod log;
mod order;
mod trees;

use crate::db::driver::Job;
use crate::db::{Db, Error};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

/// Says that it was woken, and keeps whoever did it until it is told to go on.
struct Stalls(Sender<()>, Mutex<Receiver<()>>);

impl Wake for Stalls {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
        let _ = self.1.lock().expect("no panic").recv();
    }
}

/// From now on the database's thread does nothing, until the sender goes.
pub(super) fn stall(db: &Db) -> Sender<()> {
    let ((stalls, stalled), (go_on, may_go_on)) = (channel(), channel());
    let waker = Waker::from(Arc::new(Stalls(stalls, Mutex::new(may_go_on))));
    let mut answer = db.core().mail.ask(Job::Flushed);
    // It may have been faster: then nothing is stalled, and one asks again.
    if Pin::new(&mut answer).poll(&mut Context::from_waker(&waker)).is_ready() {
        return stall(db);
    }
    drop(waker);
    stalled.recv().expect("it tells the answer");
    go_on
}

/// The thread is no more: writers that need it hear so instead of waiting, and what there is stays readable.
#[test]
fn writers_hear_that_the_thread_has_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir.path()).expect("opened");
    let db = open();
    let tree = db.tree("t").expect("a tree");
    db.core().mail.send(Job::Stop);
    let mut written = 0u32;
    let error = loop {
        match tree.put(&written.to_be_bytes(), &[7; 1000]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    for refused in [db.flush(), db.compact(), db.checkpoint(dir.path().join("copy"))] {
        assert!(matches!(refused, Err(Error::Failed { .. })), "{refused:?}");
    }
    assert!(written > 500, "all memory was used");
    assert_eq!(tree.range(..).count(), written as usize);
    drop((tree, db));
    assert_eq!(open().tree("t").expect("a tree").range(..).count(), written as usize);
}
