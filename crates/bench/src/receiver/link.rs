//! One connection without its socket: bytes in, packets out.
//!
//! Not [`anser_wire::client::Connection`], which also keeps time, masks and requests: a fleet holds
//! thousands of these, and what the receiving side costs is taken from the server that it measures.

use std::fmt::Display;

use anser_wire::input::Input;
use anser_wire::limits::Limits;
use anser_wire::operation::{AUTH, AUTH_REPLY, HEARTBEAT, RAW};
use anser_wire::packet::{self, Header, Packet};
use anser_wire::websocket::{self, Message, Opcode, Role};

use crate::control::Transport;

/// Largest message from the server.
const MAX_MESSAGE: usize = 16 << 20;

/// The mask of every frame. A fixed one is no protection, and a benchmark needs none.
const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x2e];

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The socket is not connected yet.
    Connecting,
    /// The WebSocket upgrade is on its way.
    Upgrading,
    /// The authentication is on its way.
    Authenticating,
    /// Pushes may come.
    Live,
}

#[derive(Debug)]
enum Framing {
    Tcp(packet::Decoder),
    WebSocket(websocket::Decoder),
}

/// The protocol state of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    framing: Framing,
    phase: Phase,
    /// The head of the upgrade's response so far; without capacity afterwards.
    head: Vec<u8>,
}

/// What a server said that no server should.
pub(crate) fn broken(error: impl Display) -> String {
    format!("bad bytes from the server: {error}")
}

/// Limits for the packets of a server, which has none of its own for bodies.
pub(crate) fn limits() -> Limits {
    Limits { body: MAX_MESSAGE, ..Limits::default() }
}

impl Link {
    /// Before the socket is connected.
    pub(crate) fn new(transport: Transport) -> Self {
        let framing = match transport {
            Transport::Tcp => Framing::Tcp(packet::Decoder::default()),
            Transport::Websocket => Framing::WebSocket(websocket::Decoder::new(Role::Client)),
        };
        Self { framing, phase: Phase::Connecting, head: Vec::new() }
    }

    /// How far it is.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The socket is connected: appends the first request to `out`.
    pub(crate) fn opened(&mut self, number: u64, host: &str, token: &str, out: &mut Vec<u8>) {
        match self.framing {
            Framing::Tcp(_) => self.authenticate(token, out),
            Framing::WebSocket(_) => {
                websocket::write_request(out, host, "/sub", &upgrade_key(number));
                self.phase = Phase::Upgrading;
            }
        }
    }

    fn authenticate(&mut self, token: &str, out: &mut Vec<u8>) {
        self.phase = Phase::Authenticating;
        self.request(AUTH, token.as_bytes(), out);
    }

    /// Appends a request.
    fn request(&self, op: i32, body: &[u8], out: &mut Vec<u8>) {
        let packet = Packet { header: Header { ver: 1, op, seq: 1 }, body };
        match self.framing {
            Framing::Tcp(_) => packet.encode(out),
            Framing::WebSocket(_) => {
                let mut bytes = Vec::with_capacity(packet::HEADER_LEN + body.len());
                packet.encode(&mut bytes);
                websocket::write_frame(out, Opcode::Binary, &bytes, Some(MASK));
            }
        }
    }

    /// Appends a heartbeat.
    pub(crate) fn heartbeat(&self, out: &mut Vec<u8>) {
        self.request(HEARTBEAT, b"", out);
    }

