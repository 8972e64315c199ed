//! What strangers send. The server answers or closes, counts why, and nobody else notices.

use std::time::{Duration, Instant};

use anser_e2e::{Client, Cluster, Dial, Incoming, Packet, Transport, eventually_eq};
use anser_wire::websocket::Opcode;

const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on, for half a kilobyte";
const HTTP_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A client of each transport that must not notice anything.
struct Neighbours(Vec<Client>);

impl Neighbours {
    fn of(cluster: &Cluster) -> Self {
        Self(Transport::ALL.map(|t| cluster.login(t, r#"{"room_id":"live://1"}"#)).into())
    }

    fn are_well(&mut self, cluster: &Cluster) {
        cluster.push_room("live://1", 1, "well?");
        for client in &mut self.0 {
            assert_eq!(client.push(), (1, "well?".to_owned()));
            assert_eq!(client.heartbeat(), 2);
        }
    }
}

/// What the edge counts as the reasons of its closes, without those of clients that close.
fn reasons(cluster: &Cluster) -> Vec<(String, i64)> {
    let metrics = cluster.metrics();
    let closed = metrics.labels("comet_closed").into_iter().filter(|(reason, _)| *reason != "peer");
    closed.map(|(reason, count)| (reason.to_owned(), count)).collect()
}

fn expected(reasons: &[(&str, i64)]) -> Vec<(String, i64)> {
    let mut reasons: Vec<_> = reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    reasons.sort();
    reasons
}

fn with(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    bytes[at] = byte;
    bytes
}

/// goim closes without a word, and so do we; before authentication and after it.
#[test]
fn bytes_that_are_no_packet() {
    let cluster = Cluster::start(&[]);
    let mut neighbours = Neighbours::of(&cluster);
    let heartbeat = Packet::new(2, 1, "").bytes();
    for bytes in [
        HTTP_REQUEST.to_vec(),
        TLS_HELLO.to_vec(),
        vec![0xff; 100],
        Packet::new(2, 1, [0; 4097]).bytes(),
        with(with(heartbeat.clone(), 0, 0x80), 3, 0),
        with(heartbeat.clone(), 5, 15),
        vec![0; 100],
    ] {
        for authenticated in [false, true] {
            let mut client = cluster.connect(Transport::Tcp);
            if authenticated {
                client.login("{}");
                client.write(&heartbeat);
                assert_eq!(client.packet().op, 3);
            }
            client.write(&bytes);
            assert_eq!(client.closed(), None, "{:?}", String::from_utf8_lossy(&bytes));
        }
        neighbours.are_well(&cluster);
    }
    let counted = expected(&[("packet_length", 8), ("header_length", 6)]);
    eventually_eq("every reason is counted", counted, || reasons(&cluster));
}

/// A WebSocket client is told by a close frame what it did.
#[test]
fn frames_and_messages() {
    let cluster = Cluster::start(&["comet.allow_unmasked=false"]);
    let mut neighbours = Neighbours::of(&cluster);
    let heartbeat = Packet::new(2, 1, "").bytes();
    // Frames with an empty mask.
    let frame = |first: u8, payload: &[u8]| {
        assert!(payload.len() < 126);
        [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    };
    let binary = |payload: &[u8]| frame(0x82, payload);
    let too_large = [&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x10, 0x11, 0, 0, 0, 0][..], &[0; 64]].concat();
    let endless =
        [&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 64]].concat();
    let cases = [
        (binary(b""), 1002, "packet_short"),
        (binary(&heartbeat[..15]), 1002, "packet_short"),
        (binary(&with(heartbeat.clone(), 3, 17)), 1002, "packet_short"),
        (binary(&with(heartbeat.clone(), 0, 0x80)), 1002, "packet_length"),
        (binary(&with(heartbeat.clone(), 2, 0x80)), 1002, "packet_length"),
        (binary(&with(heartbeat.clone(), 5, 17)), 1002, "header_length"),
        (too_large, 1009, "too_large"),
        (endless, 1009, "too_large"),
        ([&[0x82, 16][..], &heartbeat].concat(), 1002, "unmasked"),
        (frame(0xc2, &heartbeat), 1002, "reserved_bits"),
        (frame(0x83, &heartbeat), 1002, "reserved_opcode"),
        (frame(0x80, &heartbeat), 1002, "unexpected_continuation"),
        ([frame(0x02, &heartbeat[..8]), binary(&heartbeat)].concat(), 1002, "unfinished_message"),
        (frame(0x09, b"ping"), 1002, "control_fragmented"),
        (vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0], 1002, "control_too_long"),
        (frame(0x81, b"\xff\xff is no text, however long it is"), 1007, "bad_text"),
        (frame(0x88, b"\x03"), 1002, "bad_close_payload"),
        (frame(0x88, b"\x03\xed"), 1002, "bad_close_code"),
        (TLS_HELLO.to_vec(), 1002, "reserved_bits"),
    ];
    let mut counts = std::collections::BTreeMap::new();
    for (bytes, code, reason) in &cases {
        for authenticated in [false, true] {
            let mut client = cluster.connect(Transport::WebSocket);
            if authenticated {
                client.login("{}");
            }
            client.write(bytes);
            assert_eq!(client.closed(), Some((*code, (*reason).to_owned())), "{bytes:02x?}");
            *counts.entry(*reason).or_default() += 1;
        }
        neighbours.are_well(&cluster);
    }
    let counts: Vec<(&str, i64)> = counts.into_iter().collect();
    eventually_eq("every reason is counted", expected(&counts), || reasons(&cluster));
}

/// Whoever comes to the WebSocket port with something else gets an answer over HTTP that says what to do.
#[test]
fn requests_that_are_no_upgrade() {
    let cluster = Cluster::start(&["comet.upgrade_head=1000"]);
    let mut neighbours = Neighbours::of(&cluster);
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let key = "Sec-WebSocket-Key: x\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let request = |line: &str, headers: &[&str]| format!("{line}\r\n{}\r\n", headers.concat()).into_bytes();
    let cookie = format!("Cookie: {}\r\n", "x".repeat(1000));
    let many = "A: b\r\n".repeat(65);
    let cases = [
        (HTTP_REQUEST.to_vec(), 426, "upgrade_missing"),
        (request("GET / HTTP/1.1", &[upgrade, key, version]), 404, "upgrade_not_found"),
        (request("GET /sub/ HTTP/1.1", &[upgrade, key, version]), 404, "upgrade_not_found"),
        (request("POST /sub HTTP/1.1", &[upgrade, key, version]), 405, "upgrade_method"),
        (
            request("GET /sub HTTP/1.1", &[upgrade, key, "Sec-WebSocket-Version: 8\r\n"]),
            426,
            "upgrade_version",
        ),
        (request("GET /sub HTTP/1.1", &[upgrade, version]), 400, "upgrade_key"),
        (request("GET /sub HTTP/1.1", &[upgrade, key, version, &cookie]), 431, "upgrade_too_large"),
        (request("GET /sub HTTP/1.1", &[upgrade, key, version, &many]), 431, "upgrade_too_large"),
        (request("GET /sub HTTP/1.0", &[upgrade, key, version]), 400, "upgrade_malformed"),
        (TLS_HELLO.to_vec(), 400, "upgrade_malformed"),
        (Packet::new(7, 1, "{}").bytes(), 400, "upgrade_malformed"),
    ];
    let mut counts = std::collections::BTreeMap::new();
    for (bytes, status, reason) in &cases {
        let mut client = Dial::new(&cluster, Transport::WebSocket).open();
        client.write(bytes);
        let answer = String::from_utf8(client.rest()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer} to {reason}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        *counts.entry(*reason).or_default() += 1;
    }
    neighbours.are_well(&cluster);
    let counts: Vec<(&str, i64)> = counts.into_iter().collect();
    eventually_eq("every reason is counted", expected(&counts), || reasons(&cluster));
}

/// Whoever connects and does not come to the point is cut at the deadline, whatever it sends meanwhile.
#[test]
fn slow_handshakes_end_at_the_deadline() {
    const DEADLINE: Duration = Duration::from_secs(3);
    let cluster = Cluster::start(&["comet.handshake_timeout=3s"]);
    let mut neighbours = Neighbours::of(&cluster);
    let start = Instant::now();
    let open = |transport, bytes: &[u8]| {
        let mut client = Dial::new(&cluster, transport).open();
        client.write(bytes);
        client
    };
    let silent = [
        open(Transport::Tcp, b""),
        open(Transport::Tcp, &Packet::new(7, 1, "{}").bytes()[..17]),
        open(Transport::Tcp, &Packet::new(2, 1, "").bytes()),
        open(Transport::WebSocket, b""),
        open(Transport::WebSocket, b"GET /sub HTTP/1.1\r\nUpgrade: web"),
    ];
    let mut upgraded = cluster.connect(Transport::WebSocket);
    upgraded.send_frame(Opcode::Ping, b"?");
    for mut client in silent {
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(upgraded.incoming(), Incoming::Pong(b"?".to_vec()));
    assert_eq!(upgraded.closed(), Some((1008, "handshake_timeout".to_owned())));
    let waited = start.elapsed();
    assert!(waited > DEADLINE / 2, "cut after {waited:?}");
    neighbours.are_well(&cluster);
    eventually_eq("they are counted", 6, || cluster.metrics().labelled("comet_closed", "handshake_timeout"));
    assert_eq!(cluster.metrics().get("comet_sockets_open"), 2);
}

/// Who leaves in the middle of something is simply gone.
#[test]
fn halves() {
    let cluster = Cluster::start(&[]);
    let mut neighbours = Neighbours::of(&cluster);
    let packet = Packet::new(4, 1, "half a message").bytes();
    for cut in [0, 1, 15, 16, 17, packet.len() - 1] {
        let mut client = cluster.login(Transport::Tcp, "{}");
        client.write(&packet[..cut]);
        client.finish();
        assert_eq!(client.closed(), None);
    }
    let mut websocket = cluster.login(Transport::WebSocket, "{}");
    let frame = websocket.framed(&Packet::new(4, 1, "half a message"));
    for cut in [0, 1, 2, 6, 7, frame.len() - 1] {
        let mut client = cluster.login(Transport::WebSocket, "{}");
        client.write(&frame[..cut]);
        client.finish();
        assert_eq!(client.closed(), None);
    }
    websocket.write(&frame);
    assert_eq!(websocket.packet().op, 4);
    drop(websocket);
    neighbours.are_well(&cluster);
    eventually_eq("only the neighbours are left", 2, || cluster.metrics().get("comet_sockets_open"));
    assert_eq!(cluster.metrics().labels("comet_closed"), [("peer", 13)]);
}

/// Who says all that it has to say and then closes, at once, is answered and let go: the end of the
/// stream may come together with the last bytes.
#[test]
fn the_end_comes_with_the_last_bytes() {
    let cluster = Cluster::start(&["comet.workers=2"]);
    for n in 0..200 {
        let transport = Transport::ALL[n % 2];
        let mut client = cluster.connect(transport);
        let bytes =
            [Packet::new(7, 1, "{}"), Packet::new(2, 2, "")].map(|packet| client.framed(&packet)).concat();
        client.write(&bytes);
        client.finish();
        assert_eq!((client.packet().op, client.packet().op), (8, 3));
        assert_eq!(client.incoming(), Incoming::End);
    }
    eventually_eq("all are counted", 200, || cluster.metrics().labelled("comet_closed", "peer"));
}

/// Noise, and sessions with one byte changed: nothing that the server does about them ends it.
#[test]
fn noise() {
    let cluster = Cluster::start(&[]);
    let mut neighbours = Neighbours::of(&cluster);
    let mut state = 0x853c_49e6_748f_ea9b_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..300 {
        let transport = Transport::ALL[round % 2];
        let mut client = Dial::new(&cluster, transport).open();
        let mut bytes = Vec::new();
        if transport == Transport::WebSocket {
            anser_wire::websocket::write_request(&mut bytes, "x", "/sub", b"0123456789abcdef");
        }
        for packet in [Packet::new(7, 1, "{}"), Packet::new(12, 2, "live://2"), Packet::new(4, 3, "hello")] {
            bytes.extend(client.framed(&packet));
        }
        if round % 3 == 0 {
            bytes = (0..random(500)).map(|_| random(256) as u8).collect();
        } else {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        // It may have closed by then.
        client.try_write(&bytes);
        client.finish();
        client.rest();
    }
    neighbours.are_well(&cluster);
    eventually_eq("only the neighbours are left", 2, || cluster.metrics().get("comet_sockets_open"));
    let metrics = cluster.metrics();
    assert_eq!((metrics.get("comet_connections"), metrics.get("logic_sessions")), (2, 2));
    assert_eq!((metrics.get("comet_rooms"), metrics.get("comet_outbound_bytes")), (1, 0));
}

/// The HTTP API cuts who dawdles, and answers what is no HTTP.
#[test]
fn the_api_meets_strangers_too() {
    let cluster = Cluster::start(&["http.request_timeout=2s"]);
    let mut neighbours = Neighbours::of(&cluster);
    let mut slow = cluster.api();
    let key = cluster.authorization();
    let request =
        format!("POST /goim/push/all?operation=1 HTTP/1.1\r\nHost: x\r\n{key}Content-Length: 10\r\n\r\nhalf");
    slow.write(request.as_bytes());
    let mut slower = cluster.api();
    slower.write(b"POST /goim/push/all?oper");
    let mut stranger = cluster.api();
    stranger.write(TLS_HELLO);
    assert_eq!(stranger.answer().status(), 400);
    let answer = slow.answer();
    assert_eq!(answer.status(), 408);
    assert_eq!(answer.text(), r#"{"code":-400,"message":"the request took too long to arrive"}"#);
    assert!(slower.is_closed());
    neighbours.are_well(&cluster);
}

/// A page in a browser may connect, and push, to whatever it likes: its origin tells.
#[test]
fn pages_of_others() {
    let cluster = Cluster::start(&["http.allowed_origins=https://admin.example"]);
    let upgrade = |cluster: &Cluster, origin: &str| {
        let mut client = Dial::new(cluster, Transport::WebSocket).open();
        let head = format!(
            "GET /sub HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        client.write(head.as_bytes());
        String::from_utf8(client.take(12)).unwrap()
    };
    assert_eq!(upgrade(&cluster, "http://localhost:8000"), "HTTP/1.1 101");
    assert_eq!(upgrade(&cluster, "https://evil.example"), "HTTP/1.1 403");
    assert_eq!(upgrade(&cluster, "null"), "HTTP/1.1 403");
    eventually_eq("it is counted", 2, || cluster.metrics().labelled("comet_closed", "upgrade_origin"));
    let push = |origin: &str| {
        cluster.api().request("POST", "/goim/push/all?operation=1", &[("Origin", origin)], b"x").status()
    };
    assert_eq!((push("https://admin.example"), push("http://localhost:8000")), (200, 403));

    let named = Cluster::start(&["comet.allowed_origins=https://app.example"]);
    assert_eq!(upgrade(&named, "https://app.example"), "HTTP/1.1 101");
    assert_eq!(upgrade(&named, "http://localhost:8000"), "HTTP/1.1 403");
    let open = Cluster::start(&["comet.websocket=0.0.0.0:0", "logic.allow_open_beyond_loopback=true"]);
    assert_eq!(upgrade(&open, "https://any.example"), "HTTP/1.1 101");
}
