use super::*;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread.
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

fn disk() -> (tempfile::TempDir, PlainDisk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = PlainDisk::open(dir.path()).unwrap();
    (dir, disk)
}

fn filled(bytes: usize, with: u8) -> DiskBuf {
    let mut buf = DiskBuf::zeroed(bytes);
    buf.fill(with);
    buf
}

#[test]
fn what_is_written_is_read() {
    let (_dir, disk) = disk();
    block_on(async {
        disk.create_dir("store-0000/log").await.unwrap();
        let file = disk.open("store-0000/log/a", OpenMode::Create).await.unwrap();
        disk.allocate(&file, 1 << 20).await.unwrap();
        assert_eq!(disk.size(&file).await.unwrap(), 1 << 20);
        let (written, buf) = disk.write_at(&file, 4096, filled(8192, 3)).await;
        written.unwrap();
        assert_eq!(buf.len(), 8192);
        disk.commit(&file, 65536, filled(4096, 4)).await.0.unwrap();
        disk.sync(&file).await.unwrap();
        let (got, buf) = disk.read_at(&file, 0, filled(1 << 20, 9)).await;
        assert_eq!(got.unwrap(), 1 << 20);
        assert!(buf[..4096].iter().all(|b| *b == 0));
        assert!(buf[4096..12288].iter().all(|b| *b == 3));
        assert!(buf[65536..69632].iter().all(|b| *b == 4));
        disk.rename("store-0000/log/a", "store-0000/log/b").await.unwrap();
        disk.sync_dir("store-0000/log").await.unwrap();
        assert_eq!(disk.list("store-0000/log").await.unwrap(), ["b"]);
        let mapped = disk.map(&file, 65536..65600, &|bytes| bytes.iter().all(|b| *b == 4)).await.unwrap();
        disk.remove("store-0000/log/b").await.unwrap();
        assert_eq!(&mapped[..], [4; 64]);
        assert!(matches!(disk.open("store-0000/log/b", OpenMode::Read).await, Err(DiskError::NotFound { .. })));
    });
}

#[test]
fn commits_in_flight_together_are_all_answered() {
    let (_dir, disk) = disk();
    block_on(async {
        let a = disk.open("a", OpenMode::Create).await.unwrap();
        let b = disk.open("b", OpenMode::Create).await.unwrap();
        disk.allocate(&a, 1 << 20).await.unwrap();
        disk.allocate(&b, 1 << 20).await.unwrap();
        let mut waiting = Vec::new();
        for i in 0..40u8 {
            let file = if i % 7 == 6 { &b } else { &a };
            let mut future = Box::pin(disk.commit(file, u64::from(i) * 4096, filled(4096, i + 1)));
            // The first poll queues it.
            let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            waiting.push(future);
        }
        for future in waiting {
            future.await.0.unwrap();
        }
        for i in 0..40u8 {
            let file = if i % 7 == 6 { &b } else { &a };
            let (got, buf) = disk.read_at(file, u64::from(i) * 4096, DiskBuf::zeroed(4096)).await;
            assert_eq!(got.unwrap(), 4096);
            assert!(buf.iter().all(|b| *b == i + 1), "commit {i}");
        }
    });
}

#[test]
fn a_dropped_future_still_writes_and_leaks_nothing() {
    let (_dir, disk) = disk();
    block_on(async {
        let file = disk.open("a", OpenMode::Create).await.unwrap();
        {
            let mut future = Box::pin(disk.write_at(&file, 0, filled(4096, 5)));
            let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        // Jobs run in order, so the write is over.
        disk.sync(&file).await.unwrap();
        let (_, buf) = disk.read_at(&file, 0, DiskBuf::zeroed(4096)).await;
        assert!(buf.iter().all(|b| *b == 5));
    });
    assert_eq!(Arc::strong_count(&disk.root), 1);
}

#[test]
fn errors_name_the_file() {
    let (_dir, disk) = disk();
    block_on(async {
        let file = disk.open("a", OpenMode::Create).await.unwrap();
        disk.write_at(&file, 0, filled(4096, 5)).await.0.unwrap();
        let file = disk.open("a", OpenMode::Read).await.unwrap();
        let (refused, buf) = disk.commit(&file, 0, filled(4096, 6)).await;
        assert_eq!(buf.len(), 4096);
        assert!(refused.unwrap_err().to_string().starts_with("a: write:"));
        let refused = disk.map(&file, 0..10, &|_| false).await;
        assert!(matches!(refused, Err(DiskError::Section { .. })));
    });
}
