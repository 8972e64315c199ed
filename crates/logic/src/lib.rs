//! Logic: who is where, and may they; and the push API behind every surface.
//!
//! [`auth`] finds out who a client is; [`token`] reads goim's authentication JSON. [`session`] remembers who
//! is connected (in memory, each with a generation), [`comets`] which comets are there, [`rooms`] how many
//! members rooms have, and [`directory`] keeps the three together. [`balancer`] says where the next client
//! had better go, and [`mod@push`] finds the way of a push, [`operator`]
//! answers what operators ask. [`Logic`] puts all of it behind the contracts of
//! `anser_api::logic`.

pub mod auth;
mod balancer;
mod comets;
mod config;
mod directory;
mod metrics;
mod operator;
mod push;
mod rooms;
mod session;
#[cfg(test)]
mod tests;
mod token;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anser_api::comet::Away;
use anser_api::id::{CometName, Generation, Key, Room, Session};
use anser_api::job::Job;
use anser_api::logic::{Connect, Connected, Received, Refused, Renewal, Renewed, Restore};
use anser_api::trace::Watch;
use anser_api::{Answer, ready};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use auth::Claims;
pub use auth::{AuthError, Authenticator};
pub use config::{Absence, Auth, Config};
use directory::State;
use metrics::Counts;
pub use metrics::METRICS;
use rooms::Rooms;

/// Logic with its sessions in memory.
pub struct Logic {
    shared: Arc<Shared>,
    job: OnceLock<Arc<dyn Job>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    config: Config,
    /// Longest name of a room, in bytes.
    room_name: usize,
    pub(crate) auth: Authenticator,
    /// One short lock: a session comes or goes, a comet says something, or a push asks where a key or a
    /// user is. Pushes to rooms and everyone do not come here.
    state: Mutex<State>,
    /// A lock of its own, as a comet may name many rooms.
    rooms: Mutex<Rooms>,
    /// The generation of the next connection. Starts with the clock, so that it is above those of an
    /// earlier life of logic.
    generation: AtomicU64,
    counts: Counts,
    started: Instant,
    /// Whether a key that is not there is absent.
    settled: watch::Sender<bool>,
    /// Who is traced.
    pub(crate) watch: Watch,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the session of a client that may come in.
    fn admit(&self, claims: Claims, comet: &CometName) -> Result<Connected, Refused> {
        let key = if claims.key.is_empty() {
            let mut buffer = Uuid::encode_buffer();
            Key::parse(Uuid::new_v4().hyphenated().encode_lower(&mut buffer), usize::MAX)?
        } else {
            Key::parse(&claims.key, self.config.key)?
        };
        let room = match &claims.room_id[..] {
            "" => None,
            name => Some(Room::parse(name, self.room_name)?),
        };
        if claims.anser && room.as_ref().is_some_and(|room| !room.is_pushable()) {
            return Err(Refused::BadToken("room_id must be type://id, such as live://1".to_owned()));
        }
        let user = claims.user;
        // Taken under the lock, so that the order of generations is the order in which sessions replace
        // each other.
        let mut state = self.state();
        if !claims.key_is_bound
            && let Some(owner) = state.sessions.owner_of(&key)
            && Some(owner) != user
        {
            drop(state);
            self.trace_refusal(&key, user, "another user has this key");
            return Err(self.auth.key_is_taken());
        }
        let generation = Generation(self.generation.fetch_add(1, Ordering::Relaxed));
        let session = Session { key, generation };
        state.enter(session.clone(), user, comet);
        drop(state);
        Ok(Connected {
            session,
            user,
            room,
            accepts: claims.accepts,
            idle: self.config.heartbeat.0 * self.config.heartbeat_max,
            anser: claims.anser,
            tell_dropped: claims.dropped,
        })
    }
}

impl Logic {
    /// `room_name` is the longest name of a room that the edge takes, in bytes; `auth` finds out who
    /// clients are.
    pub fn new(config: Config, room_name: usize, auth: Authenticator) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shared = Shared {
            config,
            room_name,
            auth,
            state: Mutex::new(State::new()),
            rooms: Mutex::default(),
            generation: AtomicU64::new(now.as_micros() as u64),
            counts: Counts::default(),
            started: Instant::now(),
            settled: watch::Sender::new(true),
            watch: Watch::default(),
        };
        Self { shared: Arc::new(shared), job: OnceLock::new() }
    }

    /// Names the job that pushes go to; only the first call counts. Before it there are no pushes.
    pub fn set_job(&self, job: Arc<dyn Job>) {
        let _ = self.job.set(job);
    }

    /// Puts logic's metrics into a registry, under `anser_logic_`.
    pub fn register(&self, registry: &mut Registry) {
        metrics::register(Arc::downgrade(&self.shared), registry);
    }
}

impl anser_api::logic::Logic for Logic {
    fn connect(&self, request: Connect) -> Answer<'static, Result<Connected, Refused>> {
        let shared = self.shared.clone();
        let claims = shared.auth.authenticate(&request);
        Box::pin(async move { shared.admit(claims.await?, &request.comet) })
    }

    fn disconnect(&self, session: Session) -> Answer<'static, ()> {
        self.shared.state().leave(&session);
        ready(())
    }

    fn receive(&self, packet: Received) -> Answer<'static, ()> {
        tracing::debug!(key = %packet.session.key, op = packet.op, bytes = packet.body.len(), "received");
        let counts = &self.shared.counts;
        counts.received.fetch_add(1, Ordering::Relaxed);
        counts.received_bytes.fetch_add(packet.body.len() as u64, Ordering::Relaxed);
        ready(())
    }

    fn renew(&self, renewal: Renewal) -> Answer<'_, Result<Renewed, Away>> {
        ready(Ok(self.shared.renew(renewal)))
    }

    fn restore(&self, restore: Restore) -> Answer<'_, Result<(), Away>> {
        ready(self.shared.restore(&restore))
    }
}
