//! `goim.logic.Logic` by the bytes of its messages.

use std::time::Duration;

use anser_api::comet::Away;
use anser_api::id::{CometName, Generation, Incarnation, Key, Session, UserId};
use anser_api::logic::{Connect, Connected, Node, Received, Refused, Renewal, Renewed, Restore};
use bytes::Bytes;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use super::fixture::{Port, SECRET, body, bytes, float, key, number, proto, raw, room};

fn comet(name: &str) -> CometName {
    CometName::parse(name, 64).unwrap()
}

fn session(name: &str, generation: u64) -> Session {
    Session { key: key(name), generation: Generation(generation) }
}

fn connected(session: Session) -> Connected {
    Connected {
        session,
        user: None,
        room: None,
        accepts: vec![],
        idle: Duration::from_secs(480),
        anser: false,
        tell_dropped: false,
    }
}

impl Port {
    async fn connect(&self, server: &str, key: &str, generation: u64) {
        self.fake.answers::<Result<Connected, Refused>>(Ok(connected(session(key, generation))));
        self.call("/goim.logic.Logic/Connect", bytes(1, server)).await.unwrap();
        self.fake.asked();
    }

    async fn disconnect(&self, server: &str, key: &str) -> bool {
        let message = [number(1, 7), bytes(2, key), bytes(3, server)].concat();
        let answer = self.call("/goim.logic.Logic/Disconnect", message).await.unwrap();
        assert!(answer.is_empty() || answer == number(1, 1), "{answer:?}");
        !answer.is_empty()
    }
}

#[tokio::test]
async fn connect() {
    let port = Port::start().await;
    let everything = Connected {
        user: Some(UserId(7)),
        room: Some(room("live://1")),
        accepts: vec![1000, 1001],
        ..connected(session("k", 1))
    };
    port.fake.answers::<Result<Connected, Refused>>(Ok(everything));
    let message = [bytes(1, "comet-1"), bytes(2, "a=b"), bytes(3, b"token")].concat();
    let reply = port.call("/goim.logic.Logic/Connect", message).await.unwrap();
    // Accepts are packed: 1000 and 1001.
    let accepts = bytes(4, [0xe8, 0x07, 0xe9, 0x07]);
    let heartbeat = number(5, 480_000_000_000);
    assert_eq!(
        reply,
        [number(1, 7), bytes(2, "k"), bytes(3, "live://1"), accepts, heartbeat.clone()].concat()
    );
    port.fake.answers::<Result<Connected, Refused>>(Ok(connected(session("l", 2))));
    let message = [bytes(1, "comet-1"), bytes(3, b"\xff")].concat();
    let reply = port.call("/goim.logic.Logic/Connect", message).await.unwrap();
    assert_eq!(reply, [bytes(2, "l"), heartbeat].concat());
    let asked = |token: &'static [u8], cookie: Option<&str>| {
        let (comet, token, cookie) = (comet("comet-1"), Bytes::from_static(token), cookie.map(Into::into));
        format!("{:?}", Connect { comet, token, cookie, remote: [0, 0, 0, 0].into() })
    };
    assert_eq!(port.fake.asked(), [asked(b"token", Some("a=b")), asked(b"\xff", None)]);

    port.fake.answers::<Result<Connected, Refused>>(Err(Refused::BadToken("no JSON".into())));
    let status = port.call("/goim.logic.Logic/Connect", bytes(1, "comet-1")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "bad token: no JSON"));
    let status = port.call("/goim.logic.Logic/Connect", vec![]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    port.stop().await;
}

/// goim removes the route of whoever came after: here each end is that of the oldest.
#[tokio::test]
async fn a_late_disconnect_takes_no_newer_route() {
    let port = Port::start().await;
    port.connect("comet-1", "k", 1).await;
    port.connect("comet-1", "k", 2).await;
    port.connect("comet-2", "k", 3).await;
    for (server, ended) in [("comet-1", 1), ("comet-1", 2), ("comet-2", 3)] {
        port.fake.answers(());
        assert!(port.disconnect(server, "k").await);
        assert_eq!(port.fake.asked(), [format!("{:?}", session("k", ended))]);
    }
    assert!(!port.disconnect("comet-1", "k").await);
    assert!(!port.disconnect("comet-3", "k").await);
    assert_eq!(port.fake.asked(), [""; 0]);
    port.stop().await;
}

