//! A secondary index: people by name in one tree, by town in another, both written by one batch, so that they always agree.
//!
//! `cargo run -p ringkv-storage --example index`

use bytes::Bytes;
use ringkv_storage::db::{Db, Durability, Error, Snapshot, Tree};
use std::sync::{Mutex, PoisonError};

struct People {
    db: Db,
    /// Name to town.
    by_name: Tree,
    /// Town, a zero byte and name, to nothing: what is sought is the key.
    by_town: Tree,
    /// A batch is all or nothing, but what was read for it may have changed: this keeps changes one after another.
    changing: Mutex<()>,
}

impl People {
    /// Somebody lives there from now on.
    fn move_to(&self, name: &str, town: &str) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = self.db.batch();
        if let Some(before) = self.by_name.get(name.as_bytes())? {
            batch.delete(&self.by_town, &town_key(&before, name.as_bytes()));
        }
        batch.put(&self.by_name, name.as_bytes(), town.as_bytes());
        batch.put(&self.by_town, &town_key(town.as_bytes(), name.as_bytes()), b"");
        self.db.write(batch, Durability::Buffered)
    }

    /// Who lives there, in order.
    fn living_in(&self, town: &str) -> Result<Vec<Bytes>, Error> {
        let start = town_key(town.as_bytes(), b"");
        self.by_town.prefix(&start).map(|item| Ok(item?.0.slice(start.len()..))).collect()
    }

    /// Compares both trees as they were at one moment.
    fn check(&self, moment: &Snapshot) -> Result<(), Error> {
        for item in moment.range(&self.by_name, ..) {
            let (name, town) = item?;
            assert!(moment.get(&self.by_town, &town_key(&town, &name))?.is_some(), "somebody is not in the index");
        }
        let [names, towns] = [&self.by_name, &self.by_town].map(|tree| moment.range(tree, ..).count());
        assert_eq!(names, towns, "somebody is in the index twice");
        Ok(())
    }
}

fn town_key(town: &[u8], name: &[u8]) -> Vec<u8> {
    [town, &[0], name].concat()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(dir.path().join("people"))?;
    let (by_name, by_town, changing) = (db.tree("by name")?, db.tree("by town")?, Mutex::default());
    let people = People { db, by_name, by_town, changing };
    [("ada", "London"), ("emmy", "Erlangen")].into_iter().try_for_each(|(name, town)| people.move_to(name, town))?;
    let before = people.db.snapshot();
    people.move_to("emmy", "London")?;
    println!("in London: {:?}", people.living_in("London")?);
    assert_eq!(people.living_in("London")?, ["ada", "emmy"]);
    assert_eq!(before.get(&people.by_name, b"emmy")?.as_deref(), Some(&b"Erlangen"[..]));

    // While one thread moves them about, another finds both trees alike at every moment.
    let mover = || (0..5000).try_for_each(|n| people.move_to(["ada", "emmy"][n % 2], ["Rome", "Oslo", "Bern"][n % 3]));
    std::thread::scope(|threads| {
        let moving = threads.spawn(mover);
        while !moving.is_finished() {
            people.check(&people.db.snapshot())?;
        }
        moving.join().expect("a mover does not panic")
    })?;
    println!("in Rome in the end: {:?}", people.living_in("Rome")?);
    Ok(())
}

#[test]
fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
