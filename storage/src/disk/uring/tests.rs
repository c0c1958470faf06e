use super::*;
use crate::disk::conformance;
use crate::disk::plain::PlainDisk;
use ring::RingOptions;
use std::pin::pin;
use std::task::{Context, Waker};

fn ring() -> Option<Ring> {
    match Ring::new(RingOptions { submissions: 8, completions: 16 }) {
        Ok(ring) => Some(ring),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

#[test]
fn the_uring_disk_conforms() {
    let Some(ring) = ring() else { return };
    for buffered in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let root = if buffered { root.buffered() } else { root };
        let disk = UringDisk::over(root, ring.clone());
        ring.block_on(conformance::check(&disk)).unwrap();
    }
    ring.shutdown().unwrap();
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn the_plain_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let disk = PlainDisk::open(dir.path()).unwrap();
    let mut check = pin!(conformance::check(&disk));
    while check.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        std::thread::yield_now();
    }
}

#[test]
fn a_commit_counts_only_when_it_took_every_byte() {
    let Some(ring) = ring() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = UringDisk::open(dir.path(), ring.clone()).unwrap();
    let file = ring.block_on(disk.open("a", OpenMode::Create)).unwrap().unwrap();
    let judge = |result| committed(&file, 0, 4096, result);
    assert!(judge(4096).is_ok());
    assert!(matches!(judge(512), Err(DiskError::ShortWrite { wanted: 4096, got: 512, .. })));
    assert!(matches!(judge(-libc::ECANCELED), Err(DiskError::Io { what: "write", .. })));
    assert!(matches!(judge(-libc::EIO), Err(DiskError::Io { what: "write", .. })));
    assert!(matches!(judge(-libc::ENOSPC), Err(DiskError::NoSpace { .. })));
}

#[test]
fn teardown_with_commits_in_flight_waits_for_them() {
    let Some(ring) = ring() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = UringDisk::open(dir.path(), ring.clone()).unwrap();
    let file = ring.block_on(disk.open("a", OpenMode::Create)).unwrap().unwrap();
    ring.block_on(disk.allocate(&file, 1 << 20)).unwrap().unwrap();
    let mut waiting: Vec<_> =
        (0..30u64).map(|i| Box::pin(disk.commit(&file, i * 4096, DiskBuf::zeroed(4096)))).collect();
    for future in &mut waiting {
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    ring.turn().unwrap();
    ring.shutdown().unwrap();
    assert_eq!(ring.in_flight(), 0);
    for future in waiting {
        let (result, buf) = ring.block_on(future).unwrap();
        assert_eq!(buf.len(), 4096);
        assert!(matches!(result, Ok(()) | Err(DiskError::Io { .. })), "done, or cancelled and said so: {result:?}");
    }
}

/// A file system of 1 MiB in memory; unmounted when dropped. None where we may not mount.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Tiny> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(dir.path()).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Tiny(dir))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_is_told_and_gets_its_blocks_back() {
    let (Some(ring), Some(tiny)) = (ring(), Tiny::mount()) else {
        return eprintln!("skipped: no io_uring, or no right to mount");
    };
    let disk = UringDisk::open(tiny.0.path(), ring.clone()).unwrap();
    let steps = async {
        let file = disk.open("seg", OpenMode::Create).await.unwrap();
        disk.allocate(&file, 64 << 10).await.unwrap();
        assert!(matches!(disk.allocate(&file, 4 << 20).await, Err(DiskError::NoSpace { .. })));
        assert_eq!(disk.size(&file).await.unwrap(), 64 << 10);
        disk.allocate(&file, 128 << 10).await.unwrap();
        disk.commit(&file, 0, DiskBuf::zeroed(4096)).await.0.unwrap();
        // A write or a commit that runs out in the middle names the reason, or how far it came.
        let table = disk.open("table", OpenMode::Create).await.unwrap();
        let refused = disk.write_at(&table, 0, DiskBuf::zeroed(2 << 20)).await.0;
        assert!(matches!(refused, Err(DiskError::NoSpace { .. } | DiskError::ShortWrite { .. })), "{refused:?}");
        let refused = disk.commit(&table, 0, DiskBuf::zeroed(2 << 20)).await.0;
        assert!(matches!(refused, Err(DiskError::NoSpace { .. } | DiskError::ShortWrite { .. })), "{refused:?}");
    };
    ring.block_on(steps).unwrap();
}
