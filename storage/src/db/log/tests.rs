//! Tests of the log.

mod basic;
mod damage;
mod hostile;
mod interrupted;
mod model;
pub(in crate::db) mod power;
mod rig;
mod sync;
