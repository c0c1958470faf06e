//! Offline tools: the files of a store whose node is not running, read without changing a byte of them.

mod place;
pub mod wal;

use std::path::Path;
use std::process::ExitCode;

use ringkv_storage::error::StorageError;
use serde_json::{Value, json};

/// Exit code when bytes at rest are not what was written. What cannot be read at all ends with 2, as everything does that
/// `kvctl` cannot do.
pub const DAMAGED: u8 = 4;

/// One finding of damage, as it is told.
struct Damage {
    file: String,
    /// Where in the file; `None` when the device itself refuses.
    offset: Option<u64>,
    expected: String,
    got: String,
}

impl Damage {
    /// Damage below `root`; any other error is given back.
    fn of(root: &Path, error: StorageError) -> anyhow::Result<Damage> {
        let under = |path: &str| root.join(path).display().to_string();
        match error {
            StorageError::Damaged { path, offset, expected, got } => {
                Ok(Damage { file: under(&path), offset: Some(offset), expected, got })
            }
            error if error.is_damage() => {
                let (file, expected) = (root.display().to_string(), "what was written".to_owned());
                Ok(Damage { file, offset: None, expected, got: error.to_string() })
            }
            error => Err(anyhow::Error::new(error).context(root.display().to_string())),
        }
    }

    fn json(&self) -> Value {
        let Damage { file, offset, expected, got } = self;
        json!({ "kind": "damage", "file": file, "offset": offset, "expected": expected, "got": got })
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
        write!(f, "DAMAGED {file}{at}: expected {expected}, got {got}")
    }
}
