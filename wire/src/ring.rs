//! The ring: key hash, virtual nodes, placement, and the cluster map.

pub mod hash;
pub mod topology;
