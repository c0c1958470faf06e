//! The ring: key hash, virtual nodes, placement, and the cluster map.

mod encoding;
pub mod hash;
pub mod placement;
pub mod topology;
