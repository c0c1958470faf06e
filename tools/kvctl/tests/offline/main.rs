//! The offline tools from outside: stores made by the engine itself, damaged by hand, looked into by `kvctl`.

#![expect(clippy::unwrap_used, reason = "only tests stand here: what fails is their failure")]

mod made;
mod repair;
mod tables;
mod wal;
