//! Telling logic that this comet is there, how it is, and, when logic asks, who is connected.
//!
//! One task renews every `comet.renew`, and at once at the start: nobody is let in before logic has heard of
//! this life of the comet, as logic then drops what it knows of the former one. It holds the comet weakly,
//! and ends with it; every call that it makes has a limit.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use anser_api::Answer;
use anser_api::comet::Away;
use anser_api::id::{Room, Session, UserId};
use anser_api::logic::{Connect, Connected, Node, Refused, Renewal, Restore};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::directory;
use crate::inbox::Control;
use crate::shared::Shared;

/// Sessions that are told at once.
pub(crate) const PAGE: usize = 1000;

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(5);

/// When to try again what has failed, unless the next renewal comes earlier.
const AGAIN: Duration = Duration::from_secs(1);

/// Some sessions of a worker, and the slot at which to go on, if there may be more.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) sessions: Vec<(Session, Option<UserId>)>,
    pub(crate) next: Option<u32>,
}

/// What the task and the comet tell each other.
#[derive(Debug)]
pub(crate) struct Renewals {
    /// Whether logic has heard of this life of the comet.
    known: watch::Sender<bool>,
    /// Whether the comet drains. The task ends when this is gone.
    drains: watch::Sender<bool>,
    /// Held while logic is told something, so that it hears things in their order. The last word has been
    /// said when it holds true.
    said_last: Mutex<bool>,
}

impl Default for Renewals {
    fn default() -> Self {
        Self {
            known: watch::Sender::new(false),
            drains: watch::Sender::new(false),
            said_last: Mutex::default(),
        }
    }
}

impl Renewals {
    /// The comet drains: logic is told at once.
    pub(crate) fn drain(&self) {
        self.drains.send_replace(true);
    }
}

/// Starts the task. In one process logic answers at once, and has then heard of this comet when this returns.
pub(crate) fn start(shared: &Arc<Shared>) {
    let _inside = shared.runtime.enter();
    let mut task = Box::pin(run(Arc::downgrade(shared), shared.renewals.drains.subscribe()));
    let mut first = Context::from_waker(Waker::noop());
    if task.as_mut().poll(&mut first).is_pending() {
        shared.runtime.spawn(task);
    }
}

async fn run(shared: Weak<Shared>, mut drains: watch::Receiver<bool>) {
    let mut task = Task { rooms: Vec::new(), failing: false };
    while let Some(shared) = shared.upgrade() {
        let Some(result) = task.renew(&shared).await else { return };
        let renew = shared.config.renew.0;
        drop(shared);
        let wait = if task.has_failed(result) { renew.min(AGAIN) } else { renew };
        if let Ok(Err(_)) = timeout(wait, drains.changed()).await {
            return;
        }
    }
}

struct Task {
    /// Rooms that have members on other comets, as far as they are still here.
    rooms: Vec<Weak<directory::Shared>>,
    failing: bool,
}

impl Task {
    /// Tells logic how the comet is, and does what it asks for. `None` when the last word has been said.
    async fn renew(&mut self, shared: &Arc<Shared>) -> Option<Result<(), Away>> {
        let said_last = shared.renewals.said_last.lock().await;
        if *said_last {
            return None;
        }
        let renewed = match call(shared.logic.renew(renewal(shared))).await {
            Ok(renewed) => renewed,
            Err(away) => return Some(Err(away)),
        };
        shared.renewals.known.send_if_modified(|known| !std::mem::replace(known, true));
        self.apply(shared, &renewed.elsewhere);
        shared.watch.replace(renewed.traces);
        Some(if renewed.restore { restore(shared).await } else { Ok(()) })
    }

    /// Takes over how many members rooms have on other comets.
    fn apply(&mut self, shared: &Shared, elsewhere: &[(Room, u32)]) {
        let named: HashSet<&Room> = elsewhere.iter().map(|(room, _)| room).collect();
        for room in self.rooms.drain(..).filter_map(|room| room.upgrade()) {
            if !named.contains(&room.name) {
                room.elsewhere.store(0, Ordering::Relaxed);
            }
        }
        for (room, members) in elsewhere {
            if let Some(room) = shared.directory.find(room) {
                room.elsewhere.store(*members, Ordering::Relaxed);
                self.rooms.push(Arc::downgrade(&room));
            }
        }
    }

