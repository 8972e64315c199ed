//! The client's end of a connection: upgrade, authentication, heartbeats, what the server says.
//!
//! The owner calls [`Connection::poll`] with what was read until it gives `None`, sends what was
//! appended to `out`, and calls [`Connection::handle_timeout`] when [`Connection::deadline`] has
//! passed.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use prost::Message as _;
use thiserror::Error;

use crate::anser;
use crate::input::Input;
use crate::limits::Limits;
use crate::operation::{self, Dialect};
use crate::packet::{self, Header, Malformed, Packet};
use crate::time::Instant;
use crate::websocket::{self, Message, Opcode, Role, UpgradeError, Violation, close_code};

/// Why a connection ended, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Closed {
    /// The server sent bytes that are no packet: it is no Anser, or something between us and it
    /// changes bytes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The server broke RFC 6455.
    #[error(transparent)]
    WebSocket(#[from] Violation),
    /// The server did not upgrade to WebSocket.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// The server closed, and said why.
    #[error("closed by the server with code {code}: {reason}")]
    Server {
        /// WebSocket close code.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// The upgrade and the authentication took too long.
    #[error("not authenticated within {0:?}")]
    HandshakeTimeout(Duration),
    /// A heartbeat was not answered in time, and nothing else came either.
    #[error("no answer to a heartbeat within {0:?}")]
    HeartbeatTimeout(Duration),
}

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The WebSocket is open; the owner authenticates now. TCP connections start in this state.
    Upgraded,
    /// The connection is authenticated.
    Authenticated,
    /// The answer to a heartbeat: connections in the client's room.
    Heartbeat {
        /// The sequence number of the heartbeat.
        seq: i32,
        /// 0 without a room.
        online: i32,
    },
    /// A plain packet: the answer to a request, or (on TCP) a push.
    Packet(Packet<'a>),
    /// Pushes that came in one container; walk them with [`packet::decode_all`].
    Pushes(&'a [u8]),
    /// A request was refused.
    Refused {
        /// The sequence number of the request.
        seq: i32,
        /// Why.
        error: anser::Error,
    },
    /// Pushes were lost since the last such event.
    Dropped(u64),
    /// No more pullable pushes until the client has pulled, and said [`operation::LIVE`].
    Behind,
    /// The server is about to close; come back after this time.
    Draining(Duration),
    /// Nothing for the owner: poll on.
    Nothing,
}

/// How the client keeps time.
#[derive(Clone, Debug)]
pub struct Timing {
    /// From the start until authentication is complete.
    pub handshake: Duration,
    /// From one heartbeat to the next. Must be shorter than the server's idle limit.
    pub heartbeat: Duration,
    /// How long the server may send nothing while a heartbeat waits for its answer.
    pub heartbeat_reply: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(8),
            heartbeat: Duration::from_secs(240),
            heartbeat_reply: Duration::from_secs(15),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Upgrading,
    Ready,
    Authenticated,
    Closed,
}

#[derive(Debug)]
enum Framing {
    Tcp(packet::Decoder),
    WebSocket { decoder: websocket::Decoder, key: [u8; 16], head: Vec<u8>, masks: u64 },
}

/// One connection, without its socket.
#[derive(Debug)]
pub struct Connection {
    framing: Framing,
    phase: Phase,
    dialect: Dialect,
    /// When the handshake has taken too long; once authenticated, when the next heartbeat leaves.
    due: Instant,
    /// When the heartbeat that is out counts as lost, if one is and nothing comes.
    answer_due: Option<Instant>,
    reading: bool,
    timing: Timing,
    limits: Limits,
    seq: i32,
}

impl Connection {
    /// A connection over plain TCP.
    pub fn tcp(now: Instant, timing: Timing) -> Self {
        Self::new(Framing::Tcp(packet::Decoder::default()), Phase::Ready, now, timing)
    }

    /// A connection over WebSocket; appends the upgrade request to `out`. `random` seeds the key and
    /// the masks, and comes from the system's generator (RFC 6455 §10.3).
    pub fn websocket(
        now: Instant,
        timing: Timing,
        host: &str,
        path_and_query: &str,
        random: u128,
        out: &mut Vec<u8>,
    ) -> Self {
        let key = random.to_be_bytes();
        websocket::write_request(out, host, path_and_query, &key);
        let framing = Framing::WebSocket {
            decoder: websocket::Decoder::new(Role::Client),
            key,
            head: Vec::new(),
            masks: (random >> 64) as u64 ^ random as u64,
        };
        Self::new(framing, Phase::Upgrading, now, timing)
    }

    fn new(framing: Framing, phase: Phase, now: Instant, timing: Timing) -> Self {
        Self {
            framing,
            phase,
            dialect: Dialect::Goim,
            due: now + timing.handshake,
            answer_due: None,
            reading: true,
            timing,
            limits: Limits { body: 16 << 20, ..Limits::default() },
            seq: 0,
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn deadline(&self) -> Instant {
        match self.answer_due {
            Some(answer_due) if self.reading => self.due.min(answer_due),
            _ => self.due,
        }
    }

    /// Whether requests can be sent.
    pub fn is_authenticated(&self) -> bool {
        self.phase == Phase::Authenticated
    }

    /// Says whether the owner reads. While it does not (it has no room for what would come), answers
    /// lie unread in the socket: heartbeats leave all the same, and none counts as lost.
    pub fn set_reading(&mut self, now: Instant, reading: bool) {
        if reading && !self.reading && self.answer_due.is_some() {
            self.answer_due = Some(now + self.timing.heartbeat_reply);
        }
        self.reading = reading;
    }

    /// Appends a request with a body and gives its sequence number, which the answer will carry.
    pub fn request(&mut self, op: i32, body: &[u8], out: &mut Vec<u8>) -> i32 {
        self.seq = self.seq.checked_add(1).unwrap_or(1);
        let header = Header { ver: 1, op, seq: self.seq };
        match &mut self.framing {
            Framing::Tcp(_) => Packet { header, body }.encode(out),
            Framing::WebSocket { masks, .. } => {
                let mut bytes = Vec::with_capacity(packet::HEADER_LEN + body.len());
                Packet { header, body }.encode(&mut bytes);
                websocket::write_frame(out, Opcode::Binary, &bytes, Some(next_mask(masks)));
            }
        }
        self.seq
    }

    /// Appends the authentication request. `dialect` is what the token asks for: whether packets of
    /// Anser's own operations are what they seem, or an application's pushes and answers.
    pub fn authenticate(&mut self, token: &[u8], dialect: Dialect, out: &mut Vec<u8>) -> i32 {
        self.dialect = dialect;
        self.request(operation::AUTH, token, out)
    }

    /// Says goodbye: a WebSocket close frame, or nothing on TCP. The owner then closes the socket.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if let Framing::WebSocket { masks, .. } = &mut self.framing
            && !matches!(self.phase, Phase::Upgrading | Phase::Closed)
        {
            websocket::write_close(out, close_code::NORMAL, "", Some(next_mask(masks)));
        }
        self.phase = Phase::Closed;
    }

    /// The next event, or `None` when `input` is used up.
    pub fn poll<'s, 'i: 's>(
        &'s mut self,
        now: Instant,
        input: &mut Input<'i>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'s>>, Closed> {
        if self.phase == Phase::Upgrading {
            return self.upgrade(input);
        }
        let websocket = matches!(self.framing, Framing::WebSocket { .. });
        let packet = match &mut self.framing {
            Framing::Tcp(decoder) => match decoder.poll(input, &self.limits)? {
                None => return Ok(None),
                Some(packet) => packet,
            },
            Framing::WebSocket { decoder, masks, .. } => {
                let max = packet::HEADER_LEN + self.limits.body;
                let bytes = match decoder.poll(input, max, false)? {
                    None => return Ok(None),
                    Some(Message::Binary(bytes)) => bytes,
                    Some(Message::Text(text)) => text.as_bytes(),
                    Some(Message::Ping(payload)) => {
                        websocket::write_frame(out, Opcode::Pong, payload, Some(next_mask(masks)));
                        return Ok(Some(Event::Nothing));
                    }
                    Some(Message::Pong(_)) => return Ok(Some(Event::Nothing)),
                    Some(Message::Close(close)) => {
                        let (code, reason) = close.unwrap_or((close_code::NORMAL, ""));
                        websocket::write_close(out, code, "", Some(next_mask(masks)));
                        return Err(Closed::Server { code, reason: reason.to_string() });
                    }
                };
                packet::decode_message(bytes, self.limits.body)?
            }
        };
        // Whoever sends is there, though the answer lies behind all that.
        if let Some(due) = &mut self.answer_due {
            *due = now + self.timing.heartbeat_reply;
        }
        let Packet { header, body } = packet;
        let anser = self.dialect == Dialect::Anser;
        // On TCP a push may have any number, but only answers carry a sequence number.
        Ok(Some(match header.op {
            operation::AUTH_REPLY if self.phase == Phase::Ready => {
                self.phase = Phase::Authenticated;
                self.due = now + self.timing.heartbeat;
                Event::Authenticated
            }
            operation::HEARTBEAT_REPLY if header.seq != 0 => {
                self.answer_due = None;
                let online = body.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes));
                Event::Heartbeat { seq: header.seq, online }
            }
            operation::RAW if websocket => Event::Pushes(body),
            operation::ERROR if anser => match anser::Error::decode(body) {
                Ok(error) => Event::Refused { seq: header.seq, error },
                Err(_) => Event::Nothing,
            },
            operation::DROPPED if anser => match anser::Dropped::decode(body) {
                Ok(dropped) => Event::Dropped(dropped.count),
                Err(_) => Event::Nothing,
            },
            operation::DRAINING if anser => match anser::Draining::decode(body) {
                Ok(draining) => Event::Draining(Duration::from_millis(draining.retry_after_ms.into())),
                Err(_) => Event::Nothing,
            },
            operation::BEHIND if anser => Event::Behind,
            _ => Event::Packet(packet),
        }))
    }

    fn upgrade<'s>(&mut self, input: &mut Input<'_>) -> Result<Option<Event<'s>>, Closed> {
        let Framing::WebSocket { head, key, .. } = &mut self.framing else { return Ok(None) };
        let held = head.len();
        head.extend_from_slice(input.rest());
        match websocket::parse_response(head, key)? {
            None if head.len() > self.limits.upgrade => Err(UpgradeError::Malformed.into()),
            None => {
                input.take(usize::MAX);
                Ok(None)
            }
            Some(len) => {
                input.take(len - held);
                *head = Vec::new();
                self.phase = Phase::Ready;
                Ok(Some(Event::Upgraded))
            }
        }
    }

    /// To be called once [`Self::deadline`] has passed: sends a heartbeat, or finds that the server
    /// is gone.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Closed> {
        if now < self.deadline() {
            return Ok(());
        }
        match self.phase {
            Phase::Upgrading | Phase::Ready => Err(Closed::HandshakeTimeout(self.timing.handshake)),
            Phase::Authenticated if self.reading && self.answer_due.is_some_and(|due| due <= now) => {
                Err(Closed::HeartbeatTimeout(self.timing.heartbeat_reply))
            }
            Phase::Authenticated => {
                self.heartbeat(now, out);
                Ok(())
            }
            Phase::Closed => Ok(()),
        }
    }

    /// Sends a heartbeat now, whenever the next one would be due. Only on authenticated connections.
    pub fn heartbeat(&mut self, now: Instant, out: &mut Vec<u8>) -> i32 {
        self.due = now + self.timing.heartbeat;
        self.answer_due.get_or_insert(now + self.timing.heartbeat_reply);
        self.request(operation::HEARTBEAT, b"", out)
    }
}

