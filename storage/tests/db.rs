//! The embedded database as its users see it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod db {
    mod basics;
    mod model;
    mod threads;
}
