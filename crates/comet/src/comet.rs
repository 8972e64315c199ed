//! The handle of a running edge: start, push, drain.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anser_api::comet::{Away, Batch, Flow, Inquiry, Push, PushError, Report, Taken, Testimony, Welcome};
use anser_api::id::{CometName, LogId, Room, Session};
use anser_api::logic::{Connected, Logic};
use anser_api::owner::Owner;
use anser_api::trace::Traces;
use anser_api::{Answer, ready};
use anser_wire::packet::Header;
use mio::Poll;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::acceptor::{Acceptor, Kind, Listener, Stop};
use crate::config::Config;
use crate::foreign::{Attached, Foreign};
use crate::inbox::{Control, Inbox};
use crate::login;
use crate::renewal;
use crate::shared::Shared;
use crate::socket;
use crate::stats::{Export, Snapshot};
use crate::worker::{BELL, Worker};

/// Control commands that may wait for one worker. Whoever finds the queue full keeps the command.
const CONTROL: usize = 8192;

/// The edge could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on: another program has it, or this machine does not.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The system has no more threads or descriptors.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
}

/// Why a connection of a task could not be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AttachError {
    /// A limit on connections is reached.
    #[error("as many connections are open as allowed")]
    Full,
    /// The worker has no place for it now, or is going away.
    #[error("the worker takes no connection now")]
    Busy,
}

/// Addresses that are bound, and do not answer yet.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    listeners: Vec<Listener>,
    tcp: Vec<SocketAddr>,
    websocket: Vec<SocketAddr>,
}

impl Bound {
    /// Binds all addresses of the configuration. A port of 0 becomes one that is free.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let mut bound = Self { listeners: Vec::new(), tcp: Vec::new(), websocket: Vec::new(), config };
        let tcp = bound.config.tcp.iter().map(|address| (*address, false));
        let websocket = bound.config.websocket.iter().map(|address| (*address, true));
        for (address, websocket) in tcp.chain(websocket).collect::<Vec<_>>() {
            let fail = |cause| StartError::Bind { address, cause };
            let socket = socket::listen(address, &bound.config).map_err(fail)?;
            let actual = socket.local_addr().map_err(fail)?;
            let one_write_per_packet = bound.config.one_write_per_packet.contains(&address);
            let list = if websocket { &mut bound.websocket } else { &mut bound.tcp };
            list.push(actual);
            bound.listeners.push(Listener { socket, kind: Kind { websocket, one_write_per_packet } });
        }
        Ok(bound)
    }

    /// Addresses for TCP clients.
    pub fn tcp(&self) -> &[SocketAddr] {
        &self.tcp
    }

    /// Addresses for WebSocket clients.
    pub fn websocket(&self) -> &[SocketAddr] {
        &self.websocket
    }

    /// Starts the workers and accepts. `runtime` runs what cannot be answered at once.
    pub fn start(self, logic: Arc<dyn Logic>, runtime: tokio::runtime::Handle) -> Result<Comet, StartError> {
        let count = self.config.worker_count();
        let mut polls = Vec::with_capacity(count);
        let mut inboxes = Vec::with_capacity(count);
        for _ in 0..count {
            let poll = Poll::new()?;
            let waker = mio::Waker::new(poll.registry(), BELL)?;
            inboxes.push(Arc::new(Inbox::new(waker, self.config.commands, CONTROL)));
            polls.push(poll);
        }
        let lane = login::start(&runtime);
        let name = CometName::parse(&self.config.name, usize::MAX).expect("no name is too long");
        let shared = Arc::new(Shared::new(self.config, name, logic, inboxes.into(), lane, runtime));
        let (acceptor, stop) = Acceptor::new(self.listeners, shared.clone())?;
        // From here on, what has been started ends with this.
        let comet = Comet { shared: shared.clone(), stop, threads: Mutex::default() };
        for (id, poll) in polls.into_iter().enumerate() {
            let worker = Worker::new(id, poll, shared.clone());
            comet.spawn(format!("comet-{id}"), || worker.run())?;
        }
        renewal::start(&shared);
        comet.spawn("comet-accept".into(), || acceptor.run())?;
        Ok(comet)
    }
}

