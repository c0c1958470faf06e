//! What a node reads as text, with bytes wrong: an error or a value that lasts, never a panic. The decoders of bytes have fuzz
//! targets in tools/fuzz; tools may not import the node, so its two texts are here.

use kvnode::config::{Config, Flags};
use kvnode::dir::Identity;
use ringkv_wire::ids::{ClusterId, Incarnation, NodeId};
use std::fs;

/// Mutations of each text.
const MUTATIONS: u64 = 300;

/// One of many mutations of `text`, always the same for one `number`: bytes overwritten, cut off, repeated, lines swapped.
fn mutation(text: &str, number: u64) -> Vec<u8> {
    let mut dice = number;
    let mut draw = |n: usize| {
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (dice >> 33) as usize % n.max(1)
    };
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=draw(3) {
        let at = draw(bytes.len());
        match draw(6) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
            3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = b"0-9\"[]={}.\n\xff"[at % 12]),
            4 => drop(bytes.splice(at..at, *b"99999999999999999999")),
            _ => {
                let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
                let (one, two) = (draw(lines.len()), draw(lines.len()));
                lines.swap(one, two);
                bytes = lines.join(&b'\n');
            }
        }
    }
    bytes
}

#[test]
fn a_configuration_is_refused_or_served_but_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    let (mut served, mut refused) = (0, 0);
    for number in 0..MUTATIONS {
        fs::write(&path, mutation(include_str!("../example.toml"), number)).unwrap();
        match Config::load(Flags { config: Some(path.clone()), ..Flags::default() }) {
            Ok(config) => {
                served += 1;
                assert!(config.node.0 > 0 && config.listen.port() > 0, "{config:?}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(served > 20 && refused > 20, "the mutations say nothing: {served} served, {refused} refused");
}

#[test]
fn an_identity_is_read_as_it_was_written_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let good = Identity {
        cluster: ClusterId([0x5a; 16]),
        node: NodeId(3),
        stores: 2,
        incarnation: Incarnation(0x1122_3344_5566_7788),
        made: true,
    };
    good.write(dir.path()).unwrap();
    let path = dir.path().join("identity");
    let text = fs::read_to_string(&path).unwrap();
    let (mut read, mut refused) = (0, 0);
    for number in 0..MUTATIONS {
        fs::write(&path, mutation(&text, number)).unwrap();
        match Identity::read(dir.path()) {
            Ok(identity) => {
                read += 1;
                let identity = identity.unwrap();
                let again = tempfile::tempdir().unwrap();
                identity.write(again.path()).unwrap();
                assert_eq!(Identity::read(again.path()).unwrap(), Some(identity));
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(read > 20 && refused > 20, "the mutations say nothing: {read} read, {refused} refused");
}
