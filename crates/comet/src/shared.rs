//! What the acceptor, the workers and the handle of a comet share.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use anser_api::id::{CometName, Incarnation, Key};
use anser_api::logic::Logic;
use anser_api::owner::Owner;
use anser_api::trace::Watch;
use anser_wire::limits::Limits;
use anser_wire::time::Instant;
use tokio::sync::{mpsc, watch};

use crate::admission::Admission;
use crate::config::Config;
use crate::directory::{Directory, Share};
use crate::inbox::{Control, Inbox};
use crate::lanes::Lanes;
use crate::login::Question;
use crate::quiet::Quiet;
use crate::renewal::Renewals;
use crate::stats::Stats;

pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Its name in the cluster.
    pub(crate) name: CometName,
    /// Which life of it this is, by chance.
    pub(crate) incarnation: Incarnation,
    pub(crate) limits: Limits,
    pub(crate) logic: Arc<dyn Logic>,
    /// The owner of pullable data, once there is one.
    pub(crate) owner: OnceLock<Arc<dyn Owner>>,
    pub(crate) inboxes: Box<[Arc<Inbox>]>,
    pub(crate) directory: Directory,
    /// Pushes that come from logs.
    pub(crate) lanes: Lanes,
    pub(crate) renewals: Renewals,
    pub(crate) admission: Admission,
    /// Pushes to everyone that wait, one count for each worker.
    pub(crate) everyone: Box<[Share]>,
    /// Those of them that have a speed limit. They wait until they are done, in places of their own: no
    /// other push is refused for them.
    pub(crate) paced: Box<[Share]>,
    /// Held while a push to everyone is queued, so that all workers get such pushes in one order.
    pub(crate) everyone_order: Mutex<()>,
    pub(crate) stats: Stats,
    /// Who is traced.
    pub(crate) watch: Watch,
    /// Lines about pushes that were refused.
    pub(crate) refusals: Mutex<Quiet>,
    pub(crate) lane: mpsc::Sender<Question>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Bytes that wait for connections, over all workers.
    pub(crate) outbound_bytes: AtomicUsize,
    pub(crate) draining: AtomicBool,
    /// Whether a thread of the edge has panicked.
    pub(crate) failed: watch::Sender<bool>,
    /// No worker runs any more.
    pub(crate) ended: AtomicBool,
    hasher: RandomState,
    origin: std::time::Instant,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        name: CometName,
        logic: Arc<dyn Logic>,
        inboxes: Box<[Arc<Inbox>]>,
        lane: mpsc::Sender<Question>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let limits = Limits {
            body: config.body,
            upgrade: config.upgrade_head,
            handshake: config.handshake_timeout.0,
            unmasked: config.allow_unmasked,
            origins: config.origins(),
            ..Limits::default()
        };
        Self {
            limits,
            name,
            incarnation: Incarnation(RandomState::new().hash_one(SystemTime::now())),
            logic,
            owner: OnceLock::new(),
            lanes: Lanes::default(),
            directory: Directory::new(inboxes.len(), config.most_rooms()),
            renewals: Renewals::default(),
            admission: Admission::new(
                if config.max_connections == 0 { usize::MAX } else { config.max_connections },
                config.max_connections_per_ip,
            ),
            everyone: (0..inboxes.len()).map(|_| Share::default()).collect(),
            paced: (0..inboxes.len()).map(|_| Share::default()).collect(),
            everyone_order: Mutex::default(),
            inboxes,
            stats: Stats::default(),
            watch: Watch::default(),
            refusals: Mutex::default(),
            lane,
            runtime,
            outbound_bytes: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            failed: watch::Sender::new(false),
            ended: AtomicBool::new(false),
            hasher: RandomState::new(),
            origin: std::time::Instant::now(),
            config,
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn now(&self) -> Instant {
        Instant(self.origin.elapsed().as_millis() as u64)
    }

    /// Microseconds since the start.
    pub(crate) fn micros(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    /// A hash that strangers cannot foresee.
    pub(crate) fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The worker that owns the connections of a key.
    pub(crate) fn worker_of(&self, key: &Key) -> usize {
        // The low bits choose the place in that worker's table, so the high ones choose the worker.
        (self.hash(key) >> 32) as usize % self.inboxes.len()
    }

    /// A number for spreading things out, different for each connection and each moment.
    pub(crate) fn random(&self, slot: u32) -> u64 {
        self.hasher.hash_one((slot, self.origin.elapsed().as_nanos()))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Gives up what came for workers after they had ended.
    pub(crate) async fn sweep(&self) {
        while let Some(control) = self.inboxes.iter().find_map(|inbox| inbox.take_control()) {
            match control {
                Control::Accept(accepted) => self.admission.leave(accepted.remote.ip()),
                Control::Attach(attached) => self.admission.leave(attached.remote),
                Control::Adopt(adoption) => {
                    self.admission.leave(adoption.channel.remote);
                    self.logic.disconnect(adoption.connected.session).await;
                }
                Control::LoggedIn { answer: Ok(connected), .. } => {
                    self.logic.disconnect(connected.session).await;
                }
                _ => {}
            }
        }
    }

    /// The worker that has the connection for which most waits, as far as anybody knows.
    pub(crate) fn worst(&self) -> usize {
        let largest = |worker: &usize| self.inboxes[*worker].largest.load(Ordering::Relaxed);
        (0..self.inboxes.len()).max_by_key(largest).unwrap_or(0)
    }

    /// How long until the work that waits on the busiest worker is done, at least a millisecond.
    pub(crate) fn retry_after(&self) -> Duration {
        let micros = self.inboxes.iter().map(|inbox| inbox.backlog_micros()).max().unwrap_or(0);
        Duration::from_micros(micros.clamp(1000, 5_000_000))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
