//! The database in an async program: many tasks, one thread, and nothing waits in it.
//!
//! `cargo run -p ringkv-storage --example async`

use ringkv_storage::db::{AsyncDb, Durability, Error};

/// Orders that each survive a power cut before they are confirmed; all who confirm at a time share the syncs.
async fn order(db: &AsyncDb, customer: u32) -> Result<i64, Error> {
    let (orders, counts) = (db.tree("orders").await?, db.tree("counts").await?);
    let number = counts.add(b"orders", 1).await?;
    let mut batch = db.batch();
    batch.put(orders.blocking(), &number.to_be_bytes(), &customer.to_be_bytes());
    db.write(batch, Durability::Synced).await?;
    Ok(number)
}

// Any other executor does as well: nothing in the database knows one.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = AsyncDb::open(dir.path().join("orders")).await?;

    let tasks: Vec<_> = (0..100)
        .map(|customer| {
            let db = db.clone();
            tokio::spawn(async move { order(&db, customer).await })
        })
        .collect();
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await??);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).collect::<Vec<i64>>(), "each order has a number of its own");

    let before = db.snapshot();
    order(&db, 7).await?;
    let orders = db.tree("orders").await?;
    let mut count = 0;
    let mut all = before.range(&orders, ..);
    while let Some(item) = all.next().await {
        let (number, _customer) = item?;
        count += 1;
        assert_eq!(number, i64::to_be_bytes(count)[..]);
    }
    println!("{count} orders in the snapshot");
    assert_eq!(count, 100);
    assert!(orders.get(&101i64.to_be_bytes()).await?.is_some());

    // The last handle is dropped where one may wait.
    drop((before, orders, all));
    db.close().await;
    Ok(())
}

#[test]
fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
