//! What a server has promised over all its lives, and whether it keeps it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::look::Record;

/// For whom a push is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum To {
    Key(&'static str),
    Room,
    All,
}

impl To {
    /// Whether `anser log` says the same.
    fn is(&self, told: &Value) -> bool {
        match self {
            Self::Key(key) => told["devices"][0]["key"] == *key || told["absent"][0] == *key,
            Self::Room => told["room"] == super::ROOM,
            Self::All => told["all"]["speed"] == 0,
        }
    }
}

/// A push that was tried. Its body names it.
#[derive(Clone, Debug)]
pub(super) struct Push {
    pub(super) to: To,
    pub(super) caller: usize,
    pub(super) body: String,
    /// Its idempotency key.
    pub(super) key: Option<String>,
}

/// What a push was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// With 200, and its position; whether as a repetition.
    Taken(u64, bool),
    /// That nobody has it.
    Refused,
    /// Not at all, or that it may be taken.
    Unknown,
}

/// Everything that is known, of all lives.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Old segments are removed.
    trims: bool,
    /// By their bodies.
    pushes: HashMap<String, Push>,
    /// Must be in the log: what was answered, and what a later life has found and taken for durable.
    promised: BTreeMap<u64, String>,
    /// Every position that was seen, in an answer or in a log that was not durable, with its body.
    given: BTreeMap<u64, String>,
    refused: HashSet<String>,
    unanswered: HashSet<String>,
    delivered: HashSet<String>,
    /// Positions that were there when a life began. What is for a room or all is over then.
    found: BTreeSet<u64>,
    /// All positions of this life are above.
    floor: u64,
    /// The last position that each caller was answered in this life.
    last: HashMap<usize, u64>,
}

impl Promises {
    /// Nothing has been promised yet.
    pub(super) fn new(trims: bool) -> Self {
        Self { trims, ..Self::default() }
    }

    /// A push is about to be tried.
    pub(super) fn tried(&mut self, push: &Push) {
        self.pushes.insert(push.body.clone(), push.clone());
        self.unanswered.insert(push.body.clone());
    }

    /// A push was answered. Those of one caller come here in their order.
    pub(super) fn answered(&mut self, push: &Push, answered: Answered) -> Result<(), String> {
        let Push { body, caller, .. } = push;
        match answered {
            Answered::Unknown => return Ok(()),
            Answered::Refused => {
                self.refused.insert(body.clone());
            }
            Answered::Taken(position, repeated) => {
                self.give(position, body)?;
                self.promised.insert(position, body.clone());
                if !repeated {
                    self.above(position)?;
                    let last = self.last.insert(*caller, position);
                    if last.is_some_and(|last| last >= position) {
                        return Err(format!("caller {caller} got {position} after {last:?}"));
                    }
                }
            }
        }
        self.unanswered.remove(body);
        Ok(())
    }

    fn give(&mut self, position: u64, body: &str) -> Result<(), String> {
        let before = self.given.entry(position).or_insert_with(|| body.to_owned());
        if before == body {
            return Ok(());
        }
        Err(format!("position {position} was given twice: to {} and to {}", name(before), name(body)))
    }

    fn above(&self, position: u64) -> Result<(), String> {
        if position > self.floor {
            return Ok(());
        }
        Err(format!("{position} may have been given before: {} were", self.floor))
    }

    /// A key, or a member of the room, has got this.
    pub(super) fn delivered(&mut self, bodies: impl IntoIterator<Item = String>) {
        self.delivered.extend(bodies);
    }

    /// The push with this body.
    pub(super) fn push(&self, body: &str) -> Option<&Push> {
        self.pushes.get(body)
    }

    /// The process has gone, and left this log. Nothing of it need be durable.
    pub(super) fn killed(&mut self, records: &[Record]) -> Result<(), String> {
        for Record { position, body, .. } in records {
            if !self.given.contains_key(position) {
                self.above(*position)?;
            }
            self.give(*position, body)?;
        }
        self.check(records)?;
        // What was delivered had a position, though nobody was told which.
        let unseen = self.unanswered.intersection(&self.delivered).map(|body| body.len() as u64);
        let unseen: u64 = unseen.sum();
        self.floor = self.given.keys().next_back().copied().unwrap_or(0).max(self.floor) + unseen;
        self.last.clear();
        Ok(())
    }

