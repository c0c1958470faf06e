//! Whole ringkv clusters from one seed, on a virtual clock, network and disk.
//!
//! One thread, no real time, no real chance: a run is a seed, and the same seed gives the same trace. The stores and the
//! client's session are the code that ships; only their hosts and disks are virtual. At every step at most one leader per
//! shard and term, one history of applied entries per shard; at the end the cluster must become live, every history
//! linearizable, nothing acknowledged lost, all replicas equal.

pub mod audit;
pub mod client;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod dice;
pub mod events;
pub mod exec;
pub mod faults;
pub mod history;
pub mod host;
pub mod kind;
pub mod load;
pub mod marks;
pub mod net;
pub mod ordinals;
pub mod plan;
pub mod report;
pub mod rover;
pub mod shrink;
pub mod sim;
pub mod watch;
