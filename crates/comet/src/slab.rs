//! Slots with generations: a place is reused, a token is not.

use mio::Token;

/// Names one connection of one worker for as long as that worker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Handle {
    pub(crate) fn token(self) -> Token {
        Token((self.generation as usize) << 32 | self.slot as usize)
    }

    pub(crate) fn from_token(token: Token) -> Self {
        Self { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values at stable places.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Handle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.value = Some(value);
        Handle { slot, generation: place.generation }
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let place = self.slots.get_mut(slot as usize)?;
        let value = place.value.take()?;
        // One generation is kept back: with all bits set and the last slot it would be mio's own.
        place.generation = (place.generation + 1) & 0x7fff_ffff;
        self.free.push(slot);
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.value.as_mut()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.value.as_ref()
    }

    /// The slot, if it still holds the same connection.
    pub(crate) fn resolve(&self, handle: Handle) -> Option<u32> {
        let place = self.slots.get(handle.slot as usize)?;
        (place.generation == handle.generation && place.value.is_some()).then_some(handle.slot)
    }

    /// The handle of what is in `slot` now.
    pub(crate) fn handle(&self, slot: u32) -> Handle {
        debug_assert!(self.get(slot).is_some(), "nobody has slot {slot}");
        Handle { slot, generation: self.slots[slot as usize].generation }
    }

    /// One past the highest slot in use so far.
    pub(crate) fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The slots in use.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, place)| Some((slot as u32, place.value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_slot_has_a_new_handle() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(Handle::from_token(first.token()), first);
        assert_eq!(slab.remove(first.slot), Some('a'));
        assert_eq!(slab.remove(first.slot), None);
        let second = slab.insert('b');
        assert_eq!(second.slot, first.slot);
        assert_eq!(slab.resolve(first), None);
        assert_eq!(slab.resolve(second), Some(second.slot));
        assert_eq!(slab.len(), 1);
    }
}
