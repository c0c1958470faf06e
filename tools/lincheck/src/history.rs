//! The history format: one JSON object per line.

use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sets the value.
    Put,
    /// Removes it.
    Delete,
    /// Reads it.
    Get,
}

/// What the caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done; the answer counts.
    Ok,
    /// Surely not done.
    Failed,
    /// A write may take effect at any time after its call, or never.
    Unknown,
}

/// One operation of a history. See the crate's page for the meaning of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// Who asked.
    pub client: u64,
    /// The register.
    pub key: String,
    /// What was asked.
    #[serde(rename = "op")]
    pub kind: Kind,
    /// Written, or found; `None`: absent.
    #[serde(default)]
    pub value: Option<String>,
    /// When it was asked.
    pub call: u64,
    /// When the answer was there.
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<u64>,
    /// What the caller was told.
    pub outcome: Outcome,
    /// Log index of the write, or of what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u64>,
}

/// A history that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error("reading: {0}")]
    Io(#[from] io::Error),
    /// A line is not an operation.
    #[error("line {line}: {cause}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
}

impl Op {
    /// What is wrong with it by itself.
    fn fault(&self) -> Option<&'static str> {
        match (self.kind, self.outcome) {
            (Kind::Put, _) if self.value.is_none() => Some("a put without a value"),
            (Kind::Delete, _) if self.value.is_some() => Some("a delete with a value"),
            (_, Outcome::Ok) if self.ret.is_none() => Some("outcome ok without a return"),
            _ if self.ret.is_some_and(|ret| ret < self.call) => Some("it returns before its call"),
            _ => None,
        }
    }

    /// The version, when it was recorded.
    pub fn version(&self) -> Option<u64> {
        self.version.filter(|&v| v != 0)
    }

    /// Whether the two were under way at the same time.
    pub(crate) fn overlaps(&self, other: &Op) -> bool {
        self.call <= other.ret.unwrap_or(u64::MAX) && other.call <= self.ret.unwrap_or(u64::MAX)
    }
}

/// Reads a whole history.
pub fn read(from: impl BufRead) -> Result<Vec<Op>, HistoryError> {
    let mut ops = Vec::new();
    for (number, line) in from.lines().enumerate() {
        let (line, number) = (line?, number + 1);
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |cause: String| HistoryError::Line { line: number, cause };
        let op: Op = serde_json::from_str(&line).map_err(|e| wrong(e.to_string()))?;
        if let Some(fault) = op.fault() {
            return Err(wrong(fault.to_owned()));
        }
        ops.push(op);
    }
    Ok(ops)
}

/// Writes a history.
pub fn write(ops: &[Op], mut to: impl Write) -> io::Result<()> {
    for op in ops {
        serde_json::to_writer(&mut to, op)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}
