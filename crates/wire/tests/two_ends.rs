//! Both ends of a connection on one virtual clock: what one writes the other reads after a latency,
//! cut into pieces, and time passes only when the test says so.

use std::collections::VecDeque;
use std::time::Duration;

use anser_wire::client::{self, Closed, Timing};
use anser_wire::input::Input;
use anser_wire::limits::Limits;
use anser_wire::operation::{self, Dialect};
use anser_wire::packet::{Header, decode_all};
use anser_wire::push::Frame;
use anser_wire::server::{self, Close};
use anser_wire::time::Instant;
use proptest::prelude::*;

const IDLE: Duration = Duration::from_secs(480);

/// What the client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Authenticated,
    Online(i32),
    Reply(i32, Vec<u8>),
    Push(i32, Vec<u8>),
    Draining(Duration),
    Closed(Closed),
}

/// Bytes on their way, each piece with its time of arrival.
type Line = VecDeque<(Instant, Vec<u8>)>;

struct Pair {
    now: Instant,
    latency: Duration,
    /// Size of the pieces in which bytes arrive.
    piece: usize,
    limits: Limits,
    timing: Timing,
    dialect: Dialect,
    websocket: bool,
    token: Vec<u8>,
    server: server::Connection,
    client: client::Connection,
    up: Line,
    down: Line,
    seen: Vec<Seen>,
    /// How the server's side ended.
    ended: Option<Close>,
    /// Whether the client still answers.
    client_alive: bool,
}

impl Pair {
    fn new(websocket: bool) -> Self {
        Self::speaking(websocket, Dialect::Goim)
    }

    fn speaking(websocket: bool, dialect: Dialect) -> Self {
        let limits = Limits::default();
        let timing = Timing::default();
        let now = Instant::ZERO;
        let mut out = Vec::new();
        let (server, client) = if websocket {
            let client = client::Connection::websocket(now, timing.clone(), "anser", "/sub?v=1", 7, &mut out);
            (server::Connection::websocket(now, &limits), client)
        } else {
            (server::Connection::tcp(now, &limits), client::Connection::tcp(now, timing.clone()))
        };
        let mut pair = Self {
            now,
            latency: Duration::from_millis(20),
            piece: usize::MAX,
            limits,
            timing,
            dialect,
            websocket,
            token: b"{}".to_vec(),
            server,
            client,
            up: Line::new(),
            down: Line::new(),
            seen: Vec::new(),
            ended: None,
            client_alive: true,
        };
        if !websocket {
            let token = pair.token.clone();
            pair.client.authenticate(&token, dialect, &mut out);
        }
        pair.send_up(&out);
        pair
    }

    fn send_up(&mut self, bytes: &[u8]) {
        let at = self.now + self.latency;
        for piece in bytes.chunks(self.piece) {
            self.up.push_back((at, piece.to_vec()));
        }
    }

    fn send_down(&mut self, bytes: &[u8]) {
        let at = self.now + self.latency;
        for piece in bytes.chunks(self.piece) {
            self.down.push_back((at, piece.to_vec()));
        }
    }

