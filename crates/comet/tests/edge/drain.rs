//! Going away: what is queued is written, everyone is told, and it ends in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anser_api::comet::{Comet as _, Flow, OnOverflow, PushError, Target};
use anser_api::settings::Span;
use anser_wire::anser::Draining;
use anser_wire::operation::{AUTH, DRAINING, HEARTBEAT};
use anser_wire::packet::Header;
use prost::Message as _;
use tokio::time::timeout;

use super::fixture::{
    Client, EVERYONE, Edge, Item, Kind, Login, PATIENCE, becomes, keys, now, number, numbered, room,
};

/// Reads what a client is told at the end; the time after which it may come back.
#[track_caller]
fn goodbye(client: &mut Client, anser: bool) -> Option<Duration> {
    let after = anser.then(|| {
        let packet = client.next();
        assert_eq!(packet.header, Header { ver: 1, op: DRAINING, seq: 0 }, "to {client:?}");
        Duration::from_millis(Draining::decode(&*packet.body).unwrap().retry_after_ms.into())
    });
    let close = client.end();
    let expected = (1001, "the server is going away".to_owned());
    assert_eq!(close, (client.kind() == Kind::WebSocket).then_some(expected), "to {client:?}");
    after
}

/// Anser clients learn when to come back, each at another time; WebSocket clients get a code.
#[test]
fn everyone_is_told() {
    let spread = Duration::from_secs(60);
    let edge = Edge::start(|config| config.drain_spread = Span(spread));
    let mut clients: Vec<_> = (0..36)
        .map(|n| {
            let login = Login::new(&format!("device {n}")).room("live://1");
            let anser = n % 2 == 0;
            (edge.log_in(Kind::ALL[n % 3], &if anser { login.anser() } else { login }), anser)
        })
        .collect();
    let mut strangers = Kind::SOCKETS.map(|kind| edge.connect(kind));
    let mut silent = edge.dial(Kind::WebSocket, false);
    becomes(&39, || edge.snapshot().open);
    std::thread::scope(|scope| {
        scope.spawn(|| edge.drain());
        let mut times: Vec<_> =
            clients.iter_mut().filter_map(|(client, anser)| goodbye(client, *anser)).collect();
        assert!(times.iter().all(|time| *time <= spread), "{times:?}");
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 10, "spread over {times:?}");
        for stranger in &mut strangers {
            goodbye(stranger, false);
        }
        assert_eq!(silent.item(), Item::End);
        drop((clients, strangers));
    });
    assert!(edge.is_deaf(), "nobody listens any more");
    // Each connection is counted once.
    assert_eq!(edge.closed("draining"), 39);
    for target in [keys(&["device 1"]), room("live://1"), EVERYONE] {
        let refused = edge.try_push(target, 1000, b"", OnOverflow::Drop);
        assert_eq!(refused, Err(PushError::Draining));
    }
    assert_eq!(edge.snapshot().connections, 0);
}

/// What was taken before is delivered before, to clients that read.
#[test]
fn what_is_queued_is_delivered_first() {
    for kind in Kind::ALL {
        for anser in [false, true] {
            let edge = Edge::start(|config| config.workers = 1);
            let login = Login::new("one").room("live://1");
            let mut client = edge.log_in(kind, &if anser { login.anser() } else { login });
            let blocked = edge.block(0);
            for n in 0..30 {
                edge.push(keys(&["one"]), 1000, &numbered(3 * n, 3000));
                edge.push(room("live://1"), 1000, &numbered(3 * n + 1, 3000));
                edge.push(EVERYONE, 1000, &numbered(3 * n + 2, 3000));
            }
            std::thread::scope(|scope| {
                scope.spawn(|| edge.drain());
                becomes(&Err(PushError::Draining), || {
                    edge.try_push(keys(&["nobody"]), 1000, b"", OnOverflow::Drop)
                });
                blocked.release();
                for _ in 0..90 {
                    client.push();
                }
                goodbye(&mut client, anser);
                drop(client);
            });
            assert_eq!((edge.snapshot().delivered, edge.snapshot().lost), (90, 0));
            let ends: u64 = ["draining", "closed", "peer", "linger"].iter().map(|why| edge.closed(why)).sum();
            assert_eq!(ends, 1, "ends of one connection over {kind:?}");
        }
    }
}

