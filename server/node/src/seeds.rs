//! The cluster map, asked of other nodes: for a node that was given seeds instead of a member list.

use crate::config::ConfigError;
use ringkv_wire::frame::{self, Decoder, Kind};
use ringkv_wire::hello::{ANY_STORE, Answer, HELLO_BYTES, Hello};
use ringkv_wire::ids::{ClientId, StoreId};
use ringkv_wire::limits::{HELLO_TIMEOUT_MS, MESSAGE_BYTES_MAX};
use ringkv_wire::msg::node::{decode_map_reply, encode_map_request};
use ringkv_wire::ring::topology::ClusterMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Between two rounds over all seeds.
const PAUSE: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_millis(HELLO_TIMEOUT_MS);

/// Asks the seeds in turn until one answers with its map, for at most `patience`. Blocks.
pub fn fetch(seeds: &[SocketAddr], patience: Duration) -> Result<ClusterMap, ConfigError> {
    let give_up = Instant::now() + patience;
    loop {
        let mut said = Vec::new();
        for seed in seeds {
            match ask(*seed) {
                Ok(map) => return Ok(map),
                Err(e) => said.push(format!("{seed}: {e}")),
            }
        }
        let said = said.join("; ");
        if Instant::now() >= give_up {
            return Err(ConfigError(format!("no seed gives the cluster map: {said}")));
        }
        tracing::debug!("no seed gives the cluster map yet: {said}");
        std::thread::sleep(PAUSE);
    }
}

fn ask(seed: SocketAddr) -> io::Result<ClusterMap> {
    let mut socket = TcpStream::connect_timeout(&seed, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let any = StoreId::new(0, ANY_STORE);
    let mut request = Hello::client(ClientId(rand::random()), any).encode().to_vec();
    let mut body = Vec::new();
    encode_map_request(0, &mut body);
    frame::encode(Kind::Map, 1, &body, &mut request);
    socket.write_all(&request)?;
    let mut hello = [0; HELLO_BYTES];
    socket.read_exact(&mut hello)?;
    let hello = Hello::decode(&hello).map_err(io::Error::other)?;
    if hello.answer != Answer::Welcome {
        return Err(io::Error::other(format!("it answers {:?}", hello.answer)));
    }
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let mut chunk = vec![0; 64 << 10];
    loop {
        if let Some(message) = decoder.next().map_err(io::Error::other)? {
            let (header, map) = decode_map_reply(message.body).map_err(io::Error::other)?;
            return map.ok_or_else(|| io::Error::other(format!("it has no map to give: {:?}", header.status)));
        }
        match socket.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => decoder.feed(&chunk[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_wire::ids::{ClusterId, KeyspaceId, NodeId};
    use ringkv_wire::msg::client::StatusHeader;
    use ringkv_wire::msg::node::encode_map_reply;
    use ringkv_wire::ring::hash::Routing;
    use ringkv_wire::ring::topology::{KeyspaceInfo, Member, PoolInfo};
    use std::net::TcpListener;

    fn map() -> ClusterMap {
        let address = "127.0.0.1:7000".parse().unwrap();
        let member = Member { id: NodeId(1), address, weight: 100, rack: String::new(), stores: vec![address] };
        let keyspace = KeyspaceInfo { id: KeyspaceId(1), name: "default".into(), pool: 1, routing: Routing::Whole };
        let pool = PoolInfo { id: 1, replicas: 3, shard_bits: 10 };
        ClusterMap::from_members(ClusterId([1; 16]), &[member], &[keyspace], &[pool])
    }

    #[test]
    fn the_seed_that_answers_is_believed() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let seeds = [gone, listener.local_addr().unwrap()];
        let seed = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut hello = [0; HELLO_BYTES];
            socket.read_exact(&mut hello).unwrap();
            let answer = Hello { answer: Answer::Welcome, ..Hello::decode(&hello).unwrap() };
            let header = StatusHeader {
                shard: Default::default(),
                generation: Default::default(),
                status: ringkv_wire::status::Status::Ok,
                level: 0,
                leader: None,
                epoch: 1,
                log_time_ms: 0,
                index: 0,
                store_us: 0,
            };
            let (mut body, mut out) = (Vec::new(), answer.encode().to_vec());
            encode_map_reply(&header, Some(&map()), &mut body);
            frame::encode(Kind::MapReply, 1, &body, &mut out);
            socket.write_all(&out).unwrap();
            // Until the asker has gone.
            let _ = socket.read(&mut [0; 1024]);
        });
        assert_eq!(fetch(&seeds, Duration::from_secs(20)).unwrap(), map());
        seed.join().unwrap();
    }

    #[test]
    fn seeds_that_do_not_answer_are_named() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let said = fetch(&[gone], Duration::ZERO).unwrap_err().to_string();
        assert!(said.contains(&gone.to_string()), "{said}");
    }
}
