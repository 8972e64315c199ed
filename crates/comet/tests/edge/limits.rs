//! What strangers may cost, and bytes that are no protocol.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anser_api::comet::{OnOverflow, PushError};
use anser_wire::operation::{
    AUTH, CHANGE_ROOM, CHANGE_ROOM_REPLY, HEARTBEAT, HEARTBEAT_REPLY, JOIN, JOIN_REPLY, LEAVE, LEAVE_REPLY,
};
use anser_wire::packet::Header;

use super::fixture::{EVERYONE, Edge, Item, Kind, Login, bare, becomes, frame, keys, numbered, room};

#[test]
fn connections_are_limited_in_all() {
    let edge = Edge::start(|config| config.max_connections = 3);
    let mut in_time =
        [edge.log_in(Kind::Tcp, &Login::new("first")), edge.log_in(Kind::WebSocket, &Login::new("second"))];
    // One that is not authenticated counts as well.
    let silent = edge.dial(Kind::Tcp, false);
    becomes(&3, || edge.snapshot().open);
    for (kind, refused) in Kind::SOCKETS.into_iter().zip(1..) {
        assert_eq!(edge.dial(kind, false).item(), Item::End);
        becomes(&refused, || edge.metric("refused_total{limit=\"max_connections\"}"));
    }
    drop(silent);
    becomes(&2, || edge.snapshot().open);
    edge.log_in(Kind::WebSocket, &Login::new("third"));
    for client in &mut in_time {
        assert_eq!(client.heartbeat(), 0);
    }
}

#[test]
fn connections_are_limited_for_each_address() {
    let edge = Edge::start(|config| config.max_connections_per_ip = 2);
    let from = |last| IpAddr::from([127, 0, 0, last]);
    let mut here =
        [edge.dial_from(from(7), Kind::Tcp, false), edge.dial_from(from(7), Kind::WebSocket, false)];
    becomes(&2, || edge.snapshot().open);
    assert_eq!(edge.dial_from(from(7), Kind::Tcp, false).item(), Item::End);
    becomes(&1, || edge.metric("refused_total{limit=\"max_connections_per_ip\"}"));
    // Others are not concerned, and a place that is free can be had again.
    let mut there = edge.dial_from(from(8), Kind::Tcp, false);
    there.authenticate(&edge.logic.token(&Login::new("there")).0);
    here[0].authenticate(&edge.logic.token(&Login::new("here")).0);
    let [first, second] = here;
    drop(first);
    becomes(&2, || edge.snapshot().open);
    let mut again = edge.dial_from(from(7), Kind::Tcp, false);
    again.authenticate(&edge.logic.token(&Login::new("again")).0);
    drop(second);
}

/// Above so many a second, new connections wait in the kernel's queue and come in later.
#[test]
fn connections_are_limited_in_their_rate() {
    let edge = Edge::start(|config| config.handshakes_per_second = 20);
    edge.log_in(Kind::Tcp, &Login::new("uses up what is left from before"));
    edge.log_in(Kind::Tcp, &Login::new("uses up the second"));
    let began = Instant::now();
    let mut clients: Vec<_> = (0..10).map(|n| edge.dial(Kind::SOCKETS[n % 2], false)).collect();
    for client in &mut clients {
        if client.kind() == Kind::WebSocket {
            client.upgrade("");
        }
        client.authenticate(&edge.logic.token(&Login::new("one")).0);
    }
    assert!(began.elapsed() >= Duration::from_millis(400), "10 came in {:?}", began.elapsed());
}

#[test]
fn a_push_has_a_largest_body() {
    let edge = Edge::start(|config| config.push_body = 1000);
    let mut client = edge.log_in(Kind::Tcp, &Login::new("one").room("live://1"));
    for target in [keys(&["one"]), room("live://1"), EVERYONE, keys(&["nobody"])] {
        let refused = edge.try_push(target.clone(), 1000, &[0; 1001], OnOverflow::Drop);
        assert_eq!(refused, Err(PushError::TooLarge { len: 1001, max: 1000 }));
        edge.push(target, 1000, &numbered(0, 1000));
    }
    for _ in 0..3 {
        client.expect_push(1000, &numbered(0, 1000));
    }
}

