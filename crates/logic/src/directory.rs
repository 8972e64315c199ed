//! Who is where, over all comets: their lives, their sessions, their rooms.
//!
//! What logic knows is in memory, and comes from the comets. A comet renews what it says every few seconds;
//! the answer asks it for its sessions if logic does not know them, as after a start of logic. Sessions of a
//! comet that starts anew, or that is silent for long, are dropped.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use anser_api::comet::Away;
use anser_api::id::{CometName, Generation, Key, Room, Session, UserId};
use anser_api::logic::{Directory, Node, NodeState, Online, Place, Renewal, Renewed, Restore};
use anser_api::{Answer, ready};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::comets::{Comets, Life};
use crate::session::Sessions;
use crate::{Logic, Shared};

/// Entries that are looked at, or keys that are looked for, while others wait for the lock.
const AT_ONCE: usize = 256;

/// Most sessions whose end is remembered while comets tell their sessions.
const ENDED: usize = 100_000;

/// What is behind the one lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) sessions: Sessions,
    pub(crate) comets: Comets,
    /// Sessions that ended before a comet told of them, by key: its word was on the way.
    ended: HashMap<Key, Generation>,
}

impl State {
    pub(crate) fn new() -> Self {
        Self { sessions: Sessions::new(), comets: Comets::default(), ended: HashMap::new() }
    }

    /// Notes who has come to a comet.
    pub(crate) fn enter(&mut self, session: Session, user: Option<UserId>, comet: &CometName) {
        let home = self.comets.home(comet, Instant::now(), &mut self.sessions);
        self.sessions.insert(session, user, home);
    }

    /// Forgets a session.
    pub(crate) fn leave(&mut self, session: &Session) {
        if !self.sessions.remove(session) && self.ended.len() < ENDED && self.comets.is_any_restoring() {
            let ended = self.ended.entry(session.key.clone()).or_insert(session.generation);
            *ended = session.generation.max(*ended);
        }
    }

    fn restore(&mut self, restore: &Restore, sessions: &[(Session, Option<UserId>)]) -> Result<(), Away> {
        let home = self.comets.restoring(&restore.comet, restore.incarnation, Instant::now());
        let home = home.ok_or_else(|| Away("logic does not know this comet: renew first".to_owned()))?;
        for (session, user) in sessions {
            if self.ended.get(&session.key).is_none_or(|ended| *ended < session.generation) {
                self.sessions.restore(session.clone(), *user, home);
            }
        }
        Ok(())
    }

    fn forget_ended(&mut self) {
        if !self.comets.is_any_restoring() {
            self.ended = HashMap::new();
        }
    }
}

impl Shared {
    pub(crate) fn renew(&self, renewal: Renewal) -> Renewed {
        self.bury();
        let Renewal { node, incarnation, connections, addresses, rooms } = renewal;
        let name = node.comet.clone();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let said = NodeState { node, connections, addresses, since };
        let heard = {
            let State { sessions, comets, .. } = &mut *self.state();
            comets.renew(said, incarnation, Instant::now(), sessions)
        };
        if let Some(former) = heard.former {
            let sessions = self.drop_life(&former);
            warn!(comet = %name, sessions, "a comet has started anew: its former sessions are dropped");
        }
        let elsewhere = self.rooms().replace(heard.life, rooms);
        // It may have begun another life meanwhile, whose rooms these are not.
        if !self.state().comets.is_current(&name, heard.life) {
            self.rooms().forget(heard.life);
        }
        self.settle();
        Renewed { restore: heard.restore, elsewhere, traces: self.watch.current() }
    }

    pub(crate) fn restore(&self, restore: &Restore) -> Result<(), Away> {
        // Whoever connects from now on is later than all of these.
        if let Some(last) = restore.sessions.iter().map(|(session, _)| session.generation.0).max() {
            self.generation.fetch_max(last.saturating_add(1), Ordering::Relaxed);
        }
        for sessions in restore.sessions.chunks(AT_ONCE) {
            self.state().restore(restore, sessions)?;
        }
        let mut state = self.state();
        state.restore(restore, &[])?;
        if restore.last {
            state.comets.restored(&restore.comet);
            state.forget_ended();
        }
        drop(state);
        self.settle();
        Ok(())
    }

