//! Micro-benchmarks of ringkv's hot parts.
