//! A store that an older ringkv wrote (FORMAT.md §2.7, §3.2): its files are in `fixtures/version-1`.

use crate::harness::{DIR, Looked, Replica, SHARD, look, open, table_files, walk};
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::disk::{Disk, DiskBuf, OpenMode};
use ringkv_storage::error::StorageError;
use ringkv_wire::ids::KeyspaceId;

const FILES: [(&str, &[u8]); 4] = [
    ("CURRENT", include_bytes!("../fixtures/version-1/CURRENT")),
    ("MANIFEST-0000000000000001", include_bytes!("../fixtures/version-1/MANIFEST-0000000000000001")),
    ("tables/0000000000000001.sst", include_bytes!("../fixtures/version-1/tables_0000000000000001.sst")),
    ("tables/0000000000000002.sst", include_bytes!("../fixtures/version-1/tables_0000000000000002.sst")),
];

/// What was written then.
fn history(replica: &mut Replica) {
    for round in 0..2u8 {
        for key in 0..120u8 {
            let value = vec![round.wrapping_mul(31) ^ key; 20 + usize::from(key)];
            let name = [b"a shared beginning/".as_slice(), &[key % 90, key]].concat();
            replica.write(1 + u32::from(key % 3 == 0), &name, (key % 9 != round).then_some(value.as_slice()));
        }
        replica.write(2, b"large", Some(&vec![round; 9000]));
    }
}

async fn copy(disk: &FaultDisk) -> Result<(), StorageError> {
    for dir in [DIR.to_owned(), format!("{DIR}/tables")] {
        disk.create_dir(&dir).await?;
    }
    for (name, bytes) in FILES {
        let file = disk.open(&format!("{DIR}/{name}"), OpenMode::Create).await?;
        let mut buf = DiskBuf::zeroed(bytes.len());
        buf.copy_from_slice(bytes);
        disk.write_at(&file, 0, buf).await.0?;
        disk.sync(&file).await?;
    }
    for dir in ["", DIR, &format!("{DIR}/tables")] {
        disk.sync_dir(dir).await?;
    }
    Ok(())
}

/// The old store, with the log it was made from.
fn old() -> Replica {
    let mut replica = Replica::new(FaultDisk::new(1));
    history(&mut replica);
    replica.acknowledged = replica.index();
    let disk = FaultDisk::new(2);
    block_on(copy(&disk)).expect("an empty disk takes files");
    replica.reopen(disk).expect("an older format is read");
    replica
}

#[test]
fn is_read_and_becomes_todays_by_merging() {
    let mut replica = old();
    replica.check();
    assert_eq!((replica.engine.stats().tables_without_filter, replica.tree.damage().is_none()), (0, true));
    assert_eq!(look(&replica.tree, KeyspaceId(1), b"a shared beginning/x"), Looked::Absent);
    let version = |path: &str| replica.disk.peek(path).map(|bytes| bytes[bytes.len() - 124]);
    assert!(table_files(&replica.disk).iter().all(|path| version(path) == Some(1)));
    replica.write(1, b"new", Some(b"value"));
    replica.flush().expect("flushes");
    block_on(replica.tree.settle()).expect("merges");
    replica.check();
    let version = |path: &str| replica.disk.peek(path).map(|bytes| bytes[bytes.len() - 124]);
    assert!(table_files(&replica.disk).iter().all(|path| version(path) == Some(2)));
    replica.reopen(replica.disk.crash_power()).expect("opens");
    replica.check();
}

#[test]
fn rot_in_it_is_found() {
    let sound = old();
    let expected = sound.expected(sound.index());
    let path = table_files(&sound.disk).remove(0);
    for offset in (0..20_000).step_by(97) {
        let disk = sound.disk.fork(offset);
        assert!(disk.flip_bit(&path, offset, 3));
        let tree = open(&disk, 900 + offset).expect("the manifest is sound").tree(SHARD);
        match walk(&tree) {
            Ok(map) => assert!(map == expected, "wrong data after a flip at {offset}"),
            Err(error) => assert!(error.is_damage(), "{error}"),
        }
    }
}
