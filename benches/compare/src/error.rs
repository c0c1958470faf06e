//! What can go wrong, and what to do about it.

use crate::peer::Engine;
use crate::row::Row;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// An engine's own error, whatever its type.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A peer that is behind a cargo feature.
    #[error(
        "this ringkv-compare was built without {engine}: cargo run --release -p ringkv-compare --features {feature} (see its README.md)"
    )]
    NotBuilt {
        /// Which.
        engine: Engine,
        /// What builds it in.
        feature: &'static str,
    },
    /// An engine refused.
    #[error(
        "{engine} failed while {doing}: {source}. Is the disk full? --dir takes another folder, --entries fewer entries"
    )]
    Engine {
        /// Which.
        engine: Engine,
        /// What was asked of it.
        doing: &'static str,
        /// What it says.
        source: Failed,
    },
    /// An engine answered what is not so.
    #[error(
        "{engine} answered wrongly in {row}: {what}. Figures of wrong answers are not told; leave it out with --engines, or mend its adapter"
    )]
    Wrong {
        /// Which.
        engine: Engine,
        /// Where.
        row: Row,
        /// What it answered.
        what: String,
    },
    /// A file or folder.
    #[error("cannot {doing} {path}: {source}. --dir, --json and --svg take other places")]
    File {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A process that measures ended without a word.
    #[error(
        "the process that measured {engine} in {row} ended without figures ({status}). Was it killed for want of memory? Try fewer --entries"
    )]
    Silent {
        /// Which.
        engine: Engine,
        /// Where.
        row: Row,
        /// How.
        status: ExitStatus,
    },
    /// A process that measures said why it could not.
    #[error("{0}")]
    Said(String),
    /// What a process said is not understood.
    #[error(
        "a process that measures said what is not understood: {text}. Was the program replaced while it ran? Run it again"
    )]
    Garbled {
        /// Its words.
        text: String,
    },
    /// Arguments that cannot be.
    #[error("{0}")]
    Asked(String),
}

impl Error {
    /// For `map_err` on files.
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { doing, path, source }
    }

    /// For `map_err` on what an engine does.
    pub fn engine(engine: Engine, doing: &'static str) -> impl FnOnce(Failed) -> Error {
        move |source| Error::Engine { engine, doing, source }
    }
}
