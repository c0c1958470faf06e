//! What may be held for all clients together.

use std::cell::Cell;
use std::rc::Rc;

/// Said to who asks for more when too much is held already.
pub const TOO_MUCH_HELD: &[u8] = b"-NOTAPPLIED too many bytes are held for all clients\r\n";

/// Bytes held for all clients together.
#[derive(Debug)]
pub struct Budget {
    held: Cell<usize>,
    most: usize,
}

impl Budget {
    /// At most so many bytes.
    pub fn new(most: usize) -> Rc<Budget> {
        Rc::new(Budget { held: Cell::new(0), most })
    }

    /// Counts bytes that are now held instead of those that were; false when that is too much.
    pub fn change(&self, before: usize, now: usize) -> bool {
        self.held.set(self.held.get() - before + now);
        now <= before || self.held.get() <= self.most
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// Holds nothing yet.
    pub fn holding(self: &Rc<Budget>) -> Holding {
        Holding { budget: self.clone(), bytes: 0 }
    }
}

/// Bytes that are held for as long as this lives.
#[derive(Debug)]
pub struct Holding {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Holding {
    /// Holds so many more, unless that is too much.
    pub fn more(&mut self, bytes: usize) -> bool {
        let now = self.bytes + bytes;
        let fits = self.budget.change(self.bytes, now);
        if fits {
            self.bytes = now;
        } else {
            self.budget.change(now, self.bytes);
        }
        fits
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.budget.change(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_fits_or_is_refused_and_is_given_back() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.holding(), budget.holding());
        assert!(one.more(4) && two.more(5) && !two.more(2) && one.more(1));
        assert_eq!(budget.held(), 10);
        drop(two);
        assert_eq!(budget.held(), 5);
    }
}
