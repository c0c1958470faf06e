//! The client over real sockets, against stores that go wrong.

mod fake;

use fake::{Do, Fake};
use ringkv::{Advice, Bytes, CallOptions, Client, Error, NodeId, Outcome, Status, StoreId};
use ringkv_wire::frame::Kind;
use std::time::Duration;

async fn connected() -> (Fake, Client) {
    let fake = Fake::start().await;
    let builder = Client::builder().seeds(fake.seeds()).attempt_timeout(Duration::from_millis(200));
    (fake, builder.connect().await.expect("three nodes are there"))
}

#[tokio::test]
async fn put_get_delete() {
    let (_fake, client) = connected().await;
    assert_eq!(client.get("key").await, Ok(None));
    let written = client.put("key", "10").await.expect("put");
    let found = client.get(b"key").await.expect("get").expect("there");
    assert_eq!((&found[..], found.version), (&b"10"[..], written.version));
    client.delete(String::from("key")).await.expect("delete");
    assert_eq!(client.get(vec![b'k', b'e', b'y']).await, Ok(None));
    client.put([0u8, 255], Bytes::new()).await.expect("binary keys, empty values");
    assert_eq!(client.get(&[0u8, 255][..]).await.expect("get").as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn keyspaces_are_apart() {
    let (fake, client) = connected().await;
    let other = client.keyspace("other").await.expect("it exists");
    other.put("key", "1").await.expect("put");
    assert_eq!(client.get("key").await, Ok(None));
    assert_eq!(client.keyspace("nowhere").await.err(), Some(Error::NoKeyspace("nowhere".into())));
    let named = Client::builder().seeds(fake.seeds()).keyspace("nowhere").connect().await;
    assert_eq!(named.err(), Some(Error::NoKeyspace("nowhere".into())));
}

#[tokio::test]
async fn every_key_goes_to_its_leader_without_a_second_hop() {
    let (fake, client) = connected().await;
    for i in 0..200 {
        client.put(format!("k{i}"), "v").await.expect("put");
    }
    let state = fake.state();
    assert_eq!(state.seen.len(), 200);
    for seen in &state.seen {
        let shard = fake.map.shard(seen.tokens[0].0).expect("a shard");
        assert_eq!((seen.store, seen.attempt), (shard.replicas[0], 0));
    }
}

#[tokio::test]
async fn redirects_are_followed_and_remembered() {
    let (fake, client) = connected().await;
    let shard = fake.map.shard_of(ringkv::KeyspaceId(1), b"key").expect("a shard");
    let leader = shard.replicas[2];
    fake.state().leaders.insert(shard.id, leader);
    client.put("key", "10").await.expect("put");
    client.put("key", "11").await.expect("put");
    let seen: Vec<StoreId> = fake.state().seen.iter().map(|s| s.store).collect();
    assert_eq!(seen, [shard.replicas[0], leader, leader]);
}

#[tokio::test]
async fn a_retry_keeps_its_token_and_applies_once() {
    for bad in [Do::Swallow, Do::ApplyAndClose, Do::Nothing, Do::Close, Do::Refuse(Status::Unknown)] {
        let (fake, client) = connected().await;
        fake.plan(move |seen| if seen.attempt == 0 { bad } else { Do::Right });
        client.put("key", "10").await.expect("the retry");
        let state = fake.state();
        assert!(state.seen.len() >= 2, "{bad:?}");
        assert!(state.seen.iter().all(|s| s.tokens == state.seen[0].tokens), "{bad:?}: {:?}", state.seen);
        assert_eq!(state.applications, 1, "{bad:?}");
    }
}

#[tokio::test]
async fn a_deadline_leaves_a_sent_write_unknown_and_a_refused_one_not_applied() {
    let (fake, client) = connected().await;
    let options = CallOptions::new().timeout(Duration::from_millis(300));
    fake.plan(|_| Do::Nothing);
    let error = client.put_with("key", "10", &options).await.expect_err("nobody answers");
    assert_eq!((error.outcome(), error.advice()), (Outcome::Unknown, Advice::Check), "{error}");
    assert!(error.failure().is_some_and(|f| f.attempts >= 1 && f.shard.is_some() && f.store.is_some()));
    let error = client.get_with("key", &options).await.expect_err("nobody answers");
    assert_eq!((error.outcome(), error.advice()), (Outcome::NotApplied, Advice::Retry));
    fake.plan(|_| Do::Refuse(Status::Busy));
    // In another shard: the first one's stores may still be thought slow.
    let error = client.put_with("other key", "10", &options).await.expect_err("refused");
    assert_eq!((error.outcome(), error.advice()), (Outcome::NotApplied, Advice::Retry), "{error}");
}

#[tokio::test]
async fn concurrent_puts_travel_in_few_frames() {
    let (fake, client) = connected().await;
    client.put("warm", "up").await.expect("put");
    fake.state().seen.clear();
    let puts = (0..1_000).map(|i| {
        let client = client.clone();
        tokio::spawn(async move { client.put(format!("k{i}"), "v").await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.expect("no panic").expect("put");
    }
    let state = fake.state();
    assert_eq!(state.seen.iter().map(|s| s.keys).sum::<usize>(), 1_000);
    // One request per shard and turn: all are submitted before the driver runs, or in very few turns.
    assert!(state.seen.len() <= 16 * 8, "{} requests for 1,000 puts", state.seen.len());
}

#[tokio::test]
async fn many_at_once_in_order_with_their_own_results() {
    let (fake, client) = connected().await;
    let pairs: Vec<(String, String)> = (0..5_000).map(|i| (format!("k{i}"), format!("v{i}"))).collect();
    let mut all = pairs.clone();
    all.insert(10, (String::new(), "no key".into()));
    let written = client.put_many(all).await;
    assert_eq!(written.len(), 5_001);
    for (i, result) in written.iter().enumerate() {
        assert_eq!(result.as_ref().err(), (i == 10).then_some(&Error::KeySize { bytes: 0 }));
    }
    let found = client.get_many(pairs.iter().map(|(k, _)| k).chain([&"absent".to_string()])).await;
    assert_eq!(found.len(), 5_001);
    for ((_, value), found) in pairs.iter().zip(&found) {
        assert_eq!(found.as_ref().ok().and_then(|f| f.as_deref()), Some(value.as_bytes()));
    }
    assert_eq!(found[5_000], Ok(None));
    assert!(fake.state().seen.iter().all(|s| s.keys <= 1_024));
    assert!(client.get_many(Vec::<String>::new()).await.is_empty());
}

#[tokio::test]
async fn large_values_travel_in_chunks() {
    let (_fake, client) = connected().await;
    let large: Vec<u8> = (0..16 << 20).map(|i: u32| (i % 251) as u8).collect();
    let pairs: Vec<(String, Vec<u8>)> = (0..4).map(|i| (format!("large{i}"), large.clone())).collect();
    assert!(client.put_many(pairs).await.iter().all(Result::is_ok));
    for found in client.get_many((0..4).map(|i| format!("large{i}"))).await {
        assert!(found.expect("get").as_deref() == Some(&large[..]));
    }
}

#[tokio::test]
async fn beyond_a_limit_nothing_is_sent() {
    let (fake, client) = connected().await;
    assert_eq!(client.get("").await, Err(Error::KeySize { bytes: 0 }));
    assert_eq!(client.put(vec![0; 65_536], "v").await, Err(Error::KeySize { bytes: 65_536 }));
    let error = client.put("k", vec![0; (16 << 20) + 1]).await.expect_err("too long");
    assert_eq!(error, Error::ValueSize { bytes: (16 << 20) + 1 });
    assert_eq!((error.outcome(), error.advice()), (Outcome::NotApplied, Advice::Fix));
    assert!(fake.state().seen.is_empty());
    client.put(vec![0; 65_535], "v").await.expect("at the limit");
}

#[tokio::test]
async fn a_store_that_is_down_is_gone_around() {
    let (fake, client) = connected().await;
    let shard = fake.map.shard_of(ringkv::KeyspaceId(1), b"key").expect("a shard").clone();
    let (gone, next) = (shard.replicas[0], shard.replicas[1]);
    client.put("key", "1").await.expect("put");
    {
        let mut state = fake.state();
        state.down.push(gone);
        state.leaders.extend(fake.map.shards.iter().map(|s| (s.id, next)));
    }
    fake.plan(move |seen| if seen.store == gone { Do::Close } else { Do::Right });
    client.put("key", "2").await.expect("by its successor");
    assert_eq!(client.get("key").await.expect("get").as_deref(), Some(&b"2"[..]));
    // It comes back and leads again: redirects find it.
    {
        let mut state = fake.state();
        state.down.clear();
        state.leaders.clear();
    }
    fake.plan(|_| Do::Right);
    client.put("key", "3").await.expect("by the first again");
    assert_eq!(fake.state().seen.last().map(|s| s.store), Some(gone));
}

#[tokio::test]
async fn status_and_map() {
    let (fake, client) = connected().await;
    assert_eq!(client.status(NodeId(2)).await, Ok("{\"store\":\"n2/0\"}".into()));
    assert!(client.status(NodeId(9)).await.is_err());
    assert_eq!(*client.map().await.expect("there is one"), *fake.map);
}

#[tokio::test]
async fn seeds_that_lead_nowhere() {
    let error = Client::builder().connect().await.expect_err("no seed");
    assert_eq!(error.advice(), Advice::Fix);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("its address");
    let builder = Client::builder().seeds([address]).connect_timeout(Duration::from_millis(300));
    let error = builder.connect().await.expect_err("nobody says hello");
    assert_eq!((error.outcome(), error.advice()), (Outcome::NotApplied, Advice::Retry), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_clone_ends_the_connections() {
    let (fake, client) = connected().await;
    client.put("key", "1").await.expect("put");
    let strong = std::sync::Arc::strong_count(&fake.state);
    drop(client);
    // Each connection holds one; the listeners hold three, the test one.
    for _ in 0..200 {
        if std::sync::Arc::strong_count(&fake.state) < strong {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connections stay open");
}

#[test]
fn blocking() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let fake = runtime.block_on(Fake::start());
    let client = ringkv::blocking::Client::connect(Client::builder().seeds(fake.seeds())).expect("connect");
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let client = client.clone();
            std::thread::spawn(move || {
                for i in 0..50 {
                    client.put(format!("{t}/{i}"), format!("{i}")).expect("put");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("no panic"));
    assert_eq!(client.get("3/7").expect("get").as_deref(), Some(&b"7"[..]));
    client.delete("3/7").expect("delete");
    assert!(client.put_many([("a", "1"), ("b", "2")]).iter().all(Result::is_ok));
    assert_eq!(client.get_many(["a", "3/7"])[1], Ok(None));
    assert_eq!(client.keyspace("other").expect("exists").get("a"), Ok(None));
    assert_eq!(client.status(NodeId(1)), Ok("{\"store\":\"n1/0\"}".into()));
    assert_eq!(fake.state().seen.iter().filter(|s| s.kind == Kind::Write).map(|s| s.keys).sum::<usize>(), 403);
    assert!(ringkv::blocking::Client::connect(Client::builder()).is_err());
}
