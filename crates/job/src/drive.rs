//! The tasks that speak to comets: two for each, and one that looks for keys. Their number does not grow
//! with the load.

use std::sync::Arc;
use std::time::Duration;

use anser_api::comet::{Away, Comet, Report, Welcome};
use anser_api::id::LogId;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::warn;

use crate::Shared;

/// How long a comet may take to answer a call; one that takes longer is away.
const CALL: Duration = Duration::from_secs(5);

/// The same for a report, which may have to wait for something to say.
const REPORT: Duration = Duration::from_secs(12);

/// Between two tries to reach a comet, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How often a lane is looked at for what has waited too long.
const LOOK: Duration = Duration::from_millis(500);

/// How often keys are looked for that are to come back.
const SEEK: Duration = Duration::from_millis(100);

/// How often to look for those that have waited too long: all that wait are gone through.
const OVERDUE: Duration = Duration::from_secs(1);

/// Keys that are looked for at once.
const KEYS: usize = 1000;

pub(crate) fn start(shared: &Arc<Shared>, runtime: &Handle) -> Vec<JoinHandle<()>> {
    let lanes = shared.state().lanes.len();
    let mut tasks = vec![runtime.spawn(seek(shared.clone()))];
    for at in 0..lanes {
        tasks.push(runtime.spawn(send(shared.clone(), at)));
        tasks.push(runtime.spawn(listen(shared.clone(), at)));
    }
    tasks
}

fn comet(shared: &Shared, at: usize) -> (Arc<dyn Comet>, LogId) {
    (shared.state().lanes[at].comet.clone(), LogId(shared.log.id()))
}

/// Opens a lane, and sends what waits, one call at a time: what comes meanwhile is the next call.
async fn send(shared: Arc<Shared>, at: usize) {
    let (comet, log) = comet(&shared, at);
    let bell = shared.state().lanes[at].bell.clone();
    let mut retry = RETRY.0;
    let mut said = None;
    loop {
        let open = shared.state().lanes[at].is_open();
        if !open {
            shared.state().give_up(at);
            match open_lane(&*comet, log).await {
                Ok(welcome) => {
                    retry = RETRY.0;
                    said = None;
                    shared.state().opened(at, &welcome);
                }
                Err(away) => {
                    // Once for each cause: it may be one that does not pass by itself, such as another secret.
                    if said.as_ref() != Some(&away) {
                        let name = &shared.state().lanes[at].name;
                        warn!(comet = %name, cause = %away, "cannot open the lane to a comet; trying again");
                        said = Some(away);
                    }
                    sleep(retry).await;
                    retry = (retry * 2).min(RETRY.1);
                }
            }
            continue;
        }
        let (batch, until) = {
            let mut state = shared.state();
            state.give_up(at);
            state.batch(at)
        };
        let Some((batch, numbers)) = batch else {
            let look = Instant::now() + LOOK;
            let waits = shared.state().lanes[at].len() > 0;
            match until.or(waits.then_some(look)) {
                Some(until) => drop(timeout_at(until.min(look), bell.notified()).await),
                None => bell.notified().await,
            }
            continue;
        };
        match timeout(CALL, comet.take(batch)).await {
            Ok(Ok(taken)) => shared.state().taken(at, &numbers, taken),
            Ok(Err(Away(cause))) => away(&shared, at, &cause),
            Err(_) => away(&shared, at, "it does not answer"),
        }
    }
}

async fn open_lane(comet: &dyn Comet, log: LogId) -> Result<Welcome, Away> {
    match timeout(CALL, comet.open_lane(log)).await {
        Ok(answer) => answer,
        Err(_) => Err(Away("it does not answer".to_owned())),
    }
}

fn away(shared: &Shared, at: usize, cause: &str) {
    shared.state().away(at, cause);
}

/// Takes the reports of a comet.
async fn listen(shared: Arc<Shared>, at: usize) {
    let (comet, log) = comet(&shared, at);
    let (opened, bell) = {
        let state = shared.state();
        (state.lanes[at].opened.clone(), state.lanes[at].bell.clone())
    };
    let mut seen = 0;
    loop {
        if !shared.state().lanes[at].is_open() {
            opened.notified().await;
            seen = 0;
            continue;
        }
        match timeout(REPORT, comet.report(log, seen)).await {
            Ok(Ok(report)) => {
                seen = report.number;
                take_report(&shared, at, &report).await;
            }
            Ok(Err(Away(cause))) => away(&shared, at, &cause),
            Err(_) => away(&shared, at, "it does not answer"),
        }
        bell.notify_one();
    }
}

async fn take_report(shared: &Shared, at: usize, report: &Report) {
    let strays = shared.state().reported(at, report);
    if !strays.is_empty() {
        let keys = strays.iter().filter_map(|item| match &item.to {
            anser_api::comet::Target::Keys(keys) => keys.first().cloned(),
            _ => None,
        });
        let places = timeout(CALL, shared.directory.locate(keys.collect())).await;
        let places = places.ok().and_then(Result::ok);
        shared.state().relocate(strays, places);
    }
    shared.commit();
}

/// Looks for keys that something waits for.
async fn seek(shared: Arc<Shared>) {
    let bell = shared.state().returning.bell.clone();
    let mut looked = Instant::now();
    loop {
        let keys = {
            let mut state = shared.state();
            if looked.elapsed() >= OVERDUE {
                state.overdue();
                looked = Instant::now();
            }
            state.returning.next(KEYS)
        };
        if keys.is_empty() {
            shared.commit();
            bell.notified().await;
            continue;
        }
        if let Ok(Ok(places)) = timeout(CALL, shared.directory.locate(keys.clone())).await {
            shared.state().found(keys, places);
        }
        sleep(SEEK).await;
    }
}
