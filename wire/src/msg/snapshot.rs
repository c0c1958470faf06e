//! Shipping a tree's tables to a follower that the log no longer reaches (PROTOCOL.md §6.5; Raft §7). Pulled by the
//! follower.

use crate::codec::{Put, Reader, WireError};
use crate::entry::limit;
use crate::ids::{Generation, ShardId};
use crate::msg::config::Configuration;
use bytes::Bytes;

/// Most bytes of a table asked for at once.
pub const PIECE_BYTES_MAX: usize = 128 << 10;
/// Most tables in one snapshot.
pub const TABLES_MAX: usize = 1024;

/// A message about one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMessage {
    /// The group.
    pub shard: ShardId,
    /// Its generation.
    pub generation: Generation,
    /// Chosen by the sender of the offer.
    pub snapshot: u64,
    /// What it says.
    pub body: SnapshotBody,
}

/// One table of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedTable {
    /// Its id, kept for life.
    pub id: [u8; 16],
    /// Its length.
    pub bytes: u64,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotBody {
    /// These tables are pinned for you, by a leader or by whoever was asked.
    Offer {
        /// The sender's term.
        term: u64,
        /// Everything up to this index is in the tables.
        index: u64,
        /// Its term.
        index_term: u64,
        /// Log time at that index, ms.
        log_time_ms: u64,
        /// Index of the configuration.
        config_index: u64,
        /// The configuration at that index.
        config: Configuration,
        /// The tables: those of one sorted run side by side, by key, newest run first.
        tables: Vec<OfferedTable>,
    },
    /// Give me a piece.
    Fetch {
        /// Of this table.
        table: [u8; 16],
        /// From here.
        offset: u64,
        /// So many bytes.
        bytes: u32,
    },
    /// A piece.
    Piece {
        /// Of this table.
        table: [u8; 16],
        /// From here.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// It is no longer held, or there is nothing to offer.
    Gone,
    /// It is installed.
    Installed {
        /// Up to here. 0: it is not, and its pieces will not be asked for again.
        index: u64,
    },
    /// This replica's tree is damaged: offer yours. The snapshot id is the asker's own, echoed when there is nothing.
    Want {
        /// The tables must reach at least to this index.
        index: u64,
    },
}

impl SnapshotMessage {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind: u32 = match self.body {
            SnapshotBody::Offer { .. } => 1,
            SnapshotBody::Fetch { .. } => 2,
            SnapshotBody::Piece { .. } => 3,
            SnapshotBody::Gone => 4,
            SnapshotBody::Installed { .. } => 5,
            SnapshotBody::Want { .. } => 6,
        };
        out.put_u32(kind);
        out.put_u32(self.shard.0);
        out.put_u32(self.generation.0);
        out.put_u64(self.snapshot);
        match &self.body {
            SnapshotBody::Offer { term, index, index_term, log_time_ms, config_index, config, tables } => {
                for v in [*term, *index, *index_term, *log_time_ms, *config_index] {
                    out.put_u64(v);
                }
                let mut bytes = Vec::new();
                config.encode(&mut bytes);
                out.put_u32(bytes.len() as u32);
                out.put(&bytes);
                out.put_u32(tables.len() as u32);
                for table in tables {
                    out.put(&table.id);
                    out.put_u64(table.bytes);
                }
            }
            SnapshotBody::Fetch { table, offset, bytes } => {
                out.put(table);
                out.put_u64(*offset);
                out.put_u32(*bytes);
            }
            SnapshotBody::Piece { table, offset, bytes } => {
                out.put(table);
                out.put_u64(*offset);
                out.put(bytes);
            }
            SnapshotBody::Gone => {}
            SnapshotBody::Installed { index } | SnapshotBody::Want { index } => out.put_u64(*index),
        }
    }

    /// Reads a whole message.
    pub fn decode(body: Bytes) -> Result<SnapshotMessage, WireError> {
        let mut r = Reader::new(body);
        let kind = r.u32()?;
        let (shard, generation, snapshot) = (ShardId(r.u32()?), Generation(r.u32()?), r.u64()?);
        let body = match kind {
            1 => decode_offer(&mut r)?,
            2 => {
                let body = SnapshotBody::Fetch { table: r.layout()?, offset: r.u64()?, bytes: r.u32()? };
                r.finish()?;
                return Ok(SnapshotMessage { shard, generation, snapshot, body });
            }
            3 => {
                let (table, offset) = (r.layout()?, r.u64()?);
                let bytes = r.rest();
                limit("piece bytes", bytes.len(), PIECE_BYTES_MAX)?;
                return Ok(SnapshotMessage {
                    shard,
                    generation,
                    snapshot,
                    body: SnapshotBody::Piece { table, offset, bytes },
                });
            }
            4 => SnapshotBody::Gone,
            5 => SnapshotBody::Installed { index: r.u64()? },
            6 => SnapshotBody::Want { index: r.u64()? },
            got => return Err(WireError::Value { what: "snapshot message", got: u64::from(got) }),
        };
        r.finish()?;
        Ok(SnapshotMessage { shard, generation, snapshot, body })
    }
}

fn decode_offer(r: &mut Reader) -> Result<SnapshotBody, WireError> {
    let (term, index, index_term, log_time_ms, config_index) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?, r.u64()?);
    let config_bytes = r.u32()? as usize;
    let config = Configuration::decode(r.take(config_bytes)?)?;
    let count = r.count("tables", 24)?;
    limit("tables", count, TABLES_MAX)?;
    let mut tables = Vec::with_capacity(count);
    for _ in 0..count {
        tables.push(OfferedTable { id: r.layout()?, bytes: r.u64()? });
    }
    Ok(SnapshotBody::Offer { term, index, index_term, log_time_ms, config_index, config, tables })
}
