//! Pushes to keys, rooms and everyone: how they look, who gets them, in which order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anser_api::comet::{Form, Target};
use anser_wire::operation::{CHANGE_ROOM, CHANGE_ROOM_REPLY, HEARTBEAT, HEARTBEAT_REPLY};
use anser_wire::packet::Header;

use super::fixture::{
    Client, EVERYONE, Edge, Kind, Login, bare, becomes, keys, number, numbered, room, wrapped,
};

/// goim's golden bytes for operation 1000 and the body `{"test":1}`.
#[test]
fn a_push_is_goims_to_the_byte() {
    let edge = Edge::start(|_| {});
    let inner = [&[0, 0, 0, 0x1a, 0, 16, 0, 1, 0, 0, 3, 0xe8, 0, 0, 0, 0], &br#"{"test":1}"#[..]].concat();
    let outer = [0x82, 0x2a, 0, 0, 0, 0x2a, 0, 16, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0];
    for (kind, expected) in
        [(Kind::Tcp, inner.clone()), (Kind::WebSocket, [&outer[..], &inner].concat()), (Kind::Foreign, inner)]
    {
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
        for target in [keys(&["one"]), room("live://1"), EVERYONE, Target::All { speed: 100 }] {
            edge.push(target.clone(), 1000, br#"{"test":1}"#);
            assert_eq!(client.read_raw(expected.len()), expected, "{target:?} over {kind:?}");
        }
    }
}

/// What goim's callers have encoded already, and what they want without a container. The operation of
/// the push chooses receivers, whatever is in the packets.
#[test]
fn a_push_may_be_encoded_already() {
    let edge = Edge::start(|_| {});
    let one = |ver, op, seq| bare(Header { ver, op, seq }, b"hi");
    let two = [one(1, 1000, 0), one(7, 5, -1)].concat();
    let (ver, op, seq) = (-3, 5, 77);
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1").accepts(&[1000]));
        for target in [keys(&["one"]), room("live://1"), EVERYONE, Target::All { speed: 100 }] {
            let expected = if kind == Kind::WebSocket { wrapped(&two) } else { two.clone() };
            edge.push_in(Form::Packets, target.clone(), 1000, &two);
            assert_eq!(client.read_raw(expected.len()), expected, "{target:?} over {kind:?}");
            edge.push_in(Form::Packet { ver, op, seq }, target.clone(), 1000, b"hi");
            let mut expected = one(ver, op, seq);
            if kind == Kind::WebSocket {
                expected.splice(..0, [0x82, 18]);
            }
            assert_eq!(client.read_raw(expected.len()), expected, "{target:?} over {kind:?}");
        }
        edge.push_in(Form::Packets, keys(&["one"]), 1001, &two);
        edge.push_in(Form::Packet { ver, op: 1000, seq }, keys(&["one"]), 1001, b"hi");
        edge.push(keys(&["one"]), 1000, b"last");
        client.expect_push(1000, b"last");
    }
}

/// Packets that come together may be larger together than one push.
#[test]
fn packets_are_as_large_as_the_largest() {
    let edge = Edge::start(|config| config.push_body = 100);
    let mut client = edge.log_in(Kind::Tcp, &Login::new("one"));
    let two = bare(Header { ver: 1, op: 1000, seq: 0 }, &[b'x'; 100]).repeat(2);
    edge.push_in(Form::Packets, keys(&["one"]), 1000, &two);
    assert_eq!(client.read_raw(two.len()), two);
}

/// The three encodings of a WebSocket length, and the largest push that is allowed.
#[test]
fn bodies_of_all_sizes_arrive_whole() {
    let edge = Edge::start(|_| {});
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
        for len in [0, 1, 93, 94, 4096, 65503, 65504, 1_000_000] {
            let body = vec![b'x'; len];
            let push = bare(Header { ver: 1, op: 1000, seq: 0 }, &body);
            let expected = if kind == Kind::WebSocket { wrapped(&push) } else { push };
            for target in [keys(&["one"]), room("live://1"), EVERYONE] {
                edge.push_patiently(&target, 1000, &body);
                assert!(client.read_raw(expected.len()) == expected, "{len} bytes over {kind:?}");
            }
        }
    }
}

