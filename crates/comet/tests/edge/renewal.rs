//! What logic is told of the comet, and of who is connected.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anser_api::comet::OnOverflow;
use anser_api::id::{CometName, Room, UserId};
use anser_api::logic::{Node, Renewal, Renewed};
use anser_api::settings::Span;
use anser_comet::Config;
use anser_wire::operation::{AUTH, AUTH_REPLY, CHANGE_ROOM, CHANGE_ROOM_REPLY};

use super::fixture::{Client, Edge, FakeLogic, Kind, Login, becomes, room as to_room};

fn room(name: &str) -> Room {
    Room::parse(name, 4096).unwrap()
}

fn often(config: &mut Config) {
    config.renew = Span::millis(5);
}

/// What the comet last said.
fn last(edge: &Edge) -> Renewal {
    let renewals = edge.logic.renewals.lock().unwrap();
    let mut last = renewals.last().expect("it has said something").clone();
    last.rooms.sort();
    last
}

fn numbers(renewal: &Renewal) -> (u64, u64, &[(Room, u32)]) {
    (renewal.connections, renewal.addresses, &renewal.rooms)
}

/// At the start it says what it is configured to be; a drain is told at its beginning and at its end.
#[test]
fn it_comes_and_goes() {
    let edge = Edge::start(|config| {
        config.name = "edge-a".into();
        config.public = vec!["192.0.2.1".into(), "2001:db8::1".into()];
        config.region = "bj".into();
        config.zone = "bj001".into();
        config.weight = 7;
        config.renew = Span::secs(3600);
    });
    let first = last(&edge);
    let node = Node {
        comet: CometName::parse("edge-a", 64).unwrap(),
        addresses: vec!["192.0.2.1".into(), "2001:db8::1".into()],
        region: "bj".into(),
        zone: "bj001".into(),
        weight: 7,
        offline: false,
        grpc: String::new(),
    };
    assert_eq!(edge.logic.renewals.lock().unwrap().len(), 1, "and nothing more for an hour");
    assert_eq!(first.node, node);
    assert_eq!(numbers(&first), (0, 0, &[][..]));
    let other = Edge::start(|_| {});
    assert_ne!(last(&other).incarnation, first.incarnation);

    let mut client = edge.log_in(Kind::Tcp, &Login::new("one").room("live://1"));
    std::thread::scope(|scope| {
        scope.spawn(|| edge.drain());
        // The balancer is to send nobody here while clients leave.
        becomes(&true, || last(&edge).node.offline);
        client.end();
        drop(client);
    });
    let said = edge.logic.renewals.lock().unwrap()[1..].to_vec();
    assert!(said.iter().all(|renewal| renewal.node.offline && renewal.incarnation == first.incarnation));
    assert_eq!(numbers(&last(&edge)), (0, 0, &[][..]));
    edge.drain();
    let after = edge.logic.renewals.lock().unwrap().len();
    assert_eq!(after, 1 + said.len(), "the last word is said once");
}

#[test]
fn it_tells_connections_addresses_and_rooms() {
    let edge = Edge::start(often);
    let log_in = |name: &str, room: &str| edge.log_in(Kind::Tcp, &Login::new(name).room(room));
    let mut one = log_in("one", "live://1");
    let two = log_in("two", "live://1");
    let three = log_in("three", "live://2");
    let mut elsewhere = edge.dial_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), Kind::Tcp, false);
    let expected = (3, 2, vec![(room("live://1"), 2), (room("live://2"), 1)]);
    let told = || {
        let last = last(&edge);
        (last.connections, last.addresses, last.rooms)
    };
    becomes(&expected, told);
    one.request(CHANGE_ROOM, b"live://2", CHANGE_ROOM_REPLY, b"live://2");
    becomes(&(3, 2, vec![(room("live://1"), 1), (room("live://2"), 2)]), told);
    drop((two, three));
    elsewhere.finish();
    elsewhere.end();
    drop(elsewhere);
    becomes(&(1, 1, vec![(room("live://2"), 1)]), told);
    drop(one);
}

/// Members on other comets count in heartbeats, and nowhere else: they keep no room here.
#[test]
fn members_elsewhere_are_counted() {
    let edge = Edge::start(often);
    let elsewhere = |rooms: &[(&str, u32)]| {
        let elsewhere = rooms.iter().map(|(name, members)| (room(name), *members)).collect();
        *edge.logic.renewed.lock().unwrap() = Renewed { elsewhere, ..Renewed::default() };
    };
    let mut one = edge.log_in(Kind::Tcp, &Login::new("one").room("live://1"));
    let mut two = edge.log_in(Kind::WebSocket, &Login::new("two").room("live://2"));
    elsewhere(&[("live://1", 5), ("live://2", 1), ("live://3", 9)]);
    becomes(&(6, 2), || (one.heartbeat(), two.heartbeat()));
    elsewhere(&[("live://2", 4)]);
    becomes(&(1, 5), || (one.heartbeat(), two.heartbeat()));
    let said = last(&edge).rooms;
    assert_eq!(said, [(room("live://1"), 1), (room("live://2"), 1)], "others tell of their own members");
    // The room goes with its last member here, and its count with it.
    two.request(CHANGE_ROOM, b"", CHANGE_ROOM_REPLY, b"");
    assert_eq!(edge.metric("rooms"), 1);
    edge.try_push(to_room("live://2"), 1000, b"to nobody", OnOverflow::Drop).unwrap();
    elsewhere(&[]);
    two.request(CHANGE_ROOM, b"live://2", CHANGE_ROOM_REPLY, b"live://2");
    becomes(&1, || two.heartbeat());
}

