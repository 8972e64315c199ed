//! The sessions of goim's comets.
//!
//! goim's `Disconnect` names a key and not which of the connections that had it. A comet of goim ends
//! connections of a key in the order in which they came, so each `Disconnect` is for the oldest that it
//! was given; a late one never ends a session that is newer.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::id::{CometName, Generation, Key, Session, UserId};

/// Most sessions of one key on one comet: the later ones have taken the place of the earlier ones, whose
/// ends are still to come, or were lost.
const OF_A_KEY: usize = 8;

/// A comet that has not been heard of for so long is gone. It calls every ten seconds.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// There are as many sessions, or as many comets, as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What goim's comets have been told of.
#[derive(Debug)]
pub(super) struct Sessions {
    comets: HashMap<CometName, Comet>,
    max_comets: usize,
    most: usize,
    total: usize,
}

#[derive(Debug)]
struct Comet {
    heard: Instant,
    keys: HashMap<Key, VecDeque<(Generation, Option<UserId>)>>,
    sessions: usize,
}

impl Sessions {
    pub(super) fn new(max_comets: usize, most: usize) -> Self {
        Self { comets: HashMap::new(), max_comets, most, total: 0 }
    }

    /// A comet calls. Forgets those that do not any more when there is no room for a new one.
    pub(super) fn hear(&mut self, comet: &CometName, now: Instant) -> Result<(), Full> {
        if let Some(known) = self.comets.get_mut(comet) {
            known.heard = now;
            return Ok(());
        }
        if self.comets.len() >= self.max_comets || self.total >= self.most {
            self.forget_silent(now);
        }
        if self.comets.len() >= self.max_comets {
            return Err(Full);
        }
        self.comets.insert(comet.clone(), Comet { heard: now, keys: HashMap::new(), sessions: 0 });
        Ok(())
    }

    /// Whether there is room for a session more.
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        if self.total >= self.most {
            self.forget_silent(now);
        }
        self.total < self.most
    }

    /// A session begins. Returns one of the same key that is over for sure, as so many came after it.
    pub(super) fn begin(
        &mut self,
        comet: &CometName,
        session: &Session,
        user: Option<UserId>,
    ) -> Option<Session> {
        let known = self.comets.get_mut(comet)?;
        let of_key = known.keys.entry(session.key.clone()).or_default();
        of_key.push_back((session.generation, user));
        if of_key.len() > OF_A_KEY {
            let (generation, _) = of_key.pop_front()?;
            return Some(Session { key: session.key.clone(), generation });
        }
        known.sessions += 1;
        self.total += 1;
        None
    }

    /// The oldest session of a key there ends.
    pub(super) fn end(&mut self, comet: &CometName, key: Key) -> Option<Session> {
        let known = self.comets.get_mut(comet)?;
        let Entry::Occupied(mut of_key) = known.keys.entry(key.clone()) else { return None };
        let (generation, _) = of_key.get_mut().pop_front()?;
        if of_key.get().is_empty() {
            of_key.remove();
        }
        known.sessions -= 1;
        self.total -= 1;
        Some(Session { key, generation })
    }

    /// How many there are on a comet.
    pub(super) fn count(&self, comet: &CometName) -> usize {
        self.comets.get(comet).map_or(0, |known| known.sessions)
    }

    /// The newest session of each key on a comet, for a logic that has lost them.
    pub(super) fn all(&self, comet: &CometName) -> Vec<(Session, Option<UserId>)> {
        let keys = self.comets.get(comet).into_iter().flat_map(|known| &known.keys);
        let newest = keys.filter_map(|(key, of_key)| {
            let (generation, user) = *of_key.back()?;
            Some((Session { key: key.clone(), generation }, user))
        });
        newest.collect()
    }

    fn forget_silent(&mut self, now: Instant) {
        self.comets.retain(|_, comet| now.saturating_duration_since(comet.heard) < SILENCE);
        self.total = self.comets.values().map(|comet| comet.sessions).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> CometName {
        CometName::parse(name, 64).unwrap()
    }

    fn session(key: &str, generation: u64) -> Session {
        Session { key: Key::parse(key, 64).unwrap(), generation: Generation(generation) }
    }

    fn with(max_comets: usize, most: usize, comets: &[&str], now: Instant) -> Sessions {
        let mut sessions = Sessions::new(max_comets, most);
        for comet in comets {
            sessions.hear(&name(comet), now).unwrap();
        }
        sessions
    }

    #[test]
    fn a_late_end_is_that_of_the_oldest() {
        let mut sessions = with(8, 8, &["a", "b"], Instant::now());
        for (comet, generation) in [("a", 1), ("a", 2), ("b", 3)] {
            assert_eq!(sessions.begin(&name(comet), &session("k", generation), Some(UserId(7))), None);
        }
        assert_eq!((sessions.count(&name("a")), sessions.count(&name("b"))), (2, 1));
        assert_eq!(sessions.all(&name("a")), [(session("k", 2), Some(UserId(7)))]);
        let key = session("k", 0).key;
        assert_eq!(sessions.end(&name("a"), key.clone()), Some(session("k", 1)));
        assert_eq!(sessions.end(&name("a"), key.clone()), Some(session("k", 2)));
        assert_eq!(sessions.end(&name("a"), key.clone()), None);
        assert_eq!(sessions.end(&name("c"), key.clone()), None);
        assert_eq!(sessions.end(&name("b"), key), Some(session("k", 3)));
        assert_eq!((sessions.total, sessions.comets[&name("a")].keys.len()), (0, 0));
    }

    #[test]
    fn a_key_has_only_so_many() {
        let mut sessions = with(8, 100, &["a"], Instant::now());
        for generation in 0..OF_A_KEY as u64 {
            assert_eq!(sessions.begin(&name("a"), &session("k", generation), None), None);
        }
        for over in 0..3 {
            let next = session("k", 100 + over);
            assert_eq!(sessions.begin(&name("a"), &next, None), Some(session("k", over)));
            assert_eq!(sessions.total, OF_A_KEY);
        }
    }

    #[test]
    fn comets_that_are_gone_make_room() {
        let start = Instant::now();
        let mut sessions = with(2, 2, &["a", "b"], start);
        sessions.begin(&name("a"), &session("k", 1), None);
        sessions.begin(&name("b"), &session("l", 2), None);
        assert_eq!(sessions.hear(&name("c"), start), Err(Full));
        assert!(!sessions.has_room(start));
        let later = start + SILENCE;
        sessions.hear(&name("b"), later).unwrap();
        assert!(sessions.has_room(later));
        assert_eq!((sessions.count(&name("a")), sessions.count(&name("b"))), (0, 1));
        sessions.hear(&name("c"), later).unwrap();
        assert_eq!(sessions.hear(&name("a"), later), Err(Full));
    }
}
