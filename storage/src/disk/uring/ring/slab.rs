//! Who waits for which completion.

use super::{IGNORED, Owner};
use std::rc::Rc;

/// Slots of entries in flight. A slot's user data is its index and how often it was used.
#[derive(Default)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    uses: u32,
    busy: Option<Busy>,
}

struct Busy {
    owner: Rc<dyn Owner>,
    tag: u32,
}

impl Slab {
    /// Takes an owner in; answers its user data.
    pub fn insert(&mut self, owner: Rc<dyn Owner>, tag: u32) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { uses: 0, busy: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.busy.is_none(), "a free slot holds nothing");
        slot.busy = Some(Busy { owner, tag });
        let data = u64::from(slot.uses) << 32 | u64::from(index);
        assert!(data != IGNORED, "the ignored user data is never given out");
        data
    }

    fn busy(&mut self, data: u64) -> Option<&mut Busy> {
        let slot = self.slots.get_mut(data as u32 as usize)?;
        if u64::from(slot.uses) != data >> 32 { None } else { slot.busy.as_mut() }
    }

    /// Owner and tag of a completion; the last one frees the slot. None for ignored entries.
    pub fn complete(&mut self, data: u64, last: bool) -> Option<(Rc<dyn Owner>, u32)> {
        if data == IGNORED {
            return None;
        }
        let busy = self.busy(data).expect("the kernel completes only what is in flight");
        if !last {
            return Some((busy.owner.clone(), busy.tag));
        }
        let slot = &mut self.slots[data as u32 as usize];
        slot.uses = slot.uses.wrapping_add(1);
        self.free.push(data as u32);
        slot.busy.take().map(|busy| (busy.owner, busy.tag))
    }

    pub fn holds(&mut self, data: u64) -> bool {
        self.busy(data).is_some()
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::uring::ring::Completion;

    struct Nobody;
    impl Owner for Nobody {
        fn complete(self: Rc<Self>, _: u32, _: Completion) {}
    }

    #[test]
    fn a_slot_used_again_has_another_name() {
        let mut slab = Slab::default();
        let first = slab.insert(Rc::new(Nobody), 7);
        assert_eq!(slab.complete(first, false).map(|(_, tag)| tag), Some(7));
        assert!(slab.holds(first));
        assert_eq!(slab.complete(first, true).map(|(_, tag)| tag), Some(7));
        assert!(!slab.holds(first));
        let second = slab.insert(Rc::new(Nobody), 8);
        assert_ne!(first, second);
        assert_eq!(slab.len(), 1);
    }
}