    /// A life has begun on this log, and is up: it takes all for durable that it has found.
    pub(super) fn found(&mut self, records: &[Record]) {
        for Record { position, body, .. } in records {
            self.promised.insert(*position, body.clone());
            self.found.insert(*position);
        }
    }

    /// Whether a log holds what was promised.
    pub(super) fn check(&self, records: &[Record]) -> Result<(), String> {
        if !records.is_sorted_by(|one, other| one.position < other.position) {
            return Err("the log is out of order".to_owned());
        }
        let mut bodies = HashSet::new();
        let mut orders: HashMap<(usize, &str), u64> = HashMap::new();
        for Record { position, body, to } in records {
            let Some(push) = self.pushes.get(body) else {
                return Err(format!("{position} is no push of ours: {}", name(body)));
            };
            if !push.to.is(to) {
                return Err(format!("{position} is for {to} and not for {:?}", push.to));
            }
            if !bodies.insert(body) {
                return Err(format!("{} is there twice", name(body)));
            }
            if self.refused.contains(body) {
                return Err(format!("{} was refused, and is in the log", name(body)));
            }
            if self.given.get(position).is_some_and(|before| before != body) {
                return Err(format!("{position} is another push than before"));
            }
            // Repetitions in a later life have their first place, or a new one.
            if push.key.is_none() {
                let (life, number) = place(body);
                let before = orders.insert((push.caller, life), number);
                if before.is_some_and(|before| before >= number) {
                    return Err(format!("{} is behind {before:?} of its caller", name(body)));
                }
            }
        }
        let there: BTreeMap<u64, &str> = records.iter().map(|at| (at.position, &*at.body)).collect();
        let lost = self.promised.iter().find(|(position, body)| {
            there.get(position) != Some(&&***body) && !self.may_be_gone(**position, body)
        });
        match lost {
            None => Ok(()),
            Some((position, body)) => {
                let push = &self.pushes[body];
                Err(format!("{} at {position} for {:?} is lost", name(body), push.to))
            }
        }
    }

    /// Whether a push that is not in the log any more need not be.
    pub(super) fn may_be_gone(&self, position: u64, body: &str) -> bool {
        self.trims && self.is_done(position, body)
    }

    fn is_done(&self, position: u64, body: &str) -> bool {
        self.delivered.contains(body)
            || (!matches!(self.pushes[body].to, To::Key(_)) && self.found.contains(&position))
    }

    /// Pushes with idempotency keys: those that are in this log with their positions, and the others that
    /// were never answered.
    pub(super) fn repeatable(&self, records: &[Record]) -> Vec<(Push, Option<u64>)> {
        let there = records.iter().filter_map(|record| {
            let push = self.pushes.get(&record.body).filter(|push| push.key.is_some())?;
            Some((push.clone(), Some(record.position)))
        });
        let lost = self.unanswered.iter().filter_map(|body| {
            let push = self.pushes.get(body).filter(|push| push.key.is_some())?;
            let lost = records.iter().all(|record| record.body != *body);
            lost.then(|| (push.clone(), None))
        });
        there.chain(lost).collect()
    }

    /// Promised to a key, and not delivered, in the order of the log.
    pub(super) fn pending(&self, key: &str) -> Vec<String> {
        let own = |body: &&String| {
            matches!(self.pushes[*body].to, To::Key(own) if own == key) && !self.delivered.contains(*body)
        };
        self.promised.values().filter(own).cloned().collect()
    }
}

/// The life and the number in a body, which begins with `life.caller.number:`.
pub(super) fn place(body: &str) -> (&str, u64) {
    let mut parts = name(body).split('.');
    let (life, number) = (parts.next().unwrap_or_default(), parts.next_back().unwrap_or_default());
    (life, number.parse().unwrap_or(u64::MAX))
}

/// The part of a body that names it.
pub(super) fn name(body: &str) -> &str {
    body.split(':').next().unwrap_or_default()
}
