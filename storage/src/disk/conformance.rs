//! What every real disk must do, as one test over [`Disk`].

use crate::disk::{ALIGN, Disk, DiskBuf, OpenMode};
use crate::error::DiskError;
use std::pin::pin;
use std::task::{Context, Waker};

fn filled(bytes: usize, with: u8) -> DiskBuf {
    let mut buf = DiskBuf::zeroed(bytes);
    buf.fill(with);
    buf
}

/// Runs all of it in an empty disk.
pub async fn check<D: Disk>(disk: &D) {
    bytes(disk).await;
    names(disk).await;
    sections(disk).await;
    many_commits(disk).await;
    dropped_futures(disk).await;
    failures(disk).await;
}

async fn bytes<D: Disk>(disk: &D) {
    let file = disk.open("bytes", OpenMode::Create).await.unwrap();
    assert_eq!(disk.size(&file).await.unwrap(), 0);
    disk.allocate(&file, 3 << 20).await.unwrap();
    disk.allocate(&file, 1 << 20).await.unwrap();
    assert_eq!(disk.size(&file).await.unwrap(), 3 << 20);
    let (written, buf) = disk.write_at(&file, 4096, filled(8192, 3)).await;
    written.unwrap();
    assert!(buf.len() == 8192 && buf.iter().all(|b| *b == 3), "the buffer comes back");
    disk.sync(&file).await.unwrap();
    disk.commit(&file, 2 << 20, filled(1 << 20, 4)).await.0.unwrap();
    let (got, buf) = disk.read_at(&file, 0, filled(4 << 20, 9)).await;
    assert_eq!(got.unwrap(), 3 << 20, "a read ends with the file");
    assert!(buf[..4096].iter().all(|b| *b == 0), "allocated bytes are zeros");
    assert!(buf[4096..12288].iter().all(|b| *b == 3));
    assert!(buf[12288..2 << 20].iter().all(|b| *b == 0));
    assert!(buf[2 << 20..3 << 20].iter().all(|b| *b == 4));
    assert_eq!(disk.read_at(&file, 3 << 20, DiskBuf::zeroed(ALIGN)).await.0.unwrap(), 0);
    // A write behind the end makes the file longer.
    disk.write_at(&file, 3 << 20, filled(4096, 5)).await.0.unwrap();
    assert_eq!(disk.size(&file).await.unwrap(), (3 << 20) + 4096);
    disk.remove("bytes").await.unwrap();
    assert_eq!(disk.read_at(&file, 0, DiskBuf::zeroed(ALIGN)).await.0.unwrap(), ALIGN, "an open handle keeps reading");
}

async fn names<D: Disk>(disk: &D) {
    disk.create_dir("names/deep").await.unwrap();
    disk.create_dir("names/deep").await.unwrap();
    for name in ["b", "a", "c"] {
        disk.open(&format!("names/deep/{name}"), OpenMode::Create).await.unwrap();
    }
    assert!(disk.open("names/deep/a", OpenMode::Create).await.is_err(), "create does not replace");
    disk.sync_dir("names/deep").await.unwrap();
    disk.sync_dir("").await.unwrap();
    assert_eq!(disk.list("names/deep").await.unwrap(), ["a", "b", "c"]);
    disk.rename("names/deep/a", "names/deep/c").await.unwrap();
    disk.remove("names/deep/b").await.unwrap();
    assert_eq!(disk.list("names/deep").await.unwrap(), ["c"]);
    let not_found = |result: Result<(), DiskError>| matches!(result, Err(DiskError::NotFound { .. }));
    assert!(not_found(disk.open("names/none", OpenMode::Read).await.map(drop)));
    assert!(not_found(disk.open("none/none", OpenMode::Create).await.map(drop)));
    assert!(not_found(disk.rename("names/none", "names/other").await));
    assert!(not_found(disk.remove("names/none").await));
    assert!(not_found(disk.list("none").await.map(drop)));
    assert!(not_found(disk.sync_dir("none").await));
    for outside in ["/etc/passwd", "..", "a/../../b", "a//b"] {
        assert!(disk.open(outside, OpenMode::Read).await.is_err(), "{outside}");
    }
}

async fn sections<D: Disk>(disk: &D) {
    let file = disk.open("section", OpenMode::Create).await.unwrap();
    let mut buf = DiskBuf::zeroed(16384);
    buf.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
    let (written, buf) = disk.write_at(&file, 0, buf).await;
    written.unwrap();
    for range in [0..1, 100..9000, 4096..8192, 16383..16384, 5..5] {
        let wanted = &buf[range.start..range.end];
        let mapped = disk.map(&file, range.start as u64..range.end as u64, &|got| got == wanted).await.unwrap();
        assert_eq!(&mapped[..], wanted);
    }
    assert!(matches!(disk.map(&file, 0..9, &|_| false).await, Err(DiskError::Section { .. })));
    assert!(disk.map(&file, 16000..16385, &|_| true).await.is_err());
}

async fn many_commits<D: Disk>(disk: &D) {
    let file = disk.open("commits", OpenMode::Create).await.unwrap();
    disk.allocate(&file, 1 << 20).await.unwrap();
    let mut waiting = Vec::new();
    for i in 0..40u8 {
        let mut future = Box::pin(disk.commit(&file, u64::from(i) * 4096, filled(4096, i + 1)));
        // The first poll begins it.
        let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        waiting.push(future);
    }
    for future in waiting {
        future.await.0.unwrap();
    }
    let (got, buf) = disk.read_at(&file, 0, DiskBuf::zeroed(40 * 4096)).await;
    assert_eq!(got.unwrap(), 40 * 4096);
    assert!(buf.chunks(4096).zip(1..).all(|(block, i)| block.iter().all(|b| *b == i)));
}

async fn dropped_futures<D: Disk>(disk: &D) {
    let file = disk.open("dropped", OpenMode::Create).await.unwrap();
    disk.allocate(&file, 1 << 20).await.unwrap();
    for i in 0..16u64 {
        let mut write = pin!(disk.write_at(&file, i * 65536, filled(65536, 7)));
        let _ = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let mut read = pin!(disk.read_at(&file, 0, DiskBuf::zeroed(65536)));
        let _ = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    // Nobody knows when they end; that the file is whole and the memory sound is the test.
    let (got, buf) = disk.read_at(&file, 0, DiskBuf::zeroed(1 << 20)).await;
    assert_eq!(got.unwrap(), 1 << 20);
    assert!(buf.iter().all(|b| matches!(b, 0 | 7)));
}

async fn failures<D: Disk>(disk: &D) {
    disk.open("read-only", OpenMode::Create).await.unwrap();
    let file = disk.open("read-only", OpenMode::Read).await.unwrap();
    for result in [disk.write_at(&file, 0, filled(4096, 5)).await, disk.commit(&file, 0, filled(4096, 5)).await] {
        assert!(result.0.unwrap_err().to_string().starts_with("read-only: write:"));
        assert_eq!(result.1.len(), 4096, "the buffer comes back from a failure too");
    }
}
