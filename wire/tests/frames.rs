//! Frames and chunks against peers that break the rules.

use bytes::Bytes;
use ringkv_wire::codec::WireError;
use ringkv_wire::entry::{OpKind, Operation, Operations};
use ringkv_wire::frame::{Decoder, FRAME_HEADER_BYTES, Kind, Message, encode, encode_with};
use ringkv_wire::ids::{ClientId, KeyspaceId};
use ringkv_wire::limits;

/// A frame with a right checksum, whatever it says.
fn frame(version: u8, kind: u8, flags: u8, message_bytes: u32, id: u64, body: &[u8]) -> Vec<u8> {
    let mut out = b"RKVF".to_vec();
    out.extend([version, kind, flags, 0]);
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(message_bytes.to_le_bytes());
    out.extend(id.to_le_bytes());
    out.extend(crc32c::crc32c(body).to_le_bytes());
    out.extend(crc32c::crc32c(&out).to_le_bytes());
    out.extend(body);
    out
}

fn feed(frames: &[Vec<u8>]) -> Result<Vec<Message>, WireError> {
    let mut decoder = Decoder::new(limits::MESSAGE_BYTES_MAX);
    let mut messages = Vec::new();
    for frame in frames {
        decoder.feed(frame);
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

#[test]
fn a_stream_cut_anywhere_gives_the_same_messages() {
    let mut stream = Vec::new();
    encode(Kind::Read, 1, b"first", &mut stream);
    encode(Kind::Write, 2, b"", &mut stream);
    encode(Kind::MapReply, 3, &[7; 1000], &mut stream);
    let whole = feed(&[stream.clone()]).expect("whole");
    assert_eq!(whole.len(), 3);
    for cut in 0..stream.len() {
        assert_eq!(feed(&[stream[..cut].to_vec(), stream[cut..].to_vec()]).as_ref(), Ok(&whole), "cut at {cut}");
    }
}

#[test]
fn a_stream_that_drips_or_piles_up_gives_the_same_messages() {
    let mut stream = Vec::new();
    (0..20).for_each(|id| encode(Kind::Read, id, &vec![id as u8; id as usize * 13], &mut stream));
    let whole = feed(&[stream.clone()]).expect("whole");
    for step in [1, 7, 32, 33, 100] {
        let drips: Vec<Vec<u8>> = stream.chunks(step).map(<[u8]>::to_vec).collect();
        assert_eq!(feed(&drips).as_ref(), Ok(&whole), "{step} bytes at a time");
        let mut decoder = Decoder::new(limits::MESSAGE_BYTES_MAX);
        drips.iter().for_each(|drip| decoder.take_in(Bytes::copy_from_slice(drip)));
        let piled: Vec<Message> = std::iter::from_fn(|| decoder.next().expect("sound")).collect();
        assert_eq!(piled, whole, "taken in all at once, {step} bytes each");
    }
}

#[test]
fn whole_frames_share_the_memory_they_came_in() {
    let mut stream = Vec::new();
    encode(Kind::Read, 1, b"first", &mut stream);
    encode(Kind::Read, 2, b"second", &mut stream);
    let stream = Bytes::from(stream);
    let mut decoder = Decoder::new(limits::MESSAGE_BYTES_MAX);
    decoder.take_in(stream.slice(..stream.len() - 1));
    let first = decoder.next().expect("sound").expect("whole");
    assert_eq!(first.body.as_ptr(), stream[FRAME_HEADER_BYTES..].as_ptr());
    assert_eq!(decoder.next(), Ok(None));
    drop(first);
    assert!(stream.slice(..0).is_empty() && stream.is_unique(), "an unfinished frame does not hold what it came in");
    decoder.take_in(stream.slice(stream.len() - 1..));
    assert_eq!(&decoder.next().expect("sound").expect("whole").body[..], b"second");
}

#[test]
fn a_body_written_in_place_travels_as_any_other() {
    for bytes in [0, 1, 1000, limits::FRAME_BYTES_MAX - FRAME_HEADER_BYTES, limits::FRAME_BYTES_MAX, 600_000] {
        let body: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
        let (mut copied, mut in_place) = (b"before".to_vec(), b"before".to_vec());
        encode(Kind::ReadReply, 7, &body, &mut copied);
        let told = encode_with(Kind::ReadReply, 7, &mut in_place, |out| {
            out.extend_from_slice(&body);
            "told"
        });
        assert_eq!(told, "told");
        assert!(copied == in_place, "{bytes} bytes");
    }
}

#[test]
fn long_messages_travel_in_interleaved_chunks() {
    let (long, other) = (vec![1u8; 600_000], vec![2u8; 300_000]);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    encode(Kind::Write, 1, &long, &mut a);
    encode(Kind::Write, 2, &other, &mut b);
    let frames = |bytes: &[u8]| bytes.chunks(limits::FRAME_BYTES_MAX).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (a, b) = (frames(&a), frames(&b));
    assert_eq!((a.len(), b.len()), (3, 2));
    let messages = feed(&[a[0].clone(), b[0].clone(), a[1].clone(), b[1].clone(), a[2].clone()]).expect("two messages");
    assert_eq!(messages[0], Message { kind: Kind::Write, id: 2, body: other.into() });
    assert_eq!(messages[1], Message { kind: Kind::Write, id: 1, body: long.into() });
}

#[test]
fn the_rules_of_chunks() {
    let refused = |what: &str, frames: &[Vec<u8>]| assert!(feed(frames).is_err(), "{what}");
    refused("continued without a first", &[frame(1, 1, 2, 4, 9, b"abcd")]);
    refused("a first twice", &[frame(1, 1, 1, 8, 9, b"abcd"), frame(1, 1, 1, 8, 9, b"abcd")]);
    refused("a first that is all", &[frame(1, 1, 1, 4, 9, b"abcd")]);
    refused("an empty first", &[frame(1, 1, 1, 4, 9, b"")]);
    refused("an empty middle", &[frame(1, 1, 1, 8, 9, b"abcd"), frame(1, 1, 3, 8, 9, b"")]);
    refused("more than announced", &[frame(1, 1, 1, 6, 9, b"abcd"), frame(1, 1, 2, 6, 9, b"abcd")]);
    refused("less than announced", &[frame(1, 1, 1, 9, 9, b"abcd"), frame(1, 1, 2, 9, 9, b"abcd")]);
    refused("the last says more follow", &[frame(1, 1, 1, 8, 9, b"abcd"), frame(1, 1, 3, 8, 9, b"abcd")]);
    refused("another kind", &[frame(1, 1, 1, 8, 9, b"abcd"), frame(1, 3, 2, 8, 9, b"abcd")]);
    refused("another length", &[frame(1, 1, 1, 8, 9, b"abcd"), frame(1, 1, 2, 9, 9, b"abcd")]);
    refused("an unknown flag", &[frame(1, 1, 4, 4, 9, b"abcd")]);
    refused("a single frame that lies about its length", &[frame(1, 1, 0, 5, 9, b"abcd")]);
    refused("an unknown kind", &[frame(1, 99, 0, 4, 9, b"abcd")]);
    assert_eq!(feed(&[frame(2, 1, 0, 4, 9, b"abcd")]), Err(WireError::Version { got: 2 }));
    let joined = feed(&[frame(1, 1, 1, 8, 9, b"abcd"), frame(1, 1, 2, 8, 9, b"efgh")]).expect("the rules kept");
    assert_eq!(joined[0].body, Bytes::from_static(b"abcdefgh"));
}

#[test]
fn oversize_is_refused_by_the_header_alone() {
    let mut long = frame(1, 1, 0, 0, 1, b"");
    let body_bytes = (limits::FRAME_BYTES_MAX - FRAME_HEADER_BYTES + 1) as u32;
    long[8..12].copy_from_slice(&body_bytes.to_le_bytes());
    let crc = crc32c::crc32c(&long[..28]).to_le_bytes();
    long[28..32].copy_from_slice(&crc);
    assert!(matches!(feed(&[long]), Err(WireError::Limit { what: "frame body bytes", .. })));
    let message = frame(1, 1, 1, limits::MESSAGE_BYTES_MAX as u32 + 1, 1, b"a");
    assert!(matches!(feed(&[message]), Err(WireError::Limit { what: "message bytes", .. })));
}

#[test]
fn pieces_are_bounded_in_bytes_and_number() {
    let mut decoder = Decoder::new(1000);
    decoder.feed(&frame(1, 1, 1, 600, 1, b"a"));
    assert_eq!(decoder.next(), Ok(None));
    decoder.feed(&frame(1, 1, 1, 600, 2, b"a"));
    assert!(matches!(decoder.next(), Err(WireError::Limit { what: "bytes of messages in pieces", .. })));

    let many: Vec<_> = (0..65).map(|id| frame(1, 1, 1, 2, id, b"a")).collect();
    assert!(feed(&many[..64]).is_ok());
    assert!(matches!(feed(&many), Err(WireError::Limit { what: "messages in pieces", .. })));

    // What is done is given back.
    let mut decoder = Decoder::new(10);
    for id in 0..100 {
        decoder.feed(&frame(1, 1, 1, 8, id, b"abcd"));
        decoder.feed(&frame(1, 1, 2, 8, id, b"efgh"));
        assert!(decoder.next().expect("within the budget").is_some());
    }
}

#[test]
fn the_longest_message_passes() {
    let body = vec![3u8; limits::MESSAGE_BYTES_MAX];
    let mut stream = Vec::new();
    encode(Kind::ReadReply, 1, &body, &mut stream);
    assert_eq!(feed(&[stream]).expect("at the limit")[0].body, body);
}

fn put(key: usize, value: usize) -> Operations {
    let op = Operation {
        seq: 1,
        expiry_ms: 1,
        keyspace: KeyspaceId(1),
        kind: OpKind::Put,
        key: vec![b'k'; key].into(),
        value: vec![b'v'; value].into(),
    };
    Operations { client: ClientId::default(), floor: 1, ops: vec![op] }
}

#[test]
fn keys_and_values_at_and_above_their_limits() {
    let bytes = |ops: &Operations| {
        let mut out = Vec::new();
        ops.encode(&mut out);
        out
    };
    let largest = put(limits::KEY_BYTES_MAX, limits::VALUE_BYTES_MAX);
    let encoded = bytes(&largest);
    assert!(encoded.len() <= limits::ENTRY_BODY_BYTES_MAX);
    assert_eq!(Operations::decode(encoded.into()), Ok(largest));

    let mut bad = bytes(&put(1, 1));
    bad[32 + 24..32 + 28].copy_from_slice(&(limits::VALUE_BYTES_MAX as u32 + 1).to_le_bytes());
    assert!(matches!(Operations::decode(bad.into()), Err(WireError::Limit { what: "value bytes", .. })));
    let mut bad = bytes(&put(1, 1));
    bad[32 + 22..32 + 24].copy_from_slice(&[0, 0]);
    assert!(matches!(Operations::decode(bad.into()), Err(WireError::Value { what: "key bytes", .. })));
    let mut bad = bytes(&put(1, 1));
    bad[24..28].copy_from_slice(&1025u32.to_le_bytes());
    assert!(matches!(Operations::decode(bad.into()), Err(WireError::Limit { what: "operations", .. })));
    let mut bad = bytes(&put(1, 1));
    bad[32 + 20] = 2;
    assert!(matches!(Operations::decode(bad.into()), Err(WireError::Value { what: "value bytes of a delete", .. })));
}
