//! Who is connected: by key, and by user.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use anser_api::id::{Key, Session, UserId};
use anser_api::logic::Online;
use hashbrown::HashTable;

/// No entry.
const NONE: u32 = u32::MAX;

/// One session, and its neighbours among those of the same user.
#[derive(Debug)]
struct Entry {
    session: Session,
    user: Option<UserId>,
    previous: u32,
    next: u32,
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
    hasher: RandomState,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            by_user: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    fn entry(&self, at: u32) -> Option<&Entry> {
        self.entries.get(at as usize)?.as_ref()
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let same = |at: &u32| self.entry(*at).is_some_and(|entry| entry.session.key == *key);
        self.by_key.find(self.hasher.hash_one(key), same).copied()
    }

    fn first_of(&self, user: UserId) -> Option<u32> {
        let same = |at: &u32| self.entry(*at).is_some_and(|entry| entry.user == Some(user));
        self.by_user.find(self.hasher.hash_one(user), same).copied()
    }

    /// Adds a session, in place of an earlier one of the same key.
    pub(crate) fn insert(&mut self, session: Session, user: Option<UserId>) {
        if let Some(at) = self.find(&session.key) {
            self.take(at);
        }
        let key_hash = self.hasher.hash_one(&session.key);
        let next = user.and_then(|user| self.first_of(user)).unwrap_or(NONE);
        let at = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        self.entries[at as usize] = Some(Entry { session, user, previous: NONE, next });
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

    /// Takes a session away, unless a later one of the same key has its place.
    pub(crate) fn remove(&mut self, session: &Session) {
        if let Some(at) = self.find(&session.key)
            && self.entry(at).is_some_and(|entry| entry.session.generation == session.generation)
        {
            self.take(at);
        }
    }

    fn take(&mut self, at: u32) {
        let Some(entry) = self.entries[at as usize].take() else { return };
        self.free.push(at);
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

    /// The connections of a user, the newest first.
    pub(crate) fn keys_of(&self, user: UserId) -> impl Iterator<Item = Key> {
        let first = self.first_of(user).and_then(|at| self.entry(at));
        std::iter::successors(first, |entry| self.entry(entry.next)).map(|entry| entry.session.key.clone())
    }

    pub(crate) fn online(&self) -> Online {
        Online { connections: self.by_key.len() as u64, users: self.by_user.len() as u64, addresses: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anser_api::id::Generation;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The same as a map from key to session, whatever comes and goes in whatever order.
        #[test]
        fn behaves_like_a_map(
            steps in prop::collection::vec((any::<bool>(), 0u8..8, 0i64..4, 0u64..3), 0..120),
        ) {
            let mut sessions = Sessions::new();
            let mut model: BTreeMap<String, (Session, Option<UserId>)> = BTreeMap::new();
            for (generation, (insert, key, user, back)) in (1u64..).zip(steps) {
                let name = key.to_string();
                let key = Key::parse(&name, 8).unwrap();
                if insert {
                    let session = Session { key, generation: Generation(generation) };
                    let user = UserId::parse(user);
                    sessions.insert(session.clone(), user);
                    model.insert(name, (session, user));
                } else if let Some((session, _)) = model.get(&name).cloned() {
                    // Sometimes the session that is there, sometimes one that was there before.
                    let generation = Generation(session.generation.0.saturating_sub(back));
                    sessions.remove(&Session { key, generation });
                    if generation == session.generation {
                        model.remove(&name);
                    }
                }
                let users: std::collections::BTreeSet<_> = model.values().filter_map(|(_, user)| *user).collect();
                let expected = Online { connections: model.len() as u64, users: users.len() as u64, addresses: 0 };
                prop_assert_eq!(sessions.online(), expected);
                for key in 0..8 {
                    let name = key.to_string();
                    let owner = sessions.owner_of(&Key::parse(&name, 8).unwrap());
                    prop_assert_eq!(owner, model.get(&name).and_then(|(_, user)| *user));
                }
                for user in 1..4 {
                    let user = UserId(user);
                    let mut got: Vec<_> = sessions.keys_of(user).map(|key| key.to_string()).collect();
                    got.sort();
                    let expected: Vec<_> = model
                        .iter()
                        .filter(|(_, (_, of))| *of == Some(user))
                        .map(|(key, _)| key.clone())
                        .collect();
                    prop_assert_eq!(got, expected);
                }
            }
        }
    }
}
