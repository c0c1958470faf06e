//! The engine as an embedded library.
#![cfg_attr(not(test), expect(dead_code, reason = "the log comes before the database that uses it"))]
#![expect(unused_imports, reason = "the log comes before the database that uses it")]

pub(crate) mod log;
