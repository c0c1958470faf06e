//! What hostile and clumsy clients may cost: their own connections.

mod bytes;
mod crowd;
mod drain;