/// A packet's body has goim's limit or the setting's.
#[test]
fn a_request_has_a_largest_body() {
    for limit in [4096, 100] {
        let edge = Edge::start(|config| {
            config.body = limit;
            config.room_name = 8192;
        });
        for (kind, reason) in [(Kind::Tcp, "packet_length"), (Kind::WebSocket, "too_large")] {
            let mut client = edge.log_in(kind, &Login::new("one"));
            client.request(CHANGE_ROOM, &vec![b'x'; limit], CHANGE_ROOM_REPLY, &vec![b'x'; limit]);
            client.send(CHANGE_ROOM, &vec![b'x'; limit + 1]);
            let code = client.end().map(|(code, _)| code);
            assert_eq!(code, (kind == Kind::WebSocket).then_some(1009));
            becomes(&1, || edge.closed(reason));
        }
    }
}

/// The longest name of a room is a limit for rooms, not for the connection.
#[test]
fn the_name_of_a_room_has_a_largest_length() {
    let edge = Edge::start(|config| config.room_name = 10);
    let mut client = edge.log_in(Kind::Tcp, &Login::new("one"));
    for (name, online) in [("live://123", 1), ("live://1234", 1), ("", 0), ("live://1234", 0)] {
        client.request(CHANGE_ROOM, name.as_bytes(), CHANGE_ROOM_REPLY, name.as_bytes());
        assert_eq!(client.heartbeat(), online, "after {name}");
    }
}

/// Whoever names more operations than a connection may take is told, and not let in.
#[test]
fn the_operations_of_a_login_are_limited() {
    let edge = Edge::start(|config| config.operations_per_connection = 3);
    for kind in Kind::SOCKETS {
        let mut client = edge.connect(kind);
        let (token, session) = edge.logic.token(&Login::new("one").accepts(&[5, 4, 3, 2]));
        client.send(AUTH, &token);
        let reason = "the token names more operations than comet.operations_per_connection";
        assert_eq!(client.end(), (kind == Kind::WebSocket).then(|| (1008, reason.to_owned())));
        becomes(&1, || edge.logic.times_over(&session));
    }
    assert_eq!(edge.closed("operation_limit"), 2);
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one").accepts(&[5, 4, 5, 3, 4]));
        for op in [3, 4, 5] {
            edge.push(keys(&["one"]), op, b"");
        }
        assert_eq!([client.push().0, client.push().0, client.push().0], [3, 4, 5]);
    }
}

