//! Doubly linked lists through a slab: slots by number, links beside them, no allocation to move one.
//!
//! A slot is in at most one list of a [`Links`] at a time; the caller knows in which.

/// No slot.
const NONE: u32 = u32::MAX;

/// The links of all slots.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// The ends of one list.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE }
    }
}

impl List {
    /// The slot that was put in first.
    pub(super) fn head(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
}

impl Links {
    /// Makes room for one more slot than there are. Slots are numbered in this order.
    pub(super) fn add_slot(&mut self) {
        self.0.push(Link { prev: NONE, next: NONE });
    }

    /// Puts a slot that is in no list at the end of this one.
    pub(super) fn push_back(&mut self, list: &mut List, at: u32) {
        let prev = list.tail;
        self.set(at, Link { prev, next: NONE });
        match self.get_mut(prev) {
            Some(link) => link.next = at,
            None => list.head = at,
        }
        list.tail = at;
    }

    /// Takes a slot out of its list.
    pub(super) fn remove(&mut self, list: &mut List, at: u32) {
        let Some(&mut Link { prev, next }) = self.get_mut(at) else { return };
        match self.get_mut(prev) {
            Some(link) => link.next = next,
            None => list.head = next,
        }
        match self.get_mut(next) {
            Some(link) => link.prev = prev,
            None => list.tail = prev,
        }
    }

    /// Puts a slot of this list at its end.
    #[inline]
    pub(super) fn move_to_back(&mut self, list: &mut List, at: u32) {
        if list.tail != at {
            self.remove(list, at);
            self.push_back(list, at);
        }
    }

    #[inline]
    fn get_mut(&mut self, at: u32) -> Option<&mut Link> {
        // NONE is beyond any slot.
        self.0.get_mut(at as usize)
    }

    fn set(&mut self, at: u32, link: Link) {
        if let Some(slot) = self.get_mut(at) {
            *slot = link;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_queue_that_can_be_left_anywhere(
            actions in prop::collection::vec((0..8_u32, any::<bool>()), 0..200),
        ) {
            let (mut links, mut list, mut model) = (Links::default(), List::default(), Vec::new());
            (0..8).for_each(|_| links.add_slot());
            for (at, touch) in actions {
                let present = model.contains(&at);
                model.retain(|&other| other != at);
                match (present, touch) {
                    (false, _) => links.push_back(&mut list, at),
                    (true, true) => links.move_to_back(&mut list, at),
                    (true, false) => links.remove(&mut list, at),
                }
                if touch || !present {
                    model.push(at);
                }
                let (mut forward, mut backward) = (Vec::new(), Vec::new());
                let (mut head, mut tail) = (list.head, list.tail);
                while let Some(&Link { next, .. }) = links.0.get(head as usize) {
                    forward.push(head);
                    head = next;
                }
                while let Some(&Link { prev, .. }) = links.0.get(tail as usize) {
                    backward.insert(0, tail);
                    tail = prev;
                }
                prop_assert_eq!(&forward, &model);
                prop_assert_eq!(&backward, &model);
                prop_assert_eq!(list.head(), model.first().copied());
            }
        }
    }
}
