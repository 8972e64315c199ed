//! A room on one worker: its members there, what waits for them, and the round that writes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::directory::{Share, Shared};
use crate::frame::{Batch, Push};

/// One pass over the members, with everything that waited when it began.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) batch: Batch,
    /// `members[..left]` are still to be served, from the end.
    pub(crate) left: usize,
    /// Deliveries that were counted into the worker's backlog for it.
    pub(crate) counted: u64,
    began: Instant,
}

/// A room on one worker.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) shared: Arc<Shared>,
    /// Slots of the members. A round serves them from the end to the start, so that one who comes is
    /// not in it, and one who goes can be replaced by another of the same side.
    pub(crate) members: Vec<u32>,
    waiting: VecDeque<Arc<Push>>,
    waiting_counted: u64,
    pub(crate) round: Option<Round>,
    /// In the worker's list of work.
    pub(crate) queued: bool,
}

impl Room {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            members: Vec::new(),
            waiting: VecDeque::new(),
            waiting_counted: 0,
            round: None,
            queued: false,
        }
    }

    fn share(&self, worker: usize) -> &Share {
        &self.shared.shares[worker]
    }

    /// Takes a push for the next round; how many deliveries that is.
    pub(crate) fn push(&mut self, push: Arc<Push>) -> u64 {
        let deliveries = self.members.len() as u64;
        self.waiting.push_back(push);
        self.waiting_counted += deliveries;
        deliveries
    }

    /// Begins a round if none is under way and something waits.
    /// `now` in microseconds since the start of the comet.
    pub(crate) fn begin(&mut self, worker: usize, now: u64) -> Option<&mut Round> {
        if self.round.is_none() {
            if self.waiting.is_empty() {
                return None;
            }
            let pushes: Vec<_> = std::mem::take(&mut self.waiting).into();
            let share = self.share(worker);
            release(share, &pushes);
            let expected = u64::from(share.round_micros.load(Ordering::Relaxed));
            share.round_ends.store(now + expected, Ordering::Relaxed);
            self.round = Some(Round {
                batch: Batch::new(pushes),
                left: self.members.len(),
                counted: std::mem::take(&mut self.waiting_counted),
                began: Instant::now(),
            });
        }
        self.round.as_mut()
    }

    /// Ends the round; the deliveries that were counted for it.
    pub(crate) fn end(&mut self, worker: usize) -> u64 {
        let Some(round) = self.round.take() else { return 0 };
        let took = round.began.elapsed().as_micros() as u32;
        self.share(worker).round_micros.store(took, Ordering::Relaxed);
        round.counted
    }

    pub(crate) fn has_work(&self) -> bool {
        self.round.is_some() || !self.waiting.is_empty()
    }

    /// Gives up everything that waits, because nobody is left to get it; what was counted for it.
    pub(crate) fn abandon(&mut self, worker: usize) -> u64 {
        let pushes: Vec<_> = std::mem::take(&mut self.waiting).into();
        release(self.share(worker), &pushes);
        std::mem::take(&mut self.waiting_counted) + self.end(worker)
    }

    /// Deliveries that are still to be made.
    pub(crate) fn undelivered(&self) -> u64 {
        let under_way = self.round.as_ref().map_or(0, |round| round.left * round.batch.pushes.len());
        (under_way + self.waiting.len() * self.members.len()) as u64
    }

    /// Adds a member; its place.
    pub(crate) fn enter(&mut self, slot: u32) -> u32 {
        self.members.push(slot);
        (self.members.len() - 1) as u32
    }

    /// Takes out the member at `at`. Calls `moved` with each member that changed its place, and the
    /// new one.
    pub(crate) fn leave(&mut self, at: u32, mut moved: impl FnMut(u32, u32)) {
        let mut at = at as usize;
        if let Some(round) = &mut self.round
            && at < round.left
        {
            // The last one still to be served takes the place, and leaves its own to the served side.
            round.left -= 1;
            if at != round.left {
                self.members[at] = self.members[round.left];
                moved(self.members[at], at as u32);
            }
            at = round.left;
        }
        self.members.swap_remove(at);
        if let Some(slot) = self.members.get(at) {
            moved(*slot, at as u32);
        }
        if self.members.capacity() > 64 && self.members.len() * 4 < self.members.capacity() {
            self.members.shrink_to(self.members.len() * 2);
        }
    }
}

