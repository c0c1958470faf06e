//! The loop of one ringkv store, generic over the host it runs on.

pub mod host;
