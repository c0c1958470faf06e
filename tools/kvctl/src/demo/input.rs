//! What the demo loads: lines of `key<TAB>value`, or a text that this repository ships.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use ringkv_wire::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// The text that is loaded when nothing else is given: long enough to be interesting, free to be copied.
const LICENCE: &str = include_str!("../../../../LICENSE-APACHE");

/// Keys and values to load.
#[derive(Debug, Clone)]
pub struct Input {
    /// What it is, in words.
    pub title: String,
    /// Sorted by key, each key once.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// The shipped text was loaded: it can be put together again.
    pub is_licence: bool,
}

impl Input {
    /// The licence: its lines as `line/0001` .., its words as `word/00001` ...
    pub fn licence() -> Input {
        let lines = LICENCE.lines().zip(1..).map(|(line, at)| pair(format!("line/{at:04}"), line));
        let words = LICENCE.split_whitespace().zip(1..).map(|(word, at)| pair(format!("word/{at:05}"), word));
        Input {
            title: "the Apache licence, line by line and word by word".to_owned(),
            pairs: lines.chain(words).collect(),
            is_licence: true,
        }
    }

    /// A file of lines `key<TAB>value`. Of a key given twice the last value counts.
    pub fn read(path: &Path) -> anyhow::Result<Input> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut pairs = BTreeMap::new();
        for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.is_empty()) {
            let at = || format!("{}:{number}", path.display());
            let (key, value) = line.split_once('\t').with_context(|| format!("{}: no tab on this line", at()))?;
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                bail!("{}: a key of {} bytes; it has 1 to {KEY_BYTES_MAX}", at(), key.len());
            }
            if value.len() > VALUE_BYTES_MAX {
                bail!("{}: a value of {} bytes; it has at most {VALUE_BYTES_MAX}", at(), value.len());
            }
            pairs.insert(Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        }
        if pairs.is_empty() {
            bail!("{} holds no lines of key<TAB>value", path.display());
        }
        let title =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        Ok(Input { title, pairs: pairs.into_iter().collect(), is_licence: false })
    }

    /// Whether the values of the lines, as they were read back in the order of their keys, are the licence again.
    pub fn is_whole<'v>(values: impl Iterator<Item = &'v [u8]>) -> bool {
        values.eq(LICENCE.lines().map(str::as_bytes))
    }
}

fn pair(key: String, value: &str) -> (Bytes, Bytes) {
    (Bytes::from(key), Bytes::from(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_makes_many_pairs_and_is_whole_again() {
        let input = Input::licence();
        assert!(input.pairs.len() > 1_500, "{}", input.pairs.len());
        assert!(input.pairs.is_sorted_by(|a, b| a.0 < b.0));
        let lines = || input.pairs.iter().filter(|(key, _)| key.starts_with(b"line/")).map(|(_, value)| value.as_ref());
        assert!(Input::is_whole(lines()));
        assert!(!Input::is_whole(lines().skip(1)));
    }

    #[test]
    fn a_file_is_read_and_nonsense_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input.tsv");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Input::read(&path).map(|input| input.pairs)
        };
        let pairs = read("b\t2\na\t1 \u{fc}\n\nb\t3\tx\n").unwrap();
        assert_eq!(pairs, [("a".into(), "1 \u{fc}".into()), ("b".into(), "3\tx".into())]);
        assert!(read("a\t1\nno tab\n").unwrap_err().to_string().ends_with("input.tsv:2: no tab on this line"));
        assert!(read("\tvalue\n").is_err());
        assert!(read("").is_err());
        assert!(Input::read(&dir.path().join("absent")).is_err());
    }
}
