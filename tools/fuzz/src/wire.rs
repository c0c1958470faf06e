//! What travels, and what is encoded the same way.

use bytes::Bytes;
use ringkv_core::sessions::Sessions;
use ringkv_wire::codec::{Reader, WireError};
use ringkv_wire::entry::{Entry, Operations};
use ringkv_wire::frame::{self, Decoder, FRAME_HEADER_BYTES};
use ringkv_wire::hello::{HELLO_BYTES, Hello};
use ringkv_wire::msg::client::{
    ReadRequest, StatusHeader, WriteRequest, decode_read_reply, decode_write_reply, encode_write_reply, put_read_result,
};
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::node;
use ringkv_wire::msg::peer::PeerMessage;
use ringkv_wire::msg::snapshot::SnapshotMessage;
use ringkv_wire::ring::topology::ClusterMap;

/// Bytes of incomplete messages that the decoder may hold.
const BUDGET: usize = 1 << 20;

/// What was accepted stands for exactly these bytes.
fn exactly(bytes: &[u8], again: Result<Vec<u8>, WireError>) {
    match again {
        Ok(again) => assert_eq!(again, bytes, "decoded, and encoded to something else"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// A stream of frames. First byte: bit 0 corrects the checksums of the frames, else nothing behind a header would be reached;
/// the rest is the size of the pieces in which the stream arrives.
pub fn frame(bytes: &[u8]) {
    let Some((how, stream)) = bytes.split_first() else { return };
    let mut stream = stream.to_vec();
    if how & 1 == 1 {
        seal_frames(&mut stream);
    }
    let mut decoder = Decoder::new(BUDGET);
    let mut given = 0;
    for piece in stream.chunks(usize::from(how >> 1) + 1) {
        decoder.feed(piece);
        loop {
            match decoder.next() {
                Ok(None) => break,
                Err(_) => return, // the connection ends here
                Ok(Some(message)) => {
                    given += message.body.len();
                    assert!(given <= stream.len(), "more bytes were given than came");
                    let again = encoded(|out| frame::encode(message.kind, message.id, &message.body, out));
                    let mut second = Decoder::new(BUDGET);
                    second.feed(&again);
                    assert_eq!(second.next(), Ok(Some(message)), "a message does not survive its own encoding");
                }
            }
        }
    }
}

/// Writes right checksums into the frames that follow each other from the start (PROTOCOL.md §3).
pub fn seal_frames(stream: &mut [u8]) {
    let mut rest = stream;
    while rest.len() >= FRAME_HEADER_BYTES {
        let (header, behind) = rest.split_at_mut(FRAME_HEADER_BYTES);
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let length = length.min(behind.len());
        let body = crc32c::crc32c(&behind[..length]).to_le_bytes();
        header[24..28].copy_from_slice(&body);
        let own = crc32c::crc32c(&header[..28]).to_le_bytes();
        header[28..32].copy_from_slice(&own);
        rest = &mut behind[length..];
    }
}

/// A hello, as it comes and with its checksum corrected.
pub fn hello(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<HELLO_BYTES>() else { return };
    let mut sealed = *bytes;
    let crc = crc32c::crc32c(&sealed[..HELLO_BYTES - 4]).to_le_bytes();
    sealed[HELLO_BYTES - 4..].copy_from_slice(&crc);
    for bytes in [*bytes, sealed] {
        exactly(&bytes, Hello::decode(&bytes).map(|hello| hello.encode().to_vec()));
    }
}

/// What clients ask: a write with its operations, a read, a request for the map.
pub fn request(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let write = WriteRequest::decode(body.clone()).map(|request| {
        operations(&request.body);
        encoded(|out| {
            WriteRequest::encode_header(&request.header, out);
            out.extend_from_slice(&request.body);
        })
    });
    exactly(bytes, write);
    exactly(bytes, ReadRequest::decode(body.clone()).map(|request| encoded(|out| request.encode(out))));
    exactly(bytes, node::decode_map_request(body).map(|epoch| encoded(|out| node::encode_map_request(epoch, out))));
}

/// What stores answer. A status of a later version reads as unknown, so the second encoding is what must last.
pub fn reply(bytes: &[u8]) {
    lasts(bytes, |body| {
        let (header, results) = decode_write_reply(body)?;
        Ok(encoded(|out| encode_write_reply(&header, &results, out)))
    });
    lasts(bytes, |body| {
        let (header, results) = decode_read_reply(body)?;
        Ok(encoded(|out| {
            header.encode(results.len() as u32, out);
            results.iter().for_each(|result| put_read_result(&result, out));
        }))
    });
    lasts(bytes, |body| {
        let (header, map) = node::decode_map_reply(body)?;
        Ok(encoded(|out| node::encode_map_reply(&header, map.as_ref(), out)))
    });
    lasts(bytes, |body| {
        let (header, json) = node::decode_status_reply(body)?;
        Ok(encoded(|out| node::encode_status_reply(&header, &json, out)))
    });
    let refusal = StatusHeader::decode(&mut Reader::new(Bytes::copy_from_slice(bytes)));
    assert!(bytes.len() >= 48 || refusal.is_err(), "a header of {} bytes", bytes.len());
}

fn lasts(bytes: &[u8], again: impl Fn(Bytes) -> Result<Vec<u8>, WireError>) {
    let Ok(once) = again(Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(once.len(), bytes.len(), "decoded, and encoded to another length");
    assert_eq!(again(Bytes::from(once.clone())), Ok(once), "the second encoding differs");
}

/// Raft messages between stores: several in one body.
pub fn peer(bytes: &[u8]) {
    let messages = PeerMessage::decode_all(Bytes::copy_from_slice(bytes));
    exactly(
        bytes,
        messages.map(|messages| {
            let length: usize = messages.iter().map(PeerMessage::encoded_bytes).sum();
            assert!(length >= bytes.len(), "longer than it said");
            encoded(|out| messages.iter().for_each(|message| message.encode(out)))
        }),
    );
}

/// Snapshot messages between stores.
pub fn snapshot(bytes: &[u8]) {
    let message = SnapshotMessage::decode(Bytes::copy_from_slice(bytes));
    exactly(bytes, message.map(|message| encoded(|out| message.encode(out))));
}

/// The cluster map, and a group's configuration.
pub fn map(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let map = ClusterMap::decode(body.clone()).map(|map| {
        for keyspace in &map.keyspaces {
            let _none_is_fine = map.shard_of(keyspace.id, bytes);
        }
        let _any_number = map.settings_digest();
        encoded(|out| map.encode(out))
    });
    exactly(bytes, map);
    exactly(bytes, Configuration::decode(body).map(|config| encoded(|out| config.encode(out))));
}

/// An entry of the log with its header, and the operations of a body.
pub fn operations(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let mut reader = Reader::new(body.clone());
    if let Ok(entry) = Entry::decode(&mut reader) {
        assert_eq!(entry.encoded_bytes() + reader.left(), bytes.len());
        exactly(&bytes[..entry.encoded_bytes()], Ok(encoded(|out| entry.encode(out))));
    }
    exactly(bytes, Operations::decode(body).map(|operations| encoded(|out| operations.encode(out))));
}

/// The session table of a shard.
pub fn sessions(bytes: &[u8]) {
    if let Ok(mut table) = Sessions::decode(bytes, BUDGET) {
        assert_eq!(table.encode(), bytes, "decoded, and encoded to something else");
        table.advance(u64::MAX);
    }
}

/// A history as lincheck reads it: judged in bounded steps, and the same after being written and read again.
pub fn history(bytes: &[u8]) {
    let Ok(history) = lincheck::read(bytes) else { return };
    let mut text = Vec::new();
    assert!(lincheck::write(&history, &mut text).is_ok());
    let again = lincheck::read(text.as_slice());
    assert!(again.is_ok_and(|again| again == history), "a history does not survive being written");
    if history.len() <= 64 {
        let report = lincheck::check_with(&history, 10_000);
        assert_eq!(report.operations, history.len());
        for finding in report.findings {
            assert!(!finding.to_string().is_empty());
        }
    }
}
