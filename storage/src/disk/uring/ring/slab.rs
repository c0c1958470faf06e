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
    /// For the second entry of a link: the first one's user data.
    after: Option<u64>,
    /// For the first entry of a link: its number among all entries ever placed.
    head: Option<u64>,
    cut: bool,
}

/// What a completion belongs to.
pub(super) struct Owned {
    pub owner: Rc<dyn Owner>,
    pub tag: u32,
    /// The entry was torn from the one it was linked to.
    pub cut: bool,
}

impl Slab {
    /// Takes an owner in; answers its user data. `after`: the user data of the entry it is linked to.
    pub fn insert(&mut self, owner: Rc<dyn Owner>, tag: u32, after: Option<u64>) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { uses: 0, busy: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.busy.is_none(), "a free slot holds nothing");
        slot.busy = Some(Busy { owner, tag, after, head: None, cut: false });
        let data = u64::from(slot.uses) << 32 | u64::from(index);
        assert!(data != IGNORED, "the ignored user data is never given out");
        data
    }

    fn busy(&mut self, data: u64) -> Option<&mut Busy> {
        let slot = self.slots.get_mut(data as u32 as usize)?;
        if u64::from(slot.uses) != data >> 32 { None } else { slot.busy.as_mut() }
    }

    /// The owner of a completion; the last one frees the slot. None for ignored entries.
    pub fn complete(&mut self, data: u64, last: bool) -> Option<Owned> {
        if data == IGNORED {
            return None;
        }
        let busy = self.busy(data).expect("the kernel completes only what is in flight");
        let owned = Owned { owner: busy.owner.clone(), tag: busy.tag, cut: busy.cut };
        if last {
            let slot = &mut self.slots[data as u32 as usize];
            slot.busy = None;
            slot.uses = slot.uses.wrapping_add(1);
            self.free.push(data as u32);
        }
        Some(owned)
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

    /// Remembers the number of a link's first entry.
    pub fn note_head(&mut self, data: u64, number: u64) {
        if let Some(busy) = self.busy(data) {
            busy.head = Some(number);
        }
    }

    /// The kernel stopped before entry `next`: if that is the second of a link whose first it took, the link is torn.
    pub fn cut_link(&mut self, next: u64) {
        let heads: Vec<u64> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.busy.as_ref().is_some_and(|busy| busy.head.is_some_and(|head| head + 1 == next)))
            .map(|(index, slot)| u64::from(slot.uses) << 32 | index as u64)
            .collect();
        for slot in &mut self.slots {
            if let Some(busy) = slot.busy.as_mut()
                && busy.after.is_some_and(|after| heads.contains(&after))
            {
                busy.cut = true;
            }
        }
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
        let first = slab.insert(Rc::new(Nobody), 7, None);
        assert_eq!(slab.complete(first, false).map(|owned| owned.tag), Some(7));
        assert!(slab.holds(first));
        assert_eq!(slab.complete(first, true).map(|owned| owned.tag), Some(7));
        assert!(!slab.holds(first));
        let second = slab.insert(Rc::new(Nobody), 8, None);
        assert_ne!(first, second);
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_torn_link_is_told_from_a_whole_one() {
        let mut slab = Slab::default();
        for (head, torn) in [(10, false), (20, true)] {
            let one = slab.insert(Rc::new(Nobody), 0, None);
            let two = slab.insert(Rc::new(Nobody), 1, Some(one));
            slab.note_head(one, head);
            slab.cut_link(21);
            assert!(!slab.complete(one, true).expect("in flight").cut);
            assert_eq!(slab.complete(two, true).expect("in flight").cut, torn);
        }
        assert!(slab.is_empty());
    }
}