/// Bytes that are no packet end the connection that they come on, with their reason, and no other.
/// What came before them is answered.
#[test]
fn malformed_bytes_end_their_connection_and_no_other() {
    let edge = Edge::start(|config| config.allow_unmasked = false);
    let mut neighbours =
        Kind::ALL.map(|kind| edge.log_in(kind, &Login::new(&format!("neighbour {kind:?}")).room("live://1")));
    let packet = |length: i32, header_len: i16| {
        [&length.to_be_bytes()[..], &header_len.to_be_bytes(), &[0, 1, 0, 0, 0, 4, 0, 0, 0, 1]].concat()
    };
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8][..], payload].concat();
    let whole = packet(16, 16);
    let tcp: Vec<(Vec<u8>, &str)> = vec![
        (packet(4113, 16), "packet_length"),
        (packet(i32::MAX, 16), "packet_length"),
        (packet(i32::MIN, 16), "packet_length"),
        (packet(16, 0), "header_length"),
        (packet(16, 17), "header_length"),
        (packet(16, -16), "header_length"),
        (b"GET / HTTP/1.1\r\nHost: anser\r\n\r\n".to_vec(), "packet_length"),
        (vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0], "packet_length"),
    ];
    let websocket: Vec<(Vec<u8>, &str, u16)> = vec![
        (frame(0x82, b""), "packet_short", 1002),
        (frame(0x82, &whole[..15]), "packet_short", 1002),
        (frame(0x82, &packet(17, 16)), "packet_short", 1002),
        (frame(0x82, &packet(-1, 16)), "packet_length", 1002),
        (frame(0x82, &packet(4113, 16)), "packet_length", 1002),
        (frame(0x82, &packet(16, 17)), "header_length", 1002),
        (frame(0x81, b"a text that is no packet"), "packet_length", 1002),
        (frame(0xc2, &whole), "reserved_bits", 1002),
        (frame(0x92, &whole), "reserved_bits", 1002),
        (frame(0x83, &whole), "reserved_opcode", 1002),
        (frame(0x8b, b""), "reserved_opcode", 1002),
        (unmasked(0x82, &whole), "unmasked", 1002),
        (frame(0x89, &[0; 126]), "control_too_long", 1002),
        (frame(0x09, b"ping"), "control_fragmented", 1002),
        (frame(0x80, &whole), "unexpected_continuation", 1002),
        ([frame(0x02, &whole[..8]), frame(0x82, &whole)].concat(), "unfinished_message", 1002),
        (frame(0x82, &[0; 4113]), "too_large", 1009),
        ([frame(0x02, &[0; 4000]), frame(0x80, &[0; 113])].concat(), "too_large", 1009),
        (frame(0x81, b"\xff\xfe text of no encoding"), "bad_text", 1007),
        (frame(0x88, b"x"), "bad_close_payload", 1002),
        (frame(0x88, &1005u16.to_be_bytes()), "bad_close_code", 1002),
        (frame(0x88, b"\x03\xe8\xff"), "bad_text", 1007),
    ];
    let rows = tcp.into_iter().map(|(bytes, reason)| (Kind::Tcp, bytes, reason, None));
    let rows = rows.chain(
        websocket.into_iter().map(|(bytes, reason, code)| (Kind::WebSocket, bytes, reason, Some(code))),
    );
    for (n, (kind, bad, reason, code)) in rows.enumerate() {
        for (authenticated, before) in [(true, n % 2 == 0), (false, false)] {
            let name = format!("row {n}");
            let mut client = edge.connect(kind);
            if authenticated {
                client.authenticate(&edge.logic.token(&Login::new(&name).room("live://1")).0);
            }
            let counted = edge.closed(reason);
            let beat = Header { ver: 1, op: HEARTBEAT, seq: 77 };
            let mut bytes = if before { client.encode(beat, b"") } else { Vec::new() };
            bytes.extend(&bad);
            client.send_raw(&bytes);
            if before {
                client.expect_reply(beat.reply(HEARTBEAT_REPLY), &[0, 0, 0, 4]);
            }
            // Behind a violation of RFC 6455 comes its name, behind a bad packet its.
            assert_eq!(client.end(), code.map(|code| (code, reason.to_owned())), "row {n}: {reason}");
            drop(client);
            becomes(&(counted + 1, 3), || (edge.closed(reason), edge.snapshot().open));
        }
        edge.push(room("live://1"), 7, name_of(n).as_bytes());
        for neighbour in &mut neighbours {
            neighbour.expect_push(7, name_of(n).as_bytes());
            assert_eq!(neighbour.heartbeat(), 3);
        }
    }
}

fn name_of(row: usize) -> String {
    format!("after row {row}")
}

/// Lengths that goim takes are taken, and so are frames that RFC 6455 allows.
#[test]
fn odd_packets_that_goim_takes_are_taken() {
    let edge = Edge::start(|_| {});
    let packet = |length: i32| [&length.to_be_bytes()[..], &[0, 16, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9]].concat();
    let answer = Header { ver: 1, op: 4, seq: 9 };
    let mut tcp = edge.log_in(Kind::Tcp, &Login::new("tcp"));
    for length in [16, 15, 0, -1, i32::MIN + 16] {
        tcp.send_raw(&packet(length));
        tcp.expect_reply(answer, b"");
    }
    let mut websocket = edge.log_in(Kind::WebSocket, &Login::new("websocket"));
    let whole = packet(16);
    for bytes in [
        frame(0x82, &whole),
        frame(0x81, &whole),
        frame(0x82, &packet(0)),
        // What lies behind the packet is ignored.
        frame(0x82, &[&whole[..], &whole].concat()),
        // Without a mask, as goim takes it.
        [&[0x82, 16][..], &whole].concat(),
        // In fragments with a pong between them.
        [frame(0x02, &whole[..3]), frame(0x00, b""), frame(0x8a, b"pong"), frame(0x80, &whole[3..])].concat(),
    ] {
        websocket.send_raw(&bytes);
        websocket.expect_reply(answer, b"");
    }
    assert_eq!((tcp.heartbeat(), websocket.heartbeat()), (0, 0));
}

