//! Connections whose transport is a task. That rooms, order and overflow are the same for them as for
//! sockets is shown where those are tested; here is what is their own.

use anser_api::comet::Flow;
use anser_comet::AttachError;
use anser_wire::operation::{AUTH_REPLY, HEARTBEAT, HEARTBEAT_REPLY};
use anser_wire::packet::Header;

use super::fixture::{EVERYONE, Edge, Item, Kind, Login, becomes, keys, numbered, room};

const AUTHENTICATED: Header = Header { ver: 1, op: AUTH_REPLY, seq: 1 };

/// A queue that is full keeps pushes on the worker, however small it is; each one that is taken out
/// brings the next.
#[test]
fn a_full_queue_waits_and_goes_on() {
    let edge = Edge::start(|_| {});
    for capacity in [1, 2, 3, 50] {
        let mut client = edge.attach(&Login::new("one").room("live://1"), capacity).unwrap();
        for n in 0..60 {
            edge.push(keys(&["one"]), 1000, &numbered(3 * n, 20));
            edge.push(keys(&["one"]), 1000, &numbered(3 * n + 1, 20));
            edge.push(keys(&["one"]), 1000, &numbered(3 * n + 2, 20));
        }
        // All but what the queue holds waits on the worker.
        let queued = capacity as u64 - 1;
        becomes(&((180 - queued) * 36), || edge.metric("outbound_bytes"));
        client.expect_reply(AUTHENTICATED, b"");
        for n in 0..180 {
            client.expect_push(1000, &numbered(n, 20));
        }
        becomes(&0, || edge.metric("outbound_bytes"));
        assert_eq!(edge.snapshot().lost, 0);
        for target in [keys(&["one"]), room("live://1"), EVERYONE] {
            edge.push(target, 1000, b"as before");
            client.expect_push(1000, b"as before");
        }
    }
}

/// Thousands through a queue of one, taken while they come.
#[test]
fn a_queue_of_one_never_gets_stuck() {
    let edge = Edge::start(|config| config.queue = 10_000);
    let mut client = edge.attach(&Login::new("one"), 1).unwrap();
    client.expect_reply(AUTHENTICATED, b"");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..5000).for_each(|n| edge.push_patiently(&keys(&["one"]), 1000, &numbered(n, 20))));
        for n in 0..5000 {
            client.expect_push(1000, &numbered(n, 20));
        }
    });
}

/// The word that a queue has room again can find no place itself. It is not forgotten.
#[test]
fn a_word_that_finds_no_place_is_said_again() {
    let edge = Edge::start(|config| config.workers = 1);
    let mut client = edge.attach(&Login::new("one"), 2).unwrap();
    client.expect_reply(AUTHENTICATED, b"");
    for n in 0..20 {
        edge.push(keys(&["one"]), 1000, &numbered(n, 20));
    }
    becomes(&(18 * 36), || edge.metric("outbound_bytes"));
    let blocked = edge.block(0);
    let beat = Header { ver: 1, op: HEARTBEAT, seq: 1 };
    let mut beats = 0;
    while client.hand_in(beat) {
        beats += 1;
        assert!(beats < 1_000_000, "the worker takes any number of requests");
    }
    client.expect_push(1000, &numbered(0, 20));
    client.expect_push(1000, &numbered(1, 20));
    blocked.release();
    for n in 2..20 {
        client.expect_push(1000, &numbered(n, 20));
    }
    for _ in 0..beats {
        client.expect_reply(beat.reply(HEARTBEAT_REPLY), &[0; 4]);
    }
}

/// A client that asks and does not listen is slowed down as by a socket: its answers do not pile up.
#[test]
fn requests_are_not_taken_while_answers_wait() {
    let edge = Edge::start(|config| config.workers = 1);
    let mut client = edge.attach(&Login::new("one"), 1).unwrap();
    client.expect_reply(AUTHENTICATED, b"");
    let beat = Header { ver: 1, op: HEARTBEAT, seq: 1 };
    for _ in 0..3 {
        let mut beats = 0;
        while client.hand_in(beat) {
            beats += 1;
            assert!(beats < 100_000, "any number of answers may wait");
            // It is not for the worker's queue that it ends.
            becomes(&0, || edge.metric("queue_depth{worker=\"0\"}"));
        }
        assert!(beats > 100, "{beats} answers may wait");
        assert!(edge.metric("outbound_bytes") < 100_000);
        for _ in 0..beats {
            client.expect_reply(beat.reply(HEARTBEAT_REPLY), &[0; 4]);
        }
        becomes(&true, || client.hand_in(beat));
        client.expect_reply(beat.reply(HEARTBEAT_REPLY), &[0; 4]);
    }
}

/// Its packets are plain whatever the operation: a task frames them as its own transport wants.
#[test]
fn requests_are_answered_with_plain_packets() {
    let edge = Edge::start(|_| {});
    let mut client = edge.log_in(Kind::Foreign, &Login::new("one").room("live://1"));
    for seq in 0..500 {
        let header = Header { ver: 5, op: if seq % 2 == 0 { HEARTBEAT } else { 4 }, seq };
        client.send_packet(header, b"");
        if seq % 2 == 0 {
            client.expect_reply(header.reply(HEARTBEAT_REPLY), &[0, 0, 0, 1]);
        } else {
            client.expect_reply(header, b"");
        }
    }
    assert_eq!(edge.metric("connections{transport=\"foreign\"}"), 1);
}

/// Dropping the task's end ends the session, with whatever waits for it.
#[test]
fn dropping_the_end_of_a_task_ends_the_session() {
    let edge = Edge::start(|_| {});
    for held in [false, true] {
        let client = edge.attach(&Login::new("one").room("live://1"), 1).unwrap();
        let session = client.session();
        if held {
            edge.switch(&session, Flow::Held);
        }
        for n in 0..30 {
            edge.push_pullable(room("live://1"), 1000, &numbered(n, 20));
        }
        becomes(&(30 * 36), || edge.metric("outbound_bytes"));
        drop(client);
        becomes(&(1, 0, 0, 0), || {
            let now = edge.snapshot();
            (edge.logic.times_over(&session), now.connections, now.open, edge.metric("outbound_bytes"))
        });
        assert_eq!(edge.metric("rooms"), 0);
    }
    assert_eq!(edge.closed("peer"), 2);
}

/// A task counts as a connection like others.
#[test]
fn tasks_count_towards_the_limits() {
    let edge = Edge::start(|config| config.max_connections = 2);
    let first = edge.log_in(Kind::Foreign, &Login::new("first"));
    let second = edge.log_in(Kind::Tcp, &Login::new("second"));
    let refused = edge.attach(&Login::new("third"), 8).map(drop);
    assert_eq!(refused, Err(AttachError::Full));
    let mut socket = edge.dial(Kind::Tcp, false);
    assert_eq!(socket.item(), Item::End);
    drop(second);
    becomes(&1, || edge.snapshot().open);
    drop(edge.attach(&Login::new("third"), 8).unwrap());
    drop(first);
    becomes(&0, || edge.snapshot().open);
}

/// A comet that is gone takes no task, and says so.
#[test]
fn a_drained_comet_takes_no_task() {
    let edge = Edge::start(|_| {});
    let mut client = edge.log_in(Kind::Foreign, &Login::new("one"));
    edge.drain();
    assert_eq!(client.end(), None);
    assert_eq!(edge.attach(&Login::new("two"), 8).map(drop), Err(AttachError::Busy));
}