/// A push that was to take its time is not forgotten: now there is none left to take. The clients are
/// more than a worker serves in one turn.
#[test]
fn a_slow_push_to_everyone_is_delivered_first() {
    let edge = Edge::start(|config| config.workers = 1);
    let kinds = Kind::SOCKETS.into_iter().cycle().take(20).chain([Kind::Foreign; 600]);
    let mut clients: Vec<Client> =
        kinds.zip(0..).map(|(kind, n)| edge.log_in(kind, &Login::new(&format!("device {n}")))).collect();
    edge.push(Target::All { speed: 1 }, 1000, b"slowly");
    std::thread::scope(|scope| {
        scope.spawn(|| edge.drain());
        for client in &mut clients {
            client.expect_push(1000, b"slowly");
            goodbye(client, false);
        }
        drop(clients);
    });
    assert_eq!(edge.snapshot().delivered, 620);
}

/// Every push that is taken while others begin to drain arrives.
#[test]
fn what_is_taken_at_the_last_moment_is_delivered() {
    for round in 0..36 {
        let edge = Edge::start(|config| {
            config.queue = 1 << 20;
            config.queue_bytes = 1 << 30;
        });
        let mut client = edge.log_in(Kind::ALL[round % 3], &Login::new("one").room("live://1"));
        let target = [keys(&["one"]), room("live://1"), EVERYONE][round / 3 % 3].clone();
        let (taken, delivered) = std::thread::scope(|scope| {
            let pusher = scope.spawn(|| {
                let limit = Instant::now() + PATIENCE;
                let mut taken = 0;
                loop {
                    match edge.try_push(target.clone(), 1000, &numbered(taken, 20), OnOverflow::Drop) {
                        Ok(()) => taken += 1,
                        Err(PushError::Draining) => return taken,
                        Err(_) => std::thread::yield_now(),
                    }
                    assert!(Instant::now() < limit, "never refused");
                }
            });
            for n in 0..100 {
                client.expect_push(1000, &numbered(n, 20));
            }
            scope.spawn(|| edge.drain());
            let mut next = 100;
            while let Item::Packet(packet) = client.item() {
                assert_eq!(number(&packet.body), next);
                next += 1;
            }
            drop(client);
            (pusher.join().unwrap(), next)
        });
        assert_eq!(taken, delivered, "taken and delivered, to {target:?}");
    }
}

/// Clients that never read do not keep it from ending, nor do those that never say goodbye.
#[test]
fn it_ends_within_its_limit() {
    for limit in [1, 2].map(Duration::from_secs) {
        let edge = Edge::start(|config| {
            config.send_buffer = 4096;
            config.drain_limit = Span(limit);
        });
        let mut clients: Vec<Client> = (0..6)
            .map(|n| {
                edge.log_in_narrow(Kind::ALL[n % 3], &Login::new(&format!("device {n}")).room("live://1"))
            })
            .collect();
        for n in 0..30 {
            edge.push(room("live://1"), 1000, &numbered(n, 3000));
        }
        clients.extend(Kind::ALL.map(|kind| edge.log_in(kind, &Login::new(&format!("idle {kind:?}")))));
        let began = Instant::now();
        edge.drain();
        let took = began.elapsed();
        assert!(took >= limit, "it did not wait for those that may still read: {took:?}");
        assert!(took < limit + Duration::from_secs(5), "{took:?} for {limit:?}");
        assert_eq!(edge.snapshot().open, 0);
        becomes(&1, || u64::from(edge.snapshot().lost > 0));
        assert_eq!(edge.snapshot().delivered + edge.snapshot().lost, 6 * 30);
    }
}

/// Without anybody it ends at once, and a second time is no harm.
#[test]
fn an_idle_comet_ends_at_once() {
    let edge = Edge::start(|config| config.drain_limit = Span::secs(600));
    edge.log_in(Kind::Tcp, &Login::new("one"));
    let began = Instant::now();
    edge.drain();
    edge.drain();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A client that is let in while the comet goes is sent away, and its session is told over, whichever
/// worker its key belongs to and whether or not that one has ended.
#[test]
fn who_is_let_in_too_late_has_no_session() {
    for (home, kind) in [(0, Kind::Tcp), (1, Kind::Tcp), (0, Kind::WebSocket), (1, Kind::WebSocket)] {
        let edge = Edge::start(|_| {});
        let name = edge.key_on(home);
        let on_other = edge.key_on(1);
        let mut other = edge.log_in(Kind::Foreign, &Login::new(&on_other));
        // A worker stops while it lets a client in.
        let connected = edge.logic.connected(&Login::new(&name));
        let session = connected.session.clone();
        let (mut client, gate) = loop {
            let mut client = edge.connect(kind);
            let (token, gate) = edge.logic.stopping(Some(0), Ok(connected.clone()));
            client.send(AUTH, &token);
            if gate.visited() {
                break (client, gate);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| edge.drain());
            // The other worker sends its client away and ends.
            goodbye(&mut other, false);
            gate.open();
            // Whether or not it was in for a moment, it is told like others.
            let last = loop {
                match client.item() {
                    Item::Packet(_) => {}
                    last => break last,
                }
            };
            let expected = Item::Close(1001, "the server is going away".into());
            assert_eq!(last, if kind == Kind::WebSocket { expected } else { Item::End });
            drop(client);
        });
        assert_eq!(edge.logic.times_over(&session), 1);
    }
}