    /// Lets time pass, event by event.
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let mut next = end;
            if self.ended.is_none() {
                next = next.min(self.server.deadline());
            }
            if self.client_alive {
                next = next.min(self.client.deadline());
            }
            for line in [&self.up, &self.down] {
                if let Some((at, _)) = line.front() {
                    next = next.min(*at);
                }
            }
            self.now = next.max(self.now);
            self.step();
            let due =
                [&self.up, &self.down].iter().any(|line| line.front().is_some_and(|(at, _)| *at <= self.now));
            if self.now >= end && !due {
                return;
            }
        }
    }

    /// Lets time pass until so many milliseconds before `end`.
    fn run_until(&mut self, end: Instant, before: u64) {
        self.run_for(Instant(end.0 - before).since(self.now));
    }

    fn step(&mut self) {
        while self.up.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, mut bytes) = self.up.pop_front().unwrap();
            self.server_reads(&mut bytes);
        }
        while self.down.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, mut bytes) = self.down.pop_front().unwrap();
            self.client_reads(&mut bytes);
        }
        let mut out = Vec::new();
        if self.ended.is_none()
            && let Some(close) = self.server.handle_timeout(self.now, &mut out)
        {
            self.ended = Some(close);
            self.send_down(&std::mem::take(&mut out));
        }
        if self.client_alive {
            let result = self.client.handle_timeout(self.now, &mut out);
            self.send_up(&out);
            if let Err(closed) = result {
                self.client_alive = false;
                self.seen.push(Seen::Closed(closed));
            }
        }
    }

    fn server_reads(&mut self, bytes: &mut [u8]) {
        let mut input = Input::new(bytes);
        let mut out = Vec::new();
        loop {
            match self.server.poll(self.now, &mut input, &self.limits, &mut out) {
                Ok(None) => break,
                Ok(Some(server::Event::Nothing)) => {}
                Ok(Some(server::Event::Authenticate { packet, .. })) => {
                    let auth = packet.header;
                    self.server.authenticated(self.now, auth, IDLE, self.dialect, &mut out);
                }
                Ok(Some(server::Event::Packet(packet))) => {
                    let header = packet.header;
                    if header.op == operation::HEARTBEAT {
                        let header = header.reply(operation::HEARTBEAT_REPLY);
                        self.server.write(header, &5i32.to_be_bytes(), &mut out);
                    } else {
                        self.server.write(header, b"", &mut out);
                    }
                }
                Err(close) => {
                    self.ended = self.ended.or(Some(close));
                    break;
                }
            }
        }
        self.send_down(&out);
    }

    fn client_reads(&mut self, bytes: &mut [u8]) {
        if !self.client_alive {
            return;
        }
        let mut input = Input::new(bytes);
        let mut out = Vec::new();
        loop {
            let event = match self.client.poll(self.now, &mut input, &mut out) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(closed) => {
                    self.client_alive = false;
                    self.seen.push(Seen::Closed(closed));
                    break;
                }
            };
            match event {
                client::Event::Upgraded => {
                    let token = self.token.clone();
                    self.client.authenticate(&token, self.dialect, &mut out);
                }
                client::Event::Authenticated => self.seen.push(Seen::Authenticated),
                client::Event::Heartbeat { online, .. } => self.seen.push(Seen::Online(online)),
                client::Event::Packet(packet) if packet.header.seq == 0 => {
                    self.seen.push(Seen::Push(packet.header.op, packet.body.to_vec()));
                }
                client::Event::Packet(packet) => {
                    self.seen.push(Seen::Reply(packet.header.op, packet.body.to_vec()));
                }
                client::Event::Pushes(bytes) => {
                    for packet in decode_all(bytes) {
                        let packet = packet.unwrap();
                        self.seen.push(Seen::Push(packet.header.op, packet.body.to_vec()));
                    }
                }
                client::Event::Draining(after) => self.seen.push(Seen::Draining(after)),
                client::Event::Nothing => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        self.send_up(&out);
    }

    fn push(&mut self, op: i32, body: &[u8]) {
        let frame = Frame::push(op, body);
        let bytes = if self.websocket { frame.websocket() } else { frame.tcp() };
        self.send_down(bytes);
    }
}

#[test]
fn a_client_gets_in_and_stays_in() {
    for websocket in [false, true] {
        for piece in [1, 7, usize::MAX] {
            let mut pair = Pair::new(websocket);
            pair.piece = piece;
            pair.run_for(Duration::from_secs(1));
            assert_eq!(pair.seen, [Seen::Authenticated]);
            pair.push(1000, b"hello");
            pair.run_for(Duration::from_secs(1));
            assert_eq!(pair.seen[1..], [Seen::Push(1000, b"hello".to_vec())]);
            // An hour of heartbeats: both ends stay, and nothing is held in between.
            pair.run_for(Duration::from_secs(3600));
            let beats = pair.seen.iter().filter(|seen| **seen == Seen::Online(5)).count();
            assert!((14..=15).contains(&beats), "{beats} heartbeats");
            assert_eq!(pair.ended, None);
            assert!(pair.client_alive);
            assert_eq!(pair.server.held(), 0);
        }
    }
}

