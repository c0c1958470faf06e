//! The pure session of a ringkv client: routing, coalescing, windows, retries.
