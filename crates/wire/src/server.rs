//! The server's end of a connection: upgrade, authentication, heartbeat, draining, closing.
//!
//! The owner drives it in this order: [`Connection::poll`] with what was read until it gives `None`,
//! then flush what it appended to `out`, then arm [`Connection::deadline`] and call
//! [`Connection::handle_timeout`] when it has passed. After a [`Close`] the owner flushes `out` and
//! closes at once if [`Connection::is_closed`], else shuts its sending half down and goes on reading
//! (everything is discarded) until the peer closes or the deadline passes, so that a last frame is
//! not lost in a reset.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use prost::Message as _;
use thiserror::Error;

use crate::anser::Draining;
use crate::input::Input;
use crate::limits::Limits;
use crate::operation::{self, Dialect};
use crate::packet::{self, Header, Malformed, Packet};
use crate::time::Instant;
use crate::websocket::{self, Message, Opcode, Refusal, Role, Violation, close_code};

/// The one path of the WebSocket listener.
pub const WEBSOCKET_PATH: &str = "/sub";

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Close {
    /// Bytes that are no packet.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Bytes that break RFC 6455.
    #[error(transparent)]
    WebSocket(#[from] Violation),
    /// A request that is no upgrade; it has been answered over HTTP.
    #[error("upgrade refused: {}", .0.name())]
    Upgrade(Refusal),
    /// The peer closed, in its protocol's own way.
    #[error("closed by the peer")]
    Peer,
    /// Not authenticated in time.
    #[error("not authenticated in time")]
    HandshakeTimeout,
    /// No packet for longer than the idle limit.
    #[error("no heartbeat in time")]
    Idle,
    /// The peer did not close in its turn within the linger time.
    #[error("the peer did not finish closing in time")]
    Linger,
}

impl Close {
    /// A short fixed name, for counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed(cause) => cause.name(),
            Self::WebSocket(cause) => cause.name(),
            Self::Upgrade(cause) => cause.name(),
            Self::Peer => "peer",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Idle => "idle",
            Self::Linger => "linger",
        }
    }
}

/// What the owner has to act on.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The client wants in. The owner checks the token and answers with
    /// [`Connection::authenticated`] or [`Connection::end`]; until then it does not poll.
    Authenticate {
        /// The packet; its body is the token, its header is echoed by the reply.
        packet: Packet<'a>,
        /// The `Cookie` header of the upgrade.
        cookie: Option<&'a str>,
    },
    /// A packet of an authenticated client.
    Packet(Packet<'a>),
    /// Nothing for the owner (a ping that was answered, a packet that came before its time): poll on.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the end of the HTTP request.
    Upgrading,
    /// Waiting for the packet of operation 7.
    Unauthenticated,
    /// The owner is asking whether the token is good.
    Authenticating,
    /// In use.
    Open,
    /// Our last bytes are written; waiting for the peer to close.
    Closing,
    /// Nothing more will come.
    Closed,
}

#[derive(Debug)]
enum Framing {
    Tcp(packet::Decoder),
    WebSocket(websocket::Decoder),
}

/// Kept only until authentication.
#[derive(Debug, Default)]
struct Early {
    head: Vec<u8>,
    cookie: Option<String>,
}

/// One connection, without its socket.
#[derive(Debug)]
pub struct Connection {
    framing: Framing,
    early: Option<Box<Early>>,
    deadline: Instant,
    /// Idle limit in milliseconds, from authentication on.
    idle_ms: u32,
    phase: Phase,
    dialect: Dialect,
}

impl Connection {
    /// A TCP connection that was accepted at `now`.
    pub fn tcp(now: Instant, limits: &Limits) -> Self {
        Self::new(Framing::Tcp(packet::Decoder::default()), Phase::Unauthenticated, now, limits)
    }

    /// A TCP connection, accepted at `now`, that has yet to ask for WebSocket.
    pub fn websocket(now: Instant, limits: &Limits) -> Self {
        Self::new(Framing::WebSocket(websocket::Decoder::new(Role::Server)), Phase::Upgrading, now, limits)
    }

    fn new(framing: Framing, phase: Phase, now: Instant, limits: &Limits) -> Self {
        let deadline = now + limits.handshake;
        Self { framing, early: None, deadline, idle_ms: 0, phase, dialect: Dialect::Goim }
    }

    /// Whether packets travel in WebSocket frames.
    pub fn is_websocket(&self) -> bool {
        matches!(self.framing, Framing::WebSocket(_))
    }

