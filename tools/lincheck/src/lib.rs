//! Judges recorded histories of a key-value register: is there one order of all operations that respects real time and
//! explains every answer (Herlihy and Wing 1990)?
//!
//! Keys are independent registers, so each is judged alone. Per key the search of Wing and Gong (1993) with the
//! memoisation of Lowe (2017) and Porcupine is used, cut down by what is special about registers: see `search`.
//!
//! # History format
//! One JSON object per line; `kvbench --history` and `kvsim --history` write it. Empty lines are skipped.
//!
//! ```text
//! {"client":3,"key":"k17","op":"put","value":"3.42","call":1200,"return":1900,"outcome":"ok","version":12}
//! {"client":4,"key":"k17","op":"get","value":"3.42","call":1950,"return":2100,"outcome":"ok","version":12}
//! {"client":4,"key":"k17","op":"get","value":null,"call":2150,"return":2300,"outcome":"ok"}
//! {"client":3,"key":"k17","op":"delete","call":2000,"return":2200,"outcome":"ok","version":13}
//! {"client":5,"key":"k17","op":"put","value":"5.1","call":2000,"outcome":"unknown"}
//! {"client":5,"key":"k17","op":"put","value":"5.2","call":2400,"return":2500,"outcome":"failed"}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `client` | number of the caller; its calls may overlap |
//! | `key` | any text; bytes that are no text as hex |
//! | `op` | `put`, `delete`, `get` |
//! | `value` | put: what was written; get: what was found, null or missing when absent. Text that stands for the value: unique per put makes the check sharp |
//! | `call`, `return` | when the caller asked and when it had its answer, in any one unit on one clock. An operation precedes another when its return is smaller than the other's call; equal times are concurrent. `return` may be missing when the outcome is `unknown` |
//! | `outcome` | `ok`; `failed`: surely not applied; `unknown`: a write may take effect at any time after its call, or never |
//! | `version` | of an ok write: the log index that applied it; of an ok get: the index that wrote what was found. Missing or 0: not recorded |
//! | `shard` | number of the shard, so that versions are compared across its keys too. May be missing |
//!
//! Every key starts absent.
//!
//! # Versions
//! Where versions are recorded they must tell of exactly-once: see [`Finding`].

mod check;
mod explain;
mod history;
mod search;
mod spoil;
mod versions;

pub use check::{Finding, Report, check, check_with};
pub use history::{HistoryError, Kind, Op, Outcome, read, write};
pub use spoil::Spoil;
