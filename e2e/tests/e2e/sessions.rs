//! Who is reachable, when connections of the same key or user come and go.

use anser_e2e::{Client, Cluster, Dial, Incoming, PATIENCE, Packet, Transport, eventually, eventually_eq};
use anser_sdk::{Cause, Config, Event, Login};
use anser_wire::anser::Error;
use prost::Message as _;

const TOKEN: &str = r#"{"mid":7,"key":"phone","room_id":"live://1","accepts":[1000]}"#;

/// Sockets are dealt to the two workers in turn, so each second connection comes to the worker of its
/// key and the others are moved there: the old one is replaced either way.
#[test]
fn a_key_that_comes_again_replaces_the_old_connection() {
    let cluster = Cluster::start(&["comet.workers=2"]);
    for transport in Transport::ALL {
        let mut old = cluster.login(transport, TOKEN);
        for n in 0..6 {
            let mut new = cluster.login(transport, TOKEN);
            let told = (transport == Transport::WebSocket)
                .then(|| (1008, "replaced by a newer connection".to_owned()));
            assert_eq!(old.closed(), told, "the {n}th time");
            cluster.push_keys(&["phone"], 1000, "key");
            cluster.push_room("live://1", 1000, "room");
            let mut pushes = [new.push().1, new.push().1];
            pushes.sort();
            assert_eq!(pushes, ["key", "room"]);
            old = new;
        }
    }
    eventually_eq("all are gone", 0, || cluster.metrics().get("comet_connections"));
    let metrics = cluster.metrics();
    assert_eq!(metrics.labels("comet_closed"), [("peer", 2), ("replaced", 12)]);
    assert_eq!((metrics.get("logic_sessions"), metrics.get("logic_users")), (0, 0));
    assert_eq!(metrics.get("comet_rooms"), 0);
}

#[test]
fn anser_clients_are_told_that_they_are_replaced() {
    let cluster = Cluster::start(&[]);
    for transport in Transport::ALL {
        let token = r#"{"key":"phone","proto":"anser/1"}"#;
        let mut old = cluster.login(transport, token);
        let mut new = cluster.login(transport, token);
        let packet = old.packet();
        let error = Error::decode(&packet.body[..]).unwrap();
        assert_eq!((packet.op, packet.seq, &*error.code, error.retry), (100, 0, "replaced", false));
        old.closed();
        assert_eq!(new.heartbeat(), 0);
    }
}

/// The library does not come back with a key that another has now: the two would throw each other out
/// for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_library_leaves_a_replaced_key_alone() {
    let cluster = Cluster::start(&[]);
    let connect = async || {
        let address = format!("tcp://{}", cluster.tcp()).parse().unwrap();
        let login = Login::new().key("phone").room("live://1").anser();
        anser_sdk::Client::connect(Config::new([address], login)).await.unwrap()
    };
    let (_old, mut events) = connect().await;
    let (new, _events) = connect().await;
    let mut last = None;
    while let Some(event) = tokio::time::timeout(PATIENCE, events.next()).await.unwrap() {
        last = Some(event);
    }
    let expected = matches!(last, Some(Event::Disconnected { cause: Cause::Replaced, retry_in: None }));
    assert!(expected, "{last:?}");
    assert_eq!(new.heartbeat().await, Ok(1));
    assert_eq!(cluster.metrics().get("comet_accepted"), 2);
}

/// goim's worst fault (W3): the late end of an old connection took the user's route with it, and a
/// phone that had changed its network was not reached by its key or user for half an hour.
#[test]
fn a_user_is_reachable_while_the_old_connection_lingers() {
    let cluster = Cluster::start(&["comet.workers=2"]);
    for transport in Transport::ALL {
        let mut connections: Vec<Client> = Vec::new();
        for n in 0..4 {
            // The old ones neither read nor close: their network is gone.
            connections.push(cluster.login(transport, TOKEN));
            cluster.push_mids(&[7], 1000, "at once");
            assert_eq!(connections[n].push(), (1000, "at once".to_owned()));
        }
        let mut newest = connections.pop().unwrap();
        drop(connections);
        eventually_eq("the old ones are gone", 1, || cluster.metrics().get("comet_sockets_open"));
        for (target, body) in
            [("mids?operation=1000&mids=7", "user"), ("keys?operation=1000&keys=phone", "key")]
        {
            cluster.api().push(target, body.as_bytes());
            assert_eq!(newest.push(), (1000, body.to_owned()));
        }
        drop(newest);
        eventually_eq("nobody is left", 0, || cluster.metrics().get("logic_sessions"));
    }
}

