//! A table whose names are never given twice: an index and how often it was used before.

/// Values by a 64-bit name.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    /// Stores a value; its name is never zero.
    pub fn insert(&mut self, value: T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.0 = slot.0.wrapping_add(1).max(1);
        slot.1 = Some(value);
        u64::from(slot.0) << 32 | u64::from(index)
    }

    pub fn get(&self, name: u64) -> Option<&T> {
        let (uses, value) = self.slots.get(name as u32 as usize)?;
        value.as_ref().filter(|_| u64::from(*uses) == name >> 32)
    }

    pub fn get_mut(&mut self, name: u64) -> Option<&mut T> {
        let (uses, value) = self.slots.get_mut(name as u32 as usize)?;
        value.as_mut().filter(|_| u64::from(*uses) == name >> 32)
    }

    pub fn remove(&mut self, name: u64) -> Option<T> {
        let value = self.take(name)?;
        self.release(name);
        Some(value)
    }

    /// Removes a value; its index is not used again before [`Slab::release`].
    pub fn take(&mut self, name: u64) -> Option<T> {
        self.get(name)?;
        self.slots.get_mut(name as u32 as usize)?.1.take()
    }

    /// After [`Slab::take`], once.
    pub fn release(&mut self, name: u64) {
        self.free.push(name as u32);
    }

    /// Names and values, in order of their index.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let name = |index: usize, uses: u32| u64::from(uses) << 32 | index as u64;
        self.slots.iter().enumerate().filter_map(move |(i, (uses, v))| Some((name(i, *uses), v.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_good_once() {
        let mut slab = Slab::new();
        let a = slab.insert('a');
        assert_eq!(slab.remove(a), Some('a'));
        let b = slab.insert('b');
        assert_ne!(a, b);
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(b, &'b')]);
        assert_eq!(slab.take(b), Some('b'));
        let c = slab.insert('c');
        assert_ne!(b as u32, c as u32, "not yet released");
        slab.release(b);
        assert_eq!(b as u32, slab.insert('d') as u32);
    }
}
