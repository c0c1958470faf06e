//! Threads instead of async: `cargo run -p ringkv --example blocking -- 127.0.0.1:7400`

use ringkv::blocking::Client;

fn main() -> Result<(), ringkv::Error> {
    let seed = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7400".into());
    let client = Client::connect(ringkv::Client::builder().seeds([seed]))?;

    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = client.clone();
            scope.spawn(move || {
                for i in 0..100 {
                    if let Err(error) = client.put(format!("{thread}/{i}"), "value") {
                        println!("{thread}/{i}: {error}");
                    }
                }
            });
        }
    });

    println!("{:?}", client.get("3/99")?.map(|found| found.version));
    Ok(())
}
