//! Pushes that can also be pulled: overflow, and the three states between which the owner switches.

use std::sync::atomic::Ordering;

use anser_api::comet::Flow;
use anser_api::id::{Generation, Session};
use anser_wire::operation::{BEHIND, LIVE};
use anser_wire::packet::Header;
use bytes::Bytes;

use super::fixture::{Client, EVERYONE, Edge, Kind, Login, becomes, key, keys, number, numbered, room};

const BEHIND_NOTICE: Header = Header { ver: 1, op: BEHIND, seq: 0 };

/// Few bytes wait for a connection, in the kernel and here.
fn narrow() -> Edge {
    Edge::start(|config| {
        config.send_buffer = 4096;
        config.queue = 32;
    })
}

/// Sends pushes to a client that does not read until it is the `behind`th that is behind.
#[track_caller]
fn overflow(edge: &Edge, name: &str, behind: u64) {
    let mut n = 0;
    while edge.snapshot().behind < behind {
        edge.push_pullable(keys(&[name]), 1000, &numbered(n, 1000));
        n += 1;
        assert!(n < 10_000, "{name} never falls behind");
        if n % 16 == 0 {
            becomes(&0, || {
                edge.metric("queue_depth{worker=\"0\"}") + edge.metric("queue_depth{worker=\"1\"}")
            });
        }
    }
}

/// Reads whole pushes without a gap up to the notice that the client is behind; how many.
#[track_caller]
fn up_to_behind(client: &mut Client) -> u64 {
    for n in 0.. {
        let packet = client.next();
        if packet.header == BEHIND_NOTICE {
            assert_eq!(packet.body, b"");
            return n;
        }
        assert_eq!((packet.header.op, number(&packet.body)), (1000, n), "to {client:?}");
    }
    unreachable!()
}

/// What can be pulled goes when the client does not read, it is told once, and nothing that can be
/// pulled comes until the owner says so; what cannot be pulled goes on.
#[test]
fn a_client_that_does_not_read_falls_behind() {
    for kind in Kind::ALL {
        let edge = narrow();
        let login = Login::new("slow").anser().room("live://1");
        let mut slow = edge.log_in_narrow(kind, &login);
        let session = slow.session();
        overflow(&edge, "slow", 1);
        // Behind already: nothing is told twice, nothing pullable is kept, the rest goes on.
        for target in [keys(&["slow"]), room("live://1"), EVERYONE] {
            edge.push_pullable(target.clone(), 1000, b"to be pulled");
            edge.push(target, 1000, b"not to be pulled");
        }
        let read = up_to_behind(&mut slow);
        assert!(read > 1, "some were in the kernel already");
        for _ in 0..3 {
            slow.expect_push(1000, b"not to be pulled");
        }
        assert_eq!(edge.snapshot().behind, 1);
        assert_eq!(edge.snapshot().lost, 0, "what can be pulled is not lost");
        // The client catches up. Its word goes to the owner, and the owner's counts.
        slow.send(LIVE, b"up to 7");
        assert_eq!(slow.heartbeat(), 1, "the worker itself answers nothing");
        becomes(&vec![(session.clone(), Bytes::from("up to 7"))], || edge.owner.live());
        edge.push_pullable(keys(&["slow"]), 1000, b"still to be pulled");
        edge.switch(&session, Flow::Live);
        edge.push_pullable(keys(&["slow"]), 1000, b"live again");
        slow.expect_push(1000, b"live again");
        // And it can fall behind again.
        overflow(&edge, "slow", 2);
        up_to_behind(&mut slow);
    }
}

/// A goim client knows no notice; for the rest it is the same.
#[test]
fn a_goim_client_that_falls_behind_is_told_nothing() {
    for kind in Kind::ALL {
        let edge = narrow();
        let mut slow = edge.log_in_narrow(kind, &Login::new("slow"));
        overflow(&edge, "slow", 1);
        edge.push(keys(&["slow"]), 1000, &numbered(u64::MAX, 8));
        let mut next = 0;
        loop {
            let (op, body) = slow.push();
            assert_eq!(op, 1000);
            if number(&body) == u64::MAX {
                break;
            }
            assert_eq!(number(&body), next);
            next += 1;
        }
        edge.push_pullable(keys(&["slow"]), 1000, b"to be pulled");
        edge.switch(&slow.session(), Flow::Live);
        edge.push_pullable(keys(&["slow"]), 1000, b"live again");
        slow.expect_push(1000, b"live again");
    }
}

/// The owner can put a client behind as well.
#[test]
fn the_owner_switches_a_client_behind() {
    let edge = narrow();
    for (kind, behind) in Kind::ALL.into_iter().zip(1..) {
        let mut client = edge.log_in(kind, &Login::new("one").anser());
        for _ in 0..2 {
            edge.switch(&client.session(), Flow::Behind);
        }
        edge.push_pullable(keys(&["one"]), 1000, b"to be pulled");
        edge.push(keys(&["one"]), 1000, b"not to be pulled");
        client.expect_reply(BEHIND_NOTICE, b"");
        client.expect_push(1000, b"not to be pulled");
        edge.switch(&client.session(), Flow::Live);
        edge.push_pullable(keys(&["one"]), 1000, b"live");
        client.expect_push(1000, b"live");
        assert_eq!(edge.snapshot().behind, behind);
    }
}