/// Pushes to keys and to everyone ask what a client takes, pushes to rooms do not.
#[test]
fn accepts_count_for_keys_and_everyone_only() {
    let edge = Edge::start(|_| {});
    let mut filtered = 0;
    for kind in Kind::ALL {
        let login = Login::new("one").room("live://1").accepts(&[1000, -7]);
        let mut client = edge.log_in(kind, &login);
        for target in [keys(&["one"]), EVERYONE, Target::All { speed: 1000 }] {
            for op in [1001, -7, 0, 1000] {
                edge.push(target.clone(), op, b"filtered");
            }
            for _ in 0..2 {
                let (op, _) = client.push();
                assert!([1000, -7].contains(&op), "{op} over {kind:?}");
            }
            edge.push(target, 1000, b"last");
            client.expect_push(1000, b"last");
            filtered += 2;
            becomes(&filtered, || edge.metric("filtered_total"));
        }
        for op in [1001, 0, i32::MAX, 1000] {
            edge.push(room("live://1"), op, b"unfiltered");
            client.expect_push(op, b"unfiltered");
        }
    }
}

#[test]
fn a_push_to_many_keys_reaches_each_that_is_here() {
    let edge = Edge::start(|config| config.workers = 3);
    // More keys than one turn of a worker serves.
    let names: Vec<String> = (0..700).map(|n| format!("device {n}")).collect();
    let mut here: Vec<Client> = names
        .iter()
        .step_by(10)
        .zip(Kind::ALL.into_iter().cycle())
        .map(|(name, kind)| edge.log_in(kind, &Login::new(name)))
        .collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    edge.push(keys(&all), 1000, b"to you all");
    for client in &mut here {
        client.expect_push(1000, b"to you all");
    }
    becomes(&(here.len() as u64), || edge.snapshot().delivered);
    edge.push(keys(&[]), 1000, b"to nobody");
    edge.push(keys(&["device 1"]), 1000, b"to one who is not here");
    edge.push(room("live://nobody"), 1000, b"to an empty room");
    edge.push(keys(&[&names[0]]), 1000, b"to the first");
    here[0].expect_push(1000, b"to the first");
    becomes(&(here.len() as u64 + 1), || edge.snapshot().delivered);
}

#[test]
fn only_members_get_what_goes_to_a_room() {
    let edge = Edge::start(|_| {});
    for (kind, before) in Kind::ALL.into_iter().zip([0, 4, 8]) {
        let mut inside = edge.log_in(kind, &Login::new("inside").room("live://1"));
        let mut elsewhere = edge.log_in(kind, &Login::new("elsewhere").room("live://2"));
        let mut nowhere = edge.log_in(kind, &Login::new("nowhere"));
        edge.push(room("live://1"), 1000, b"to the room");
        inside.expect_push(1000, b"to the room");
        becomes(&(before + 1), || edge.snapshot().delivered);
        edge.push(keys(&["inside", "elsewhere", "nowhere"]), 1000, b"to each");
        for client in [&mut inside, &mut elsewhere, &mut nowhere] {
            client.expect_push(1000, b"to each");
        }
    }
}

