//! The rules. Each takes the tree and gives what breaks it.

mod dead;
mod documents;
mod imports;
mod places;
mod size;
mod words;

use crate::{Finding, Tree};

/// Every rule, in the order in which they are told.
pub const ALL: [fn(&Tree) -> Vec<Finding>; 6] =
    [size::check, words::check, imports::check, dead::check, documents::check, places::check];