    /// Whether the client speaks Anser's own operations.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the socket may be closed as soon as everything is written.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether the connection is ending, and takes no more packets in either direction.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Closed)
    }

    /// Whether the owner is being asked for the answer to [`Event::Authenticate`].
    pub fn is_authenticating(&self) -> bool {
        self.phase == Phase::Authenticating
    }

    /// When [`Self::handle_timeout`] wants to be called, if nothing comes before.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Heap bytes that are held for incomplete packets.
    pub fn held(&self) -> usize {
        let decoder = match &self.framing {
            Framing::Tcp(decoder) => decoder.held(),
            Framing::WebSocket(decoder) => decoder.held(),
        };
        decoder + self.early.as_ref().map_or(0, |early| early.head.capacity())
    }

    /// The next event, or `None` when `input` is used up. Bytes for the peer are appended to `out`.
    pub fn poll<'s, 'i: 's>(
        &'s mut self,
        now: Instant,
        input: &mut Input<'i>,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'s>>, Close> {
        match self.phase {
            Phase::Upgrading => self.upgrade(now, input, limits, out),
            Phase::Closing | Phase::Closed => {
                input.take(usize::MAX);
                Ok(None)
            }
            Phase::Unauthenticated | Phase::Authenticating | Phase::Open => {
                self.poll_packet(now, input, limits, out)
            }
        }
    }

    fn poll_packet<'s, 'i: 's>(
        &'s mut self,
        now: Instant,
        input: &mut Input<'i>,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'s>>, Close> {
        let packet = match &mut self.framing {
            Framing::Tcp(decoder) => match decoder.poll(input, limits) {
                Ok(None) => return Ok(None),
                Ok(Some(packet)) => packet,
                Err(cause) => {
                    self.phase = Phase::Closed;
                    return Err(cause.into());
                }
            },
            Framing::WebSocket(decoder) => {
                let max = packet::HEADER_LEN + limits.body;
                let message = match decoder.poll(input, max, limits.unmasked) {
                    Ok(None) => return Ok(None),
                    Ok(Some(Message::Binary(bytes))) => bytes,
                    Ok(Some(Message::Text(text))) => text.as_bytes(),
                    Ok(Some(Message::Ping(payload))) => {
                        websocket::write_frame(out, Opcode::Pong, payload, None);
                        return Ok(Some(Event::Nothing));
                    }
                    Ok(Some(Message::Pong(_))) => return Ok(Some(Event::Nothing)),
                    Ok(Some(Message::Close(close))) => {
                        let code = close.map_or(close_code::NORMAL, |(code, _)| code);
                        websocket::write_close(out, code, "", None);
                        self.phase = Phase::Closed;
                        return Err(Close::Peer);
                    }
                    Err(cause) => {
                        websocket::write_close(out, cause.close_code(), cause.name(), None);
                        self.phase = Phase::Closing;
                        self.deadline = now + limits.linger;
                        return Err(cause.into());
                    }
                };
                match packet::decode_message(message, limits.body) {
                    Ok(packet) => packet,
                    Err(cause) => {
                        websocket::write_close(out, close_code::PROTOCOL, cause.name(), None);
                        self.phase = Phase::Closing;
                        self.deadline = now + limits.linger;
                        return Err(cause.into());
                    }
                }
            }
        };
        match self.phase {
            Phase::Open => {
                self.deadline = now + Duration::from_millis(u64::from(self.idle_ms));
                Ok(Some(Event::Packet(packet)))
            }
            Phase::Unauthenticated if packet.header.op == operation::AUTH => {
                self.phase = Phase::Authenticating;
                let cookie = self.early.as_ref().and_then(|early| early.cookie.as_deref());
                Ok(Some(Event::Authenticate { packet, cookie }))
            }
            _ => Ok(Some(Event::Nothing)),
        }
    }

    fn upgrade<'s>(
        &'s mut self,
        now: Instant,
        input: &mut Input<'_>,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'s>>, Close> {
        let early = self.early.get_or_insert_default();
        // Most requests come whole; only the others are copied. A parse is tried once for each line, and
        // for the first bytes, by which other protocols show.
        let held = early.head.len();
        let room = limits.upgrade.saturating_sub(held);
        let fresh = &input.rest()[..input.len().min(room)];
        let whole = held == 0;
        if !whole {
            early.head.extend_from_slice(fresh);
        }
        let fresh_len = fresh.len();
        let worth_parsing = whole || fresh.contains(&b'\n');
        let head = if whole { fresh } else { &early.head };
        let parsed = if worth_parsing { websocket::parse_request(head) } else { Ok(None) };
        let refusal = match parsed {
            Ok(Some(request)) if request.path != WEBSOCKET_PATH => Refusal::NotFound,
            Ok(Some(request)) if !limits.origins.allow(request.origin) => Refusal::Origin,
            Ok(Some(request)) => {
                websocket::write_response(out, &request.accept);
                let len = request.len;
                early.cookie = request.cookie.map(Into::into);
                early.head = Vec::new();
                if early.cookie.is_none() {
                    self.early = None;
                }
                input.take(len - held);
                self.phase = Phase::Unauthenticated;
                return Ok(Some(Event::Nothing));
            }
            Ok(None) if fresh_len < room => {
                if whole {
                    early.head = fresh.into();
                }
                input.take(fresh_len);
                return Ok(None);
            }
            Ok(None) => Refusal::TooLarge,
            Err(refusal) => refusal,
        };
        refusal.write(out);
        self.early = None;
        self.phase = Phase::Closing;
        self.deadline = now + limits.linger;
        Err(Close::Upgrade(refusal))
    }

    /// The token is good: answers, and lets packets through. `auth` is the header of the packet that
    /// brought the token; `idle` the time without packets after which the client counts as gone.
    pub fn authenticated(
        &mut self,
        now: Instant,
        auth: Header,
        idle: Duration,
        dialect: Dialect,
        out: &mut Vec<u8>,
    ) {
        self.early = None;
        self.idle_ms = idle.as_millis().try_into().unwrap_or(u32::MAX);
        self.deadline = now + idle;
        self.dialect = dialect;
        self.phase = Phase::Open;
        self.write(auth.reply(operation::AUTH_REPLY), b"", out);
    }

    /// Appends a packet, framed for this connection's transport. Nothing once it is closing.
    pub fn write(&self, header: Header, body: &[u8], out: &mut Vec<u8>) {
        if self.is_closing() {
            return;
        }
        if self.is_websocket() {
            websocket::write_header(out, Opcode::Binary, packet::HEADER_LEN + body.len(), None);
        }
        Packet { header, body }.encode(out);
    }

    /// Ends the connection from our side. A WebSocket client is told `code` and `reason`; a TCP
    /// client sees the end of the stream, as goim's protocol has no packet for it.
    pub fn end(&mut self, now: Instant, code: u16, reason: &str, limits: &Limits, out: &mut Vec<u8>) {
        if self.is_closing() {
            return;
        }
        self.early = None;
        let upgraded = self.is_websocket() && self.phase != Phase::Upgrading;
        if upgraded {
            websocket::write_close(out, code, reason, None);
        }
        // Who was let in may have sent what nobody has read: a close would be a reset, and take with it
        // what is still on its way to the client.
        let lingers = upgraded || self.phase == Phase::Open;
        self.phase = if lingers { Phase::Closing } else { Phase::Closed };
        self.deadline = now + limits.linger;
    }

    /// Ends the connection because the server goes away. A client that speaks `anser/1` is told after
    /// how many milliseconds to come back.
    pub fn drain(&mut self, now: Instant, retry_after_ms: u32, limits: &Limits, out: &mut Vec<u8>) {
        if self.phase == Phase::Open && self.dialect == Dialect::Anser {
            let header = Header { ver: packet::PUSH_VERSION, op: operation::DRAINING, seq: 0 };
            self.write(header, &Draining { retry_after_ms }.encode_to_vec(), out);
        }
        self.end(now, close_code::GOING_AWAY, "the server is going away", limits, out);
    }

    /// To be called once [`Self::deadline`] has passed; gives the reason if the connection is over.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Close> {
        if now < self.deadline || self.phase == Phase::Closed {
            return None;
        }
        let reason = match self.phase {
            Phase::Open => Close::Idle,
            Phase::Closing | Phase::Closed => Close::Linger,
            Phase::Upgrading | Phase::Unauthenticated | Phase::Authenticating => Close::HandshakeTimeout,
        };
        if self.is_websocket() && !matches!(self.phase, Phase::Upgrading | Phase::Closing) {
            websocket::write_close(out, close_code::POLICY, reason.name(), None);
        }
        self.early = None;
        self.phase = Phase::Closed;
        Some(reason)
    }
}
