//! Offline tools: the files of a store whose node is not running. All but `repair --accept-loss` read them without
//! changing a byte.

mod place;
pub mod repair;
pub mod sst;
mod tables;
pub mod wal;

use std::path::Path;
use std::process::ExitCode;

use ringkv_storage::error::StorageError;
use serde_json::{Value, json};

/// Exit code when bytes at rest are not what was written. What cannot be read at all ends with 2, as everything does
/// that `kvctl` cannot do.
pub const DAMAGED: u8 = 4;

/// One finding of damage, as it is told.
struct Damage {
    file: String,
    /// Where in the file; `None` when the device itself refuses.
    offset: Option<u64>,
    expected: String,
    got: String,
    /// Of a table's block: from the first key up to the second its keys may have been.
    keys: Option<(String, String)>,
}

/// A value without the quotes of JSON; nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Damage {
    /// Damage below `root`; any other error is given back.
    fn of(root: &Path, error: StorageError) -> anyhow::Result<Damage> {
        let under = |path: &str| root.join(path).display().to_string();
        match error {
            StorageError::Damaged { path, offset, expected, got } => {
                Ok(Damage { file: under(&path), offset: Some(offset), expected, got, keys: None })
            }
            error if error.is_damage() => {
                let (file, expected) = (root.display().to_string(), "what was written".to_owned());
                Ok(Damage { file, offset: None, expected, got: error.to_string(), keys: None })
            }
            error => Err(anyhow::Error::new(error).context(root.display().to_string())),
        }
    }

    fn json(&self) -> Value {
        let Damage { file, offset, expected, got, keys } = self;
        let mut told = json!({ "kind": "damage", "file": file, "offset": offset, "expected": expected, "got": got });
        if let Some((from, to)) = keys {
            (told["keys_from"], told["keys_to"]) = (json!(from), json!(to));
        }
        told
    }

    /// The exit code that goes with it.
    fn code() -> ExitCode {
        ExitCode::from(DAMAGED)
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Damage { file, expected, got, .. } = self;
        let at = self.offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
        write!(f, "DAMAGED {file}{at}: expected {expected}, got {got}")?;
        match &self.keys {
            Some((from, to)) => write!(f, "; keys from {from} to {to}"),
            None => Ok(()),
        }
    }
}