/// A logic that has lost the sessions gets them, each once, in pages.
#[test]
fn it_tells_its_sessions() {
    const SESSIONS: usize = 2500;
    let edge = Edge::start(|config| {
        often(config);
        config.workers = 3;
    });
    let mut clients: Vec<Client> = (0..SESSIONS)
        .map(|n| {
            let kind = if n % 50 == 0 { Kind::Tcp } else { Kind::Foreign };
            edge.log_in(kind, &Login::new(&format!("device {n}")).user((n % 7) as i64))
        })
        .collect();
    // Whoever has gone is not told, and his place is passed over.
    for client in clients.drain(100..200) {
        let session = client.session();
        drop(client);
        becomes(&1, || edge.logic.times_over(&session));
    }
    edge.logic.renewed.lock().unwrap().restore = true;
    becomes(&true, || edge.logic.restores.lock().unwrap().last().is_some_and(|page| page.last));
    let pages = edge.logic.restores.lock().unwrap().clone();
    let incarnation = last(&edge).incarnation;
    assert!(pages.iter().all(|page| page.incarnation == incarnation && page.sessions.len() <= 1000));
    assert_eq!(pages.iter().filter(|page| page.last).count(), 1);
    let told: Vec<_> = pages.into_iter().flat_map(|page| page.sessions).collect();
    assert_eq!(told.len(), clients.len());
    let user = |client: &Client| {
        let n: i64 = client.session().key.as_str()["device ".len()..].parse().unwrap();
        (client.session().key, client.session().generation, UserId::parse(n % 7))
    };
    let expected: BTreeSet<_> = clients.iter().map(user).collect();
    let told: BTreeSet<_> =
        told.into_iter().map(|(session, user)| (session.key, session.generation, user)).collect();
    assert_eq!(told, expected);
}

/// Without sessions there is a last page as well.
#[test]
fn nobody_is_told_too() {
    let logic = FakeLogic::default();
    logic.renewed.lock().unwrap().restore = true;
    let edge = Edge::with_logic(logic, often);
    becomes(&1, || edge.logic.restores.lock().unwrap().len());
    let pages = edge.logic.restores.lock().unwrap();
    assert!(pages[0].sessions.is_empty() && pages[0].last);
    drop(pages);
}

/// As long as logic may still have sessions of a former life of this comet, which it drops at the first
/// word of this one, nobody new is let in among them.
#[test]
fn nobody_comes_in_before_logic_has_heard_of_it() {
    let logic = FakeLogic::default();
    logic.away.store(true, Ordering::Relaxed);
    let edge = Edge::with_logic(logic, |config| {
        often(config);
        config.workers = 1;
    });
    let mut waiting: Vec<(Client, _)> = Kind::SOCKETS
        .map(|kind| {
            let (token, _) = edge.logic.token(&Login::new(&format!("{kind:?}")));
            let mut client = edge.connect(kind);
            let header = client.send(AUTH, &token);
            (client, header)
        })
        .into();
    // Once the worker has taken these in, it has the sockets, and then has read what they sent.
    let _others = ["a", "b"].map(|name| edge.log_in(Kind::Foreign, &Login::new(name)));
    assert!(edge.logic.asked().is_empty(), "logic is asked before it knows the comet");
    edge.logic.away.store(false, Ordering::Relaxed);
    for (client, header) in &mut waiting {
        client.expect_reply(header.reply(AUTH_REPLY), b"");
    }
    assert_eq!(edge.logic.asked().len(), 2);
}

/// A client that waits for that is sent away at its deadline.
#[test]
fn nobody_waits_for_logic_for_ever() {
    let logic = FakeLogic::default();
    logic.away.store(true, Ordering::Relaxed);
    let edge = Edge::with_logic(logic, |config| config.handshake_timeout = Span::millis(200));
    let (token, _) = edge.logic.token(&Login::new("one"));
    let mut client = edge.connect(Kind::Tcp);
    client.send(AUTH, &token);
    client.end();
    assert!(edge.logic.asked().is_empty());
}

/// The task that renews keeps nothing alive, and ends with the comet.
#[test]
fn it_ends_with_the_comet() {
    let mut edge = Edge::start(|config| {
        config.renew = Span::secs(3600);
        config.drain_limit = Span::secs(1);
    });
    edge.drop_comet();
    becomes(&1, || Arc::strong_count(&edge.logic));
    becomes(&0, || edge.runtime.metrics().num_alive_tasks());
}