    /// Takes what was read and hands on each packet, those in a container one by one; the reply to the
    /// authentication only makes the link [`Phase::Live`]. `token` is asked for when it is time to
    /// authenticate over WebSocket. What has to be sent is appended to `out`.
    pub(crate) fn read(
        &mut self,
        number: u64,
        bytes: &mut [u8],
        limits: &Limits,
        token: impl FnOnce() -> String,
        out: &mut Vec<u8>,
        mut each: impl FnMut(Packet<'_>),
    ) -> Result<(), String> {
        let mut input = Input::new(bytes);
        if self.phase == Phase::Upgrading {
            let held = self.head.len();
            self.head.extend_from_slice(input.rest());
            match websocket::parse_response(&self.head, &upgrade_key(number)).map_err(broken)? {
                None if self.head.len() > limits.upgrade => return Err(broken("an endless upgrade")),
                None => return Ok(()),
                Some(len) => {
                    input.take(len - held);
                    self.head = Vec::new();
                    self.authenticate(&token(), out);
                }
            }
        }
        let phase = &mut self.phase;
        let mut each = |packet: Packet<'_>| {
            if *phase == Phase::Authenticating && packet.header.op == AUTH_REPLY {
                *phase = Phase::Live;
            } else {
                each(packet);
            }
        };
        match &mut self.framing {
            Framing::Tcp(decoder) => {
                while let Some(packet) = decoder.poll(&mut input, limits).map_err(broken)? {
                    each(packet);
                }
            }
            Framing::WebSocket(decoder) => {
                while let Some(message) = decoder.poll(&mut input, MAX_MESSAGE, false).map_err(broken)? {
                    match message {
                        Message::Binary(payload) => walk(payload, &mut each)?,
                        Message::Ping(payload) => {
                            websocket::write_frame(out, Opcode::Pong, payload, Some(MASK));
                        }
                        Message::Close(reason) => return Err(format!("closed with {reason:?}")),
                        Message::Text(_) | Message::Pong(_) => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// The packet of a WebSocket message, or those in its container.
fn walk(payload: &[u8], each: &mut impl FnMut(Packet<'_>)) -> Result<(), String> {
    let packet = packet::decode_message(payload, MAX_MESSAGE).map_err(broken)?;
    if packet.header.op != RAW {
        each(packet);
        return Ok(());
    }
    for inner in packet::decode_all(packet.body) {
        each(inner.map_err(broken)?);
    }
    Ok(())
}

/// The nonce of the upgrade.
fn upgrade_key(number: u64) -> [u8; 16] {
    let mut key = *b"anser-bench.....";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use anser_wire::push::Frame;

    use super::*;

    fn reply() -> Frame {
        Frame::plain(Header { ver: 1, op: AUTH_REPLY, seq: 1 }, b"")
    }

    /// Feeds `stream` in pieces of `piece` bytes; gives the operations and bodies of what came out.
    fn feed(link: &mut Link, stream: &[u8], piece: usize) -> Result<Vec<(i32, Vec<u8>)>, String> {
        let mut packets = Vec::new();
        for chunk in stream.chunks(piece) {
            let mut bytes = chunk.to_vec();
            let token = || "token".to_owned();
            link.read(0, &mut bytes, &limits(), token, &mut Vec::new(), |packet| {
                packets.push((packet.header.op, packet.body.to_vec()));
            })?;
        }
        Ok(packets)
    }

    #[test]
    fn pushes_come_out_on_both_transports() {
        let expected = vec![(1000, b"first".to_vec()), (1001, b"second".to_vec())];
        let frames = [Frame::push(1000, b"first"), Frame::push(1001, b"second")];
        for piece in [1, 7, 1000] {
            let mut tcp = Link::new(Transport::Tcp);
            tcp.opened(0, "host", "token", &mut Vec::new());
            let stream = [reply().tcp(), frames[0].tcp(), frames[1].tcp()].concat();
            assert_eq!(feed(&mut tcp, &stream, piece), Ok(expected.clone()));
            assert_eq!(tcp.phase(), Phase::Live);

            let mut websocket = Link::new(Transport::Websocket);
            let mut request = Vec::new();
            websocket.opened(0, "host", "token", &mut request);
            let mut response = Vec::new();
            let accept = websocket::parse_request(&request).unwrap().unwrap().accept;
            websocket::write_response(&mut response, &accept);
            let stream =
                [&response, reply().websocket(), frames[0].websocket(), frames[1].websocket()].concat();
            assert_eq!(feed(&mut websocket, &stream, piece), Ok(expected.clone()));
            assert_eq!(websocket.phase(), Phase::Live);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut link = Link::new(Transport::Tcp);
        link.opened(0, "host", "token", &mut Vec::new());
        assert!(feed(&mut link, b"HTTP/1.1 400 Bad Request\r\n\r\n", 100).is_err());
    }
}
