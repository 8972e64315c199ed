//! A worker that cannot keep up: pushes are refused whole, with the time after which to try again, and
//! what was taken arrives.

use std::time::Duration;

use anser_api::comet::{Comet as _, Flow, OnOverflow, PushError, Target};
use anser_wire::operation::{CHANGE_ROOM, CHANGE_ROOM_REPLY};

use super::fixture::{Client, EVERYONE, Edge, Kind, Login, becomes, keys, now, number, numbered, room};

/// Pushes until one is refused; how many were taken.
#[track_caller]
fn fill(edge: &Edge, target: &Target, len: usize) -> u64 {
    for n in 0..100_000 {
        match edge.try_push(target.clone(), 1000, &numbered(n, len), OnOverflow::Drop) {
            Ok(()) => {}
            Err(PushError::Exhausted { retry_after }) => {
                assert!(retry_after >= Duration::from_millis(1) && retry_after <= Duration::from_secs(5));
                return n;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the queue has no end");
}

#[track_caller]
fn expect(client: &mut Client, pushes: u64, len: usize) {
    for n in 0..pushes {
        client.expect_push(1000, &numbered(n, len));
    }
}

/// The queue of commands.
#[test]
fn a_full_queue_of_commands_refuses() {
    for kind in Kind::ALL {
        let edge = Edge::start(|config| {
            config.workers = 1;
            config.commands = 8;
        });
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
        let blocked = edge.block(0);
        assert_eq!(fill(&edge, &keys(&["one"]), 20), 8);
        for target in
            [keys(&["one"]), keys(&["nobody"]), room("live://1"), EVERYONE, Target::All { speed: 9 }]
        {
            let refused = edge.try_push(target.clone(), 1000, b"refused", OnOverflow::Pull);
            assert!(matches!(refused, Err(PushError::Exhausted { .. })), "{target:?}");
        }
        let refused = now(edge.comet().switch(client.session(), Flow::Behind));
        assert!(matches!(refused, Err(PushError::Exhausted { .. })), "a switch");
        assert_eq!(edge.metric("pushes_refused_total"), 6);
        assert_eq!(edge.metric("queue_depth{worker=\"0\"}"), 8);
        // Nobody to get it, nothing to refuse.
        edge.push(room("live://nobody"), 1000, b"");
        edge.push(keys(&[]), 1000, b"");
        blocked.release();
        expect(&mut client, 8, 20);
        for target in [keys(&["one"]), room("live://1"), EVERYONE] {
            edge.push(target, 1000, b"taken");
            client.expect_push(1000, b"taken");
        }
        assert_eq!(edge.snapshot().lost, 0);
    }
}

/// A push to many keys takes more of the queue: one place for 64 of them on a worker. The first is taken
/// however many it has.
#[test]
fn many_keys_take_many_places() {
    let edge = Edge::start(|config| {
        config.workers = 1;
        config.commands = 8;
    });
    let mut client = edge.log_in(Kind::Tcp, &Login::new("one"));
    let to = |places: usize| {
        let mut names = vec!["nobody"; 64 * places - 1];
        names.push("one");
        keys(&names)
    };
    let taken = |target| match edge.try_push(target, 1000, b"to many", OnOverflow::Drop) {
        Ok(()) => true,
        Err(PushError::Exhausted { .. }) => false,
        Err(other) => panic!("{other}"),
    };
    for rows in [vec![(5, true), (4, false), (3, true), (1, false)], vec![(20, true), (1, false)]] {
        let blocked = edge.block(0);
        for (places, expected) in &rows {
            assert_eq!(taken(to(*places)), *expected, "{places} places in {rows:?}");
        }
        blocked.release();
        for _ in rows.iter().filter(|(_, taken)| *taken) {
            client.expect_push(1000, b"to many");
        }
        assert_eq!(client.heartbeat(), 0);
    }
    // What was refused has kept no places.
    let _blocked = edge.block(0);
    assert_eq!(fill(&edge, &keys(&["one"]), 20), 8);
}

/// The queue of each room, by pushes and by bytes, and that of everyone. Other rooms are not concerned.
#[test]
fn a_full_queue_of_a_room_refuses() {
    // On the wire of a WebSocket, which counts, 100 bytes are 136.
    for (queue, queue_bytes, len, taken) in
        [(5, 1 << 20, 100, 5), (1000, 136 * 7, 100, 7), (1000, 50, 100, 1)]
    {
        for kind in Kind::ALL {
            let edge = Edge::start(|config| {
                config.workers = 1;
                config.room_queue = queue;
                config.room_queue_bytes = queue_bytes;
            });
            let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
            let mut other = edge.log_in(kind, &Login::new("two").room("live://2"));
            for target in [room("live://1"), EVERYONE] {
                let blocked = edge.block(0);
                assert_eq!(fill(&edge, &target, len), taken, "{target:?}");
                edge.push(room("live://2"), 1000, b"to another room");
                edge.push(keys(&["two"]), 1000, b"to a key");
                blocked.release();
                expect(&mut client, taken, len);
                edge.push(target, 1000, b"taken");
                client.expect_push(1000, b"taken");
            }
            let mut got = Vec::new();
            while got.len() < 4 + taken as usize + 1 {
                got.push(other.push().1);
            }
            assert_eq!(
                got.iter().filter(|body| *body == b"to another room" || *body == b"to a key").count(),
                4
            );
            assert_eq!(edge.metric("backlog_deliveries{worker=\"0\"}"), 0);
        }
    }
}

/// All workers take it, or nobody gets anything, whichever of them is asked first.
#[test]
fn a_push_for_several_workers_is_refused_whole() {
    let edge = Edge::start(|config| config.commands = 4);
    for (busy_on, kind) in [0, 1].into_iter().flat_map(|worker| Kind::ALL.map(|kind| (worker, kind))) {
        let (busy_key, idle_key) = (edge.key_on(busy_on), edge.key_on(1 - busy_on));
        let mut busy = edge.log_in(kind, &Login::new(&busy_key).room("live://1"));
        let mut idle = edge.log_in(kind, &Login::new(&idle_key).room("live://1"));
        let blocked = edge.block(busy_on);
        assert_eq!(fill(&edge, &keys(&[&busy_key]), 20), 4);
        // More often than the other worker has places, in any of its queues.
        for _ in 0..40 {
            for target in [
                keys(&[&busy_key, &idle_key]),
                keys(&[&idle_key, &busy_key]),
                room("live://1"),
                EVERYONE,
                Target::All { speed: 1000 },
            ] {
                let refused = edge.try_push(target.clone(), 1000, b"refused", OnOverflow::Drop);
                assert!(matches!(refused, Err(PushError::Exhausted { .. })), "{target:?}");
            }
        }
        for n in 0..10 {
            edge.push(keys(&[&idle_key]), 1000, &numbered(n, 20));
            idle.expect_push(1000, &numbered(n, 20));
        }
        blocked.release();
        expect(&mut busy, 4, 20);
        for target in [keys(&[&busy_key, &idle_key]), room("live://1"), EVERYONE] {
            edge.push(target, 1000, b"taken");
            busy.expect_push(1000, b"taken");
            idle.expect_push(1000, b"taken");
        }
    }
}

/// Deliveries to rooms that wait on a worker: above so many, pushes to its rooms are refused.
#[test]
fn a_backlog_of_deliveries_refuses() {
    let edge = Edge::start(|config| {
        config.workers = 1;
        config.backlog = 2;
    });
    let mut members: Vec<Client> = (0..4)
        .map(|n| edge.log_in(Kind::Tcp, &Login::new(&format!("device {n}")).room("live://1")))
        .collect();
    let mut other = edge.log_in(Kind::Tcp, &Login::new("other").room("live://2"));
    // The worker finds the reset of a member only when it writes to it, and stops to say that.
    let blocked = edge.block(0);
    edge.push(room("live://1"), 1000, b"taken");
    members.remove(1).reset();
    let gate = edge.logic.stop_at_disconnect();
    blocked.release();
    gate.visited();
    assert_eq!(edge.metric("backlog_deliveries{worker=\"0\"}"), 4);
    let refused = edge.try_push(room("live://2"), 1000, b"refused", OnOverflow::Drop);
    assert!(matches!(refused, Err(PushError::Exhausted { .. })), "{refused:?}");
    edge.push(keys(&["other"]), 1000, b"to a key");
    gate.open();
    other.expect_push(1000, b"to a key");
    for member in &mut members {
        member.expect_push(1000, b"taken");
    }
    becomes(&0, || edge.metric("backlog_deliveries{worker=\"0\"}"));
    edge.push(room("live://2"), 1000, b"taken");
    other.expect_push(1000, b"taken");
}

/// What was taken for members of a worker that have all left by the time it is looked at gives its
/// places back, though the room lives on with those of another worker.
#[test]
fn places_in_the_queue_of_a_room_are_given_back_when_all_have_left() {
    for kind in Kind::SOCKETS {
        let edge = Edge::start(|config| config.room_queue = 3);
        let (goes_key, stays_key) = (edge.key_on(0), edge.key_on(1));
        let mut goes = edge.log_in(kind, &Login::new(&goes_key).room("live://1"));
        let mut stays = edge.log_in(kind, &Login::new(&stays_key).room("live://1"));
        for _ in 0..5 {
            let (leave, stopped) = edge.block_before(0, || goes.send(CHANGE_ROOM, b""));
            assert_eq!(fill(&edge, &room("live://1"), 20), 3);
            stopped.open();
            goes.expect_reply(leave.reply(CHANGE_ROOM_REPLY), b"");
            expect(&mut stays, 3, 20);
            goes.request(CHANGE_ROOM, b"live://1", CHANGE_ROOM_REPLY, b"live://1");
            for n in 0..3 {
                edge.push(room("live://1"), 1000, &numbered(n, 20));
            }
            expect(&mut goes, 3, 20);
            expect(&mut stays, 3, 20);
        }
        becomes(&0, || edge.metric("backlog_deliveries{worker=\"0\"}"));
    }
}

/// Whoever comes back after a refusal loses nothing, however short the queues are.
#[test]
fn nothing_is_lost_to_whoever_tries_again() {
    const PUSHES: u64 = 2000;
    let edge = Edge::start(|config| {
        config.commands = 4;
        config.room_queue = 2;
        config.queue = 1 << 20;
        config.queue_bytes = 1 << 30;
    });
    let clients = ["a", "b", "c"].into_iter().zip(Kind::ALL).map(|(name, kind)| {
        let login = Login::new(name).room("live://1").accepts(&[1000, 1002]);
        (name, edge.log_in(kind, &login))
    });
    let clients: Vec<_> = clients.collect();
    std::thread::scope(|scope| {
        for (name, mut client) in clients {
            let edge = &edge;
            scope.spawn(move || {
                for n in 0..PUSHES {
                    edge.push_patiently(&keys(&[name]), 1000, &numbered(n, 20));
                }
            });
            scope.spawn(move || {
                let mut next = [0; 3];
                while next != [PUSHES; 3] {
                    let (op, body) = client.push();
                    let next = &mut next[(op % 1000) as usize];
                    assert_eq!(number(&body), *next, "operation {op} to {client:?}");
                    *next += 1;
                }
            });
        }
        for (target, op) in [(room("live://1"), 1001), (EVERYONE, 1002)] {
            let edge = &edge;
            scope.spawn(move || (0..PUSHES).for_each(|n| edge.push_patiently(&target, op, &numbered(n, 20))));
        }
    });
    becomes(&(9 * PUSHES), || edge.snapshot().delivered);
    assert_eq!(edge.snapshot().lost, 0);
    assert!(edge.metric("pushes_refused_total") > 0, "the queues were never full");
}

/// Pushes at a speed wait in places of their own: when those are full, no other push is refused, and
/// whoever is refused is told how long one of them will take.
#[test]
fn pushes_at_a_speed_stand_in_nobodys_way() {
    let edge = Edge::start(|config| {
        config.workers = 1;
        config.room_queue = 2;
    });
    let mut clients: Vec<Client> =
        (0..9).map(|n| edge.log_in(Kind::ALL[n % 3], &Login::new(&format!("device {n}")))).collect();
    let slowly = Target::All { speed: 3 };
    for n in 0..2 {
        edge.push(slowly.clone(), 1000, &numbered(n, 20));
    }
    let hint = || match edge.try_push(slowly.clone(), 1000, b"refused", OnOverflow::Drop) {
        Err(PushError::Exhausted { retry_after }) => retry_after.as_millis() > 100,
        other => panic!("{other:?}"),
    };
    becomes(&true, hint);
    for _ in 0..10 {
        edge.push(EVERYONE, 1000, b"at once");
        for client in &mut clients {
            while client.push().1 != b"at once" {}
        }
    }
}
