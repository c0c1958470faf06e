//! The Redis servers of a ring, as an operator lists them.

use ringkv_wire::ids::{KeyspaceId, NodeId, Position};
use ringkv_wire::ring::hash::{Routing, key_hash, position};
use ringkv_wire::ring::placement::Ring;
use ringkv_wire::ring::topology::NodeInfo;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Weight of an ordinary server: 150 virtual nodes.
const WEIGHT: u16 = 100;
/// The keyspace number of a ring over Redis servers, which have none: a ringkv cluster counts its own from 1.
const KEYSPACE: KeyspaceId = KeyspaceId(0);

/// A server: `host:port`, or `host:port*weight`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `host:port`: where it is, and by what its virtual nodes are placed.
    pub name: String,
    /// 100 is an ordinary server, 200 takes twice as many keys.
    pub weight: u16,
}

/// What is wrong with a list of servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServersError {
    /// Not of the form.
    #[error("'{0}' is no server: say host:port or host:port*weight")]
    Form(String),
    /// A weight that is none.
    #[error("the weight of '{0}' must be 1 to 10000 (100 is an ordinary server)")]
    Weight(String),
    /// The same server twice.
    #[error("'{0}' is listed twice")]
    Twice(String),
    /// Two names with the same 32-bit hash.
    #[error("'{0}' and '{1}' cannot be on one ring: their names have the same hash; use another name for one")]
    Collision(String, String),
    /// Nobody is there.
    #[error("a ring needs at least one server")]
    None,
}

impl FromStr for Server {
    type Err = ServersError;

    fn from_str(text: &str) -> Result<Server, ServersError> {
        let (name, weight) = match text.split_once('*') {
            None => (text, Some(WEIGHT)),
            Some((name, weight)) => (name, weight.parse().ok().filter(|weight| (1..=10_000).contains(weight))),
        };
        let weight = weight.ok_or_else(|| ServersError::Weight(name.into()))?;
        let port = name.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse().ok());
        match port {
            Some(1..=u16::MAX) => Ok(Server { name: name.to_owned(), weight }),
            _ => Err(ServersError::Form(text.into())),
        }
    }
}

impl Server {
    /// Its number on the ring. It hangs on the name alone: the order of a list does not matter, and who joins or leaves
    /// moves nobody else's virtual nodes.
    fn id(&self) -> NodeId {
        NodeId(position(key_hash(KEYSPACE, self.name.as_bytes())).0)
    }

    fn node(&self) -> NodeInfo {
        // A ring looks at numbers and weights, and takes only nodes that have a store.
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        NodeInfo { id: self.id(), address: nowhere, weight: self.weight, rack: String::new(), stores: vec![nowhere] }
    }
}

/// The ring of these servers: a plain clockwise walk over 150 virtual nodes of each, more or fewer by weight.
///
/// # Errors
/// When the list is empty, or two servers cannot be told apart.
pub fn ring(servers: &[Server]) -> Result<Ring, ServersError> {
    for (at, server) in servers.iter().enumerate() {
        if let Some(other) = servers.iter().take(at).find(|other| other.id() == server.id()) {
            return Err(if other.name == server.name {
                ServersError::Twice(server.name.clone())
            } else {
                ServersError::Collision(other.name.clone(), server.name.clone())
            });
        }
    }
    let nodes: Vec<NodeInfo> = servers.iter().map(Server::node).collect();
    if nodes.is_empty() { Err(ServersError::None) } else { Ok(Ring::new(&nodes)) }
}

/// A key's hash and its place on the ring: of what stands between `{` and `}`, if something does, else of the whole key.
pub fn place(key: &[u8]) -> (u64, Position) {
    let hash = key_hash(KEYSPACE, Routing::HashTag.part(key));
    (hash, position(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(list: &str) -> Vec<Server> {
        list.split(',').map(|server| server.parse().unwrap()).collect()
    }

    fn owners(list: &str) -> Vec<String> {
        let servers = servers(list);
        let ring = ring(&servers).unwrap();
        let owner =
            |key: u32| servers[ring.first(place(format!("key:{key}").as_bytes()).1, |_| true).unwrap()].name.clone();
        (0..3000).map(owner).collect()
    }

    #[test]
    fn lists_are_checked() {
        assert_eq!("a:1*50".parse(), Ok(Server { name: "a:1".into(), weight: 50 }));
        assert_eq!("[::1]:6379".parse(), Ok(Server { name: "[::1]:6379".into(), weight: 100 }));
        for bad in ["a", ":1", "a:0", "a:99999", "a:x", "a:1*0", "a:1*x", "a:1*70000", ""] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
        assert_eq!(ring(&servers("a:1,b:1,a:1*50")).err(), Some(ServersError::Twice("a:1".into())));
        assert_eq!(ring(&[]).err(), Some(ServersError::None));
    }

    #[test]
    fn places_hang_on_names_and_not_on_the_order_of_the_list() {
        assert_eq!(owners("a:1,b:1,c:1"), owners("c:1,a:1,b:1"));
    }

    /// Proxies of different ages must agree.
    #[test]
    fn places_never_change() {
        assert_eq!(place(b"key:1"), (9_873_374_556_821_680_160, Position(2_298_824_153)));
        assert_eq!(owners("a:1,b:1,c:1")[..8].concat(), "c:1a:1a:1b:1c:1b:1c:1b:1");
    }

    #[test]
    fn who_leaves_moves_only_its_own_keys() {
        let (before, after) = (owners("a:1,b:1,c:1"), owners("a:1,c:1"));
        for (before, after) in before.iter().zip(&after).filter(|(before, _)| *before != "b:1") {
            assert_eq!(before, after);
        }
        let of = |owners: &[String], name: &str| owners.iter().filter(|owner| *owner == name).count();
        assert!((700..1300).contains(&of(&before, "b:1")), "{} of 3000 keys", of(&before, "b:1"));
        let heavy = owners("a:1,b:1*400,c:1");
        assert!((1700..2300).contains(&of(&heavy, "b:1")), "{} of 3000 keys", of(&heavy, "b:1"));
    }

    #[test]
    fn tags_keep_keys_together() {
        assert_eq!(place(b"{user}:name"), place(b"{user}:age"));
        assert_ne!(place(b"{}a"), place(b"{}b"));
    }
}
