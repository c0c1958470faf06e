//! A disk without room, and then with room again.

use ringkv_storage::db::{Db, Durability};
use std::path::Path;
use std::process::Command;

/// A small file system in memory; gone when it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(options: &str) -> Result<Small, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut command = Command::new("mount");
        let done = command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        match done {
            Ok(output) if output.status.success() => Ok(Small(dir)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// Takes all room there is.
fn fill(file: &Path) {
    let ballast = vec![1; 64 << 10];
    let mut file = std::fs::File::create(file).unwrap();
    while std::io::Write::write_all(&mut file, &ballast).is_ok() {}
}

#[test]
fn a_full_disk_is_an_answer_and_room_is_all_it_needs() {
    let disk = match Small::mount("size=200m") {
        Ok(disk) => disk,
        Err(error) => return eprintln!("skipped: no small file system: {error}"),
    };
    let (db_dir, ballast) = (disk.path().join("db"), disk.path().join("ballast"));
    let open = || Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(&db_dir).unwrap();
    let mut written = 0u32;
    {
        let db = open();
        let tree = db.tree("t").unwrap();
        for _ in 0..3 {
            fill(&ballast);
            tree.put(&written.to_be_bytes(), &[written as u8; 1000]).unwrap();
            written += 1;
            assert!(db.flush().is_err(), "there is memory, but no room for tables");
            let error = loop {
                match tree.put(&written.to_be_bytes(), &[written as u8; 1000]) {
                    Ok(()) => written += 1,
                    Err(error) => break error,
                }
            };
            eprintln!("after {written} writes: {error}");
            assert!(db.flush().is_err(), "there is no room for tables");
            assert!(db.checkpoint(disk.path().join("copy")).is_err());
            assert_eq!(tree.get(&written.to_be_bytes()).unwrap(), None);
            assert!(tree.put(&written.to_be_bytes(), &vec![9; 12 << 20]).is_err());
            assert_eq!(tree.range(..).count(), written as usize, "what is there is readable");
            std::fs::remove_file(&ballast).unwrap();
            assert!(!disk.path().join("copy.partial").exists(), "what a checkpoint had taken is given back");
            // Flushes are tried again by themselves.
            while tree.put(&written.to_be_bytes(), &[written as u8; 1000]).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            written += 1;
            db.flush().unwrap();
            let mut batch = db.batch();
            (written..written + 5000).for_each(|n| batch.put(&tree, &n.to_be_bytes(), &[n as u8; 1000]));
            db.write(batch, Durability::Synced).unwrap();
            written += 5000;
            db.compact().unwrap();
        }
    }
    let tree = open().tree("t").unwrap();
    for (n, item) in (0..written).zip(tree.range(..)) {
        assert!(item.unwrap() == (n.to_be_bytes().to_vec().into(), vec![n as u8; 1000].into()), "{n}");
    }
    assert_eq!(tree.range(..).count(), written as usize);
}
