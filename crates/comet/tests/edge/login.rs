//! Authentication: before it, while it takes its time, and when it is refused.

use std::io::Write;
use std::time::{Duration, Instant};

use anser_api::id::TooLong;
use anser_api::logic::Refused;
use anser_api::settings::Span;
use anser_wire::operation::{
    AUTH, AUTH_REPLY, CHANGE_ROOM, CHANGE_ROOM_REPLY, HEARTBEAT, HEARTBEAT_REPLY, SUBSCRIBE, SUBSCRIBE_REPLY,
};
use anser_wire::packet::Header;

use super::fixture::{Client, Edge, Item, Kind, Login, PATIENCE, becomes, frame, keys, room};

/// What a client sends without waiting for an answer: authentication, then requests whose answers
/// depend on each other.
fn impatient(client: &Client, token: &[u8], room: &str) -> Vec<u8> {
    let requests: [(i32, &[u8]); 6] = [
        (HEARTBEAT, b""),
        (CHANGE_ROOM, room.as_bytes()),
        (HEARTBEAT, b""),
        (SUBSCRIBE, b"1001"),
        (7, b"a second authentication is an operation like others"),
        (4, b""),
    ];
    let mut bytes = client.encode(Header { ver: 2, op: AUTH, seq: 40 }, token);
    for ((op, body), seq) in requests.into_iter().zip(41..) {
        bytes.extend(client.encode(Header { ver: 1, op, seq }, body));
    }
    bytes
}

#[track_caller]
fn expect_answers(client: &mut Client, room: &str) {
    client.expect_reply(Header { ver: 2, op: AUTH_REPLY, seq: 40 }, b"");
    let answers: [(i32, &[u8]); 6] = [
        (HEARTBEAT_REPLY, &[0, 0, 0, 1]),
        (CHANGE_ROOM_REPLY, room.as_bytes()),
        (HEARTBEAT_REPLY, &[0, 0, 0, 1]),
        (SUBSCRIBE_REPLY, b"1001"),
        (7, b""),
        (4, b""),
    ];
    for ((op, body), seq) in answers.into_iter().zip(41..) {
        client.expect_reply(Header { ver: 1, op, seq }, body);
    }
}

/// Packets behind the authentication are handled after it, in order, on whatever worker, wherever the
/// bytes are cut.
#[test]
fn packets_behind_the_authentication_come_after_it() {
    let edge = Edge::start(|config| config.workers = 3);
    for round in 0..60 {
        let mut client = edge.connect(Kind::SOCKETS[round % 2]);
        let name = format!("device {round}");
        let rooms = [format!("first://{round}"), format!("second://{round}")];
        let (token, _) = edge.logic.token(&Login::new(&name).room(&rooms[0]));
        let bytes = impatient(&client, &token, &rooms[1]);
        let (first, rest) = bytes.split_at(bytes.len() * round / 60);
        client.send_raw(first);
        client.send_raw(rest);
        expect_answers(&mut client, &rooms[1]);
        edge.push(keys(&[&name]), 1001, b"to the key");
        client.expect_push(1001, b"to the key");
        edge.push(room(&rooms[1]), 7, b"to the room");
        client.expect_push(7, b"to the room");
    }
}

/// The same while the answer is on its way, for what came with the authentication and for what came
/// after it.
#[test]
fn packets_wait_for_an_answer_that_takes_its_time() {
    let edge = Edge::start(|config| config.workers = 3);
    for round in 0..60 {
        let mut client = edge.connect(Kind::SOCKETS[round % 2]);
        let name = format!("device {round}");
        let rooms = [format!("first://{round}"), format!("second://{round}")];
        let (token, verdict) = edge.logic.later();
        let bytes = impatient(&client, &token, &rooms[1]);
        let auth = client.encode(Header { ver: 2, op: AUTH, seq: 40 }, &token).len();
        let (first, rest) = bytes.split_at(auth + (bytes.len() - auth) * (round / 2) / 30);
        client.send_raw(first);
        becomes(&(round + 1), || edge.logic.asked().len());
        client.send_raw(rest);
        let connected = edge.logic.connected(&Login::new(&name).room(&rooms[0]));
        verdict.send(Ok(connected)).unwrap();
        expect_answers(&mut client, &rooms[1]);
        edge.push(keys(&[&name]), 1001, b"to the key");
        client.expect_push(1001, b"to the key");
    }
}

