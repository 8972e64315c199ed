//! `goim.comet.Comet` by the bytes of its messages.

use std::time::Duration;

use anser_api::comet::{Form, OnOverflow, Push, PushError, Target};
use bytes::Bytes;
use tonic::{Code, Status};

use super::fixture::{Port, body, bytes, key, number, packet, proto, room};

fn push(target: Target, op: i32, form: Form, body: impl Into<Bytes>) -> String {
    let body = body.into();
    format!("{:?}", Push { target, op, form, body, on_overflow: OnOverflow::Drop, expires: None })
}

fn full() -> Result<(), PushError> {
    Err(PushError::Exhausted { retry_after: Duration::from_millis(1) })
}

#[track_caller]
fn refused(result: Result<Vec<u8>, Status>, code: Code, text: &str) {
    let status = result.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}

const PUSH_MSG: &str = "/goim.comet.Comet/PushMsg";
const BROADCAST: &str = "/goim.comet.Comet/Broadcast";
const BROADCAST_ROOM: &str = "/goim.comet.Comet/BroadcastRoom";

/// The body of an operation 9 is written as it is; any other packet is one of its own.
#[tokio::test]
async fn raw_and_framed() {
    let port = Port::start().await;
    let inner = [packet(1000, b"one"), packet(1001, b"two")].concat();
    let form = Form::Packet { ver: 7, op: 5, seq: -3 };
    let cases = [
        (proto(1, 9, 0, &inner), Form::Packets, inner.clone()),
        (proto(7, 5, -3, b"hi"), form, b"hi".into()),
    ];
    for (proto, form, written) in cases {
        let keys = [bytes(1, "a"), bytes(1, "b"), bytes(2, &proto), number(3, 1000)].concat();
        let all = [number(1, 1000), bytes(2, &proto), number(3, 50)].concat();
        let in_room = [bytes(1, "live://1"), bytes(2, &proto)].concat();
        for (path, message) in [(PUSH_MSG, keys), (BROADCAST, all), (BROADCAST_ROOM, in_room)] {
            port.fake.answers::<Result<(), PushError>>(Ok(()));
            assert_eq!(port.call(path, message).await.unwrap(), b"", "{path}");
        }
        let op = if form == Form::Packets { 9 } else { 5 };
        assert_eq!(
            port.fake.asked(),
            [
                push(Target::Keys(vec![key("a"), key("b")]), 1000, form, written.clone()),
                push(Target::All { speed: 50 }, 1000, form, written.clone()),
                push(Target::Room(room("live://1")), op, form, written),
            ]
        );
    }
    port.stop().await;
}

/// goim's own texts, and what goim does not look at.
#[tokio::test]
async fn arguments_that_are_wrong() {
    let port = Port::start().await;
    let good = bytes(2, proto(1, 9, 0, &packet(1, b"")));
    for message in [good.clone(), bytes(1, "a"), vec![]] {
        refused(port.call(PUSH_MSG, message).await, Code::Unknown, "rpc pushmsg arg error");
    }
    refused(port.call(BROADCAST, number(1, 1)).await, Code::Unknown, "rpc broadcast arg error");
    for message in [good, bytes(1, "live://1")] {
        refused(port.call(BROADCAST_ROOM, message).await, Code::Unknown, "rpc broadcast  room arg error");
    }
    let packets = packet(1, b"body");
    for odd in [&packets[..packets.len() - 1], &[&packets[..], b"x"].concat(), b""] {
        let message = [bytes(1, "live://1"), bytes(2, proto(1, 9, 0, odd))].concat();
        let status = port.call(BROADCAST_ROOM, message).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("a body for operation 9 is whole packets"), "{status}");
    }
    assert_eq!(port.fake.asked(), [""; 0]);
    port.stop().await;
}

