//! The engine by its public face: what goes in comes out, whatever happened in between.

mod basic;
mod crash;
mod cuts;
mod expiry;
mod faults;
mod harness;
mod interval;
mod levels;
mod model;
mod older;
mod real;
mod repair;
mod rot;
mod snapshot;
