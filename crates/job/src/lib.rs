//! The job: it logs pushes, and brings each to the comets that hold its receivers.
//!
//! A push is appended and sent on its way under one short lock, so that every lane has the order of the log;
//! delivery does not wait for the disk, the answer does. The log is read only at a start: what was not known
//! to be done goes out again, and comets skip what they have.
//!
//! Where to read: `state` (what is on its way, and what becomes of it), `lane` (one comet), `returning` (keys
//! that are to come back), `drive` (the tasks that speak to comets), `record` (a push in the log), `explain`
//! (what became of one) with `remarks` (what went wrong).

mod config;
mod drive;
mod explain;
mod idempotency;
mod lane;
mod metrics;
mod record;
mod remarks;
mod returning;
mod state;
#[cfg(test)]
mod tests;
mod trace;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use anser_api::comet::{Away, Comet, PushError};
use anser_api::id::{CometName, LogId, Position};
use anser_api::job::{Accepted, Explanation, Push, Subject};
use anser_api::logic::Directory;
use anser_api::trace::{Traces, Watch};
use anser_api::{Answer, ready};
use anser_store::{AppendError, Appended, Durable, Log, ReadError};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

pub use config::Config;
use lane::Lane;
pub use metrics::METRICS;
pub use record::Logged;
use state::State;

/// The job's name among the consumers of the log.
const CONSUMER: &str = "job";

/// How long a caller waits for the disk.
const DISK: Duration = Duration::from_secs(8);

/// Bytes of the log read at once at a start.
const PAGE: usize = 1 << 20;

/// A comet, as the job is to reach it.
pub struct Route {
    /// Its name, by which logic knows it.
    pub name: CometName,
    /// The comet, or what stands for it.
    pub comet: Arc<dyn Comet>,
    /// It is in this process, and answers at once.
    pub local: bool,
}

/// The job.
pub struct Job {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    log: Arc<dyn Log>,
    state: Mutex<State>,
    directory: Arc<dyn Directory>,
    watch: Arc<Watch>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a push and sends it on its way.
    fn accept(&self, push: &Push) -> Result<(Accepted, Option<Durable>), PushError> {
        let now = SystemTime::now();
        let record = record::encode(push, now);
        let mut other = None;
        let mut place = |appended: &Appended| {
            let position = Position(appended.position);
            let mut state = self.state();
            if let Some(request) = &push.idempotency {
                match state.remembered.find(request, now) {
                    Ok(None) => {}
                    Ok(Some(known)) => {
                        state.stats.repeated += 1;
                        other = Some(Ok(known));
                        return false;
                    }
                    Err(cause) => {
                        other = Some(Err(cause));
                        return false;
                    }
                }
            }
            if let Err(cause) = state.place(position, push, false) {
                other = Some(Err(cause));
                return false;
            }
            state.stats.accepted += 1;
            if let Some(request) = &push.idempotency {
                let accepted = record::accepted(position, &push.to, false);
                state.remembered.insert(request, accepted, Some(appended.durable.clone()), now);
            }
            true
        };
        let appended = self.log.append(&record, &mut place).map_err(|cause| refusal(&cause))?;
        let Some(appended) = appended else {
            return match other {
                Some(Ok((accepted, durable))) => Ok((accepted, durable)),
                Some(Err(cause)) => Err(cause),
                None => Err(PushError::Draining),
            };
        };
        let accepted = record::accepted(Position(appended.position), &push.to, false);
        if self.watch.is_on() {
            trace::accepted(&self.watch, accepted.position, push);
        }
        Ok((accepted, Some(appended.durable)))
    }

    /// Moves the log's consumer up to the first push that is not done.
    pub(crate) fn commit(&self) {
        let mut upto = None;
        self.log.end(&mut |end| {
            let mut state = self.state();
            let lowest = state.lowest().unwrap_or(Position(end));
            if lowest > state.floor {
                state.floor = lowest;
                upto = Some(lowest.0);
            }
        });
        if let Some(upto) = upto
            && let Err(cause) = self.log.commit(CONSUMER, upto)
        {
            // Then a restart repeats more than it had to; comets that live skip it.
            warn!(error = %cause, "cannot note how far the push log is done");
        }
    }

