//! Fewer tables: what to merge is a pure choice, merging is a job.

pub mod choose;
pub mod job;
pub mod pace;
