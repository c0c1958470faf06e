//! A log of events: keys begin with their topic and go on with the time, so that one walk finds a topic's events in order.
//!
//! `cargo run -p ringkv-storage --example events`

use ringkv_storage::db::{Db, Durability, Error, Range, Tree};

/// Topic, a byte that is in no topic, the time and a number that tells events of one moment apart. Big-endian, so that the order of
/// bytes is that of numbers.
fn key(topic: &str, time_ms: u64, number: u32) -> Vec<u8> {
    [topic.as_bytes(), &[0], &time_ms.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// The time in a key.
fn time_ms(key: &[u8]) -> u64 {
    let time = key.len().checked_sub(12).and_then(|at| key[at..].first_chunk());
    time.map_or(0, |time| u64::from_be_bytes(*time))
}

/// All events of a topic. With the byte behind it, "door" does not find those of "doorbell".
fn topic(events: &Tree, topic: &str) -> Range {
    events.prefix(&[topic.as_bytes(), &[0]].concat())
}

/// Deletes what is older, all at once: no reader sees half of it.
fn forget(db: &Db, events: &Tree, of: &str, before_ms: u64) -> Result<usize, Error> {
    let mut batch = db.batch();
    for event in events.range(&key(of, 0, 0)[..]..&key(of, before_ms, 0)[..]) {
        batch.delete(events, &event?.0);
    }
    let count = batch.len();
    db.write(batch, Durability::Buffered)?;
    Ok(count)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(dir.path().join("events"))?;
    let events = db.tree("events")?;

    let start_ms = 1_700_000_000_000;
    for n in 0..100 {
        events.put(&key("door", start_ms + n * 1000, 0), format!("opened, {n}").as_bytes())?;
        events.put(&key("doorbell", start_ms + n * 1000, 0), b"rang")?;
    }
    // From here on all of them survive a power cut: one wait for the disk instead of 200.
    db.sync()?;

    println!("the newest three:");
    let mut newest = Vec::new();
    for event in topic(&events, "door").backwards().take(3) {
        let (key, what) = event?;
        println!("  {:>6} ms: {}", time_ms(&key) - start_ms, String::from_utf8_lossy(&what));
        newest.push(time_ms(&key) - start_ms);
    }
    assert_eq!(newest, [99_000, 98_000, 97_000]);

    let (from, to) = (key("door", start_ms + 10_000, 0), key("door", start_ms + 20_000, 0));
    let within = events.range(&from[..]..&to[..]).count();
    println!("from 10 s to 20 s: {within}");
    assert_eq!(within, 10);

    // A walk shows one moment: what is written or deleted meanwhile does not change it.
    let before = topic(&events, "door");
    let forgotten = forget(&db, &events, "door", start_ms + 90_000)?;
    println!("forgotten: {forgotten}");
    assert_eq!(forgotten, 90);
    assert_eq!((before.count(), topic(&events, "door").count()), (100, 10));
    assert_eq!(topic(&events, "doorbell").count(), 100);
    Ok(())
}

#[test]
fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
