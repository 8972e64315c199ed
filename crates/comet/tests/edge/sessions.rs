//! One connection for a key, and one word to logic for each session that ends.

use std::io::Write;
use std::time::{Duration, Instant};

use anser_wire::operation::{AUTH, AUTH_REPLY, ERROR};
use anser_wire::packet::Header;

use super::fixture::{Client, Edge, Kind, Login, PATIENCE, becomes, frame, keys, room};

/// The older connection is told, as far as it understands, and closed; the newer one is the key's.
#[test]
fn a_newer_connection_replaces_the_older() {
    let edge = Edge::start(|config| config.workers = 3);
    for (at, old_kind) in Kind::ALL.into_iter().enumerate() {
        for (step, new_kind) in Kind::ALL.into_iter().enumerate() {
            for anser in [false, true] {
                let name = format!("{at} {step} {anser}");
                let login = Login::new(&name).room("live://1");
                let login = if anser { login.anser() } else { login };
                let mut old = edge.log_in(old_kind, &login);
                let session = old.session();
                let mut new = edge.log_in(new_kind, &login);
                if anser {
                    let error = old.error(Header { ver: 0, op: ERROR, seq: 0 });
                    assert_eq!((error.op, &*error.code, error.retry), (0, "replaced", false));
                }
                let code = old.end().map(|(code, _)| code);
                assert_eq!(code, (old_kind == Kind::WebSocket).then_some(1008), "to {old:?}");
                becomes(&1, || edge.logic.times_over(&session));
                assert_eq!(new.heartbeat(), 1, "the older one has left the room");
                for target in [keys(&[&name]), room("live://1")] {
                    edge.push(target, 1000, b"to the newer one");
                    new.expect_push(1000, b"to the newer one");
                }
                // The late end of the older one takes nothing from the newer.
                drop(old);
                assert_eq!(edge.logic.times_over(&new.session()), 0);
                edge.push(keys(&[&name]), 1000, b"still there");
                new.expect_push(1000, b"still there");
                let session = new.session();
                drop(new);
                becomes(&1, || edge.logic.times_over(&session));
            }
        }
    }
    becomes(&0, || edge.snapshot().connections);
    assert_eq!(edge.closed("replaced"), 18);
}

/// Whatever workers accept them, the connections of a key meet on the one that it belongs to.
#[test]
fn connections_of_a_key_meet_whoever_accepts_them() {
    let edge = Edge::start(|config| config.workers = 3);
    let mut generations = Vec::new();
    let mut clients = Vec::new();
    for n in 0..60 {
        let client = edge.log_in(Kind::ALL[n % 3], &Login::new("one"));
        generations.push(client.session().generation.0);
        clients.push(client);
        assert_eq!(edge.snapshot().connections, 1, "after login {n}");
    }
    let mut last = clients.pop().unwrap();
    for mut old in clients {
        old.end();
    }
    edge.push(keys(&["one"]), 1000, b"to the last");
    last.expect_push(1000, b"to the last");
    let last_generation = generations.pop().unwrap();
    becomes(&generations, || edge.logic.over("one"));
    drop(last);
    generations.push(last_generation);
    becomes(&generations, || edge.logic.over("one"));
}

/// Many at once: one of them stays, and each of the others is told over once.
#[test]
fn a_crowd_with_one_key_leaves_one() {
    let edge = Edge::start(|config| config.workers = 3);
    let crowd: Vec<Client> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..30)
            .map(|n| {
                let edge = &edge;
                scope.spawn(move || {
                    let (token, _) = edge.logic.token(&Login::new("one"));
                    let mut client = edge.connect(Kind::SOCKETS[n % 2]);
                    client.send(AUTH, &token);
                    client
                })
            })
            .collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    becomes(&(30, 1, 29), || {
        (edge.logic.asked().len(), edge.snapshot().connections, edge.logic.over("one").len())
    });
    edge.push(keys(&["one"]), 1000, b"to the one");
    becomes(&1, || edge.snapshot().delivered);
    drop(crowd);
    becomes(&30, || edge.logic.over("one").len());
}

/// The order of arrival does not count but logic's own: an older generation that comes late is closed,
/// and it is told over like any other.
#[test]
fn an_older_generation_that_comes_late_does_not_replace_a_newer() {
    let edge = Edge::start(|config| config.workers = 3);
    for kind in Kind::ALL {
        for late_kind in Kind::ALL {
            let name = format!("{kind:?} {late_kind:?}");
            let login = Login::new(&name).anser().room("live://1");
            let mut newer = edge.log_in(kind, &login.clone().generation(5));
            let mut older = if late_kind == Kind::Foreign {
                edge.attach(&login.clone().generation(3), 8).unwrap()
            } else {
                let (token, session) = edge.logic.token(&login.clone().generation(3));
                let mut client = edge.connect(late_kind);
                client.send(AUTH, &token);
                client.with_session(session)
            };
            let code = older.end().map(|(code, _)| code);
            assert_eq!(code, (late_kind == Kind::WebSocket).then_some(1008));
            becomes(&vec![3], || edge.logic.over(&name));
            edge.push(keys(&[&name]), 1000, b"to the newer one");
            newer.expect_push(1000, b"to the newer one");
            assert_eq!(newer.heartbeat(), 1);
            drop((newer, older));
            becomes(&vec![3, 5], || edge.logic.over(&name));
        }
    }
}

