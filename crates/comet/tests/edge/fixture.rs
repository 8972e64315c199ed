//! A running comet ([`Edge`]) with a fake logic and a fake owner ([`fakes`]), and clients of it
//! ([`Client`]).

mod client;
mod fakes;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anser_api::Answer;
use anser_api::comet::{Comet as _, Flow, OnOverflow, Push, PushError, Target};
use anser_api::id::{Key, Room, Session};
use anser_api::logic::Refused;
use anser_api::settings::Span;
use anser_comet::{AttachError, Bound, Comet, Config, Snapshot};
use anser_wire::operation::{AUTH, AUTH_REPLY};
use anser_wire::packet::Header;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Runtime;
use tokio::time::timeout;

pub(crate) use self::client::{Client, Item, bare, frame, wrapped};
pub(crate) use self::fakes::{FakeLogic, FakeOwner, Gate, Login};

/// How long anything may take on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A push to everyone, as fast as it goes.
pub(crate) const EVERYONE: Target = Target::All { speed: 0 };

/// Waits until `actual` gives what is expected.
#[track_caller]
pub(crate) fn becomes<T: PartialEq + fmt::Debug>(expected: &T, mut actual: impl FnMut() -> T) {
    let limit = Instant::now() + PATIENCE;
    loop {
        let now = actual();
        if now == *expected {
            return;
        }
        assert!(Instant::now() < limit, "{now:?} did not become {expected:?} within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// What an answer is that must be there at once.
#[track_caller]
pub(crate) fn now<T>(mut answer: Answer<'_, T>) -> T {
    match Pin::as_mut(&mut answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the answer makes its caller wait"),
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::parse(name, 256).unwrap()
}

pub(crate) fn keys(names: &[&str]) -> Target {
    Target::Keys(names.iter().map(|name| key(name)).collect())
}

pub(crate) fn room(name: &str) -> Target {
    Target::Room(Room::parse(name, 4096).unwrap())
}

/// A body that says its number, `len` bytes long.
pub(crate) fn numbered(n: u64, len: usize) -> Vec<u8> {
    let mut body = n.to_be_bytes().to_vec();
    body.resize(len.max(8), b'.');
    body
}

/// The number that a body says.
#[track_caller]
pub(crate) fn number(body: &[u8]) -> u64 {
    u64::from_be_bytes(*body.first_chunk().expect("a numbered body"))
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    WebSocket,
    /// Through a task.
    Foreign,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::WebSocket, Self::Foreign];
    pub(crate) const SOCKETS: [Self; 2] = [Self::Tcp, Self::WebSocket];
}

/// A worker that stands still until this is dropped.
pub(crate) struct Blocked {
    gate: Gate,
    _client: Client,
}

impl Blocked {
    /// Lets the worker go on.
    pub(crate) fn release(self) {
        drop(self);
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// A running comet. When it goes it is drained, each session that was given out must have been told
/// over exactly once, and nothing that was counted may be left.
pub(crate) struct Edge {
    comet: Option<Comet>,
    pub(crate) logic: Arc<FakeLogic>,
    pub(crate) owner: Arc<FakeOwner>,
    pub(crate) runtime: Runtime,
    registry: Registry,
    workers: usize,
    tcp: SocketAddr,
    websocket: SocketAddr,
}

impl Edge {
    /// Starts one with two workers and an owner.
    pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Self {
        let edge = Self::without_owner(change);
        edge.comet().set_owner(edge.owner.clone());
        edge
    }

    pub(crate) fn without_owner(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_logic(FakeLogic::default(), change)
    }

    pub(crate) fn with_logic(logic: FakeLogic, change: impl FnOnce(&mut Config)) -> Self {
        let any = SocketAddr::new(LOCALHOST, 0);
        let mut config = Config {
            tcp: vec![any],
            websocket: vec![any],
            workers: 2,
            // Nobody is late because the machine is busy.
            handshake_timeout: Span(3 * PATIENCE),
            ..Config::default()
        };
        change(&mut config);
        let workers = config.workers;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bound = Bound::bind(config).unwrap();
        let (tcp, websocket) = (bound.tcp()[0], bound.websocket()[0]);
        let logic = Arc::new(logic);
        let comet = bound.start(logic.clone(), runtime.handle().clone()).unwrap();
        let mut registry = Registry::default();
        comet.register(&mut registry);
        let owner = Arc::new(FakeOwner::default());
        Self { comet: Some(comet), logic, owner, runtime, registry, workers, tcp, websocket }
    }

    pub(crate) fn comet(&self) -> &Comet {
        self.comet.as_ref().expect("the comet runs")
    }

    pub(crate) fn drop_comet(&mut self) {
        self.comet = None;
    }

    #[track_caller]
    pub(crate) fn drain(&self) {
        let drained = self.runtime.block_on(async { timeout(PATIENCE, self.comet().drain()).await });
        drained.expect("drained in time");
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.comet().snapshot()
    }

    /// The value of one line of the metrics, 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = |line: &'_ str| Some(line.strip_prefix("anser_comet_")?.strip_prefix(name)?.to_owned());
        let mut values = text.lines().filter_map(value).filter_map(|value| value.trim().parse().ok());
        values.next().unwrap_or(0)
    }

    /// How many connections ended for a reason.
    pub(crate) fn closed(&self, reason: &str) -> u64 {
        self.metric(&format!("closed_total{{reason=\"{reason}\"}}"))
    }

    /// How many pushes were lost for a reason.
    pub(crate) fn lost(&self, reason: &str) -> u64 {
        self.metric(&format!("lost_total{{reason=\"{reason}\"}}"))
    }

    /// A fresh socket. What a client with a narrow one does not read is soon too much for its kernel.
    pub(crate) fn dial(&self, kind: Kind, narrow: bool) -> Client {
        self.dial_from(LOCALHOST, kind, narrow)
    }

    pub(crate) fn dial_from(&self, from: IpAddr, kind: Kind, narrow: bool) -> Client {
        let to = match kind {
            Kind::Tcp => self.tcp,
            Kind::WebSocket => self.websocket,
            Kind::Foreign => unreachable!("a task does not dial"),
        };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        if narrow {
            socket.set_recv_buffer_size(2048).unwrap();
        }
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Client::on_socket(kind, socket.into())
    }

    /// A connection that is to be authenticated.
    #[track_caller]
    pub(crate) fn connect(&self, kind: Kind) -> Client {
        self.dial(kind, false).upgraded()
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_deaf(&self) -> bool {
        [self.tcp, self.websocket].iter().all(|address| TcpStream::connect(address).is_err())
    }

    /// A client that is in.
    #[track_caller]
    pub(crate) fn log_in(&self, kind: Kind, login: &Login) -> Client {
        self.log_in_over(kind, login, false)
    }

    /// A client that is in, and that is soon too slow if it does not read.
    #[track_caller]
    pub(crate) fn log_in_narrow(&self, kind: Kind, login: &Login) -> Client {
        self.log_in_over(kind, login, true)
    }

    #[track_caller]
    fn log_in_over(&self, kind: Kind, login: &Login, narrow: bool) -> Client {
        if kind == Kind::Foreign {
            let mut client = self.attach(login, if narrow { 2 } else { 64 }).unwrap();
            client.expect_reply(Header { ver: 1, op: AUTH_REPLY, seq: 1 }, b"");
            return client;
        }
        let (token, session) = self.logic.token(login);
        let mut client = self.dial(kind, narrow).upgraded();
        client.authenticate(&token);
        client.with_session(session)
    }

    /// A task's connection, whose first packet is still to be read.
    pub(crate) fn attach(&self, login: &Login, capacity: usize) -> Result<Client, AttachError> {
        let connected = self.logic.connected(login);
        let session = connected.session.clone();
        let auth = Header { ver: 1, op: AUTH, seq: 1 };
        let attached = self.comet().attach(connected, LOCALHOST, auth, capacity);
        let foreign =
            self.runtime.block_on(async { timeout(PATIENCE, attached).await }).expect("an answer")?;
        self.logic.begin(&session);
        Ok(Client::on_task(foreign, self.runtime.handle().clone()).with_session(session))
    }

    /// A key that belongs to this worker.
    pub(crate) fn key_on(&self, worker: usize) -> String {
        loop {
            let name = self.logic.fresh("key");
            let session = self.attach(&Login::new(&name), 8).unwrap().session();
            becomes(&1, || self.logic.times_over(&session));
            if self.logic.told_by(&session) == format!("comet-{worker}") {
                return name;
            }
        }
    }

    /// Makes a worker stand still. Sockets are dealt out in turn, to it as well: whoever is needed
    /// meanwhile logs in before.
    #[track_caller]
    pub(crate) fn block(&self, worker: usize) -> Blocked {
        loop {
            let refused = Err(Refused::Unavailable("came only to stop the worker".into()));
            let (token, gate) = self.logic.stopping(Some(worker), refused);
            let mut client = self.connect(Kind::Tcp);
            client.send(AUTH, &token);
            if gate.visited() {
                return Blocked { gate, _client: client };
            }
        }
    }

    /// Stops a worker in the very turn in which it then reads what `send` sends, and before that: what
    /// is pushed until the gate is opened comes behind it.
    #[track_caller]
    pub(crate) fn block_before<T>(&self, worker: usize, send: impl FnOnce() -> T) -> (T, Gate) {
        // One socket on each worker, as they are dealt out in turn. They are there when a later one is.
        let mut sockets: Vec<Client> = (0..self.workers).map(|_| self.dial(Kind::Tcp, false)).collect();
        let first = self.block(worker);
        let stop = |client: &mut Client| {
            let refused = Err(Refused::Unavailable("came only to stop the worker".into()));
            let (token, gate) = self.logic.stopping(Some(worker), refused);
            client.send(AUTH, &token);
            gate
        };
        let gates: Vec<Gate> = sockets.iter_mut().map(stop).collect();
        let sent = send();
        first.release();
        (sent, gates.into_iter().find(Gate::visited).expect("a socket on that worker"))
    }

    pub(crate) fn try_push(
        &self,
        target: Target,
        op: i32,
        body: &[u8],
        on_overflow: OnOverflow,
    ) -> Result<(), PushError> {
        now(self.comet().push(Push {
            target,
            op,
            body: Bytes::copy_from_slice(body),
            on_overflow,
            expires: None,
        }))
    }

    /// A push that is dropped where it does not fit.
    #[track_caller]
    pub(crate) fn push(&self, target: Target, op: i32, body: &[u8]) {
        self.try_push(target, op, body, OnOverflow::Drop).unwrap();
    }

    /// A push that its receiver can also pull.
    #[track_caller]
    pub(crate) fn push_pullable(&self, target: Target, op: i32, body: &[u8]) {
        self.try_push(target, op, body, OnOverflow::Pull).unwrap();
    }

    /// Pushes as often as it takes.
    pub(crate) fn push_patiently(&self, target: &Target, op: i32, body: &[u8]) {
        let limit = Instant::now() + PATIENCE;
        while let Err(cause) = self.try_push(target.clone(), op, body, OnOverflow::Drop) {
            let PushError::Exhausted { retry_after } = cause else { panic!("{cause}") };
            assert!(Instant::now() < limit, "refused for {PATIENCE:?}");
            std::thread::park_timeout(retry_after.min(Duration::from_millis(20)));
        }
    }

    #[track_caller]
    pub(crate) fn switch(&self, session: &Session, to: Flow) {
        now(self.comet().switch(session.clone(), to)).unwrap();
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if std::thread::panicking() || self.comet.is_none() {
            return;
        }
        self.drain();
        for name in ["sockets_open", "rooms", "outbound_bytes"] {
            assert_eq!(self.metric(name), 0, "{name} after a drain");
        }
        assert_eq!(self.snapshot().connections, 0, "connections after a drain");
        self.logic.check_all_over();
    }
}
