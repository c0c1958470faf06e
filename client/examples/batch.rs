//! Many keys at once, and what to do with errors: `cargo run -p ringkv --example batch -- 127.0.0.1:7400`

use ringkv::{Advice, CallOptions};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ringkv::Error> {
    let seed = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7400".into());
    let client = ringkv::Client::builder().seeds([seed]).connect().await?;

    // One call, one request per shard. Each pair has its own result, in the order given.
    let pairs = (0..1_000).map(|i| (format!("user:{i}"), format!("name {i}")));
    let options = CallOptions::new().timeout(Duration::from_secs(5));
    for (i, result) in client.put_many_with(pairs, &options).await.into_iter().enumerate() {
        let Err(error) = result else { continue };
        match error.advice() {
            Advice::GoOn => {}
            Advice::Retry => println!("user:{i} was not written, try again: {error}"),
            Advice::Check => println!("user:{i} may have been written, read it: {error}"),
            Advice::Fix => return Err(error),
        }
    }

    let found = client.get_many((0..1_000).map(|i| format!("user:{i}"))).await;
    println!("{} of 1000 are there", found.iter().filter(|f| matches!(f, Ok(Some(_)))).count());

    // Single calls made at the same time share requests too.
    let (a, b) = tokio::join!(client.get("user:1"), client.get("user:2"));
    println!("{:?} {:?}", a?.is_some(), b?.is_some());
    Ok(())
}
