//! The ringkv server.
fn main() {}
