//! The embedded database as its users see it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod db {
    mod basics;
    mod model;
    mod threads;
}