    /// Reads back what may not be done, and the requests that may come again.
    fn replay(&self, from: u64) -> Result<(), ReadError> {
        let (mut next, mut damaged, mut unknown) = (0, 0, 0u64);
        loop {
            let page = self.log.read(next, PAGE)?;
            if page.is_empty() {
                break;
            }
            next = page.next;
            damaged += page.damage.len();
            let mut state = self.state();
            for (position, bytes) in page.records {
                let Some(Logged { accepted, push }) = record::decode(bytes) else {
                    unknown += 1;
                    continue;
                };
                if let Some(request) = &push.idempotency {
                    let answer = record::accepted(Position(position), &push.to, false);
                    state.remembered.insert(request, answer, None, accepted);
                }
                if position >= from {
                    state.stats.replayed += 1;
                    // It cannot be refused any more.
                    let _ = state.place(Position(position), &push, true);
                }
            }
        }
        if damaged > 0 || unknown > 0 {
            error!(damaged, unknown, "pushes in the log cannot be read, and are lost");
        }
        let replayed = self.state().stats.replayed;
        if replayed > 0 {
            info!(pushes = replayed, "pushes that were not known to be done go out again");
        }
        Ok(())
    }
}

impl Job {
    /// Starts on a log: reads back what is not done, and opens the lanes.
    pub fn start(
        config: Config,
        log: Arc<dyn Log>,
        routes: Vec<Route>,
        directory: Arc<dyn Directory>,
        runtime: &Handle,
    ) -> Result<Self, ReadError> {
        let from = log.consumer(CONSUMER)?;
        let lanes = routes.into_iter().map(|route| Lane::new(route.name, route.comet, route.local)).collect();
        let watch = Arc::new(Watch::default());
        let state = State::new(config, LogId(log.id()), lanes, watch.clone());
        let shared = Arc::new(Shared { log, state: Mutex::new(state), directory, watch });
        shared.replay(from)?;
        let tasks = drive::start(&shared, runtime);
        Ok(Self { shared, tasks: Mutex::new(tasks) })
    }

    /// Puts the job's metrics into a registry, under `anser_job_`.
    pub fn register(&self, registry: &mut Registry) {
        metrics::register(Arc::downgrade(&self.shared), registry);
    }

    /// Waits until comets have said of all that they took what became of it, at most for `limit`, and ends.
    pub async fn stop(&self, limit: Duration) {
        let all_done = async {
            while self.shared.state().lanes.iter().any(|lane| lane.len() > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(limit, all_done).await;
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.shared.commit();
        let left = self.shared.state().open();
        if left > 0 {
            info!(pushes = left, "pushes stay in the log, and go out again at the next start");
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl anser_api::job::Job for Job {
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>> {
        let (accepted, durable) = match self.shared.accept(&push) {
            Ok((accepted, Some(durable))) => (accepted, durable),
            Ok((accepted, None)) => return ready(Ok(accepted)),
            Err(cause) => return ready(Err(cause)),
        };
        Box::pin(async move {
            match tokio::time::timeout(DISK, durable.wait()).await {
                Ok(()) => Ok(accepted),
                Err(_) => Err(PushError::Unavailable {
                    what: "the disk of the push log does not answer; the push may still be taken".to_owned(),
                    retry_after: Duration::from_secs(1),
                }),
            }
        })
    }

    fn explain(&self, position: Position, subject: Subject) -> Answer<'_, Result<Explanation, Away>> {
        Box::pin(async move { self.shared.explain(position, subject).await })
    }

    fn trace(&self, traces: Traces) -> Answer<'_, Result<Vec<CometName>, Away>> {
        Box::pin(async move { Ok(self.shared.trace(traces).await) })
    }
}

fn refusal(cause: &AppendError) -> PushError {
    let retry_after = Duration::from_secs(1);
    match cause {
        AppendError::TooLarge { len, max } => PushError::TooLarge { len: *len, max: *max },
        AppendError::Behind { .. } => PushError::Exhausted { retry_after: Duration::from_millis(100) },
        AppendError::NoSpace | AppendError::Full { .. } => {
            PushError::Unavailable { what: cause.to_string(), retry_after }
        }
        AppendError::Closed => PushError::Draining,
    }
}

/// Polls an answer once.
fn now<T>(mut answer: Answer<'_, T>) -> Option<T> {
    match Pin::as_mut(&mut answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
