//! Sets a key, reads it, removes it: `cargo run -p ringkv --example hello -- 127.0.0.1:7400`

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ringkv::Error> {
    let seed = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7400".into());
    let client = ringkv::Client::builder().seeds([seed]).connect().await?;

    let written = client.put("key", "10").await?;
    println!("written at version {}", written.version);

    match client.get("key").await? {
        Some(found) => println!("key = {}", String::from_utf8_lossy(&found)),
        None => println!("key is not there"),
    }

    client.delete("key").await?;
    assert_eq!(client.get("key").await?, None);
    Ok(())
}