/// The next masking key: splitmix64 over a seed from the system's generator.
fn next_mask(state: &mut u64) -> [u8; 4] {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const BEAT: Duration = Duration::from_secs(60);
    const REPLY: Duration = Duration::from_secs(5);

    /// A TCP connection that was authenticated at time 0.
    fn authenticated(dialect: Dialect) -> Connection {
        let timing = Timing { heartbeat: BEAT, heartbeat_reply: REPLY, ..Timing::default() };
        let mut connection = Connection::tcp(Instant::ZERO, timing);
        let seq = connection.authenticate(b"token", dialect, &mut Vec::new());
        assert!(!connection.is_authenticated());
        check(&mut connection, (operation::AUTH_REPLY, seq, b""), &Event::Authenticated);
        assert!(connection.is_authenticated());
        connection
    }

    fn check(connection: &mut Connection, packet: (i32, i32, &[u8]), expected: &Event<'_>) {
        check_at(Instant::ZERO, connection, packet, expected);
    }

    fn check_at(
        now: Instant,
        connection: &mut Connection,
        (op, seq, body): (i32, i32, &[u8]),
        expected: &Event<'_>,
    ) {
        let mut bytes = Vec::new();
        Packet { header: Header { ver: 1, op, seq }, body }.encode(&mut bytes);
        let mut out = Vec::new();
        let mut input = Input::new(&mut bytes);
        assert_eq!(connection.poll(now, &mut input, &mut out).unwrap().as_ref(), Some(expected));
    }

    /// Operations of the sent packets.
    fn sent(out: &[u8]) -> Vec<i32> {
        packet::decode_all(out).map(|packet| packet.unwrap().header.op).collect()
    }

    /// What is a push, and what belongs to the protocol, by dialect, operation and sequence number.
    #[test]
    fn numbers_are_read_by_dialect_and_sequence() {
        let push =
            |op, seq, body: &'static [u8]| Event::Packet(Packet { header: Header { ver: 1, op, seq }, body });
        let goim = &mut authenticated(Dialect::Goim);
        let anser = &mut authenticated(Dialect::Anser);
        for connection in [&mut *goim, &mut *anser] {
            check(connection, (operation::HEARTBEAT_REPLY, 0, b"push"), &push(3, 0, b"push"));
            check(connection, (operation::AUTH_REPLY, 0, b"push"), &push(8, 0, b"push"));
            check(connection, (operation::RAW, 0, b"push"), &push(9, 0, b"push"));
            check(
                connection,
                (operation::HEARTBEAT_REPLY, 2, &[0, 0, 0, 7]),
                &Event::Heartbeat { seq: 2, online: 7 },
            );
            check(connection, (1000, 0, b"push"), &push(1000, 0, b"push"));
        }
        check(goim, (operation::BEHIND, 0, b""), &push(107, 0, b""));
        check(anser, (operation::BEHIND, 0, b""), &Event::Behind);
        let dropped = anser::Dropped { count: 3 }.encode_to_vec();
        check(anser, (operation::DROPPED, 0, &dropped), &Event::Dropped(3));
        let draining = anser::Draining { retry_after_ms: 250 }.encode_to_vec();
        check(anser, (operation::DRAINING, 0, &draining), &Event::Draining(Duration::from_millis(250)));
        let error = anser::Error { op: operation::JOIN, ..anser::Error::default() };
        check(anser, (operation::ERROR, 9, &error.encode_to_vec()), &Event::Refused { seq: 9, error });
    }

    #[test]
    fn an_unanswered_heartbeat_ends_the_connection() {
        let mut connection = authenticated(Dialect::Goim);
        let mut out = Vec::new();
        assert_eq!(connection.deadline(), Instant::ZERO + BEAT);
        let sent_at = connection.deadline();
        connection.handle_timeout(sent_at, &mut out).unwrap();
        assert_eq!(sent(&out), [operation::HEARTBEAT]);
        // The owner's own heartbeats do not put the end off.
        connection.heartbeat(sent_at + REPLY / 2, &mut out);
        assert_eq!(connection.deadline(), sent_at + REPLY);
        // Whatever the server sends does.
        let push = Packet { header: Header { ver: 1, op: 1000, seq: 0 }, body: b"" };
        check_at(sent_at + REPLY / 2, &mut connection, (1000, 0, b""), &Event::Packet(push));
        assert_eq!(connection.deadline(), sent_at + REPLY / 2 + REPLY);
        let end = connection.handle_timeout(connection.deadline(), &mut out);
        assert_eq!(end, Err(Closed::HeartbeatTimeout(REPLY)));
    }

    #[test]
    fn heartbeats_leave_on_time_while_nothing_is_read() {
        let mut connection = authenticated(Dialect::Goim);
        let mut out = Vec::new();
        connection.set_reading(Instant::ZERO, false);
        for _ in 0..3 {
            connection.handle_timeout(connection.deadline(), &mut out).unwrap();
        }
        assert_eq!(sent(&out), vec![operation::HEARTBEAT; 3]);
        let resumed = Instant::ZERO + BEAT * 3 + BEAT / 2;
        assert_eq!(connection.deadline(), Instant::ZERO + BEAT * 4);
        // Reading again, the answers have their time from now on.
        connection.set_reading(resumed, true);
        assert_eq!(connection.deadline(), resumed + REPLY);
        check(&mut connection, (operation::HEARTBEAT_REPLY, 2, b""), &Event::Heartbeat { seq: 2, online: 0 });
        assert_eq!(connection.deadline(), Instant::ZERO + BEAT * 4);
    }
}
