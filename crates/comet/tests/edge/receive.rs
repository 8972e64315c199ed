//! What clients say to the application.

use anser_api::id::UserId;
use anser_api::logic::Received;
use anser_wire::operation::{AUTH, HANDSHAKE, HEARTBEAT, JOIN, RAW, SEND};
use anser_wire::packet::Header;
use bytes::Bytes;
use tokio::sync::watch;

use super::fixture::{Edge, Kind, Login, becomes};

/// Everything that the protocol gives no meaning goes to the application, from whoever is in, and is answered
/// with an empty packet.
#[test]
fn operations_of_the_application_are_handed_on() {
    let edge = Edge::start(|_| {});
    for kind in Kind::ALL {
        for anser in [false, true] {
            let name = format!("{kind:?} {anser}");
            let login = Login::new(&name).user(7);
            let mut client = edge.log_in(kind, &if anser { login.anser() } else { login });
            let body = [b'x'; 3000];
            let mut expected = Vec::new();
            let mut ops = vec![1000, SEND, HANDSHAKE, -5];
            if !anser {
                ops.push(JOIN);
            }
            for op in ops {
                let header = client.send(op, &body);
                client.expect_reply(header, b"");
                expected.push(Received {
                    session: client.session(),
                    user: Some(UserId(7)),
                    op,
                    seq: header.seq,
                    body: Bytes::copy_from_slice(&body),
                });
            }
            // Neither a second token, nor a container, nor what the protocol knows.
            client.send(AUTH, b"a secret");
            client.send(HEARTBEAT, b"");
            client.send(RAW, b"");
            let last = client.send(1001, b"");
            while client.next().header != last {}
            let received = std::mem::take(&mut *edge.logic.received.lock().unwrap());
            assert_eq!(received.len(), expected.len() + 1, "{received:?}");
            assert_eq!(received[..expected.len()], expected, "{name}");
            assert_eq!(received[expected.len()].op, 1001);
        }
    }
    assert_eq!(edge.metric("receive_lost_total"), 0);
}

/// Who is not in says nothing to the application.
#[test]
fn strangers_say_nothing() {
    let edge = Edge::start(|_| {});
    for kind in Kind::SOCKETS {
        let mut client = edge.connect(kind);
        client.send(1000, b"let me in");
        let (token, session) = edge.logic.token(&Login::new("one"));
        client.authenticate(&token);
        let header = client.send(1001, b"");
        client.expect_reply(header, b"");
        let received = std::mem::take(&mut *edge.logic.received.lock().unwrap());
        assert_eq!(received.iter().map(|packet| packet.op).collect::<Vec<_>>(), [1001]);
        assert_eq!((&received[0].session, received[0].user), (&session, None));
    }
}

/// An application that takes nothing costs neither memory without bound nor a client its answers.
#[test]
fn what_the_application_has_no_place_for_is_lost_and_counted() {
    const BATCH: usize = 100;
    const BATCHES: usize = 80;
    let (open, receives) = watch::channel(false);
    let edge = Edge::start(|_| {});
    edge.logic.receives.set(receives).unwrap();
    let mut client = edge.log_in(Kind::Tcp, &Login::new("one"));
    for _ in 0..BATCHES {
        let sent: Vec<Header> = (0..BATCH).map(|_| client.send(1000, b"hello")).collect();
        for header in sent {
            client.expect_reply(header, b"");
        }
    }
    let lost = edge.metric("receive_lost_total") as usize;
    let received = edge.logic.received.lock().unwrap().len();
    assert_eq!(received + lost, BATCH * BATCHES);
    assert!(lost > 0 && received > 1000, "{received} received, {lost} lost");
    // Once it takes them again, so does the edge.
    open.send(true).unwrap();
    becomes(&true, || {
        let before = edge.logic.received.lock().unwrap().len();
        let header = client.send(1001, b"");
        client.expect_reply(header, b"");
        edge.logic.received.lock().unwrap().len() > before
    });
}
