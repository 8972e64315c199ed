//! Who is connected, and on which comet: by key, and by user.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use anser_api::id::{CometName, Key, Session, UserId};
use hashbrown::HashTable;

/// No entry.
const NONE: u32 = u32::MAX;

/// One life of a comet, as its sessions name it. A comet that starts anew has another one, so that what is
/// left of the former can be told apart, and be removed little by little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(u32);

/// The comet behind a [`Home`].
#[derive(Debug)]
struct Place {
    comet: CometName,
    /// Its sessions count no more, and are about to be removed.
    over: bool,
    sessions: usize,
}

/// One session, and its neighbours among those of the same user.
#[derive(Debug)]
struct Entry {
    session: Session,
    user: Option<UserId>,
    previous: u32,
    next: u32,
    home: Home,
}

/// All sessions. Entries lie in one vector; the tables hold indices, so that a session costs its entry,
/// its key and some 15 bytes.
#[derive(Debug)]
pub(crate) struct Sessions {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
    /// The first session of each user.
    by_user: HashTable<u32>,
    places: Vec<Option<Place>>,
    hasher: RandomState,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            by_user: HashTable::new(),
            places: Vec::new(),
            hasher: RandomState::new(),
        }
    }

    fn entry(&self, at: u32) -> Option<&Entry> {
        self.entries.get(at as usize)?.as_ref()
    }

    fn place(&mut self, home: Home) -> Option<&mut Place> {
        self.places.get_mut(home.0 as usize)?.as_mut()
    }

    /// The comet of an entry, unless that life of it is over.
    fn comet(&self, entry: &Entry) -> Option<&CometName> {
        let place = self.places.get(entry.home.0 as usize)?.as_ref()?;
        (!place.over).then_some(&place.comet)
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let same = |at: &u32| self.entry(*at).is_some_and(|entry| entry.session.key == *key);
        self.by_key.find(self.hasher.hash_one(key), same).copied()
    }

    fn first_of(&self, user: UserId) -> Option<u32> {
        let same = |at: &u32| self.entry(*at).is_some_and(|entry| entry.user == Some(user));
        self.by_user.find(self.hasher.hash_one(user), same).copied()
    }

    /// Makes a home for the sessions of a comet that has just been heard of.
    pub(crate) fn open(&mut self, comet: CometName) -> Home {
        let place = Some(Place { comet, over: false, sessions: 0 });
        let at = self.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[at] = place;
        Home(at as u32)
    }

    /// From now on the sessions there count no more. They are removed by [`Self::sweep`].
    pub(crate) fn abandon(&mut self, home: Home) {
        if let Some(place) = self.place(home) {
            place.over = true;
        }
    }

    /// Removes sessions of an abandoned home, looking at `most` entries from `from` on. Gives how many there
    /// were and where to go on; when nowhere, the home is gone, and its number free.
    pub(crate) fn sweep(&mut self, home: Home, from: usize, most: usize) -> (u64, Option<usize>) {
        let end = self.entries.len().min(from.saturating_add(most));
        let mut removed = 0;
        for at in from..end {
            if self.entries[at].as_ref().is_some_and(|entry| entry.home == home) {
                self.take(at as u32);
                removed += 1;
            }
        }
        // Nobody comes to an abandoned home, so nothing is left behind `from`.
        if end < self.entries.len() && self.place(home).is_some_and(|place| place.sessions > 0) {
            return (removed, Some(end));
        }
        self.places[home.0 as usize] = None;
        (removed, None)
    }

    /// Adds a session, in place of an earlier one of the same key, wherever that is.
    pub(crate) fn insert(&mut self, session: Session, user: Option<UserId>, home: Home) {
        if let Some(at) = self.find(&session.key) {
            self.take(at);
        }
        if let Some(place) = self.place(home) {
            place.sessions += 1;
        }
        let key_hash = self.hasher.hash_one(&session.key);
        let next = user.and_then(|user| self.first_of(user)).unwrap_or(NONE);
        let at = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        self.entries[at as usize] = Some(Entry { session, user, previous: NONE, next, home });
        if let Some(Some(next)) = self.entries.get_mut(next as usize) {
            next.previous = at;
        }
        let Self { entries, by_key, by_user, hasher, .. } = self;
        let get = |at: &u32| entries.get(*at as usize).and_then(Option::as_ref);
        by_key
            .insert_unique(key_hash, at, |at| get(at).map_or(0, |entry| hasher.hash_one(&entry.session.key)));
        if let Some(user) = user {
            let hash = hasher.hash_one(user);
            match by_user.find_mut(hash, |first| *first == next) {
                Some(first) if next != NONE => *first = at,
                _ => {
                    by_user.insert_unique(hash, at, |at| {
                        get(at).and_then(|entry| entry.user).map_or(0, |user| hasher.hash_one(user))
                    });
                }
            }
        }
    }

    /// Adds a session that a comet says it has, unless the one that is there for its key is as new.
    pub(crate) fn restore(&mut self, session: Session, user: Option<UserId>, home: Home) -> bool {
        let there = self.find(&session.key).and_then(|at| self.entry(at));
        let newer = there.is_some_and(|there| {
            there.session.generation >= session.generation && self.comet(there).is_some()
        });
        if !newer {
            self.insert(session, user, home);
        }
        !newer
    }

    /// Takes a session away, unless a later one of the same key has its place. Whether it was there.
    pub(crate) fn remove(&mut self, session: &Session) -> bool {
        let at = self.find(&session.key);
        let same =
            |at: &u32| self.entry(*at).is_some_and(|entry| entry.session.generation == session.generation);
        let at = at.filter(same);
        if let Some(at) = at {
            self.take(at);
        }
        at.is_some()
    }

    fn take(&mut self, at: u32) {
        let Some(entry) = self.entries[at as usize].take() else { return };
        self.free.push(at);
        if let Some(place) = self.place(entry.home) {
            place.sessions -= 1;
        }
        let hash = self.hasher.hash_one(&entry.session.key);
        if let Ok(place) = self.by_key.find_entry(hash, |other| *other == at) {
            place.remove();
        }
        if let Some(Some(next)) = self.entries.get_mut(entry.next as usize) {
            next.previous = entry.previous;
        }
        if let Some(Some(previous)) = self.entries.get_mut(entry.previous as usize) {
            previous.next = entry.next;
        } else if let Some(user) = entry.user
            && let Ok(mut place) = self.by_user.find_entry(self.hasher.hash_one(user), |first| *first == at)
        {
            if entry.next == NONE {
                place.remove();
            } else {
                *place.get_mut() = entry.next;
            }
        }
    }

    /// The user who has a key, if somebody has it who is one.
    pub(crate) fn owner_of(&self, key: &Key) -> Option<UserId> {
        self.entry(self.find(key)?)?.user
    }

    /// The comet that a key is connected to.
    pub(crate) fn locate(&self, key: &Key) -> Option<&CometName> {
        self.comet(self.entry(self.find(key)?)?)
    }

    /// The connections of a user with their comets, the newest first.
    pub(crate) fn keys_of(&self, user: UserId) -> impl Iterator<Item = (Key, CometName)> {
        let first = self.first_of(user).and_then(|at| self.entry(at));
        std::iter::successors(first, |entry| self.entry(entry.next))
            .filter_map(|entry| Some((entry.session.key.clone(), self.comet(entry)?.clone())))
    }

    /// How many sessions there are, and how many users with one.
    pub(crate) fn count(&self) -> (u64, u64) {
        (self.by_key.len() as u64, self.by_user.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use anser_api::id::Generation;
    use proptest::prelude::*;

    use super::*;

    /// What the comet costs in each session.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Option<Entry>>() <= 56, "{}", size_of::<Option<Entry>>());
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A client comes to a comet.
        Connect { key: u8, user: i64, comet: usize },
        /// A connection is told over: the one that is there, or one that was there so much earlier.
        Close { key: u8, back: u64 },
        /// A comet says that it has a session, so much older or newer than the next.
        Restore { key: u8, user: i64, comet: usize, back: u64 },
        /// A comet starts anew, or is dead; its sessions go in pieces of this size, after `later` more steps.
        End { comet: usize, piece: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u8..8, 0i64..4, 0usize..3).prop_map(|(key, user, comet)| Step::Connect { key, user, comet }),
            2 => (0u8..8, 0u64..3).prop_map(|(key, back)| Step::Close { key, back }),
            2 => (0u8..8, 0i64..4, 0usize..3, 0u64..20)
                .prop_map(|(key, user, comet, back)| Step::Restore { key, user, comet, back }),
            1 => (0usize..3, 1usize..4).prop_map(|(comet, piece)| Step::End { comet, piece }),
        ];
        prop::collection::vec(step, 0..150)
    }

    fn comet(at: usize) -> CometName {
        CometName::parse(&format!("comet-{at}"), 64).unwrap()
    }

    fn key(name: u8) -> Key {
        Key::parse(&name.to_string(), 8).unwrap()
    }

    proptest! {
        /// The same as a map from key to session, whatever comes and goes in whatever order, on whatever
        /// comet.
        #[test]
        fn behaves_like_a_map(steps in steps()) {
            let mut sessions = Sessions::new();
            let mut homes: Vec<Home> = (0..3).map(|at| sessions.open(comet(at))).collect();
            let mut model: BTreeMap<Key, (Session, Option<UserId>, usize)> = BTreeMap::new();
            // Homes whose sessions have not all been removed, and where to go on.
            let mut sweeps: Vec<(Home, usize, usize)> = Vec::new();
            for (generation, step) in (100u64..).zip(steps) {
                match step {
                    Step::Connect { key: name, user, comet } => {
                        let session = Session { key: key(name), generation: Generation(generation) };
                        let user = UserId::parse(user);
                        sessions.insert(session.clone(), user, homes[comet]);
                        model.insert(key(name), (session, user, comet));
                    }
                    Step::Close { key: name, back } => {
                        let Some((session, ..)) = model.get(&key(name)).cloned() else { continue };
                        let generation = Generation(session.generation.0 - back);
                        let was_there = sessions.remove(&Session { key: key(name), generation });
                        prop_assert_eq!(was_there, back == 0);
                        if back == 0 {
                            model.remove(&key(name));
                        }
                    }
                    Step::Restore { key: name, user, comet, back } => {
                        let session = Session { key: key(name), generation: Generation(generation - back) };
                        let user = UserId::parse(user);
                        let newer = model
                            .get(&key(name))
                            .is_some_and(|(there, ..)| there.generation >= session.generation);
                        prop_assert_eq!(sessions.restore(session.clone(), user, homes[comet]), !newer);
                        if !newer {
                            model.insert(key(name), (session, user, comet));
                        }
                    }
                    Step::End { comet: at, piece } => {
                        sessions.abandon(homes[at]);
                        sweeps.push((homes[at], 0, piece));
                        homes[at] = sessions.open(comet(at));
                        model.retain(|_, (_, _, on)| *on != at);
                    }
                }
                for at in 0..8 {
                    let expected = model.get(&key(at)).map(|(_, _, on)| comet(*on));
                    prop_assert_eq!(sessions.locate(&key(at)), expected.as_ref());
                }
                for user in (1..4).map(UserId) {
                    let mut got: Vec<_> = sessions.keys_of(user).collect();
                    got.sort();
                    let own = model.iter().filter(|(_, (_, of, _))| *of == Some(user));
                    let expected: Vec<_> = own.map(|(key, (_, _, on))| (key.clone(), comet(*on))).collect();
                    prop_assert_eq!(got, expected);
                }
                // One piece of one former life goes with each step.
                if let Some((home, from, piece)) = sweeps.pop()
                    && let (_, Some(next)) = sessions.sweep(home, from, piece)
                {
                    sweeps.insert(0, (home, next, piece));
                }
            }
            while let Some((home, from, piece)) = sweeps.pop() {
                if let (_, Some(next)) = sessions.sweep(home, from, piece) {
                    sweeps.push((home, next, piece));
                }
            }
            let users: BTreeSet<_> = model.values().filter_map(|(_, user, _)| *user).collect();
            prop_assert_eq!(sessions.count(), (model.len() as u64, users.len() as u64));
        }
    }

    /// goim's W3: the late close of a connection takes the route of the one that came after it, and the user
    /// is unreachable for half an hour.
    #[test]
    fn w3_a_stale_close_on_one_comet_leaves_the_new_route() {
        let mut sessions = Sessions::new();
        let home = sessions.open(comet(0));
        let [old, new] = [1, 2].map(|generation| Session { key: key(7), generation: Generation(generation) });
        sessions.insert(old.clone(), None, home);
        sessions.insert(new.clone(), None, home);
        assert!(!sessions.remove(&old));
        assert_eq!(sessions.locate(&key(7)), Some(&comet(0)));
        assert!(sessions.remove(&new));
        assert_eq!(sessions.locate(&key(7)), None);
    }

    /// The same when the newer connection is on another comet: goim does not look at which comet closes.
    #[test]
    fn w3_a_stale_close_on_another_comet_leaves_the_new_route() {
        let mut sessions = Sessions::new();
        let homes = [0, 1].map(|at| sessions.open(comet(at)));
        let [old, new] = [1, 2].map(|generation| Session { key: key(7), generation: Generation(generation) });
        let user = Some(UserId(9));
        sessions.insert(old.clone(), user, homes[0]);
        sessions.insert(new, user, homes[1]);
        assert!(!sessions.remove(&old));
        assert_eq!(sessions.locate(&key(7)), Some(&comet(1)));
        assert_eq!(sessions.keys_of(UserId(9)).collect::<Vec<_>>(), [(key(7), comet(1))]);
        // Nor does the end of that comet.
        sessions.abandon(homes[0]);
        assert_eq!(sessions.sweep(homes[0], 0, 10), (0, None));
        assert_eq!(sessions.locate(&key(7)), Some(&comet(1)));
    }
}
