//! Which rooms exist, and how many members each has on each worker.
//!
//! Members themselves belong to the workers. What is shared is a counter for each worker, so that a
//! push finds out without a message which workers have anybody, and a heartbeat how many are in the
//! room. The lock is taken when a member comes or goes, or a push names a room; never for a delivery.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anser_api::id::Room;

const SHARDS: usize = 64;

/// What the members of a room on one worker look like from outside.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Members on that worker.
    pub(crate) members: AtomicU32,
    /// The worker's own index of the room, meaningful while it has members. Only that worker uses it.
    pub(crate) index: AtomicU32,
    /// Pushes that were taken and have not begun to be written.
    pub(crate) waiting: AtomicUsize,
    /// Bytes of those.
    pub(crate) waiting_bytes: AtomicUsize,
    /// How long the last round over the members took, in microseconds.
    pub(crate) round_micros: AtomicU32,
    /// When the round that is under way is expected to end, in microseconds since the start of the comet.
    pub(crate) round_ends: AtomicU64,
}

/// A room, as all workers see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Room,
    /// One for each worker.
    pub(crate) shares: Box<[Share]>,
    /// Members on other comets, as logic last said. Those keep no room alive here.
    pub(crate) elsewhere: AtomicU32,
    /// Held while a push is queued, so that all workers get the room's pushes in one order.
    pub(crate) order: Mutex<()>,
}

impl Shared {
    /// Members here.
    fn members(&self) -> u32 {
        self.shares.iter().map(|share| share.members.load(Ordering::Acquire)).sum()
    }

    /// Members on all comets.
    pub(crate) fn online(&self) -> u32 {
        self.members().saturating_add(self.elsewhere.load(Ordering::Relaxed))
    }
}

type Shard = HashMap<Room, Arc<Shared>>;

/// All rooms with members.
#[derive(Debug)]
pub(crate) struct Directory {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    workers: usize,
    /// How many there are, and may be.
    rooms: AtomicUsize,
    max_rooms: usize,
}

impl Directory {
    pub(crate) fn new(workers: usize, max_rooms: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), workers, rooms: AtomicUsize::new(0), max_rooms }
    }

    fn shard(&self, room: &Room) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(room) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The room, if it has members.
    pub(crate) fn find(&self, room: &Room) -> Option<Arc<Shared>> {
        self.shard(room).get(room).cloned()
    }

    /// Counts one more member on `worker`, and says whether it is the first there; makes the room if it
    /// is the first of all. `None` when there are as many rooms as allowed, and this one is not among them.
    pub(crate) fn enter(&self, room: &Room, worker: usize) -> Option<(Arc<Shared>, bool)> {
        let mut shard = self.shard(room);
        let shared = match shard.entry(room.clone()) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                if self.rooms.fetch_add(1, Ordering::Relaxed) >= self.max_rooms {
                    self.rooms.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                let shares = (0..self.workers).map(|_| Share::default()).collect();
                let shared = Arc::new(Shared {
                    name: room.clone(),
                    shares,
                    elsewhere: AtomicU32::new(0),
                    order: Mutex::default(),
                });
                entry.insert(shared).clone()
            }
        };
        let first = shared.shares[worker].members.fetch_add(1, Ordering::AcqRel) == 0;
        Some((shared, first))
    }

    /// Counts one member less on `worker`, and forgets the room with its last member. Both happen
    /// under the lock under which members are counted in, so nobody can enter a room that is gone.
    pub(crate) fn leave(&self, room: &Arc<Shared>, worker: usize) {
        let mut shard = self.shard(&room.name);
        room.shares[worker].members.fetch_sub(1, Ordering::AcqRel);
        if room.members() == 0 {
            shard.remove(&room.name);
            self.rooms.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// All rooms with their members here. Each lock is held for one part of them.
    pub(crate) fn list(&self) -> Vec<(Room, u32)> {
        let mut rooms = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.extend(shard.values().map(|room| (room.name.clone(), room.members())));
        }
        rooms
    }

    /// How many rooms have members.
    pub(crate) fn len(&self) -> usize {
        self.rooms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_lives_as_long_as_its_members() {
        let directory = Directory::new(2, 9);
        let name = Room::parse("live://1", 64).unwrap();
        assert!(directory.find(&name).is_none());
        let (room, first) = directory.enter(&name, 0).unwrap();
        assert!(first);
        assert!(Arc::ptr_eq(&room, &directory.enter(&name, 1).unwrap().0));
        assert_eq!(room.online(), 2);
        directory.leave(&room, 0);
        assert_eq!(directory.find(&name).unwrap().online(), 1);
        directory.leave(&room, 1);
        assert!(directory.find(&name).is_none());
        assert_eq!(directory.len(), 0);
        assert!(!Arc::ptr_eq(&room, &directory.enter(&name, 1).unwrap().0));
    }

    #[test]
    fn rooms_are_bounded_in_number() {
        let directory = Directory::new(1, 2);
        let enter = |name| directory.enter(&Room::parse(name, 64).unwrap(), 0);
        let (first, _) = enter("a").unwrap();
        enter("b").unwrap();
        assert!(enter("c").is_none());
        enter("a").unwrap();
        assert_eq!(directory.len(), 2);
        directory.leave(&first, 0);
        assert!(enter("c").is_none());
        directory.leave(&first, 0);
        assert!(enter("c").is_some());
    }
}
