//! Raft under test: by scripts, by chance, by absurd messages.

mod driver;
mod hostile;
mod model;
mod replica;
mod scripts;
mod show;
mod world;