    /// Drops all that is known of comets that have been silent for long, and takes those for dead that were
    /// expected and have never come.
    pub(crate) fn bury(&self) {
        let (now, silence) = (Instant::now(), self.config.comet_silence.0);
        let dead = match now.checked_sub(silence) {
            Some(limit) => {
                let State { sessions, comets, .. } = &mut *self.state();
                comets.bury(limit, sessions)
            }
            None => Vec::new(),
        };
        for (name, life) in dead {
            let sessions = self.drop_life(&life);
            if life.has_left() && sessions == 0 {
                info!(comet = %name, "a comet has left");
            } else {
                warn!(comet = %name, sessions, ?silence, "a comet is silent: its sessions are dropped");
            }
        }
        if !*self.settled.borrow() && now.saturating_duration_since(self.started) >= silence {
            let missing = self.state().comets.expected().clone();
            if self.settled.send_if_modified(|settled| !std::mem::replace(settled, true)) {
                warn!(?missing, "comets that were expected have not told their sessions: taken for dead");
            }
        }
    }

    /// Removes what a life has left, a little at a time, as others wait for the lock. How many sessions.
    fn drop_life(&self, life: &Life) -> u64 {
        self.rooms().forget(life.number);
        let (mut dropped, mut next) = (0, Some(0));
        while let Some(from) = next {
            let (removed, rest) = self.state().sessions.sweep(life.home, from, AT_ONCE);
            (dropped, next) = (dropped + removed, rest);
        }
        self.state().forget_ended();
        self.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
        dropped
    }

    /// Lets those go on who wait until all comets have told their sessions, once they have.
    fn settle(&self) {
        if !*self.settled.borrow() && self.state().comets.expected().is_empty() {
            self.settled.send_replace(true);
        }
    }

    /// Waits until an absent key is known to be absent, but not for ever.
    pub(crate) async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        let limit = self.started + self.config.settle.0;
        // The sender is in `self`.
        let _ = timeout_at(limit, settled.wait_for(|settled| *settled)).await;
    }

    /// Where keys are, in their order.
    pub(crate) fn locate(&self, keys: &[Key]) -> Vec<Option<CometName>> {
        let mut places = Vec::with_capacity(keys.len());
        for keys in keys.chunks(AT_ONCE) {
            let state = self.state();
            places.extend(keys.iter().map(|key| state.sessions.locate(key).cloned()));
        }
        places
    }
}

impl Logic {
    /// Names the comets that must have told their sessions before a key that is not there is known to be
    /// absent. To be called before any of them is heard of.
    pub fn expect(&self, comets: Vec<CometName>) {
        let mut state = self.shared.state();
        state.comets.expect(comets);
        self.shared.settled.send_replace(state.comets.expected().is_empty());
    }
}

impl Directory for Logic {
    fn locate(&self, keys: Vec<Key>) -> Answer<'_, Result<Vec<Place>, Away>> {
        self.shared.bury();
        // Asked before the keys are looked for: one that comes in between is found.
        let settled = *self.shared.settled.borrow();
        let place = |comet| match comet {
            Some(comet) => Place::At(comet),
            None if settled => Place::Absent,
            None => Place::Unknown,
        };
        ready(Ok(self.shared.locate(&keys).into_iter().map(place).collect()))
    }

    fn online(&self) -> Answer<'_, Online> {
        self.shared.bury();
        let state = self.shared.state();
        let (connections, users) = state.sessions.count();
        ready(Online { connections, users, addresses: state.comets.addresses() })
    }

    fn largest_rooms(&self, kind: String, limit: usize) -> Answer<'_, Vec<(Room, u32)>> {
        self.shared.bury();
        ready(self.shared.rooms().largest(&kind, limit))
    }

    fn members(&self, rooms: Vec<Room>) -> Answer<'_, Vec<u32>> {
        self.shared.bury();
        let known = self.shared.rooms();
        ready(rooms.iter().map(|room| known.members(room)).collect())
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeState>> {
        self.shared.bury();
        ready(self.shared.state().comets.states().cloned().collect())
    }

    fn best_nodes(&self) -> Answer<'_, Vec<Node>> {
        self.shared.bury();
        ready(self.shared.state().comets.best(self.shared.config.region_weight))
    }
}
