//! The fast disk: files past the page cache, through the core's own io_uring ring.

pub mod ring;