/// Without a drain, dropping the comet ends its threads: nothing holds what they share.
#[test]
fn dropping_the_comet_ends_its_threads() {
    let mut edge = Edge::start(|config| config.drain_limit = Span::secs(1));
    let mut clients = Kind::ALL.map(|kind| edge.log_in(kind, &Login::new(&format!("{kind:?}"))));
    let sessions = clients.each_ref().map(Client::session);
    edge.drop_comet();
    for client in &mut clients {
        goodbye(client, false);
    }
    drop(clients);
    becomes(&1, || Arc::strong_count(&edge.logic));
    for session in &sessions {
        assert_eq!(edge.logic.times_over(session), 1);
    }
    assert!(edge.is_deaf());
}

/// A client whose login is answered when everything is over has no session either.
#[test]
fn a_login_that_is_answered_after_the_end_leaves_no_session() {
    let edge = Edge::start(|config| config.drain_limit = Span::secs(1));
    let (token, verdict) = edge.logic.later();
    let mut client = edge.connect(Kind::WebSocket);
    client.send(AUTH, &token);
    becomes(&1, || edge.logic.asked().len());
    edge.drain();
    let connected = edge.logic.connected(&Login::new("one"));
    let session = connected.session.clone();
    verdict.send(Ok(connected)).unwrap();
    becomes(&1, || edge.logic.times_over(&session));
}

/// There is nobody left whose flow could be switched.
#[test]
fn a_switch_after_the_end_is_refused() {
    let edge = Edge::start(|_| {});
    let client = edge.log_in(Kind::Tcp, &Login::new("one"));
    let session = client.session();
    drop(client);
    edge.drain();
    assert!(matches!(now(edge.comet().switch(session, Flow::Live)), Err(PushError::Draining)));
}

/// Bytes that a client has sent and nobody has read do not turn the end into a reset, which would take
/// with it what is on its way to the client.
#[test]
fn the_last_bytes_arrive_whatever_was_sent_meanwhile() {
    for kind in Kind::SOCKETS {
        let edge = Edge::start(|config| config.workers = 1);
        // What it has not read lies with the server's kernel.
        let mut client = edge.log_in_narrow(kind, &Login::new("one").anser());
        for n in 0..14 {
            edge.push(keys(&["one"]), 1000, &numbered(n, 1000));
        }
        becomes(&14, || edge.snapshot().delivered);
        let gate = edge.logic.stop_at_disconnect();
        std::thread::scope(|scope| {
            scope.spawn(|| edge.drain());
            gate.visited();
            for _ in 0..10 {
                client.send(HEARTBEAT, b"");
            }
            gate.open();
            for n in 0..14 {
                client.expect_push(1000, &numbered(n, 1000));
            }
            goodbye(&mut client, true);
            drop(client);
        });
    }
}

/// What has had no turn when the time is over is counted.
#[test]
fn what_is_given_up_is_counted() {
    const PUSHES: u64 = 3000;
    for target in [keys(&["one", "two"]), room("live://1"), EVERYONE, Target::All { speed: 1 }] {
        let edge = Edge::start(|config| {
            config.workers = 1;
            config.room_queue = 10_000;
            config.room_queue_bytes = 1 << 30;
            config.drain_limit = Span::millis(0);
        });
        let login = |name| edge.log_in(Kind::Tcp, &Login::new(name).room("live://1"));
        let _members = [login("one"), login("two")];
        let blocked = edge.block(0);
        for n in 0..PUSHES {
            edge.push(target.clone(), 1000, &numbered(n, 20));
        }
        std::thread::scope(|scope| {
            let drain = scope.spawn(|| edge.drain());
            becomes(&true, || edge.is_deaf());
            blocked.release();
            drain.join().unwrap();
        });
        let now = edge.snapshot();
        assert_eq!(now.delivered + now.lost, 2 * PUSHES, "{target:?}");
        assert!(edge.lost("draining") > 0, "{target:?}");
    }
}

/// A thread that panics is told of, so that the process can end.
#[test]
fn a_panic_is_told() {
    let mut edge = Edge::start(|_| {});
    let mut client = edge.connect(Kind::Tcp);
    client.send(AUTH, &edge.logic.panicking());
    let told = edge.runtime.block_on(async { timeout(PATIENCE, edge.comet().failed()).await });
    told.expect("nobody told");
    edge.drop_comet();
}