/// With a speed everybody gets it as well, and nobody before his time.
#[test]
fn a_push_to_everyone_keeps_to_its_speed() {
    let edge = Edge::start(|config| config.workers = 1);
    let mut clients: Vec<Client> =
        (0..12).map(|n| edge.log_in(Kind::ALL[n % 3], &Login::new(&format!("device {n}")))).collect();
    let began = Instant::now();
    edge.push(Target::All { speed: 40 }, 1000, b"slowly");
    // The order is the worker's own; all have it when the last one has.
    for client in &mut clients {
        client.expect_push(1000, b"slowly");
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(11 * 25), "12 clients at 40 a second took {took:?}");
    // What is sent slowly keeps nothing else waiting.
    let began = Instant::now();
    edge.push(Target::All { speed: 1 }, 1000, b"very slowly");
    edge.push(EVERYONE, 1000, b"at once");
    for client in &mut clients {
        if client.push().1 != b"at once" {
            client.expect_push(1000, b"at once");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(11), "the slow push kept the fast one waiting");
    // Nor do those who go while it is under way.
    let mut late = edge.log_in(Kind::Tcp, &Login::new("late"));
    clients.truncate(1);
    late.expect_push(1000, b"very slowly");
}

/// Over several workers the shares of the speed add up, and all get it.
#[test]
fn a_push_at_a_speed_reaches_the_clients_of_all_workers() {
    let edge = Edge::start(|config| config.workers = 3);
    let mut clients: Vec<Client> =
        (0..60).map(|n| edge.log_in(Kind::ALL[n % 3], &Login::new(&format!("device {n}")))).collect();
    edge.push(Target::All { speed: 400 }, 1000, b"all of you");
    for client in &mut clients {
        client.expect_push(1000, b"all of you");
    }
    becomes(&60, || edge.snapshot().delivered);
}

/// Thousands of pushes to a room and to keys, while others come and go: whoever stays gets all of both
/// in order; whoever goes gets, in order and without a gap, what is pushed from his coming to his going.
#[test]
fn order_holds_while_others_come_and_go() {
    const PUSHES: u64 = 3000;
    let edge = Edge::start(|config| {
        // Nobody is too slow here, however busy the machine is.
        config.queue = 1 << 20;
        config.queue_bytes = 1 << 30;
        config.outbound_budget = 1 << 30;
    });
    let (done, begun) = (AtomicBool::new(false), AtomicU64::new(0));
    let stayers: Vec<_> = ["stays 0", "stays 1", "stays 2", "stays 3"]
        .into_iter()
        .zip(Kind::ALL.into_iter().cycle())
        .map(|(name, kind)| (name, edge.log_in(kind, &Login::new(name).room("live://1").accepts(&[7]))))
        .collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = stayers
            .into_iter()
            .map(|(name, mut client)| {
                let edge = &edge;
                scope.spawn(move || {
                    for n in 0..PUSHES {
                        edge.push_patiently(&keys(&[name]), 7, &numbered(n, 40));
                    }
                });
                scope.spawn(move || {
                    let mut next = [0; 2];
                    while next != [PUSHES; 2] {
                        let (op, body) = client.push();
                        let next = &mut next[usize::from(op == 7)];
                        assert_eq!(number(&body), *next, "operation {op} to {client:?}");
                        *next += 1;
                    }
                })
            })
            .collect();
        for kind in [Kind::Tcp, Kind::WebSocket, Kind::Foreign, Kind::Tcp] {
            let (edge, done, begun) = (&edge, &done, &begun);
            scope.spawn(move || {
                let name = edge.logic.fresh("goes");
                let mut client = edge.log_in(kind, &Login::new(&name));
                let mut next = 0;
                let mut stays = 0;
                while !done.load(Ordering::Acquire) {
                    client.request(CHANGE_ROOM, b"live://1", CHANGE_ROOM_REPLY, b"live://1");
                    let own = begun.load(Ordering::Acquire);
                    let mut visit = Visit { client: &mut client, next, own };
                    for _ in 0..stays % 7 {
                        visit.request(HEARTBEAT, HEARTBEAT_REPLY);
                    }
                    visit.request(CHANGE_ROOM, CHANGE_ROOM_REPLY);
                    next = visit.next;
                    stays += 1;
                }
            });
        }
        for n in 0..PUSHES {
            begun.store(n + 1, Ordering::Release);
            edge.push_patiently(&room("live://1"), 1000, &numbered(n, 60));
        }
        let results: Vec<_> = readers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Release);
        assert!(results.iter().all(Result::is_ok), "a reader failed");
    });
}

/// A client's time in a room.
struct Visit<'a> {
    client: &'a mut Client,
    /// The first push that is newer than all that came before.
    next: u64,
    /// Pushes from here on were made when the client was in the room. An earlier one may still come to
    /// it, if it was on its way.
    own: u64,
}

impl Visit<'_> {
    /// Sends a request, and checks the pushes that come before its answer.
    #[track_caller]
    fn request(&mut self, op: i32, reply: i32) {
        let sent = self.client.send(op, b"");
        loop {
            let packet = self.client.next();
            if packet.header == sent.reply(reply) {
                return;
            }
            let n = number(&packet.body);
            let gap = n > self.next.max(self.own);
            assert!(n >= self.next && !gap, "{n} came, and {} or {} was to come", self.next, self.own);
            self.next = n + 1;
        }
    }
}

/// Whoever has read the answer to his authentication is in: nothing that is pushed from then on passes
/// him by.
#[test]
fn a_push_after_the_answer_is_never_missed() {
    let edge = Edge::start(|config| config.workers = 3);
    for round in 0..400 {
        let name = format!("device {round}");
        let kind = Kind::ALL[round % 3];
        let mut client = edge.log_in(kind, &Login::new(&name).room("live://1"));
        let own = 3 * round as u64;
        let mut expected = vec![own, own + 1, own + 2];
        for (target, n) in [keys(&[&name]), room("live://1"), EVERYONE].into_iter().zip(&expected) {
            edge.push(target, 1000, &numbered(*n, 20));
        }
        while !expected.is_empty() {
            let n = number(&client.push().1);
            // One to the room or to everyone, before this client came, may have been on its way here.
            if n >= own || n.is_multiple_of(3) {
                let at = expected.iter().position(|expected| *expected == n);
                expected.remove(at.expect("each of the three, once"));
            }
        }
    }
}
