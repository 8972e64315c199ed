//! A socket and the protocol core that it drives.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anser_wire::client::{self, Closed, Connection, Timing};
use anser_wire::input::Input;
use anser_wire::operation;
use anser_wire::time;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{ConnectError, Failure};
use crate::session::Session;
use crate::{Address, Config, Token};

/// Bytes of one read, on the stack, so that an idle connection holds no buffer. As many as make a
/// system call cheap beside what is done with them.
const READ: usize = 16 * 1024;

/// Bytes that may wait to be sent before no further request is taken. One request of the largest
/// size comes on top.
const MAX_UNSENT: usize = 64 * 1024;

/// How long a goodbye may take. The peer loses nothing but its reason when it is cut off.
const GOODBYE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Upgrading,
    Authenticating,
    Authenticated,
}

/// One connection, from the first packet to the last.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: TcpStream,
    connection: Connection,
    stage: Stage,
    token: Token,
    /// The protocol's time zero.
    origin: Instant,
    /// Bytes for the server, of which the first `sent` are gone.
    out: Vec<u8>,
    sent: usize,
}

impl Transport {
    /// Connects to the first address that works, and authenticates there.
    pub(crate) async fn open(config: &Config, session: &mut Session) -> Result<Self, ConnectError> {
        let mut failures = Vec::new();
        for address in &config.addresses {
            session.connecting(address);
            match Self::open_one(address, config, session).await {
                Ok(transport) => return Ok(transport),
                Err(failure) => failures.push((address.clone(), failure)),
            }
        }
        Err(ConnectError { failures })
    }

    async fn open_one(address: &Address, config: &Config, session: &mut Session) -> Result<Self, Failure> {
        let origin = Instant::now();
        let limit = config.timing.handshake;
        let socket = match timeout(limit, TcpStream::connect(address.host_and_port())).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(Failure::Connect(Arc::new(error))),
            Err(_) => return Err(Failure::ConnectTimeout(limit)),
        };
        socket.set_nodelay(true)?;
        let mut transport = Self::start(socket, address, config, origin)?;
        while transport.stage != Stage::Authenticated {
            tokio::select! {
                ready = transport.ready(true) => ready?,
                () = sleep_until(transport.deadline()) => {}
            }
            transport.transfer(true, session)?;
        }
        Ok(transport)
    }

    /// Prepares the first bytes: the upgrade, or the token.
    fn start(
        socket: TcpStream,
        address: &Address,
        config: &Config,
        origin: Instant,
    ) -> Result<Self, Failure> {
        let Config { token, timing, .. } = config;
        let mut out = Vec::new();
        let (stage, connection) = match address.target() {
            None => {
                let mut connection = Connection::tcp(time::Instant::ZERO, timing.clone());
                connection.authenticate(token.bytes(), token.dialect(), &mut out);
                (Stage::Authenticating, connection)
            }
            Some(target) => (Stage::Upgrading, upgrade(address, target, timing, &mut out)?),
        };
        Ok(Self { socket, connection, stage, token: token.clone(), origin, out, sent: 0 })
    }

    /// Appends a request and gives its sequence number.
    pub(crate) fn request(&mut self, op: i32, body: &[u8]) -> i32 {
        match op {
            operation::HEARTBEAT => self.connection.heartbeat(self.now(), &mut self.out),
            _ => self.connection.request(op, body, &mut self.out),
        }
    }

    /// Whether another request may be appended.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() - self.sent < MAX_UNSENT
    }

    /// Waits until the socket has something for [`Self::transfer`] to do: for ever, when nothing is to be
    /// read or sent.
    pub(crate) async fn ready(&self, reading: bool) -> Result<(), Failure> {
        let interest = match (reading, self.out.is_empty()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, false) => Interest::WRITABLE,
            (false, true) => return std::future::pending().await,
        };
        self.socket.ready(interest).await?;
        Ok(())
    }

    /// Moves what can be moved without waiting: when `reading`, one read to the session; what is due, and
    /// what was appended, to the socket. Reading comes first: after a pause of the whole process, answers
    /// that have arrived are not late.
    pub(crate) fn transfer(&mut self, reading: bool, session: &mut Session) -> Result<(), Failure> {
        self.connection.set_reading(self.now(), reading);
        let read = if reading { self.read(session) } else { Ok(()) };
        let due = read.and_then(|()| Ok(self.connection.handle_timeout(self.now(), &mut self.out)?));
        // Even then: a close frame wants an answer.
        let written = self.write();
        due.and(written).map_err(|failure| self.refine(failure))
    }

    fn read(&mut self, session: &mut Session) -> Result<(), Failure> {
        let mut buffer = [0; READ];
        let len = match self.socket.try_read(&mut buffer) {
            Ok(0) => return Err(Failure::Ended),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let now = self.now();
        let mut input = Input::new(&mut buffer[..len]);
        while let Some(event) = self.connection.poll(now, &mut input, &mut self.out)? {
            match event {
                client::Event::Upgraded => {
                    self.stage = Stage::Authenticating;
                    self.connection.authenticate(self.token.bytes(), self.token.dialect(), &mut self.out);
                }
                event => {
                    if matches!(event, client::Event::Authenticated) {
                        self.stage = Stage::Authenticated;
                    }
                    session.handle(event)?;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        while self.sent < self.out.len() {
            match self.socket.try_write(&self.out[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        // One large request does not make the buffer large for ever.
        self.out.clear();
        self.out.shrink_to(READ);
        self.sent = 0;
        Ok(())
    }

    /// Says what a closed connection means, which depends on how far it had come.
    fn refine(&self, failure: Failure) -> Failure {
        let cut = match &failure {
            Failure::Ended => true,
            Failure::Io(error) => {
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            }
            _ => false,
        };
        match (self.stage, failure) {
            (Stage::Upgrading, _) if cut => Failure::NotUpgraded,
            (Stage::Authenticating, _) if cut => Failure::Refused { reason: String::new() },
            (Stage::Authenticating, Failure::Protocol(Closed::Server { reason, .. })) => {
                Failure::Refused { reason }
            }
            (_, failure) => failure,
        }
    }

    /// When [`Self::transfer`] has to send a heartbeat, or finds that the server is gone.
    pub(crate) fn deadline(&self) -> Instant {
        self.origin + Duration::from_millis(self.connection.deadline().0)
    }

    /// Sends what is still to be sent and says goodbye.
    pub(crate) async fn close(mut self) {
        self.connection.close(&mut self.out);
        let goodbye = async {
            self.socket.write_all(&self.out[self.sent..]).await?;
            self.socket.shutdown().await
        };
        // Whether or not it arrives, the socket is closed.
        let _ = timeout(GOODBYE, goodbye).await;
    }

    fn now(&self) -> time::Instant {
        time::Instant(self.origin.elapsed().as_millis() as u64)
    }
}

fn upgrade(
    address: &Address,
    target: &str,
    timing: &Timing,
    out: &mut Vec<u8>,
) -> Result<Connection, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::from)?;
    let random = u128::from_ne_bytes(random);
    let now = time::Instant::ZERO;
    Ok(Connection::websocket(now, timing.clone(), &address.authority(), target, random, out))
}
