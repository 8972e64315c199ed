//! What waits for keys to come back: pushes for keys on a comet that died or is away.
//!
//! As long as a key has something here, what comes for it later waits behind that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use anser_api::id::{CometName, Incarnation, Key, Position};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lane::Item;

/// A push for one key.
#[derive(Debug)]
pub(crate) struct Stray {
    pub(crate) item: Item,
    pub(crate) until: Instant,
    /// The lane that it was in, and the life of the comet there, if that may have taken it.
    pub(crate) origin: Option<(usize, Incarnation)>,
}

/// Pushes by key, in order.
#[derive(Debug, Default)]
pub(crate) struct Returning {
    by_key: HashMap<Key, VecDeque<Stray>>,
    /// The keys, to be looked for in turn.
    turn: VecDeque<Key>,
    /// Where they were at the last look.
    seen: HashMap<Key, CometName>,
    count: usize,
    /// Rung when something begins to wait, whoever brought it.
    pub(crate) bell: Arc<Notify>,
}

impl Returning {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// Until when a push waits for a key, if it does.
    pub(crate) fn until(&self, position: Position, key: &Key) -> Option<Instant> {
        let mut strays = self.by_key.get(key)?.iter();
        strays.find(|stray| stray.item.message.position == position).map(|stray| stray.until)
    }

    pub(crate) fn push(&mut self, key: Key, stray: Stray) {
        self.count += 1;
        let strays = self.by_key.entry(key.clone()).or_default();
        if strays.is_empty() {
            self.turn.push_back(key);
        }
        strays.push_back(stray);
        self.bell.notify_one();
    }

    /// All that waits for a key.
    pub(crate) fn take(&mut self, key: &Key) -> VecDeque<Stray> {
        self.seen.remove(key);
        let strays = self.by_key.remove(key).unwrap_or_default();
        self.count -= strays.len();
        strays
    }

    /// A key is there; whether it was at the last look. Logic knows of a client before its comet has let it
    /// in, and what came there meanwhile would not find it.
    pub(crate) fn is_settled(&mut self, key: &Key, comet: &CometName) -> bool {
        self.has(key) && self.seen.insert(key.clone(), comet.clone()).as_ref() == Some(comet)
    }

    /// The next keys to look for.
    pub(crate) fn next(&mut self, most: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        for _ in 0..self.turn.len() {
            if keys.len() >= most {
                break;
            }
            let Some(key) = self.turn.pop_front() else { break };
            if self.by_key.contains_key(&key) {
                keys.push(key.clone());
                self.turn.push_back(key);
            }
        }
        keys
    }

    /// Keys that have something of this lane first.
    pub(crate) fn of_lane(&self, lane: usize) -> Vec<Key> {
        let own = |strays: &VecDeque<Stray>| {
            strays.front().is_some_and(|stray| stray.origin.is_some_and(|(own, _)| own == lane))
        };
        self.by_key.iter().filter(|(_, strays)| own(strays)).map(|(key, _)| key.clone()).collect()
    }

    /// Takes out what has waited for too long, or has expired.
    pub(crate) fn overdue(&mut self) -> Vec<Stray> {
        let now = Instant::now();
        let mut gone = Vec::new();
        let is_over = |stray: &Stray| stray.until <= now || stray.item.message.has_expired();
        self.by_key.retain(|_, strays| {
            if !strays.iter().any(is_over) {
                return true;
            }
            let mut kept = VecDeque::with_capacity(strays.len());
            for stray in strays.drain(..) {
                if is_over(&stray) {
                    gone.push(stray);
                } else {
                    kept.push_back(stray);
                }
            }
            *strays = kept;
            !strays.is_empty()
        });
        if !gone.is_empty() {
            self.seen.retain(|key, _| self.by_key.contains_key(key));
        }
        self.count -= gone.len();
        gone
    }
}
