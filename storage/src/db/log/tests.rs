//! Tests of the log.

mod basic;
mod damage;
mod hostile;
mod interrupted;
mod model;
mod power;
mod rig;
mod sync;