/// While some wait for their answer everybody else goes on.
#[test]
fn slow_answers_keep_nobody_else_waiting() {
    let edge = Edge::start(|_| {});
    let mut neighbour = edge.log_in(Kind::Tcp, &Login::new("neighbour"));
    let mut waiting: Vec<_> = (0..300)
        .map(|n| {
            let (token, verdict) = edge.logic.later();
            let mut client = edge.connect(Kind::SOCKETS[n % 2]);
            let auth = client.send(AUTH, &token);
            (client, auth, verdict, edge.logic.connected(&Login::new(&format!("device {n}"))))
        })
        .collect();
    becomes(&301, || edge.logic.asked().len());
    assert_eq!(neighbour.heartbeat(), 0);
    edge.log_in(Kind::WebSocket, &Login::new("later and faster"));
    // The last are answered first.
    while let Some((mut client, auth, verdict, connected)) = waiting.pop() {
        verdict.send(Ok(connected)).unwrap();
        if waiting.len() < 150 {
            client.expect_reply(auth.reply(AUTH_REPLY), b"");
        }
    }
}

/// Who leaves before the answer has no session when it comes.
#[test]
fn who_leaves_before_the_answer_leaves_no_session() {
    let edge = Edge::start(|config| config.workers = 3);
    for round in 0..30 {
        let kind = Kind::SOCKETS[round % 2];
        let (token, verdict) = edge.logic.later();
        let mut client = edge.connect(kind);
        client.send(AUTH, &token);
        becomes(&(round + 1), || edge.logic.asked().len());
        match round % 3 {
            0 => client.reset(),
            1 => drop(client),
            // It says goodbye first, which nobody reads yet.
            _ if kind == Kind::WebSocket => client.send_raw(&frame(0x88, &1000u16.to_be_bytes())),
            _ => client.finish(),
        }
        let connected = edge.logic.connected(&Login::new("one").room("live://1"));
        let session = connected.session.clone();
        verdict.send(Ok(connected)).unwrap();
        becomes(&(1, 0, 0, 0), || {
            let Edge { logic, .. } = &edge;
            let now = edge.snapshot();
            (logic.times_over(&session), now.connections, now.open, edge.metric("rooms"))
        });
    }
}

