//! A group's configuration: who votes, who learns (PROTOCOL.md §5; Raft §6).

use crate::codec::{Put, Reader, WireError};
use crate::ids::{Incarnation, NodeId, StoreId};
use bytes::Bytes;

/// One replica of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// Where it is.
    pub store: StoreId,
    /// The store's incarnation; 0 while nobody has met it.
    pub incarnation: Incarnation,
}

/// Who votes and who learns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Voters.
    pub voters: Vec<Replica>,
    /// They get entries but do not count.
    pub learners: Vec<Replica>,
    /// The voters being left, while a joint configuration holds.
    pub outgoing: Vec<Replica>,
}

impl Configuration {
    /// A configuration of these voters, incarnations not yet known.
    pub fn of_voters(stores: &[StoreId]) -> Configuration {
        let voters = stores.iter().map(|&store| Replica { store, incarnation: Incarnation(0) }).collect();
        Configuration { voters, learners: Vec::new(), outgoing: Vec::new() }
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for list in [&self.voters, &self.learners, &self.outgoing] {
            out.put_u16(list.len() as u16);
        }
        out.put_u16(0);
        for replica in self.voters.iter().chain(&self.learners).chain(&self.outgoing) {
            out.put_u32(replica.store.node.0);
            out.put_u16(replica.store.store);
            out.put_u16(0);
            out.put_u64(replica.incarnation.0);
        }
    }

    /// Reads a whole configuration.
    pub fn decode(bytes: Bytes) -> Result<Configuration, WireError> {
        let mut r = Reader::new(bytes);
        let counts = [r.u16()?, r.u16()?, r.u16()?];
        r.zeros(2)?;
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for (list, count) in lists.iter_mut().zip(counts) {
            for _ in 0..count {
                let store = StoreId { node: NodeId(r.u32()?), store: r.u16()? };
                r.zeros(2)?;
                list.push(Replica { store, incarnation: Incarnation(r.u64()?) });
            }
        }
        r.finish()?;
        let [voters, learners, outgoing] = lists;
        Ok(Configuration { voters, learners, outgoing })
    }
}
