//! The comets that are there, what each last said, and which of them have told their sessions.

use std::collections::{BTreeMap, BTreeSet};

use anser_api::id::{CometName, Incarnation};
use anser_api::logic::{Node, NodeState};
use tokio::time::Instant;

use crate::balancer::{self, Candidate, REGION};
use crate::session::{Home, Sessions};

/// How far logic knows the sessions of a comet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Only those that have come since logic heard of it.
    SinceHeard,
    /// It has been asked for the others, and has not told the last.
    Asked,
    /// All.
    All,
}

/// One life of a comet.
#[derive(Debug)]
pub(crate) struct Life {
    /// Never given twice.
    pub(crate) number: u64,
    pub(crate) home: Home,
    /// Unknown as long as only clients have come from there.
    incarnation: Option<Incarnation>,
    /// What it last said.
    state: Option<NodeState>,
    /// Clients that were sent there since.
    sent: u64,
    heard: Instant,
    known: Known,
}

impl Life {
    /// It has said that it takes no clients, and has none: it may go without a word.
    pub(crate) fn has_left(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.node.offline && state.connections == 0)
    }
}

/// What follows from a word of a comet.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The number of its life.
    pub(crate) life: u64,
    /// It is to tell its sessions.
    pub(crate) restore: bool,
    /// Its former life, which is over.
    pub(crate) former: Option<Life>,
}

/// All comets, by name.
#[derive(Debug, Default)]
pub(crate) struct Comets {
    lives: BTreeMap<CometName, Life>,
    /// Those that have to tell their sessions before an absent key is known to be absent.
    expected: BTreeSet<CometName>,
    last: u64,
}

impl Comets {
    fn begin(&mut self, name: &CometName, now: Instant, sessions: &mut Sessions) -> &mut Life {
        self.last += 1;
        let number = self.last;
        self.lives.entry(name.clone()).or_insert_with(|| Life {
            number,
            home: sessions.open(name.clone()),
            incarnation: None,
            state: None,
            sent: 0,
            heard: now,
            known: Known::SinceHeard,
        })
    }

    /// Where clients of a comet are, known or not.
    pub(crate) fn home(&mut self, name: &CometName, now: Instant, sessions: &mut Sessions) -> Home {
        let life = match self.lives.get_mut(name) {
            Some(life) => life,
            None => self.begin(name, now, sessions),
        };
        life.heard = now;
        life.home
    }

    /// A comet says how it is.
    pub(crate) fn renew(
        &mut self,
        state: NodeState,
        incarnation: Incarnation,
        now: Instant,
        sessions: &mut Sessions,
    ) -> Heard {
        let name = state.node.comet.clone();
        let is_other = |life: &Life| life.incarnation.is_some_and(|known| known != incarnation);
        let former =
            if self.lives.get(&name).is_some_and(is_other) { self.lives.remove(&name) } else { None };
        if let Some(former) = &former {
            sessions.abandon(former.home);
        }
        let life = match self.lives.get_mut(&name) {
            Some(life) => life,
            None => self.begin(&name, now, sessions),
        };
        life.incarnation = Some(incarnation);
        life.heard = now;
        life.sent = 0;
        if life.known != Known::All {
            life.known = if state.connections == 0 { Known::All } else { Known::Asked };
        }
        life.state = Some(state);
        let (number, restore) = (life.number, life.known == Known::Asked);
        if !restore {
            self.expected.remove(&name);
        }
        Heard { life: number, restore, former }
    }

    /// Where the sessions belong that a comet tells. `None` when it is not the one that was asked.
    pub(crate) fn restoring(
        &mut self,
        name: &CometName,
        incarnation: Incarnation,
        now: Instant,
    ) -> Option<Home> {
        let life = self.lives.get_mut(name).filter(|life| life.incarnation == Some(incarnation))?;
        life.heard = now;
        Some(life.home)
    }

    /// A comet has told its last session.
    pub(crate) fn restored(&mut self, name: &CometName) {
        if let Some(life) = self.lives.get_mut(name) {
            life.known = Known::All;
        }
        self.expected.remove(name);
    }

    /// Whether any comet is about to tell its sessions.
    pub(crate) fn is_any_restoring(&self) -> bool {
        self.lives.values().any(|life| life.known == Known::Asked)
    }

    /// Whether this is what a comet lives now.
    pub(crate) fn is_current(&self, name: &CometName, number: u64) -> bool {
        self.lives.get(name).is_some_and(|life| life.number == number)
    }

    /// Forgets the comets of which nothing has been heard since `limit`.
    pub(crate) fn bury(&mut self, limit: Instant, sessions: &mut Sessions) -> Vec<(CometName, Life)> {
        let silent = self.lives.iter().filter(|(_, life)| life.heard <= limit);
        let silent: Vec<CometName> = silent.map(|(name, _)| name.clone()).collect();
        let dead: Vec<_> =
            silent.into_iter().filter_map(|name| self.lives.remove(&name).map(|life| (name, life))).collect();
        for (_, life) in &dead {
            sessions.abandon(life.home);
        }
        dead
    }

    /// Names comets that are to tell their sessions.
    pub(crate) fn expect(&mut self, names: Vec<CometName>) {
        let known = |name: &CometName| self.lives.get(name).is_some_and(|life| life.known == Known::All);
        self.expected = names.into_iter().filter(|name| !known(name)).collect();
    }

    /// Those of them that have not done so.
    pub(crate) fn expected(&self) -> &BTreeSet<CometName> {
        &self.expected
    }

    pub(crate) fn len(&self) -> usize {
        self.lives.len()
    }

    /// Addresses that clients come from, over all comets.
    pub(crate) fn addresses(&self) -> u64 {
        self.states().map(|state| state.addresses).sum()
    }

    /// What the comets last said, by name.
    pub(crate) fn states(&self) -> impl Iterator<Item = &NodeState> {
        self.lives.values().filter_map(|life| life.state.as_ref())
    }

    /// The comets to which the next client had better go; it counts as a client of the first.
    pub(crate) fn best(&mut self, gain: f64) -> Vec<Node> {
        let mut able: Vec<(&NodeState, &mut u64)> = self
            .lives
            .values_mut()
            .filter_map(|life| {
                Some((life.state.as_ref().filter(|state| !state.node.offline)?, &mut life.sent))
            })
            .collect();
        let candidates: Vec<Candidate<'_>> = able
            .iter()
            .map(|(state, sent)| Candidate {
                weight: state.node.weight,
                connections: state.connections + **sent,
                region: &state.node.region,
            })
            .collect();
        let best = balancer::best(&candidates, REGION, gain);
        if let Some(first) = best.first() {
            *able[*first].1 += 1;
        }
        best.into_iter().map(|at| able[at].0.node.clone()).collect()
    }
}