/// The deadline from accept to authentication holds whatever comes, and while an answer is awaited.
#[test]
fn the_handshake_has_a_deadline() {
    let limit = Duration::from_secs(1);
    let edge = Edge::start(|config| config.handshake_timeout = Span(limit));
    let began = Instant::now();
    // Silent, upgraded or not.
    let mut silent = [edge.dial(Kind::Tcp, false), edge.dial(Kind::WebSocket, false)];
    let mut upgraded = edge.connect(Kind::WebSocket);
    // Half a request, and half an upgrade.
    let mut half = [edge.dial(Kind::Tcp, false), edge.dial(Kind::WebSocket, false)];
    half[0].send_raw(&[0, 0, 0, 16, 0, 16]);
    half[1].send_raw(b"GET /sub HTTP/1.1\r\nUpgrade: web");
    // Packets that do not authenticate, which are ignored.
    let mut others = Kind::SOCKETS.map(|kind| edge.connect(kind));
    // And those whose answer does not come.
    let asking = Kind::SOCKETS.map(|kind| {
        let (token, verdict) = edge.logic.later();
        let mut client = edge.connect(kind);
        client.send(AUTH, &token);
        (client, verdict, edge.logic.connected(&Login::new(&format!("{kind:?}"))))
    });
    while edge.closed("handshake_timeout") < 9 {
        for client in &mut others {
            // It is closed at some point, and then this fails.
            let beat = client.encode(Header { ver: 1, op: HEARTBEAT, seq: 1 }, b"");
            let _ = client.writer().write_all(&beat);
        }
        std::thread::park_timeout(Duration::from_millis(10));
        assert!(began.elapsed() < PATIENCE, "no deadline");
    }
    assert!(began.elapsed() >= limit);
    assert_eq!(upgraded.end(), Some((1008, "handshake_timeout".into())));
    for client in silent.iter_mut().chain(&mut half) {
        assert_eq!(client.item(), Item::End);
    }
    becomes(&0, || edge.snapshot().open);
    for (mut client, verdict, connected) in asking {
        // It has done what it could.
        let close = client.end();
        assert!(close.is_none_or(|close| close == (1013, "authentication is unavailable".into())));
        let session = connected.session.clone();
        verdict.send(Ok(connected)).unwrap();
        becomes(&1, || edge.logic.times_over(&session));
    }
    assert_eq!(edge.snapshot().connections, 0);
    // Whoever is in is no longer asked.
    let mut member = edge.log_in(Kind::Tcp, &Login::new("in time"));
    let since = Instant::now();
    while since.elapsed() < 2 * limit {
        assert_eq!(member.heartbeat(), 0);
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A refusal closes: without a word on TCP, with a code on WebSocket that says whether to try again.
#[test]
fn a_refused_client_is_closed() {
    let edge = Edge::start(|_| {});
    let rows = [
        (Refused::BadToken("expired".into()), 1008, "bad token: expired"),
        (
            Refused::TooLong(TooLong { what: "a key", len: 300, max: 256 }),
            1008,
            "a key of 300 bytes is longer than 256: choose a shorter one, or raise the limit",
        ),
        (Refused::Unavailable("10.0.0.1 does not answer".into()), 1013, "authentication is unavailable"),
    ];
    let mut count = 0;
    for (refused, code, reason) in rows {
        for kind in Kind::SOCKETS {
            let expected = (kind == Kind::WebSocket).then(|| (code, reason.to_owned()));
            let token = edge.logic.bad_token(refused.clone());
            let mut client = edge.connect(kind);
            let mut bytes = client.encode(Header { ver: 1, op: AUTH, seq: 1 }, &token);
            bytes.extend(client.encode(Header { ver: 1, op: HEARTBEAT, seq: 2 }, b""));
            client.send_raw(&bytes);
            assert_eq!(client.end(), expected);

            let (token, verdict) = edge.logic.later();
            let mut client = edge.connect(kind);
            client.send(AUTH, &token);
            verdict.send(Err(refused.clone())).unwrap();
            assert_eq!(client.end(), expected);
            count += 2;
            becomes(&(count, count), || (edge.metric("logins_refused_total"), edge.closed("login_refused")));
        }
    }
    becomes(&0, || edge.snapshot().open);
    assert_eq!(edge.snapshot().connections, 0);
}

/// Logic gets the token as it came, the cookie of the upgrade, and where the client is.
#[test]
fn logic_is_asked_with_all_that_is_known() {
    let edge = Edge::start(|_| {});
    for (kind, cookie) in [(Kind::Tcp, None), (Kind::WebSocket, None), (Kind::WebSocket, Some("a=1; b=2"))] {
        let mut client = edge.dial(kind, false);
        if kind == Kind::WebSocket {
            client.upgrade(&cookie.map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n")));
        }
        // What comes before the authentication is ignored.
        for op in [HEARTBEAT, CHANGE_ROOM, 8, 1000] {
            client.send(op, b"live://1");
        }
        let (token, _) = edge.logic.token(&Login::new("one"));
        client.authenticate(&token);
        assert_eq!(client.heartbeat(), 0);
        let asked = edge.logic.asked().pop().unwrap();
        assert_eq!((asked.token, asked.cookie.as_deref()), (token, cookie));
        assert_eq!(asked.remote.to_string(), "127.0.0.1");
    }
    // A token of any bytes, none included.
    for token in [&b""[..], b"\0\xff", &[b'x'; 4096]] {
        let mut client = edge.connect(Kind::Tcp);
        client.send(AUTH, token);
        client.end();
        assert_eq!(edge.logic.asked().pop().unwrap().token, token);
    }
}

/// Answers that are waited for are bounded in number: above it a client is told to try again.
#[test]
fn too_many_logins_at_once_are_turned_away() {
    /// What the lane asks, and what waits for it.
    const MOST: usize = 256 + 4096;
    let edge = Edge::start(|_| {});
    let waiting: Vec<_> = (0..MOST)
        .map(|_| {
            // It need not stay for the question to be out.
            let (token, verdict) = edge.logic.later();
            edge.connect(Kind::Tcp).send(AUTH, &token);
            verdict
        })
        .collect();
    becomes(&MOST, || edge.logic.asked().len());
    let (token, _verdict) = edge.logic.later();
    let mut client = edge.connect(Kind::WebSocket);
    client.send(AUTH, &token);
    assert_eq!(client.end(), Some((1013, "too many are logging in".into())));
    assert_eq!(edge.closed("login_queue"), 1);
    drop(waiting);
    becomes(&true, || {
        let (token, verdict) = edge.logic.later();
        let mut client = edge.connect(Kind::WebSocket);
        client.send(AUTH, &token);
        let _ = verdict.send(Ok(edge.logic.connected(&Login::new("one"))));
        matches!(client.item(), Item::Packet(_))
    });
}

/// A client may be gone when its authentication is read: the kernel hands out what came before a reset.
/// It leaves no session, and nobody else gets its answer.
#[test]
fn who_resets_behind_the_authentication_leaves_no_session() {
    let edge = Edge::start(|config| config.workers = 2);
    let mut answers = Vec::new();
    for round in 0..200 {
        let login = Login::new(&format!("gone {round}"));
        let token = if round % 2 == 0 {
            edge.logic.token(&login).0
        } else {
            let (token, verdict) = edge.logic.later();
            answers.push((verdict, edge.logic.connected(&login)));
            token
        };
        let mut client = edge.dial(Kind::WebSocket, false);
        let auth = client.encode(Header { ver: 1, op: AUTH, seq: 1 }, &token);
        client.send_raw(&[Client::upgrade_request("").as_bytes(), &auth].concat());
        client.reset();
        // Whoever comes next is himself.
        let mut next = edge.log_in(Kind::Tcp, &Login::new("next"));
        edge.push(keys(&["next"]), 1000, b"to the next");
        next.expect_push(1000, b"to the next");
    }
    for (verdict, connected) in answers {
        // Nobody waits for it, if the reset was there before the token was read.
        let _ = verdict.send(Ok(connected));
    }
    becomes(&(0, true), || (edge.snapshot().open, edge.logic.all_over()));
}

/// Answers that nobody reads do not let packets pass by the authentication that is still out.
#[test]
fn what_follows_the_token_waits_for_its_answer_whatever_waits_for_the_client() {
    let edge = Edge::start(|config| config.send_buffer = 4096);
    let mut client = edge.dial(Kind::WebSocket, true);
    client.upgrade("");
    let (token, verdict) = edge.logic.later();
    // More pongs than the socket takes, but not so many that nothing more is read.
    for _ in 0..220 {
        client.send_raw(&frame(0x89, &[b'p'; 100]));
    }
    let auth = client.send(AUTH, &token);
    becomes(&1, || edge.logic.asked().len());
    becomes(&true, || edge.metric("outbound_bytes") > 0);
    let beat = client.send(HEARTBEAT, b"");
    for _ in 0..220 {
        assert!(matches!(client.item(), Item::Pong(_)));
    }
    becomes(&0, || edge.metric("outbound_bytes"));
    verdict.send(Ok(edge.logic.connected(&Login::new("one")))).unwrap();
    client.expect_reply(auth.reply(AUTH_REPLY), b"");
    client.expect_reply(beat.reply(HEARTBEAT_REPLY), &[0; 4]);
}
