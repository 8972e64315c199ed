//! How many members rooms have, by what comets say.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anser_api::id::Room;

/// What one comet says.
#[derive(Debug, Default)]
struct Said {
    /// Members of a room, and the round in which that was said last.
    rooms: HashMap<Room, (u32, u64)>,
    round: u64,
}

/// Rooms with members. A comet is named by its life, see [`crate::comets`].
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    by_life: HashMap<u64, Said>,
    /// Over all comets.
    all: HashMap<Room, u64>,
}

impl Rooms {
    /// Takes the rooms of a comet in place of all that it said before: a room that it does not name any more
    /// is empty there. Gives those that have members on other comets, and how many.
    pub(crate) fn replace(&mut self, life: u64, rooms: Vec<(Room, u32)>) -> Vec<(Room, u32)> {
        let mut said = self.by_life.remove(&life).unwrap_or_default();
        said.round += 1;
        let round = said.round;
        for (room, members) in rooms.into_iter().filter(|(_, members)| *members > 0) {
            let (before, _) = said.rooms.insert(room.clone(), (members, round)).unwrap_or_default();
            // Mostly nothing has changed.
            if before != members {
                self.change(room, before, members);
            }
        }
        let gone = said.rooms.extract_if(|_, (_, last)| *last != round);
        for (room, (members, _)) in gone {
            self.change(room, members, 0);
        }
        let mut elsewhere = Vec::new();
        if !self.by_life.is_empty() {
            for (room, (own, _)) in &said.rooms {
                let others = self.all.get(room).copied().unwrap_or_default() - u64::from(*own);
                if others > 0 {
                    elsewhere.push((room.clone(), clip(others)));
                }
            }
        }
        if !said.rooms.is_empty() {
            self.by_life.insert(life, said);
        }
        elsewhere
    }

    /// Forgets what a comet said.
    pub(crate) fn forget(&mut self, life: u64) {
        for (room, (members, _)) in self.by_life.remove(&life).unwrap_or_default().rooms {
            self.change(room, members, 0);
        }
    }

    /// One comet says another number than before.
    fn change(&mut self, room: Room, before: u32, now: u32) {
        let mut all = match self.all.entry(room) {
            Entry::Occupied(all) => all,
            Entry::Vacant(all) => all.insert_entry(0),
        };
        *all.get_mut() = *all.get() + u64::from(now) - u64::from(before);
        if *all.get() == 0 {
            all.remove();
        }
    }

    pub(crate) fn members(&self, room: &Room) -> u32 {
        clip(self.all.get(room).copied().unwrap_or_default())
    }

    /// The largest rooms whose names begin with `kind`, at most `limit`; equal ones by name.
    pub(crate) fn largest(&self, kind: &str, limit: usize) -> Vec<(Room, u32)> {
        let named = self.all.iter().filter(|(room, _)| room.as_str().starts_with(kind));
        let mut named: Vec<(&Room, u64)> = named.map(|(room, members)| (room, *members)).collect();
        let order = |(a, m): &(&Room, u64), (b, n): &(&Room, u64)| n.cmp(m).then_with(|| a.cmp(b));
        if limit < named.len() {
            named.select_nth_unstable_by(limit, order);
            named.truncate(limit);
        }
        named.sort_unstable_by(order);
        named.into_iter().map(|(room, members)| (room.clone(), clip(members))).collect()
    }
}

/// Counts travel in 32 bits.
fn clip(members: u64) -> u32 {
    members.try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn room(name: &str) -> Room {
        Room::parse(name, 64).unwrap()
    }

    fn named(rows: &[(&str, u32)]) -> Vec<(Room, u32)> {
        rows.iter().map(|(name, members)| (room(name), *members)).collect()
    }

    /// goim's W25 keeps rooms that have emptied, and W26 sends every room of the cluster to every comet.
    #[test]
    fn w25_w26_only_what_is_there_and_only_what_concerns() {
        let mut rooms = Rooms::default();
        assert_eq!(rooms.replace(1, named(&[("a", 3), ("b", 1), ("c", 0)])), []);
        assert_eq!(rooms.replace(2, named(&[("b", 2), ("d", 9)])), named(&[("b", 1)]));
        assert_eq!(rooms.replace(3, named(&[("b", 4)])), named(&[("b", 3)]));
        assert_eq!(rooms.members(&room("b")), 7);
        assert_eq!(rooms.replace(1, named(&[("b", 5)])), named(&[("b", 6)]));
        assert_eq!(rooms.members(&room("a")), 0, "nobody names it any more");
        assert_eq!(rooms.largest("", 9), named(&[("b", 11), ("d", 9)]));
        rooms.forget(2);
        assert_eq!(rooms.largest("", 9), named(&[("b", 9)]));
        assert_eq!(rooms.replace(3, Vec::new()), []);
        rooms.forget(1);
        assert_eq!((rooms.all.len(), rooms.by_life.len()), (0, 0));
    }

    #[test]
    fn the_largest_by_the_beginning_of_their_names() {
        let mut rooms = Rooms::default();
        rooms.replace(
            1,
            named(&[("live://1", 5), ("live://2", 7), ("line://1", 6), ("chat://1", 9), ("live://0", 5)]),
        );
        let names = |kind: &str, limit| -> Vec<String> {
            rooms.largest(kind, limit).into_iter().map(|(room, _)| room.to_string()).collect()
        };
        assert_eq!(names("live", 9), ["live://2", "live://0", "live://1"]);
        assert_eq!(names("li", 2), ["live://2", "line://1"]);
        assert_eq!(names("", 1), ["chat://1"]);
        assert!(names("x", 9).is_empty() && names("", 0).is_empty());
    }

    proptest! {
        /// Sums are those of what each comet said last.
        #[test]
        fn sums_are_of_what_was_last_said(
            steps in prop::collection::vec((0u64..3, prop::collection::btree_map("[a-d]", 0u32..4, 0..5)), 0..30),
        ) {
            let mut rooms = Rooms::default();
            let mut model: BTreeMap<u64, BTreeMap<String, u32>> = BTreeMap::new();
            for (life, said) in steps {
                let others = |name: &str, model: &BTreeMap<u64, BTreeMap<String, u32>>| -> u32 {
                    model.iter().filter(|(of, _)| **of != life).filter_map(|(_, said)| said.get(name)).sum()
                };
                let list = said.iter().map(|(name, members)| (room(name), *members)).collect();
                let mut got = rooms.replace(life, list);
                got.sort();
                let expected: Vec<(Room, u32)> = said
                    .iter()
                    .filter(|(name, members)| **members > 0 && others(name, &model) > 0)
                    .map(|(name, _)| (room(name), others(name, &model)))
                    .collect();
                prop_assert_eq!(got, expected);
                model.insert(life, said);
                for name in ["a", "b", "c", "d"] {
                    let expected: u32 = model.values().filter_map(|said| said.get(name)).sum();
                    prop_assert_eq!(rooms.members(&room(name)), expected);
                }
            }
        }
    }
}