#[test]
fn a_client_that_says_nothing_is_cut_at_the_handshake_limit() {
    for websocket in [false, true] {
        let mut pair = Pair::new(websocket);
        pair.up.clear();
        pair.client_alive = false;
        pair.run_until(Instant::ZERO + pair.limits.handshake, 1);
        assert_eq!(pair.ended, None);
        pair.run_for(Duration::from_millis(1));
        assert_eq!(pair.ended, Some(Close::HandshakeTimeout));
        assert!(pair.server.is_closed());
    }
}

#[test]
fn packets_before_authentication_are_ignored_but_buy_no_time() {
    let mut pair = Pair::new(false);
    pair.up.clear();
    pair.client_alive = false;
    for _ in 0..70 {
        let mut out = Vec::new();
        pair.client.request(operation::HEARTBEAT, b"", &mut out);
        pair.send_up(&out);
        pair.run_for(Duration::from_millis(110));
    }
    assert!(pair.seen.is_empty());
    pair.run_for(Duration::from_millis(400));
    assert_eq!(pair.ended, Some(Close::HandshakeTimeout));
}

#[test]
fn a_client_that_falls_silent_is_cut_at_the_idle_limit() {
    for websocket in [false, true] {
        let mut pair = Pair::new(websocket);
        pair.run_for(Duration::from_secs(1));
        pair.client_alive = false;
        let last_packet = pair.server.deadline();
        pair.run_until(last_packet, 1);
        assert_eq!(pair.ended, None);
        pair.run_for(Duration::from_millis(1));
        assert_eq!(pair.ended, Some(Close::Idle));
    }
}

#[test]
fn half_a_packet_for_ever_is_cut_at_the_idle_limit() {
    let mut pair = Pair::new(false);
    pair.run_for(Duration::from_secs(1));
    pair.client_alive = false;
    let mut out = Vec::new();
    pair.client.request(1000, &[0; 1000], &mut out);
    for byte in &out[..1000] {
        pair.send_up(&[*byte]);
        pair.run_for(Duration::from_millis(500));
    }
    assert_eq!(pair.ended, Some(Close::Idle));
}

#[test]
fn a_server_that_falls_silent_is_noticed_by_the_heartbeat() {
    let mut pair = Pair::new(true);
    pair.run_for(Duration::from_secs(1));
    pair.latency = Duration::from_secs(100_000);
    pair.run_for(pair.timing.heartbeat);
    pair.run_until(pair.now + pair.timing.heartbeat_reply, 2000);
    assert!(pair.client_alive);
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.seen.last(), Some(&Seen::Closed(Closed::HeartbeatTimeout(pair.timing.heartbeat_reply))));
}

#[test]
fn draining_tells_anser_clients_when_to_return() {
    for (websocket, dialect) in
        [(false, Dialect::Anser), (true, Dialect::Anser), (true, Dialect::Goim), (false, Dialect::Goim)]
    {
        let mut pair = Pair::speaking(websocket, dialect);
        pair.run_for(Duration::from_secs(1));
        let mut out = Vec::new();
        let (now, limits) = (pair.now, pair.limits.clone());
        pair.server.drain(now, 1234, &limits, &mut out);
        assert!(pair.server.is_closing());
        pair.send_down(&out);
        pair.run_for(Duration::from_millis(50));
        let mut expected = vec![Seen::Authenticated];
        if dialect == Dialect::Anser {
            expected.push(Seen::Draining(Duration::from_millis(1234)));
        }
        if websocket {
            let reason = "the server is going away".to_owned();
            expected.push(Seen::Closed(Closed::Server { code: 1001, reason }));
        }
        assert_eq!(pair.seen, expected);
        // A client that does not close in its turn is cut.
        pair.ended = None;
        pair.up.clear();
        pair.run_for(pair.limits.linger);
        assert_eq!(pair.ended, Some(Close::Linger));
        assert!(pair.server.is_closed());
    }
}