/// goim's comets compress this call, and no other.
#[tokio::test]
async fn renew_online_comes_compressed() {
    let port = Port::start().await;
    port.connect("comet-1", "k", 1).await;
    let count = |name: &str, members| bytes(2, [bytes(1, name), number(2, members)].concat());
    let message = [bytes(1, "comet-1"), count("live://1", 3), count("live://2", -4)].concat();
    let elsewhere = vec![(room("live://1"), 10)];
    port.fake.answers::<Result<Renewed, Away>>(Ok(Renewed { elsewhere, ..Renewed::default() }));
    let bearer = format!("Bearer {SECRET}");
    let gzip = Some(CompressionEncoding::Gzip);
    let reply = raw(port.channel().await, "/goim.logic.Logic/RenewOnline", message, Some(&bearer), gzip)
        .await
        .unwrap();
    let one = bytes(1, [bytes(1, "live://1"), number(2, 13)].concat());
    let other = bytes(1, bytes(1, "live://2"));
    assert!(reply == [&one[..], &other].concat() || reply == [other, one].concat(), "{reply:?}");

    let asked = port.fake.asked();
    let renewal = |rooms| Renewal {
        node: Node {
            comet: comet("comet-1"),
            addresses: vec![],
            region: String::new(),
            zone: String::new(),
            weight: 0,
            offline: true,
            grpc: String::new(),
        },
        incarnation: Incarnation(0),
        connections: 1,
        addresses: 0,
        rooms,
    };
    let rooms = vec![(room("live://1"), 3), (room("live://2"), 0)];
    let swapped = vec![rooms[1].clone(), rooms[0].clone()];
    let expected = [rooms, swapped].map(|rooms| format!("{:?}", renewal(rooms)));
    assert!(asked.len() == 1 && expected.contains(&asked[0]), "{asked:?}");

    port.fake.answers::<Result<Renewed, Away>>(Err(Away("logic is away".into())));
    let status = port.call("/goim.logic.Logic/RenewOnline", bytes(1, "comet-1")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "logic is away"));
    port.stop().await;
}

/// A comet of goim cannot tell its sessions to a logic that has lost them: this side does.
#[tokio::test]
async fn sessions_are_told_again() {
    let port = Port::start().await;
    for n in 0..1001 {
        port.connect("comet-1", &format!("key-{n:04}"), n).await;
    }
    port.connect("comet-1", "key-0000", 5000).await;
    port.connect("comet-2", "other", 6000).await;
    port.fake.answers::<Result<Renewed, Away>>(Ok(Renewed { restore: true, ..Renewed::default() }));
    port.fake.answers::<Result<(), Away>>(Ok(()));
    port.fake.answers::<Result<(), Away>>(Ok(()));
    assert_eq!(port.call("/goim.logic.Logic/RenewOnline", bytes(1, "comet-1")).await.unwrap(), b"");
    let asked = port.fake.asked();
    let [_renewal, first, second] = &asked[..] else { panic!("{} calls", asked.len()) };
    let empty =
        |last| Restore { comet: comet("comet-1"), incarnation: Incarnation(0), sessions: vec![], last };
    let around =
        |last| format!("{:?}", empty(last)).split_once("[]").map(|(a, b)| (a.to_owned(), b.to_owned()));
    for (call, last) in [(first, false), (second, true)] {
        let (begin, end) = around(last).unwrap();
        assert!(call.starts_with(&begin) && call.ends_with(&end), "{call}");
    }
    let mut told: Vec<&str> =
        [first, second].iter().flat_map(|call| call.split("Session ").skip(1)).collect();
    told.sort_unstable();
    assert_eq!(told.len(), 1001);
    assert!(told[0].contains("Generation(5000)") && told[1].contains("Generation(1)"), "{:?}", &told[..2]);
    port.stop().await;
}

#[tokio::test]
async fn heartbeat_and_receive() {
    let port = Port::start().await;
    let heartbeat = [number(1, 7), bytes(2, "k"), bytes(3, "comet-1")].concat();
    assert_eq!(port.call("/goim.logic.Logic/Heartbeat", heartbeat).await.unwrap(), b"");
    assert_eq!(port.fake.asked(), [""; 0]);
    port.fake.answers(());
    let message = [number(1, 7), bytes(2, proto(1, 1000, 9, b"said"))].concat();
    assert_eq!(port.call("/goim.logic.Logic/Receive", message).await.unwrap(), b"");
    let session = Session { key: Key::parse("", 1).unwrap(), generation: Generation(0) };
    let user = Some(UserId(7));
    let received = Received { session, user, op: 1000, seq: 9, body: body("said") };
    assert_eq!(port.fake.asked(), [format!("{received:?}")]);
    port.stop().await;
}

#[tokio::test]
async fn nodes() {
    let port = Port::start().await;
    let node = |name: &str, addresses: &[&str]| Node {
        comet: comet(name),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        region: "sh".into(),
        zone: "sh001".into(),
        weight: 10,
        offline: false,
        grpc: String::new(),
    };
    let best = vec![node("comet-2", &["2.2.2.2", "3.3.3.3"]), node("comet-1", &["1.1.1.1"])];
    let cases: [(&str, Vec<Node>, &[&str]); 4] = [
        ("", best.clone(), &["2.2.2.2", "3.3.3.3", "1.1.1.1"]),
        ("web", best, &["comet-2.goim.io", "comet-1.goim.io"]),
        ("web", vec![], &["conn.goim.io"]),
        ("ios", vec![node("comet-3", &[])], &["conn.goim.io"]),
    ];
    for (platform, best, expected) in cases {
        port.fake.answers(best);
        let message = [bytes(1, platform), bytes(2, "9.9.9.9")].concat();
        let reply = port.call("/goim.logic.Logic/Nodes", message).await.unwrap();
        let head =
            [bytes(1, "conn.goim.io"), number(2, 3101), number(3, 3102), number(4, 3103), number(5, 240)]
                .concat();
        let nodes: Vec<u8> = expected.iter().flat_map(|node| bytes(6, node)).collect();
        let backoff = [number(1, 300), number(2, 3), float(3, 1.8), float(4, 0.3)].concat();
        assert_eq!(reply, [head, nodes, bytes(7, backoff), number(8, 2)].concat(), "{platform}");
    }
    port.stop().await;
}
