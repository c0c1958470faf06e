use super::*;

fn asker(node: u32) -> Asker {
    Asker { node: NodeId(node), cluster: Some(ClusterId([3; 16])), stores: None, stores_if_new: 2 }
}

#[test]
fn it_is_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/data");
    let mut first = DataDir::open(&path, &asker(1)).unwrap();
    assert_eq!((first.identity().stores, first.identity().made), (2, false));
    let incarnation = first.identity().incarnation;
    assert_ne!(incarnation.0, 0);
    first.set_made().unwrap();
    drop(first);
    let again = DataDir::open(&path, &Asker { stores: Some(2), stores_if_new: 9, ..asker(1) }).unwrap();
    assert_eq!(again.identity().incarnation, incarnation);
    assert!(again.identity().made);
    // Nobody names the cluster: the directory does.
    drop(again);
    let again = DataDir::open(&path, &Asker { cluster: None, ..asker(1) }).unwrap();
    assert_eq!(again.identity().cluster, ClusterId([3; 16]));
}

#[test]
fn two_do_not_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataDir::open(dir.path(), &asker(1)).unwrap();
    let said = DataDir::open(dir.path(), &asker(1)).unwrap_err().to_string();
    assert!(said.contains("another process") && said.contains(&std::process::id().to_string()), "{said}");
    drop(first);
    DataDir::open(dir.path(), &asker(1)).unwrap();
}

#[test]
fn a_foreign_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path(), &asker(1)).unwrap());
    for wrong in
        [asker(2), Asker { cluster: Some(ClusterId([4; 16])), ..asker(1) }, Asker { stores: Some(3), ..asker(1) }]
    {
        assert!(matches!(DataDir::open(dir.path(), &wrong), Err(DirError::Foreign { .. })), "{wrong:?}");
    }
}

#[test]
fn newer_and_damaged_ones_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    for (text, newer) in [
        ("version = 2\nfuture = true\n", true),
        ("", false),
        ("version = 1\n", false),
        (
            "version = 1\ncluster = \"xx\"\nnode = 1\nstores = 1\nincarnation = \"0000000000000001\"\nmade = true\n",
            false,
        ),
        ("not toml at all", false),
    ] {
        std::fs::write(&path, text).unwrap();
        let refused = DataDir::open(dir.path(), &asker(1)).unwrap_err();
        assert_eq!(matches!(refused, DirError::Newer { .. }), newer, "{refused}");
        assert!(newer || matches!(refused, DirError::Damaged { .. }), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn stores_without_an_identity_are_not_adopted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("store-0000")).unwrap();
    assert!(matches!(DataDir::open(dir.path(), &asker(1)), Err(DirError::Damaged { .. })));
    assert!(!dir.path().join("identity").exists());
}