/// The same when logic answered the older one first and its answer was slower.
#[test]
fn answers_that_overtake_each_other_leave_the_newer_generation() {
    let edge = Edge::start(|config| config.workers = 3);
    for round in 0..20 {
        let name = format!("device {round}");
        let ask = |generation| {
            let (token, verdict) = edge.logic.later();
            let mut client = edge.connect(Kind::SOCKETS[round % 2]);
            let auth = client.send(AUTH, &token);
            let connected = edge.logic.connected(&Login::new(&name).generation(generation));
            (client, auth, || verdict.send(Ok(connected)).unwrap())
        };
        let (mut older, _, let_older_in) = ask(3);
        let (mut newer, auth, let_newer_in) = ask(5);
        becomes(&(2 * (round + 1)), || edge.logic.asked().len());
        let_newer_in();
        newer.expect_reply(auth.reply(AUTH_REPLY), b"");
        let_older_in();
        older.end();
        becomes(&vec![3], || edge.logic.over(&name));
        edge.push(keys(&[&name]), 1000, b"to the newer one");
        newer.expect_push(1000, b"to the newer one");
    }
}

/// What a client does to end its connection.
type End = fn(Client);

/// However a connection ends, logic hears of it once, the client is out of its room, and the end is
/// counted once with its reason.
#[test]
fn logic_hears_of_each_end_once() {
    let edge = Edge::start(|config| config.allow_unmasked = false);
    let gone: End = drop;
    let half: End = |mut client| {
        client.finish();
        assert_eq!(client.end(), None);
    };
    let reset: End = Client::reset;
    let malformed: End = |mut client| {
        client.send_raw(&[0xff; 32]);
        client.read_all_raw();
    };
    let closing: End = |mut client| {
        client.send_raw(&frame(0x88, &1000u16.to_be_bytes()));
        assert_eq!(client.end(), Some((1000, String::new())));
    };
    let unmasked: End = |mut client| {
        client.send_raw(&[0x82, 0]);
        assert_eq!(client.end(), Some((1002, "unmasked".into())));
    };
    let rows: [(Kind, End, &str); 9] = [
        (Kind::Tcp, gone, "peer"),
        (Kind::Tcp, half, "peer"),
        (Kind::Tcp, reset, "peer"),
        (Kind::Tcp, malformed, "header_length"),
        (Kind::WebSocket, gone, "peer"),
        (Kind::WebSocket, reset, "peer"),
        (Kind::WebSocket, closing, "peer"),
        (Kind::WebSocket, unmasked, "unmasked"),
        (Kind::Foreign, gone, "peer"),
    ];
    for (kind, end, reason) in rows {
        let client = edge.log_in(kind, &Login::new("one").room("live://1"));
        let session = client.session();
        let before = edge.closed(reason);
        end(client);
        becomes(&(1, before + 1, 0), || {
            (edge.logic.times_over(&session), edge.closed(reason), edge.metric("rooms"))
        });
        becomes(&0, || edge.snapshot().open);
    }
    let all: u64 = ["peer", "header_length", "unmasked"].iter().map(|reason| edge.closed(reason)).sum();
    assert_eq!(all, rows.len() as u64);
}

/// Silence ends a connection, and so do bytes that come to no packet; any packet keeps it.
#[test]
fn a_silent_client_is_gone_after_its_idle_time() {
    let edge = Edge::start(|_| {});
    let log_in = |name: &str, kind, idle| {
        let login = Login::new(&format!("{name} {kind:?}")).room("live://1").idle(Duration::from_secs(idle));
        edge.log_in(kind, &login)
    };
    let mut active = Kind::ALL.map(|kind| log_in("active", kind, 2));
    let began = Instant::now();
    let mut silent = Kind::ALL.map(|kind| log_in("silent", kind, 1));
    let mut dribbling = log_in("dribbling", Kind::Tcp, 1);
    let mut packet = dribbling.encode(Header { ver: 1, op: 4, seq: 1 }, &[0; 4000]).into_iter();
    let mut writer = dribbling.writer();
    while edge.closed("idle") < 4 || began.elapsed() < Duration::from_secs(4) {
        for client in &mut active {
            let sent = client.send(4, b"");
            client.expect_reply(sent, b"");
        }
        // It fails once that one is closed.
        let _ = writer.write_all(&[packet.next().unwrap()]);
        std::thread::park_timeout(Duration::from_millis(20));
        assert!(began.elapsed() < PATIENCE, "nobody counts as gone");
    }
    for client in silent.iter_mut().chain([&mut dribbling]) {
        let close = client.end();
        let expected = (1008, "idle".to_owned());
        assert_eq!(close, (client.session().key.as_str() == "silent WebSocket").then_some(expected));
        assert_eq!(edge.logic.times_over(&client.session()), 1);
    }
    assert_eq!(active[0].heartbeat(), 3);
    assert_eq!(edge.closed("idle"), 4);
}

/// Nobody is thrown out early.
#[test]
fn the_idle_time_is_the_clients_own() {
    let edge = Edge::start(|_| {});
    let mut clients = Kind::ALL
        .map(|kind| edge.log_in(kind, &Login::new(&format!("{kind:?}")).idle(Duration::from_millis(1500))));
    let began = Instant::now();
    becomes(&3, || edge.closed("idle"));
    assert!(began.elapsed() >= Duration::from_millis(1400), "after {:?}", began.elapsed());
    for client in &mut clients {
        client.end();
    }
}
