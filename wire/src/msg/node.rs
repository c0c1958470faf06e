//! What is asked of any store, not of a shard: the map and how it is (PROTOCOL.md §6.3).

use crate::codec::{Put, Reader, WireError};
use crate::msg::client::StatusHeader;
use crate::ring::topology::ClusterMap;
use bytes::Bytes;

/// Appends a request for the map: the epoch the asker has, 0 for none.
pub fn encode_map_request(epoch: u64, out: &mut Vec<u8>) {
    out.put_u64(epoch);
}

/// Reads a request for the map: the epoch the asker has.
pub fn decode_map_request(body: Bytes) -> Result<u64, WireError> {
    let mut r = Reader::new(body);
    let epoch = r.u64()?;
    r.finish()?;
    Ok(epoch)
}

/// Appends a reply: the map, or `None` when the asker's is the newest known here.
pub fn encode_map_reply(header: &StatusHeader, map: Option<&ClusterMap>, out: &mut Vec<u8>) {
    header.encode(0, out);
    if let Some(map) = map {
        map.encode(out);
    }
}

/// Reads a reply to a request for the map.
pub fn decode_map_reply(body: Bytes) -> Result<(StatusHeader, Option<ClusterMap>), WireError> {
    let mut r = Reader::new(body);
    let (header, _) = StatusHeader::decode(&mut r)?;
    let rest = r.rest();
    let map = if rest.is_empty() { None } else { Some(ClusterMap::decode(rest)?) };
    Ok((header, map))
}

/// Appends a reply to a request for the status: JSON text behind the header.
pub fn encode_status_reply(header: &StatusHeader, json: &str, out: &mut Vec<u8>) {
    header.encode(0, out);
    out.put(json.as_bytes());
}

/// Reads a reply to a request for the status: the header and the JSON text.
pub fn decode_status_reply(body: Bytes) -> Result<(StatusHeader, String), WireError> {
    let mut r = Reader::new(body);
    let (header, _) = StatusHeader::decode(&mut r)?;
    let text = r.rest();
    let json = String::from_utf8(text.to_vec());
    Ok((header, json.map_err(|_| WireError::Value { what: "status text", got: text.len() as u64 })?))
}