/// Gives back the places that pushes had reserved in the room's queue.
pub(crate) fn release(share: &Share, pushes: &[Arc<Push>]) {
    let bytes = pushes.iter().map(|push| push.bytes(true).len()).sum();
    share.waiting.fetch_sub(pushes.len(), Ordering::AcqRel);
    share.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use anser_api::comet::{Form, OnOverflow};
    use anser_api::id;
    use proptest::prelude::*;

    use super::*;
    use crate::directory::Directory;

    fn room() -> Room {
        let directory = Directory::new(1, 9);
        Room::new(directory.enter(&id::Room::parse("live://1", 64).unwrap(), 0).unwrap().0)
    }

    #[test]
    fn an_abandoned_room_gives_back_what_waits_and_what_is_under_way() {
        let mut room = room();
        let share = room.shared.clone();
        room.enter(0);
        for begin in [true, false] {
            let push = Push::new(1, Form::Message, b"", OnOverflow::Drop);
            share.shares[0].waiting.fetch_add(1, Ordering::Relaxed);
            share.shares[0].waiting_bytes.fetch_add(push.bytes(true).len(), Ordering::Relaxed);
            room.push(push);
            if begin {
                room.begin(0, 0);
            }
        }
        assert_eq!(room.abandon(0), 2);
        assert!(!room.has_work());
        assert_eq!(share.shares[0].waiting.load(Ordering::Relaxed), 0);
        assert_eq!(share.shares[0].waiting_bytes.load(Ordering::Relaxed), 0);
    }

    proptest! {
        /// Whoever is in the room from the start of a round to its end is served exactly once,
        /// whoever else comes and goes meanwhile, and nobody's place is ever wrong.
        #[test]
        fn a_round_serves_each_member_once(
            start in 0u32..20,
            steps in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 0..60),
        ) {
            let mut room = room();
            let mut places = HashMap::new();
            for slot in 0..start {
                places.insert(slot, room.enter(slot));
            }
            let share = room.shared.clone();
            share.shares[0].waiting.fetch_add(1, Ordering::Relaxed);
            let push = Push::new(1, Form::Message, b"", OnOverflow::Drop);
            share.shares[0].waiting_bytes.fetch_add(push.bytes(true).len(), Ordering::Relaxed);
            room.push(push);
            room.begin(0, 0);
            let mut served = Vec::new();
            let mut gone = Vec::new();
            let mut next = start;
            let serve = |room: &mut Room, served: &mut Vec<u32>| {
                let round = room.round.as_mut().unwrap();
                if round.left > 0 {
                    round.left -= 1;
                    served.push(room.members[round.left]);
                }
            };
            for (step, index) in steps {
                match step {
                    0 => serve(&mut room, &mut served),
                    1 => {
                        places.insert(next, room.enter(next));
                        next += 1;
                    }
                    _ if !room.members.is_empty() => {
                        let slot = room.members[index.index(room.members.len())];
                        let at = places.remove(&slot).unwrap();
                        room.leave(at, |slot, at| { places.insert(slot, at); });
                        gone.push(slot);
                    }
                    _ => {}
                }
                for (slot, at) in &places {
                    prop_assert_eq!(room.members[*at as usize], *slot);
                }
            }
            while room.round.as_ref().unwrap().left > 0 {
                serve(&mut room, &mut served);
            }
            for slot in 0..start {
                let times = served.iter().filter(|served| **served == slot).count();
                prop_assert!(times == 1 || (times == 0 && gone.contains(&slot)), "{} served {} times", slot, times);
            }
            prop_assert!(served.iter().all(|slot| *slot < start));
            prop_assert_eq!(share.shares[0].waiting.load(Ordering::Relaxed), 0);
        }
    }
}
