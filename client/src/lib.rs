//! The ringkv client.
