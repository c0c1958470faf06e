//! Administration, demo and inspection of ringkv.
fn main() {}
