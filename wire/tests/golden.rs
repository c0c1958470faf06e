//! Everything that travels against the bytes of PROTOCOL.md, and against bytes that are wrong.

mod samples;

use bytes::Bytes;
use proptest::prelude::*;

#[test]
fn encoders_give_the_golden_bytes() {
    for sample in samples::all() {
        assert_eq!(sample.ours, sample.golden, "{}", sample.name);
    }
}

#[test]
fn decoders_read_the_golden_bytes() {
    for sample in samples::all() {
        assert_eq!((sample.again)(sample.golden.clone().into()), Ok(sample.golden), "{}", sample.name);
    }
}

/// An error, or a value that stands for exactly these bytes: nothing is read that was not there.
#[test]
fn cut_short_at_every_length() {
    for sample in samples::all() {
        for len in 0..sample.golden.len() {
            let cut = &sample.golden[..len];
            match (sample.again)(Bytes::copy_from_slice(cut)) {
                Ok(again) => assert_eq!(again, cut, "{} cut at {len}", sample.name),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            if sample.checksummed {
                assert!((sample.again)(Bytes::copy_from_slice(cut)).is_err(), "{} cut at {len}", sample.name);
            }
        }
    }
}

#[test]
fn flipped_at_every_byte() {
    for sample in samples::all() {
        for at in 0..sample.golden.len() {
            for flip in [1u8, 0x10, 0x80, 0xff] {
                let mut bad = sample.golden.clone();
                bad[at] ^= flip;
                match (sample.again)(bad.clone().into()) {
                    Err(_) => {}
                    Ok(_) if sample.checksummed => panic!("{}: byte {at} changed unnoticed", sample.name),
                    // A status of a later version reads as "unknown": the one field that is not kept as it came.
                    Ok(again) if sample.name.ends_with("reply") || sample.name == "refusal" => {
                        assert_eq!(again.len(), bad.len(), "{} at {at}", sample.name);
                    }
                    Ok(again) => assert_eq!(again, bad, "{} at {at}", sample.name),
                }
            }
        }
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    for sample in samples::all() {
        // A frame is followed by the next one; a piece goes on to the end of its frame.
        if ["hello", "frame", "piece"].contains(&sample.name) {
            continue;
        }
        let mut long = sample.golden.clone();
        long.push(0);
        assert!((sample.again)(long.into()).is_err(), "{}", sample.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Noise decodes to an error or to what it says.
    #[test]
    fn noise(which in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let samples = samples::all();
        let sample = which.get(&samples);
        if let Ok(again) = (sample.again)(noise.clone().into()) {
            prop_assert!(sample.name.ends_with("reply") || again == noise, "{}", sample.name);
        }
    }

    /// A count or length field set to anything neither panics nor takes memory by its word.
    #[test]
    fn hostile_numbers(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), number in any::<u32>()) {
        let samples = samples::all();
        let sample = which.get(&samples);
        let mut bad = sample.golden.clone();
        let at = at.index(bad.len() - 4);
        bad[at..at + 4].copy_from_slice(&number.to_le_bytes());
        if let Ok(again) = (sample.again)(bad.clone().into()) {
            prop_assert_eq!(again.len(), bad.len(), "{}", sample.name);
        }
    }
}
