//! The embedded database as its users see it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::disallowed_methods, reason = "processes and file systems that end at random moments are waited for")]

mod db {
    mod asynchronous;
    mod basics;
    mod child;
    mod full;
    mod kill;
    mod limits;
    mod model;
    mod power;
    mod threads;
    mod trees;
}