    /// Says once that it does not work, and once that it works again.
    fn has_failed(&mut self, result: Result<(), Away>) -> bool {
        let was_failing = std::mem::replace(&mut self.failing, result.is_err());
        match result {
            Err(away) if !was_failing => {
                warn!(cause = %away, "cannot tell logic how this comet is; trying again");
            }
            Ok(()) if was_failing => info!("logic has been told how this comet is"),
            _ => {}
        }
        self.failing
    }
}

/// What the comet says of itself.
fn renewal(shared: &Shared) -> Renewal {
    let config = &shared.config;
    Renewal {
        node: Node {
            comet: shared.name.clone(),
            addresses: config.public.clone(),
            region: config.region.clone(),
            zone: config.zone.clone(),
            weight: config.weight,
            offline: config.offline || shared.is_draining(),
            grpc: String::new(),
        },
        incarnation: shared.incarnation,
        connections: shared.stats.online(),
        addresses: shared.admission.addresses() as u64,
        rooms: shared.directory.list(),
    }
}

/// Says that nobody is here any more. All workers must have ended.
pub(crate) async fn say_last(shared: &Shared) {
    let last = async {
        let mut said_last = shared.renewals.said_last.lock().await;
        if *said_last {
            return Ok(());
        }
        *said_last = true;
        let last = Renewal { connections: 0, addresses: 0, rooms: Vec::new(), ..renewal(shared) };
        shared.logic.renew(last).await.map(drop)
    };
    if let Err(away) = call(Box::pin(last)).await {
        warn!(cause = %away, "cannot tell logic that this comet is over");
    }
}

/// Asks logic whether a client may come in, as soon as it has heard of this comet.
pub(crate) fn connect(shared: &Arc<Shared>, request: Connect) -> Answer<'static, Result<Connected, Refused>> {
    if *shared.renewals.known.borrow() {
        return shared.logic.connect(request);
    }
    let shared = shared.clone();
    Box::pin(async move {
        let mut known = shared.renewals.known.subscribe();
        let known = timeout(shared.config.handshake_timeout.0, known.wait_for(|known| *known)).await.is_ok();
        if !known {
            return Err(Refused::Unavailable("logic has not heard of this comet yet".into()));
        }
        shared.logic.connect(request).await
    })
}

/// Tells all sessions, page by page.
async fn restore(shared: &Arc<Shared>) -> Result<(), Away> {
    let (mut sessions, mut pages) = (0, 0);
    for worker in 0..shared.inboxes.len() {
        let mut from = Some(0);
        while let Some(slot) = from {
            let page = sessions_of(shared, worker, slot).await?;
            from = page.next;
            let last = from.is_none() && worker + 1 == shared.inboxes.len();
            if page.sessions.is_empty() && !last {
                continue;
            }
            (sessions, pages) = (sessions + page.sessions.len(), pages + 1);
            let (comet, incarnation) = (shared.name.clone(), shared.incarnation);
            call(shared.logic.restore(Restore { comet, incarnation, sessions: page.sessions, last })).await?;
        }
    }
    info!(sessions, pages, "logic has been told who is connected");
    Ok(())
}

/// Asks a worker for some of its sessions.
async fn sessions_of(shared: &Shared, worker: usize, from: u32) -> Result<Page, Away> {
    let (answer, page) = oneshot::channel();
    let asked = async {
        let mut control = Control::Sessions { from, answer };
        while let Err(refused) = shared.inboxes[worker].control(control) {
            control = refused;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        page.await.map_err(|_| Away("a worker has ended".to_owned()))
    };
    call(Box::pin(asked)).await
}

/// Waits for an answer, but not for ever.
async fn call<T>(answer: Answer<'_, Result<T, Away>>) -> Result<T, Away> {
    let late = |_| Err(Away(format!("no answer within {} s", LIMIT.as_secs())));
    timeout(LIMIT, answer).await.unwrap_or_else(late)
}
