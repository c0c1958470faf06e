//! The session, driven from outside: step by step, and through chaos.

mod chaos;
mod outcomes;
mod seeds;
mod steps;
mod world;