/// Keys that nobody can have are skipped like those that are not here; the speed is not negative.
#[tokio::test]
async fn arguments_that_are_odd() {
    let port = Port::start().await;
    let plain = bytes(2, proto((1 << 16) + 1, 5, 0, b"hi"));
    let form = Form::Packet { ver: 1, op: 5, seq: 0 };
    port.fake.answers::<Result<(), PushError>>(Ok(()));
    let long = "x".repeat(5000);
    let keys = [bytes(1, long), bytes(1, "a"), plain.clone(), number(3, -1)].concat();
    port.call(PUSH_MSG, keys).await.unwrap();
    port.fake.answers::<Result<(), PushError>>(Ok(()));
    port.call(BROADCAST, [number(1, 5), plain, number(3, -1)].concat()).await.unwrap();
    assert_eq!(
        port.fake.asked(),
        [
            push(Target::Keys(vec![key("a")]), -1, form, body("hi")),
            push(Target::All { speed: 0 }, 5, form, body("hi")),
        ]
    );
    port.stop().await;
}

/// goim's job loses the push to all keys behind the first whose queue is full.
#[tokio::test]
async fn a_full_queue_is_that_of_one_key() {
    let port = Port::start().await;
    let message = [bytes(1, "a"), bytes(1, "b"), bytes(1, "c"), bytes(2, proto(1, 5, 0, b"")), number(3, 5)];
    for answer in [full(), Ok(()), full(), Ok(())] {
        port.fake.answers(answer);
    }
    let result = port.call(PUSH_MSG, message.concat()).await;
    refused(result, Code::Unknown, "signal channel full, msg dropped");
    let form = Form::Packet { ver: 1, op: 5, seq: 0 };
    let to =
        |keys: &[&str]| push(Target::Keys(keys.iter().map(|name| key(name)).collect()), 5, form, body(""));
    assert_eq!(port.fake.asked(), [to(&["a", "b", "c"]), to(&["a"]), to(&["b"]), to(&["c"])]);
    port.stop().await;
}

/// goim waits for a place, and its job does not come again.
#[tokio::test]
async fn rooms_and_everyone_wait_for_a_place() {
    let port = Port::start().await;
    let proto = bytes(2, proto(1, 5, 0, b""));
    for (path, first) in [(BROADCAST_ROOM, bytes(1, "live://1")), (BROADCAST, number(1, 5))] {
        for answer in [full(), full(), Ok(())] {
            port.fake.answers(answer);
        }
        port.call(path, [first, proto.clone()].concat()).await.unwrap();
        assert_eq!(port.fake.asked().len(), 3, "{path}");
    }
    let too_long = PushError::Exhausted { retry_after: Duration::from_secs(6) };
    port.fake.answers::<Result<(), PushError>>(Err(too_long));
    let result = port.call(BROADCAST, [number(1, 5), proto.clone()].concat()).await;
    refused(result, Code::Unknown, "signal channel full, msg dropped");
    let others = [
        (PushError::Draining, Code::Unavailable),
        (PushError::TooLarge { len: 2, max: 1 }, Code::InvalidArgument),
        (PushError::TooMany { max: 1 }, Code::InvalidArgument),
    ];
    for (error, code) in others {
        let text = error.to_string();
        port.fake.answers::<Result<(), PushError>>(Err(error));
        refused(port.call(BROADCAST, [number(1, 5), proto.clone()].concat()).await, code, &text);
    }
    port.stop().await;
}

#[tokio::test]
async fn rooms_that_have_members() {
    let port = Port::start().await;
    let rooms = port.call("/goim.comet.Comet/Rooms", vec![]).await.unwrap();
    assert_eq!(rooms, bytes(1, [bytes(1, "live://1"), number(2, 1)].concat()));
    port.stop().await;
}

/// goim v2.0.0 has them.
#[tokio::test]
async fn calls_that_do_nothing() {
    let port = Port::start().await;
    for path in [
        "/goim.comet.Comet/Ping",
        "/goim.comet.Comet/Close",
        "/goim.logic.Logic/Ping",
        "/goim.logic.Logic/Close",
    ] {
        assert_eq!(port.call(path, vec![]).await.unwrap(), b"", "{path}");
    }
    let status = port.call("/goim.comet.Comet/Other", vec![]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    port.stop().await;
}