#[test]
fn bytes_that_are_no_packet_end_in_a_close_with_a_reason() {
    let mut pair = Pair::new(true);
    pair.run_for(Duration::from_secs(1));
    // A frame with reserved bits, as no client of ours would send it.
    pair.send_up(&[0xf2, 0x80, 0, 0, 0, 0]);
    pair.run_for(Duration::from_millis(50));
    assert_eq!(pair.ended.map(Close::name), Some("reserved_bits"));
    assert!(matches!(pair.seen.last(), Some(Seen::Closed(Closed::Server { code: 1002, .. }))));
}

/// The events of a server that reads `bytes` in these pieces, as text.
fn events(websocket: bool, bytes: &[u8], cuts: &[usize]) -> Vec<String> {
    let limits = Limits::default();
    let mut server = if websocket {
        server::Connection::websocket(Instant::ZERO, &limits)
    } else {
        server::Connection::tcp(Instant::ZERO, &limits)
    };
    let mut seen = Vec::new();
    let mut from = 0;
    let mut out = Vec::new();
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[from..cut].to_vec();
        from = cut;
        let mut input = Input::new(&mut piece);
        loop {
            match server.poll(Instant::ZERO, &mut input, &limits, &mut out) {
                Ok(None) => break,
                Ok(Some(server::Event::Nothing)) => {}
                Ok(Some(event)) => {
                    seen.push(format!("{event:?}"));
                    if let server::Event::Authenticate { packet, .. } = event {
                        let auth: Header = packet.header;
                        server.authenticated(Instant::ZERO, auth, IDLE, Dialect::Anser, &mut out);
                    }
                }
                Err(close) => {
                    seen.push(format!("{close:?}"));
                    return seen;
                }
            }
        }
    }
    seen.push(format!("{out:?}"));
    seen
}

proptest! {
    /// However the bytes of a client are cut into reads, the events and the answers are the same; also
    /// when some byte of them is wrong.
    #[test]
    fn any_split_gives_the_same_events(
        websocket: bool,
        requests in prop::collection::vec((0i32..20, prop::collection::vec(any::<u8>(), 0..200)), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = Vec::new();
        let mut client = if websocket {
            let mut client = client::Connection::websocket(
                Instant::ZERO, Timing::default(), "anser", "/sub", 9, &mut bytes,
            );
            let mut response = server_response(&bytes);
            let event = client.poll(Instant::ZERO, &mut Input::new(&mut response), &mut bytes);
            prop_assert_eq!(event, Ok(Some(client::Event::Upgraded)));
            client
        } else {
            client::Connection::tcp(Instant::ZERO, Timing::default())
        };
        client.authenticate(b"{}", Dialect::Goim, &mut bytes);
        for (op, body) in &requests {
            client.request(*op, body, &mut bytes);
        }
        if let Some((at, bits)) = damage {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(events(websocket, &bytes, &cuts), events(websocket, &bytes, &[]));
    }

    /// No bytes make either end panic.
    #[test]
    fn garbage_never_panics(websocket: bool, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        events(websocket, &bytes, &[]);
        let mut out = Vec::new();
        let mut client = client::Connection::tcp(Instant::ZERO, Timing::default());
        let mut copy = bytes.clone();
        let mut input = Input::new(&mut copy);
        while let Ok(Some(_)) = client.poll(Instant::ZERO, &mut input, &mut out) {}
    }
}

/// What a server answers to an upgrade request.
fn server_response(request: &[u8]) -> Vec<u8> {
    let limits = Limits::default();
    let mut server = server::Connection::websocket(Instant::ZERO, &limits);
    let mut request = request.to_vec();
    let mut out = Vec::new();
    let event = server.poll(Instant::ZERO, &mut Input::new(&mut request), &limits, &mut out);
    assert_eq!(event, Ok(Some(server::Event::Nothing)));
    out
}
