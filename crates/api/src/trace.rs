//! Who is traced: for a while, roles write a line into the log for each step of one connection, or of all
//! connections of one user.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::id::{Key, UserId};

/// Most that are traced at once: each line about a connection that is traced looks at all of them.
pub const MOST: usize = 64;

/// Longest that one is traced: a trace that somebody forgot ends by itself.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// Whose steps are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// A connection's, also while it is not there.
    Key(Key),
    /// Those of all connections of a user.
    User(UserId),
}

/// Somebody is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Who.
    pub of: Traced,
    /// Until then.
    pub until: SystemTime,
}

/// All who are traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Rises with each change; it begins with the clock, so that a logic that starts anew goes on above.
    pub revision: u64,
    /// Who.
    pub list: Vec<Trace>,
}

/// Who is traced, as a role asks at each step. While nobody is, that is one relaxed load.
#[derive(Debug, Default)]
pub struct Watch {
    on: AtomicBool,
    revision: AtomicU64,
    traces: Mutex<Traces>,
}

impl Watch {
    fn traces(&self) -> MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over who is traced, unless something newer is known.
    pub fn replace(&self, traces: Traces) {
        let mut own = self.traces();
        if traces.revision > own.revision {
            *own = traces;
            own.list.truncate(MOST);
            self.on.store(!own.list.is_empty(), Ordering::Relaxed);
            self.revision.store(own.revision, Ordering::Relaxed);
        }
    }

    /// Has somebody traced until then, in place of an earlier end; not any more if that is over. `None` when
    /// as many are traced as may be.
    pub fn change(&self, of: Traced, until: SystemTime) -> Option<Traces> {
        let mut own = self.traces();
        let now = SystemTime::now();
        let clock = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let mut list = own.list.clone();
        list.retain(|trace| trace.until > now && trace.of != of);
        if until > now {
            if list.len() >= MOST {
                return None;
            }
            list.push(Trace { of, until });
        }
        *own = Traces { revision: clock.max(own.revision + 1), list };
        self.on.store(!own.list.is_empty(), Ordering::Relaxed);
        self.revision.store(own.revision, Ordering::Relaxed);
        Some(own.clone())
    }

    /// Who is traced, as others are to be told.
    pub fn current(&self) -> Traces {
        let list = self.list();
        Traces { revision: self.revision(), list }
    }

    /// Whether anybody may be traced.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Changes with each change of who is traced.
    pub fn revision(&self) -> u64 {
        // Whoever sees it takes the lock for the rest.
        self.revision.load(Ordering::Relaxed)
    }

    /// Whether this connection is traced now.
    pub fn has(&self, key: &Key, user: Option<UserId>) -> bool {
        self.is_on()
            && self.list().iter().any(|trace| match &trace.of {
                Traced::Key(own) => own == key,
                Traced::User(own) => Some(*own) == user,
            })
    }

    /// Who is traced now. With the last of them it is off again.
    pub fn list(&self) -> Vec<Trace> {
        let mut traces = self.traces();
        let now = SystemTime::now();
        traces.list.retain(|trace| trace.until > now);
        if traces.list.is_empty() {
            self.on.store(false, Ordering::Relaxed);
        }
        traces.list.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(name: &str, until: SystemTime) -> Trace {
        Trace { of: Traced::Key(Key::parse(name, 9).unwrap()), until }
    }

    #[test]
    fn the_newest_list_counts_until_its_end() {
        let (watch, soon) = (Watch::default(), SystemTime::now() + LONGEST);
        let (a, b) = (Key::parse("a", 9).unwrap(), Key::parse("b", 9).unwrap());
        let user = Trace { of: Traced::User(UserId(7)), until: soon };
        assert!(!watch.is_on() && !watch.has(&a, None));
        watch.replace(Traces { revision: 5, list: vec![trace("a", soon), user] });
        watch.replace(Traces { revision: 4, list: vec![] });
        assert!(
            watch.is_on() && watch.has(&a, None) && !watch.has(&b, None) && !watch.has(&b, Some(UserId(8)))
        );
        assert!(watch.has(&b, Some(UserId(7))));
        assert_eq!(watch.revision(), 5);
        watch.replace(Traces { revision: 6, list: vec![trace("a", SystemTime::now())] });
        assert!(watch.is_on());
        assert!(!watch.has(&a, None), "it is over");
        assert!(!watch.is_on(), "and costs nothing any more");
    }

    #[test]
    fn so_many_are_traced_and_no_more() {
        let (watch, soon) = (Watch::default(), SystemTime::now() + LONGEST);
        let mut last = 0;
        for user in 1..=MOST as i64 {
            let traces = watch.change(Traced::User(UserId(user)), soon).unwrap();
            assert!(traces.revision > last && traces.list.len() == user as usize);
            last = traces.revision;
        }
        assert_eq!(watch.change(Traced::User(UserId(99)), soon), None);
        assert_eq!(watch.change(Traced::User(UserId(1)), soon).unwrap().list.len(), MOST, "a new end");
        assert_eq!(watch.change(Traced::User(UserId(1)), SystemTime::now()).unwrap().list.len(), MOST - 1);
        watch.change(Traced::User(UserId(99)), soon).unwrap();
        let other = Watch::default();
        other.replace(watch.current());
        assert_eq!(other.current(), watch.current());
    }
}
