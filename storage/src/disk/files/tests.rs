use super::*;
use crate::disk::DiskBuf;
use crate::disk::section::Section;

fn root() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

fn filled(bytes: usize) -> DiskBuf {
    let mut buf = DiskBuf::zeroed(bytes);
    buf.iter_mut().enumerate().for_each(|(i, b)| *b = (i % 251) as u8);
    buf
}

#[test]
fn paths_stay_inside() {
    let (_dir, root) = root();
    for bad in ["/etc/passwd", "..", "a/../../b", "a//b", "a/", ".", "a\0b"] {
        assert!(root.join(bad).is_err(), "{bad:?}");
        assert!(root.open_file(bad, OpenMode::Create).is_err(), "{bad:?}");
    }
    assert!(root.join("").is_ok());
    assert!(root.join("store-0000/log/segment-1.log").is_ok());
}

#[test]
fn a_symlink_is_not_followed() {
    let (dir, root) = root();
    std::fs::write(dir.path().join("real"), b"x").unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    assert!(root.open_file("link", OpenMode::Read).is_err());
}

#[test]
fn create_does_not_replace_and_probe_leaves_nothing() {
    let (_dir, root) = root();
    assert!(root.list("").unwrap().is_empty());
    root.open_file("a", OpenMode::Create).unwrap();
    assert!(root.open_file("a", OpenMode::Create).is_err());
    assert!(matches!(root.open_file("b", OpenMode::Write), Err(DiskError::NotFound { .. })));
}

#[test]
fn names() {
    let (_dir, root) = root();
    root.create_dir("store-0000/log").unwrap();
    root.create_dir("store-0000/log").unwrap();
    root.open_file("store-0000/log/b", OpenMode::Create).unwrap();
    root.open_file("store-0000/log/a", OpenMode::Create).unwrap();
    assert_eq!(root.list("store-0000/log").unwrap(), ["a", "b"]);
    root.rename("store-0000/log/a", "store-0000/log/b").unwrap();
    root.sync_dir("store-0000/log").unwrap();
    root.sync_dir("").unwrap();
    assert_eq!(root.list("store-0000/log").unwrap(), ["b"]);
    root.remove("store-0000/log/b").unwrap();
    assert!(matches!(root.remove("store-0000/log/b"), Err(DiskError::NotFound { .. })));
}

#[test]
fn allocate_fills_with_zeros_and_keeps_what_is_there() {
    let (dir, root) = root();
    for root in [root.clone(), root.buffered()] {
        let file = root.open_file("seg", OpenMode::Create).unwrap();
        file.write_at(0, &filled(ALIGN)).unwrap();
        file.allocate(3 << 20).unwrap();
        file.allocate(1 << 20).unwrap();
        assert_eq!(file.size().unwrap(), 3 << 20);
        let bytes = std::fs::read(dir.path().join("seg")).unwrap();
        assert_eq!(bytes[..ALIGN], filled(ALIGN)[..]);
        assert!(bytes[ALIGN..].iter().all(|b| *b == 0));
        root.remove("seg").unwrap();
    }
}

#[test]
fn allocate_behind_an_odd_size() {
    let (dir, root) = root();
    std::fs::write(dir.path().join("odd"), [7; 5000]).unwrap();
    let file = root.open_file("odd", OpenMode::Write).unwrap();
    file.allocate(5001).unwrap();
    let bytes = std::fs::read(dir.path().join("odd")).unwrap();
    assert_eq!(bytes.len(), 8192);
    assert!(bytes[..5000].iter().all(|b| *b == 7));
    assert!(bytes[5000..].iter().all(|b| *b == 0));
}

#[test]
fn reads_stop_at_the_end() {
    let (dir, root) = root();
    std::fs::write(dir.path().join("f"), [9; 5000]).unwrap();
    for root in [root.clone(), root.buffered()] {
        let file = root.open_file("f", OpenMode::Read).unwrap();
        let mut buf = filled(4 * ALIGN);
        assert_eq!(file.read_at(0, &mut buf).unwrap(), 5000);
        assert!(buf[..5000].iter().all(|b| *b == 9));
        assert_eq!(file.read_at(8192, &mut buf).unwrap(), 0);
    }
}

#[test]
fn sections_hold_what_the_file_holds() {
    let (_dir, root) = root();
    let file = root.open_file("table", OpenMode::Create).unwrap();
    let content = filled(4 * ALIGN);
    file.write_at(0, &content).unwrap();
    for range in [0..1, 100..9000, 4096..8192, 16383..16384, 5..5, 0..16384] {
        let wanted = &content[range.start as usize..range.end as usize];
        let section = Section::load(&file, range.clone()).unwrap();
        assert_eq!(&section.verify(&|got| got == wanted).unwrap()[..], wanted);
        let copy = Section::load_copy(&file, range).unwrap();
        assert!(!copy.is_locked());
        assert_eq!(&copy.verify(&|got| got == wanted).unwrap()[..], wanted);
    }
}

#[test]
fn a_section_that_fails_its_check_or_leaves_the_file_is_an_error() {
    let (_dir, root) = root();
    let file = root.open_file("table", OpenMode::Create).unwrap();
    file.write_at(0, &filled(ALIGN)).unwrap();
    let refused = Section::load(&file, 10..20).unwrap().verify(&|_| false);
    assert!(matches!(refused, Err(DiskError::Section { offset: 10, bytes: 10, .. })));
    assert!(Section::load(&file, 4000..4097).is_err());
    assert!(Section::load(&file, 5000..5001).is_err());
}

/// A file system of 1 MiB in memory; `None` where we may not mount.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Tiny> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(dir.path()).output();
        mounted.is_ok_and(|m| m.status.success()).then(|| Tiny(dir))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_says_so_and_gets_its_blocks_back() {
    let Some(tiny) = Tiny::mount() else { return };
    let root = Root::open(tiny.0.path()).unwrap();
    let file = root.open_file("seg", OpenMode::Create).unwrap();
    file.allocate(64 << 10).unwrap();
    assert!(matches!(file.allocate(4 << 20), Err(DiskError::NoSpace { .. })));
    assert_eq!(file.size().unwrap(), 64 << 10);
    file.allocate(128 << 10).unwrap();
    // A write that runs out in the middle is an error too, and names the reason.
    let file = root.open_file("table", OpenMode::Create).unwrap();
    let refused = file.write_at(0, &filled(2 << 20));
    assert!(matches!(refused, Err(DiskError::NoSpace { .. } | DiskError::ShortWrite { .. })), "{refused:?}");
}

#[test]
fn a_root_to_look_at_changes_nothing() {
    let (dir, root) = root();
    std::fs::write(dir.path().join("a"), [7; 5000]).unwrap();
    drop(root);
    let watched = || std::fs::read_dir(dir.path()).unwrap().count();
    let root = Root::read_only(dir.path()).unwrap();
    let mut buf = DiskBuf::zeroed(8192);
    assert_eq!(root.open_file("a", OpenMode::Read).unwrap().read_at(0, &mut buf).unwrap(), 5000);
    assert!(buf[..5000].iter().all(|byte| *byte == 7));
    assert!(root.open_file("a", OpenMode::Write).is_err());
    assert!(root.open_file("b", OpenMode::Create).is_err());
    assert!(root.create_dir("c").is_err() && root.rename("a", "d").is_err() && root.remove("a").is_err());
    assert_eq!((root.list("").unwrap(), watched()), (vec!["a".to_owned()], 1));
    assert!(matches!(Root::read_only(&dir.path().join("none")), Err(DiskError::NotFound { .. })));
    assert!(!dir.path().join("none").exists());
}
