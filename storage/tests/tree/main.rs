//! The engine by its public face: what goes in comes out, whatever happened in between.

mod basic;
mod crash;
mod crash_levels;
mod cuts;
mod faults;
mod harness;
mod levels;
mod model;
mod older;
mod real;
mod regions;
mod repair;
mod rot;
mod rot_regions;
mod same_bytes;
mod snapshot;