/// A running edge.
#[derive(Debug)]
pub struct Comet {
    shared: Arc<Shared>,
    stop: Arc<Stop>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Comet {
    /// Its name.
    pub fn name(&self) -> CometName {
        self.shared.name.clone()
    }

    /// Names the owner of pullable data; only the first call counts.
    pub fn set_owner(&self, owner: Arc<dyn Owner>) {
        let _ = self.shared.owner.set(owner);
    }

    /// A worker whose loop has not gone on for longer than `limit`, if there is one. An idle one goes on
    /// once a second; so `limit` is to be some seconds. At a drain workers end, each when it is done.
    pub fn stalled(&self, limit: Duration) -> Option<usize> {
        if self.shared.is_draining() {
            return None;
        }
        let oldest = self.shared.micros().saturating_sub(limit.as_micros() as u64);
        self.shared.inboxes.iter().position(|inbox| inbox.beat.load(Ordering::Relaxed) < oldest)
    }

    /// Puts the edge's metrics into a registry, under `anser_comet_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("anser_comet");
        registry.register_collector(Box::new(Export(Arc::downgrade(&self.shared))));
    }

    /// The most important numbers, now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.shared)
    }

    /// Takes in a connection whose transport is a task, authenticated by it. `capacity` is how many
    /// packets the task may be behind before pushes wait on the worker; `auth` the header of the
    /// client's authentication packet, which the first packet answers.
    pub async fn attach(
        &self,
        connected: Connected,
        remote: IpAddr,
        auth: Header,
        capacity: usize,
    ) -> Result<Foreign, AttachError> {
        if self.shared.is_draining() {
            return Err(AttachError::Busy);
        }
        let worker = self.shared.worker_of(&connected.session.key);
        let inbox = self.shared.inboxes[worker].clone();
        self.shared.admission.enter(remote).map_err(|_| AttachError::Full)?;
        let (link, foreign) = Foreign::pair(capacity);
        let (tell, handle) = oneshot::channel();
        let attached = Box::new(Attached { connected, remote, auth, link, handle: tell });
        if inbox.control(Control::Attach(attached)).is_err() {
            self.shared.admission.leave(remote);
            return Err(AttachError::Busy);
        }
        let handle = handle.await.map_err(|_| AttachError::Busy)?;
        Ok(foreign(inbox, handle))
    }

    fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        /// Tells when its thread panics.
        struct Alarm(Arc<Shared>);
        impl Drop for Alarm {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.failed.send_replace(true);
                }
            }
        }
        let alarm = Alarm(self.shared.clone());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _alarm = alarm;
            run();
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Waits until a thread of the edge has panicked. Its connections are gone, and pushes to them are
    /// refused from then on: the process had better end.
    pub async fn failed(&self) {
        let mut failed = self.shared.failed.subscribe();
        // The other end lives as long as this comet.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// Stops accepting, writes what is queued, sends everyone away, and ends within the limit of the
    /// configuration.
    pub async fn drain(&self) {
        self.begin_drain();
        let all_done = || {
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.iter().all(JoinHandle::is_finished)
        };
        while !all_done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.sweep().await;
        renewal::say_last(&self.shared).await;
    }

    fn begin_drain(&self) {
        if !self.shared.draining.swap(true, Ordering::SeqCst) {
            self.stop.stop();
            self.shared.renewals.drain();
            for inbox in &self.shared.inboxes {
                inbox.ring();
            }
        }
    }
}

impl Drop for Comet {
    fn drop(&mut self) {
        self.begin_drain();
    }
}

impl anser_api::grpc::goim::Rooms for Comet {
    fn rooms(&self) -> Vec<(Room, u32)> {
        self.shared.directory.list()
    }
}

impl anser_api::comet::Comet for Comet {
    fn push(&self, push: Push) -> Answer<'_, Result<(), PushError>> {
        ready(self.shared.push(push, None).map(drop))
    }

    fn open_lane(&self, log: LogId) -> Answer<'_, Result<Welcome, Away>> {
        ready(Ok(self.shared.open_lane(log)))
    }

    fn take(&self, batch: Batch) -> Answer<'_, Result<Taken, Away>> {
        ready(self.shared.take(batch))
    }

    fn report(&self, log: LogId, seen: u64) -> Answer<'_, Result<Report, Away>> {
        Box::pin(self.shared.report(log, seen))
    }

    fn switch(&self, session: Session, to: Flow) -> Answer<'_, Result<(), PushError>> {
        ready(self.shared.switch(session, to))
    }

    fn explain(&self, inquiry: Inquiry) -> Answer<'_, Result<Testimony, Away>> {
        Box::pin(self.shared.explain(inquiry))
    }

    fn trace(&self, traces: Traces) -> Answer<'_, Result<(), Away>> {
        self.shared.watch.replace(traces);
        ready(Ok(()))
    }
}