/// goim's W2: a peer that takes nothing held the lock of its bucket when its key came again, for up to
/// eight minutes, and everybody in the bucket waited.
#[test]
fn a_stuck_connection_can_be_replaced() {
    let cluster = Cluster::start(&["comet.workers=1", "comet.send_buffer=4096", "comet.queue=10"]);
    for transport in Transport::ALL {
        let mut neighbour = cluster.login(transport, r#"{"key":"neighbour","accepts":[1000]}"#);
        let mut stuck = Dial::new(&cluster, transport).receive_buffer(4096).connect();
        stuck.login(TOKEN);
        let (mut api, lost) = (cluster.api(), cluster.metrics().get("comet_lost"));
        eventually("its queue is full", || {
            api.push_keys(&["phone"], 1000, &"x".repeat(4000));
            (cluster.metrics().get("comet_lost") > lost).then_some(())
        });
        let mut new = cluster.login(transport, TOKEN);
        cluster.push_mids(&[7], 1000, "new");
        assert_eq!(new.push(), (1000, "new".to_owned()));
        cluster.push_keys(&["neighbour"], 1000, "next");
        assert_eq!(neighbour.push(), (1000, "next".to_owned()));
        drop((stuck, neighbour, new));
        eventually_eq("all are gone", 0, || cluster.metrics().get("comet_sockets_open"));
        assert_eq!(cluster.metrics().get("comet_outbound_bytes"), 0);
        cluster.check_accounts();
    }
}

#[test]
fn each_device_of_a_user_has_a_key() {
    let cluster = Cluster::start(&[]);
    let token = |key: &str| format!(r#"{{"mid":7,"key":"{key}","accepts":[1000]}}"#);
    let mut clients: Vec<Client> =
        ["", "", "phone", "tablet"].map(|key| cluster.login(Transport::Tcp, &token(key))).into();
    for left in (1..=4).rev() {
        let metrics = cluster.metrics();
        assert_eq!((metrics.get("logic_sessions"), metrics.get("logic_users")), (left, 1));
        cluster.push_mids(&[7], 1000, "to each");
        for client in &mut clients {
            assert_eq!(client.push(), (1000, "to each".to_owned()));
        }
        drop(clients.remove(usize::try_from(left / 2).unwrap()));
        eventually_eq("one is gone", left - 1, || cluster.metrics().get("logic_sessions"));
    }
    assert_eq!(cluster.metrics().get("logic_users"), 0);
}

/// Whoever says nothing for the idle limit is gone; a heartbeat in time keeps a connection.
#[test]
fn silence_ends_a_connection() {
    let cluster = Cluster::start(&["logic.heartbeat=1500ms", "logic.heartbeat_max=2"]);
    let mut alive = cluster.login(Transport::Tcp, "{}");
    let mut silent = Transport::ALL.map(|transport| cluster.login(transport, r#"{"room_id":"live://1"}"#));
    eventually_eq("the silent ones are gone", 2, || {
        alive.heartbeat();
        cluster.metrics().labelled("comet_closed", "idle")
    });
    assert_eq!(silent[0].incoming(), Incoming::End);
    assert_eq!(silent[1].closed(), Some((1008, "idle".to_owned())));
    assert_eq!(alive.heartbeat(), 0);
    let metrics = cluster.metrics();
    assert_eq!((metrics.get("logic_sessions"), metrics.get("comet_rooms")), (1, 0));
}

/// What Go's decoder takes is taken, what it refuses is refused, with goim's silence.
#[test]
fn tokens() {
    let mut cluster = Cluster::start(&["logic.key=8", "comet.room_name=16"]);
    for token in ["null", "{}", r#" {"MID":1,"unknown":[],"accepts":null} "#, r#"{"key":"12345678"}"#] {
        for transport in Transport::ALL {
            assert_eq!(cluster.login(transport, token).heartbeat(), 0, "{token}");
        }
    }
    let refused = [
        ("", "bad token: EOF while parsing a value at line 1 column 0"),
        ("x", "bad token: expected value at line 1 column 1"),
        ("[]", "bad token: invalid type: sequence, expected an object such as {"),
        (r#"{"mid":"1"}"#, "bad token: invalid type: string, expected i64 at line 1 column 10"),
        (
            r#"{"key":"123456789"}"#,
            "a key of 9 bytes is longer than 8: choose a shorter one, or raise the limit",
        ),
        (r#"{"room_id":"live://too-long-a-name"}"#, "a room name of 22 bytes is longer than 16: choose"),
        (r#"{"room_id":"live","proto":"anser/1"}"#, "bad token: room_id must be type://id, such as live://1"),
    ];
    for (token, why) in refused {
        for transport in Transport::ALL {
            let mut client = cluster.connect(transport);
            client.send(&Packet::new(7, 1, token));
            match (transport, client.closed()) {
                (Transport::Tcp, None) => {}
                (Transport::WebSocket, Some((1008, reason))) if reason.starts_with(why) => {}
                (_, told) => panic!("{told:?} to {token}"),
            }
        }
    }
    assert_eq!(cluster.metrics().get("comet_logins_refused"), 2 * refused.len() as i64);
    // The log has the cause, but not a line for each.
    let lines = cluster.process().stderr();
    let lines: Vec<&str> = lines.lines().filter(|line| line.contains("authentication refused")).collect();
    assert!(!lines.is_empty() && lines.len() < refused.len(), "{lines:?}");
    assert!(lines[0].contains("cause=bad token: EOF"), "{lines:?}");
}
