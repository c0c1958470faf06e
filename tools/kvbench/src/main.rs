//! Load generator for ringkv.
fn main() {}