/// Held pushes wait in order, keep nothing else waiting, and come when the owner says so.
#[test]
fn held_pushes_come_in_order_when_the_owner_says_so() {
    for kind in Kind::ALL {
        let edge = narrow();
        let mut client = edge.log_in(kind, &Login::new("one").anser().room("live://1"));
        let session = client.session();
        edge.push_pullable(keys(&["one"]), 1000, b"before");
        edge.switch(&session, Flow::Held);
        for n in 0..60 {
            edge.push_pullable(keys(&["one"]), 1000, &numbered(n, 100));
        }
        edge.push(keys(&["one"]), 1000, b"not held");
        client.expect_push(1000, b"before");
        client.expect_push(1000, b"not held");
        assert_eq!(client.heartbeat(), 1);
        // From a room they wait behind those.
        edge.push_pullable(room("live://1"), 1000, &numbered(60, 100));
        edge.push(room("live://1"), 1000, b"not held either");
        client.expect_push(1000, b"not held either");
        edge.switch(&session, Flow::Live);
        edge.push_pullable(keys(&["one"]), 1000, &numbered(61, 100));
        for n in 0..62 {
            client.expect_push(1000, &numbered(n, 100));
        }
        assert_eq!((edge.snapshot().behind, edge.snapshot().lost), (0, 0));
        becomes(&0, || edge.metric("outbound_bytes"));
    }
}

/// What was held may be more than the queue takes otherwise; a client that reads is not too slow for
/// it because more comes at the same time.
#[test]
fn released_pushes_and_fresh_ones_go_out_together() {
    for kind in Kind::ALL {
        let edge = Edge::start(|config| {
            config.workers = 1;
            config.queue = 4;
        });
        let mut client = edge.log_in(kind, &Login::new("one").anser());
        let session = client.session();
        edge.switch(&session, Flow::Held);
        for n in 0..50 {
            edge.push_pullable(keys(&["one"]), 1000, &numbered(n, 20));
        }
        // The worker finds all of it in one turn.
        let blocked = edge.block(0);
        edge.switch(&session, Flow::Live);
        for n in 50..60 {
            edge.push_pullable(keys(&["one"]), 1000, &numbered(n, 20));
        }
        blocked.release();
        for n in 0..60 {
            client.expect_push(1000, &numbered(n, 20));
        }
        assert_eq!(edge.snapshot().behind, 0);
    }
}

/// More than the bound, in pushes or in bytes, and the client is behind: all that was held goes.
#[test]
fn held_pushes_are_bounded() {
    for kind in Kind::ALL {
        for (held, held_bytes) in [(3, 1 << 20), (1000, 3500)] {
            let edge = Edge::start(|config| (config.held, config.held_bytes) = (held, held_bytes));
            let mut client = edge.log_in(kind, &Login::new("one").anser());
            edge.switch(&client.session(), Flow::Held);
            for n in 0..3 {
                edge.push_pullable(keys(&["one"]), 1000, &numbered(n, 1000));
            }
            edge.push(keys(&["one"]), 1000, b"so far so good");
            client.expect_push(1000, b"so far so good");
            assert_eq!(edge.snapshot().behind, 0);
            edge.push_pullable(keys(&["one"]), 1000, &numbered(3, 1000));
            client.expect_reply(BEHIND_NOTICE, b"");
            edge.switch(&client.session(), Flow::Live);
            edge.push_pullable(keys(&["one"]), 1000, b"live");
            client.expect_push(1000, b"live");
            becomes(&0, || edge.metric("outbound_bytes"));
        }
    }
}

/// A switch names a session: it has no effect on a later one of the same key, nor on a stranger.
#[test]
fn a_switch_for_another_generation_has_no_effect() {
    let edge = narrow();
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one").anser());
        let own = client.session();
        for generation in [own.generation.0 - 1, own.generation.0 + 1] {
            let other = Session { generation: Generation(generation), ..own.clone() };
            edge.switch(&other, Flow::Behind);
            edge.switch(&other, Flow::Held);
        }
        let stranger = Session { key: key("nobody"), ..own.clone() };
        edge.switch(&stranger, Flow::Behind);
        edge.push_pullable(keys(&["one"]), 1000, b"still live");
        client.expect_push(1000, b"still live");
        // Nor does one that would set it live again.
        edge.switch(&own, Flow::Held);
        edge.push_pullable(keys(&["one"]), 1000, b"held");
        edge.switch(&Session { generation: Generation(1), ..own.clone() }, Flow::Live);
        edge.push(keys(&["one"]), 1000, b"not held");
        client.expect_push(1000, b"not held");
        edge.switch(&own, Flow::Live);
        client.expect_push(1000, b"held");
    }
    assert_eq!(edge.snapshot().behind, 0);
}

/// The owner hears each word once, with the session that said it, also if it takes its time.
#[test]
fn the_owner_hears_who_is_live() {
    let edge = narrow();
    edge.owner.slow.store(true, Ordering::Relaxed);
    let mut expected = Vec::new();
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new(&format!("{kind:?}")).anser());
        for body in [&b"epoch 3, number 44"[..], b""] {
            client.send(LIVE, body);
            expected.push((client.session(), Bytes::copy_from_slice(body)));
            becomes(&expected, || edge.owner.live());
        }
        assert_eq!(client.heartbeat(), 0, "the worker itself answers nothing");
    }
}
