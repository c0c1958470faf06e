//! Raft under test: by scripts, by chance, by absurd messages.

mod driver;
mod hostile;
mod installed;
mod model;
mod replica;
mod scripts;
mod show;
mod world;
