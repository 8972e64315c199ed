//! The server's part: a listener, its connections (driven by `anser_wire::server`), and a clock that
//! stands still.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::Duration;

use anser_sdk::{Address, Backoff, Client, Config, Event, Events, Token, operation};
use anser_wire::input::Input;
use anser_wire::limits::Limits;
use anser_wire::operation::Dialect;
use anser_wire::packet::{Header, Packet};
use anser_wire::push::Frame;
use anser_wire::server::{Close, Connection, Event as ServerEvent};
use anser_wire::time::Instant;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a test waits for what must come. Long, because it only passes when something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What comes in time, or a failed test.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    // Longer than any time that a test lets pass, as it may be counted on a clock that the test moves.
    tokio::time::timeout(PATIENCE * 1000, future).await.expect("this should have come by now")
}

/// The next event, which must come.
pub(crate) async fn next(events: &mut Events) -> Event {
    soon(events.next()).await.expect("the client has ended")
}

/// Keeps a paused clock standing until the test moves it (without this, tokio moves it whenever
/// everybody waits, and waiting for a socket is waiting). When the test hangs it runs again, so that
/// [`soon`] ends it. Tests use it with `start_paused`: a clock that is paused later stands between two
/// milliseconds, which are what timers count in.
pub(crate) struct Clock {
    stop: mpsc::Sender<()>,
}

impl Clock {
    pub(crate) fn stopped() -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        // tokio does not move a paused clock while a blocking task runs.
        tokio::task::spawn_blocking(move || stopped.recv_timeout(PATIENCE));
        Self { stop }
    }

    pub(crate) async fn advance(&self, time: Duration) {
        tokio::time::advance(time).await;
        everybody_else().await;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let stood = self.stop.send(()).is_ok();
        assert!(stood || std::thread::panicking(), "the test waited for something that only time brought");
    }
}

/// Lets every other task run, and every socket be looked at, until nobody has anything to do.
pub(crate) async fn everybody_else() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

/// What is already there, once everybody else has run.
pub(crate) async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    everybody_else().await;
    tokio::select! {
        biased;
        ready = future => Some(ready),
        () = std::future::ready(()) => None,
    }
}

/// A listener.
pub(crate) struct Server {
    listener: TcpListener,
    websocket: bool,
}

impl Server {
    pub(crate) async fn tcp() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), websocket: false }
    }

    pub(crate) async fn websocket() -> Self {
        Self { websocket: true, ..Self::tcp().await }
    }

    pub(crate) fn address(&self) -> Address {
        let scheme = if self.websocket { "ws" } else { "tcp" };
        format!("{scheme}://{}", self.listener.local_addr().unwrap()).parse().unwrap()
    }

    /// A configuration that leads here, and comes back at once.
    pub(crate) fn config(&self, token: impl Into<Token>) -> Config {
        let at_once = Duration::from_millis(1);
        let backoff = Backoff { base: at_once, max: at_once, factor: 1.0 };
        Config { backoff, ..Config::new([self.address()], token) }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Peer {
        let (socket, _) = soon(self.listener.accept()).await.unwrap();
        let limits = Limits::default();
        let new = if self.websocket { Connection::websocket } else { Connection::tcp };
        let connection = new(Instant::ZERO, &limits);
        Peer { socket, connection, packets: VecDeque::new(), out: Vec::new(), closed: None }
    }

    /// Whether a connection waits to be accepted.
    pub(crate) async fn is_called(&self) -> bool {
        now(self.listener.accept()).await.is_some()
    }

    /// The next connection, let in.
    pub(crate) async fn accept_and_admit(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.admit().await;
        peer
    }

    /// Connects a client.
    pub(crate) async fn connect(&self, config: Config) -> (Client, Events, Peer) {
        let (connected, peer) = tokio::join!(Client::connect(config), self.accept_and_admit());
        let (client, mut events) = connected.unwrap();
        assert!(matches!(next(&mut events).await, Event::Connected { .. }));
        (client, events, peer)
    }
}

/// One connection, as the server sees it.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    pub(crate) connection: Connection,
    /// Received, and not yet asked for.
    packets: VecDeque<(Header, Bytes)>,
    pub(crate) out: Vec<u8>,
    /// Why the protocol has ended.
    pub(crate) closed: Option<Close>,
}

impl Peer {
    /// Waits for the token, lets the client in, and gives the token.
    pub(crate) async fn admit(&mut self) -> Bytes {
        let (header, token) = self.next().await.expect("the client has not authenticated");
        let anser = token.windows(7).any(|part| part == b"anser/1");
        let dialect = if anser { Dialect::Anser } else { Dialect::Goim };
        let idle = Duration::from_secs(480);
        self.connection.authenticated(Instant::ZERO, header, idle, dialect, &mut self.out);
        self.flush().await;
        token
    }

    /// The next packet, or `None` when the client has closed.
    pub(crate) async fn next(&mut self) -> Option<(Header, Bytes)> {
        let mut buffer = vec![0; 4096];
        while self.packets.is_empty() && self.closed.is_none() {
            let len = soon(self.socket.read(&mut buffer)).await.unwrap_or(0);
            if len == 0 {
                return None;
            }
            self.receive(&mut buffer[..len]);
            self.flush().await;
        }
        self.packets.pop_front()
    }

    fn receive(&mut self, bytes: &mut [u8]) {
        let mut input = Input::new(bytes);
        loop {
            match self.connection.poll(Instant::ZERO, &mut input, &Limits::default(), &mut self.out) {
                Ok(None) => return,
                Ok(Some(ServerEvent::Authenticate { packet, .. } | ServerEvent::Packet(packet))) => {
                    self.packets.push_back((packet.header, Bytes::copy_from_slice(packet.body)));
                }
                Ok(Some(ServerEvent::Nothing)) => {}
                Err(close) => {
                    self.closed = Some(close);
                    return;
                }
            }
        }
    }

    /// Expects a request, and answers it as goim and Anser do: the body is echoed.
    pub(crate) async fn serve(&mut self, op: i32, body: &str) {
        let (header, received) = self.next().await.expect("the client has closed");
        assert_eq!((header.op, &received[..]), (op, body.as_bytes()));
        let reply = operation::find(op).map_or(Some(op), |row| row.reply);
        if let Some(reply) = reply {
            self.send(header.reply(reply), body.as_bytes()).await;
        }
    }

    /// Sends a plain packet.
    pub(crate) async fn send(&mut self, header: Header, body: &[u8]) {
        self.connection.write(header, body, &mut self.out);
        self.flush().await;
    }

    /// Sends a push.
    pub(crate) async fn push(&mut self, op: i32, body: &[u8]) {
        let frame = Frame::push(op, body);
        let websocket = self.connection.is_websocket();
        self.out.extend_from_slice(if websocket { frame.websocket() } else { frame.tcp() });
        self.flush().await;
    }

    /// Sends a room's batch: several pushes in one container, or one after another on TCP.
    pub(crate) async fn push_batch(&mut self, op: i32, bodies: &[&[u8]]) {
        let header = Header { ver: 1, op, seq: 0 };
        let mut batch = Vec::new();
        for body in bodies {
            Packet { header, body }.encode(&mut batch);
        }
        if self.connection.is_websocket() {
            self.connection.write(header.reply(operation::RAW), &batch, &mut self.out);
        } else {
            self.out.extend_from_slice(&batch);
        }
        self.flush().await;
    }

    pub(crate) async fn flush(&mut self) {
        soon(self.socket.write_all(&self.out)).await.unwrap();
        self.out.clear();
    }
}