/// Requests that are no upgrade are answered over HTTP and closed.
#[test]
fn requests_that_are_no_upgrade_are_refused() {
    let edge = Edge::start(|config| config.upgrade_head = 1000);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let rows: [(String, &str, u16); 8] = [
        (format!("GET /other HTTP/1.1\r\n{upgrade}{key}{version}\r\n"), "upgrade_not_found", 404),
        (format!("POST /sub HTTP/1.1\r\n{upgrade}{key}{version}\r\n"), "upgrade_method", 405),
        (format!("GET /sub HTTP/1.1\r\n{key}{version}\r\n"), "upgrade_missing", 426),
        (format!("GET /sub HTTP/1.1\r\n{upgrade}{key}\r\n"), "upgrade_version", 426),
        (format!("GET /sub HTTP/1.1\r\n{upgrade}{version}\r\n"), "upgrade_key", 400),
        ("\x16\x03\x01\n\r\n\r\n".into(), "upgrade_malformed", 400),
        (format!("GET /sub HTTP/1.1\r\nCookie: {}\r\n", "x".repeat(1000)), "upgrade_too_large", 431),
        (format!("GET /sub HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65)), "upgrade_too_large", 431),
    ];
    for (request, reason, status) in rows {
        let counted = edge.closed(reason);
        let mut client = edge.dial(Kind::WebSocket, false);
        client.send_raw(request.as_bytes());
        let answer = String::from_utf8(client.read_all_raw()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{reason}: {answer}");
        assert!(answer.contains("\r\nContent-Length: "), "{answer}");
        drop(client);
        becomes(&(counted + 1, 0), || (edge.closed(reason), edge.snapshot().open));
    }
    // In pieces it is still an upgrade, and frames may lie behind it in the same segment.
    let (token, _) = edge.logic.token(&Login::new("one"));
    let mut client = edge.dial(Kind::WebSocket, false);
    let request = format!("GET /sub?v=1 HTTP/1.1\r\n{upgrade}{key}{version}\r\n");
    let mut bytes = request.into_bytes();
    let head = bytes.len();
    bytes.extend(frame(0x82, &bare(Header { ver: 1, op: 7, seq: 5 }, &token)));
    for piece in [&bytes[..3], &bytes[3..head - 3], &bytes[head - 3..head + 9], &bytes[head + 9..]] {
        client.send_raw(piece);
    }
    assert!(client.read_raw(129).ends_with(b"\r\n\r\n"));
    client.expect_reply(Header { ver: 1, op: 8, seq: 5 }, b"");
}

/// For clients that take one read for one packet: each push is a write of its own.
#[test]
fn one_write_per_packet_is_what_it_says() {
    for (split, expected) in [(false, 1), (true, 20)] {
        for kind in Kind::SOCKETS {
            for target in [keys(&["one"]), room("live://1"), EVERYONE] {
                let edge = Edge::start(|config| {
                    config.workers = 1;
                    if split {
                        config.one_write_per_packet = config.tcp.clone();
                    }
                });
                let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
                let blocked = edge.block(0);
                let before = edge.metric("writes_total");
                for n in 0..20 {
                    edge.push(target.clone(), 1000, &numbered(n, 20));
                }
                blocked.release();
                for n in 0..20 {
                    client.expect_push(1000, &numbered(n, 20));
                }
                becomes(&20, || edge.snapshot().delivered);
                let writes = || edge.metric("writes_total") - before;
                becomes(&true, || writes() >= expected);
                assert_eq!(writes(), expected, "{target:?} over {kind:?}");
            }
        }
    }
}

/// So are the answers to requests that came together.
#[test]
fn one_write_per_packet_holds_for_answers() {
    for (split, expected) in [(false, 1), (true, 3)] {
        for kind in Kind::SOCKETS {
            let edge = Edge::start(|config| {
                if split {
                    config.one_write_per_packet = config.tcp.clone();
                }
            });
            let mut client = edge.log_in(kind, &Login::new("one"));
            // The answer to the login, and to the upgrade before it.
            let before = if kind == Kind::WebSocket { 2 } else { 1 };
            becomes(&before, || edge.metric("writes_total"));
            let header = |seq| Header { ver: 1, op: HEARTBEAT, seq };
            let requests: Vec<u8> = (5..8).flat_map(|seq| client.encode(header(seq), b"")).collect();
            client.send_raw(&requests);
            for seq in 5..8 {
                client.expect_reply(header(seq).reply(HEARTBEAT_REPLY), &[0; 4]);
            }
            becomes(&expected, || edge.metric("writes_total") - before);
        }
    }
}

/// Each address to listen on has its turn at the rate.
#[test]
fn a_crowd_on_one_listener_keeps_nobody_from_the_other() {
    for (crowded, kind) in [(Kind::Tcp, Kind::WebSocket), (Kind::WebSocket, Kind::Tcp)] {
        let edge = Edge::start(|config| config.handshakes_per_second = 50);
        let crowd: Vec<_> = (0..400).map(|_| edge.dial(crowded, false)).collect();
        let _client = edge.log_in(kind, &Login::new("one"));
        let open = edge.snapshot().open;
        assert!(open < 300, "{open} came before one on {kind:?}");
        drop(crowd);
    }
}

/// Who may not come in does not use up the rate of those who may.
#[test]
fn whoever_is_refused_takes_no_place_in_the_rate() {
    let edge = Edge::start(|config| {
        config.handshakes_per_second = 1;
        config.max_connections_per_ip = 1;
    });
    let from = |last| IpAddr::from([127, 0, 1, last]);
    let _first = edge.dial_from(from(1), Kind::Tcp, false);
    becomes(&1, || edge.snapshot().open);
    let _refused: Vec<_> = (0..100).map(|_| edge.dial_from(from(1), Kind::Tcp, false)).collect();
    let _other = edge.dial_from(from(2), Kind::Tcp, false);
    // At one a second it would be the turn of this one long after the patience is over.
    becomes(&2, || edge.snapshot().open);
}

/// A worker that stands still is noticed, an idle one is not taken for it.
#[test]
fn a_worker_that_stands_still_is_noticed() {
    let edge = Edge::start(|_| {});
    let limit = Duration::from_secs(2);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        assert_eq!(edge.comet().stalled(limit), None);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let blocked = edge.block(1);
    becomes(&Some(1), || edge.comet().stalled(limit));
    blocked.release();
    becomes(&None, || edge.comet().stalled(limit));
}

/// Rooms are limited in number, whoever makes them: who is in one stays, who wants a new one is told.
#[test]
fn rooms_are_limited_in_number() {
    for kind in Kind::SOCKETS {
        let edge = Edge::start(|config| config.max_rooms = 2);
        let mut first = edge.log_in(kind, &Login::new("first").anser().room("live://1"));
        first.request(JOIN, b"live://2", JOIN_REPLY, b"live://2");
        let error = first.refused(JOIN, b"live://3", "room_limit");
        assert!(error.message.contains("comet.max_rooms"), "{error:?}");
        let mut second = edge.log_in(kind, &Login::new("second").room("live://2"));
        let mut third = edge.connect(kind);
        let (token, session) = edge.logic.token(&Login::new("third").room("live://3"));
        third.send(AUTH, &token);
        let reason = "as many rooms exist as comet.max_rooms allows";
        assert_eq!(third.end(), (kind == Kind::WebSocket).then(|| (1013, reason.to_owned())));
        becomes(&1, || edge.logic.times_over(&session));
        assert_eq!((first.heartbeat(), second.heartbeat()), (1, 2));
        first.request(LEAVE, b"live://1", LEAVE_REPLY, b"live://1");
        first.request(JOIN, b"live://3", JOIN_REPLY, b"live://3");
    }
}
