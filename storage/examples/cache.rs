//! An embedded cache: what is expensive to make is kept for a time, outlives the process, and goes by itself.
//!
//! `cargo run -p ringkv-storage --example cache`

use bytes::Bytes;
use ringkv_storage::db::{Db, Error, Tree};
use std::time::Duration;

/// Pages that take long to make, each kept for a time.
struct Pages {
    kept: Tree,
    lifetime: Duration,
    made: u32,
}

impl Pages {
    fn new(db: &Db, lifetime: Duration) -> Result<Pages, Error> {
        Ok(Pages { kept: db.tree("pages")?, lifetime, made: 0 })
    }

    /// The page of this name: the kept one, or one made now.
    fn get(&mut self, name: &str) -> Result<Bytes, Error> {
        // What has expired is not found, whether it still takes space or not.
        if let Some(page) = self.kept.get(name.as_bytes())? {
            return Ok(page);
        }
        self.made += 1;
        let page = Bytes::from(format!("<h1>{name}</h1>"));
        // Buffered: it survives the death of the process. A cache has no need to wait for the disk.
        self.kept.put_for(name.as_bytes(), &page, self.lifetime)?;
        Ok(page)
    }
}

#[expect(clippy::disallowed_methods, reason = "a lifetime passes")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("cache");

    let db = Db::open(&path)?;
    let mut pages = Pages::new(&db, Duration::from_secs(3600))?;
    assert_eq!(pages.get("home")?, pages.get("home")?);
    println!("two gets made the page {} time(s)", pages.made);
    assert_eq!(pages.made, 1);
    // The database closes with its last handle, and each tree is one.
    drop((pages, db));

    let db = Db::open(&path)?;
    let mut pages = Pages::new(&db, Duration::from_millis(20))?;
    assert_eq!(pages.get("home")?, "<h1>home</h1>");
    println!("after opening it again: made {} time(s)", pages.made);
    assert_eq!(pages.made, 0);

    // Lives for 20 ms only.
    for n in 0..1000 {
        pages.get(&format!("page {n}"))?;
    }
    std::thread::sleep(Duration::from_millis(40));
    let left = pages.kept.range(..).count();
    println!("of 1,001 pages {left} is left");
    assert_eq!(left, 1);
    pages.get("page 7")?;
    assert_eq!(pages.made, 1001, "an expired page is made anew");

    // Merges give back the space of what has expired; this one does not wait until it is worth it.
    db.compact()?;
    println!("tables take {} bytes", db.stats().table_bytes);
    assert!(db.stats().table_bytes <= 8192);
    Ok(())
}

#[test]
fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
