//! What clients ask for: rooms, operations, heartbeats, and everything else.

use std::io::Write;

use anser_wire::operation::{
    CHANGE_ROOM, CHANGE_ROOM_REPLY, ERROR, HEARTBEAT_REPLY, JOIN, JOIN_REPLY, LEAVE, LEAVE_REPLY, LIVE, RAW,
    SUBSCRIBE, SUBSCRIBE_REPLY, UNSUBSCRIBE, UNSUBSCRIBE_REPLY,
};
use anser_wire::packet::Header;

use super::fixture::{Client, EVERYONE, Edge, Item, Kind, Login, bare, becomes, frame, keys, room};

#[test]
fn a_change_of_room_is_echoed_and_done() {
    let edge = Edge::start(|_| {});
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one"));
        let enter = |client: &mut Client, name: &str| {
            client.request(CHANGE_ROOM, name.as_bytes(), CHANGE_ROOM_REPLY, name.as_bytes());
        };
        enter(&mut client, "live://1");
        assert_eq!(client.heartbeat(), 1);
        edge.push(room("live://1"), 7, b"in the first");
        client.expect_push(7, b"in the first");
        // A connection is in one room, and the second change leaves the first.
        enter(&mut client, "live://2");
        edge.push(room("live://1"), 7, b"too late");
        edge.push(room("live://2"), 7, b"in the second");
        client.expect_push(7, b"in the second");
        becomes(&1, || edge.metric("rooms"));
        // goim asks for no form.
        enter(&mut client, "no scheme");
        edge.push(room("no scheme"), 7, b"in the third");
        client.expect_push(7, b"in the third");
        // An empty name leaves, and leaves the count at 0.
        enter(&mut client, "");
        assert_eq!(client.heartbeat(), 0);
        assert_eq!(edge.metric("rooms"), 0);
        enter(&mut client, "");
        edge.push(room("no scheme"), 7, b"too late");
        edge.push(keys(&["one"]), 1000, b"the end");
        client.expect_push(1000, b"the end");
    }
}

/// goim loses a client that is alone in its room and enters it again.
#[test]
fn entering_the_same_room_again_keeps_the_client_in_it() {
    let edge = Edge::start(|_| {});
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
        for n in 0..20 {
            client.request(CHANGE_ROOM, b"live://1", CHANGE_ROOM_REPLY, b"live://1");
            assert_eq!(client.heartbeat(), 1);
            let body = format!("push {n}");
            edge.push(room("live://1"), 7, body.as_bytes());
            client.expect_push(7, body.as_bytes());
        }
    }
}

/// A push that was taken while the client was in the room is not lost to a change to the same room.
#[test]
fn entering_the_same_room_again_loses_no_push() {
    for kind in Kind::SOCKETS {
        let edge = Edge::start(|config| config.workers = 1);
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
        let (change, gate) = edge.block_before(0, || client.send(CHANGE_ROOM, b"live://1"));
        edge.push(room("live://1"), 7, b"for the members");
        gate.open();
        client.expect_reply(change.reply(CHANGE_ROOM_REPLY), b"live://1");
        client.expect_push(7, b"for the members");
    }
}

/// The answer to a heartbeat counts the room's members on all workers, and only them.
#[test]
fn heartbeats_count_the_room_over_all_workers() {
    let edge = Edge::start(|config| config.workers = 3);
    let mut members: Vec<Client> = (0..12)
        .map(|n| edge.log_in(Kind::ALL[n % 3], &Login::new(&format!("device {n}")).room("live://1")))
        .collect();
    let mut other = edge.log_in(Kind::Tcp, &Login::new("other").room("live://2"));
    let mut nowhere = edge.log_in(Kind::WebSocket, &Login::new("nowhere"));
    for member in &mut members {
        assert_eq!(member.heartbeat(), 12);
    }
    assert_eq!((other.heartbeat(), nowhere.heartbeat()), (1, 0));
    let mut last = members.pop().unwrap();
    last.request(CHANGE_ROOM, b"live://2", CHANGE_ROOM_REPLY, b"live://2");
    assert_eq!((members[0].heartbeat(), last.heartbeat(), other.heartbeat()), (11, 2, 2));
    members.truncate(4);
    let mut first = members.swap_remove(0);
    becomes(&4, || first.heartbeat());
    drop(members);
    becomes(&1, || first.heartbeat());
    // goim also answers a client that sends the answer.
    let sent = first.send(HEARTBEAT_REPLY, b"");
    first.expect_reply(sent, &1i32.to_be_bytes());
}

#[test]
fn operations_are_added_and_taken_back() {
    let edge = Edge::start(|config| config.operations_per_connection = 5);
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one"));
        let mut subscribe = |list: &[u8]| client.request(SUBSCRIBE, list, SUBSCRIBE_REPLY, list);
        subscribe(b"1001,1002,-3");
        // One bad element, and nothing is changed; too many, and nothing either.
        for bad in [
            &b"2000,x"[..],
            b"2000,",
            b",2000",
            b"2000, 2001",
            b"2000,2147483648",
            b"2000\xff",
            b"2000;2001",
            b"2000,2001,2002",
        ] {
            subscribe(bad);
        }
        subscribe(b"");
        let mut unsubscribe = |list: &[u8]| client.request(UNSUBSCRIBE, list, UNSUBSCRIBE_REPLY, list);
        unsubscribe(b"1002,9999");
        unsubscribe(b"1001,x");
        unsubscribe(b"");
        for op in [1002, 2000, 2001, 2002, 9999, -3, 1000, 1001] {
            edge.push(keys(&["one"]), op, b"");
            edge.push(EVERYONE, op, b"");
        }
        let mut got: Vec<i32> = (0..6).map(|_| client.push().0).collect();
        got.sort_unstable();
        assert_eq!(got, [-3, -3, 1000, 1000, 1001, 1001], "over {kind:?}");
        client.request(UNSUBSCRIBE, b"-3,1000,1001", UNSUBSCRIBE_REPLY, b"-3,1000,1001");
        client.request(SUBSCRIBE, b"1,2,3,4,5", SUBSCRIBE_REPLY, b"1,2,3,4,5");
        edge.push(keys(&["one"]), 1000, b"");
        edge.push(keys(&["one"]), 5, b"the last");
        client.expect_push(5, b"the last");
    }
}

/// Everything that has no meaning of its own is answered with the same header and no body, Anser's
/// numbers on a goim connection included.
#[test]
fn other_operations_are_echoed_without_a_body() {
    let edge = Edge::start(|_| {});
    let others = [0, 1, 4, 5, 6, 7, 8, 10, 11, 13, 15, 17, 18, 99, 1000, -1, i32::MIN, i32::MAX];
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one"));
        for op in others.into_iter().chain(100..200) {
            for (ver, seq) in [(1, 5), (-7, 0), (0, -1)] {
                let header = Header { ver, op, seq };
                client.send_packet(header, b"live://1");
                client.expect_reply(header, b"");
            }
        }
        assert_eq!(client.heartbeat(), 0, "operation 101 of a goim client enters no room");
    }
    assert!(edge.owner.live().is_empty(), "operation 108 of a goim client is its own");
}

/// A container from a client: no answer on TCP, an empty one on WebSocket, as goim has it.
#[test]
fn a_container_from_a_client_is_no_request() {
    let edge = Edge::start(|_| {});
    for login in [Login::new("one"), Login::new("one").anser()] {
        for kind in Kind::ALL {
            let mut client = edge.log_in(kind, &login);
            let header = Header { ver: 3, op: RAW, seq: 9 };
            client.send_packet(header, &bare(Header { ver: 1, op: 2, seq: 1 }, b""));
            if kind == Kind::WebSocket {
                client.expect_reply(header, b"");
            }
            assert_eq!(client.heartbeat(), 0);
        }
    }
}

#[test]
fn many_requests_in_one_segment_are_answered_in_order() {
    let edge = Edge::start(|_| {});
    for kind in Kind::SOCKETS {
        let mut client = edge.log_in(kind, &Login::new("one"));
        let mut bytes = Vec::new();
        let headers: Vec<Header> = (0..2000).map(|seq| Header { ver: 1, op: 4, seq }).collect();
        for header in &headers {
            bytes.extend(client.encode(*header, b"a request"));
        }
        // In pieces that cut packets and frames anywhere.
        std::thread::scope(|scope| {
            let mut writer = client.writer();
            scope.spawn(move || bytes.chunks(977).for_each(|piece| writer.write_all(piece).unwrap()));
            for header in headers {
                client.expect_reply(header, b"");
            }
        });
    }
}

#[test]
fn pings_are_answered_between_packets() {
    let edge = Edge::start(|_| {});
    let mut client = edge.log_in(Kind::WebSocket, &Login::new("one"));
    client.send_raw(&frame(0x89, b"are you there"));
    assert_eq!(client.item(), Item::Pong(b"are you there".to_vec()));
    client.send_raw(&frame(0x8a, b"unasked"));
    assert_eq!(client.heartbeat(), 0);
}

/// An Anser client is in many rooms, and learns what was refused.
#[test]
fn an_anser_client_joins_and_leaves_many_rooms() {
    let edge = Edge::start(|config| {
        config.rooms_per_connection = 3;
        config.room_name = 16;
    });
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one").anser().room("live://0"));
        for name in ["live://1", "live://2", "live://1"] {
            client.request(JOIN, name.as_bytes(), JOIN_REPLY, name.as_bytes());
        }
        let error = client.refused(JOIN, b"live://3", "room_limit");
        assert!(!error.retry && error.message.contains("leave one first"), "{error:?}");
        client.request(JOIN, b"live://2", JOIN_REPLY, b"live://2");
        for n in [0, 3, 1, 2] {
            edge.push(room(&format!("live://{n}")), n, b"to a room");
            if n != 3 {
                client.expect_push(n, b"to a room");
            }
        }
        // One who is in none is told the same as one who has left.
        for name in ["live://1", "live://1", "live://9", ""] {
            client.request(LEAVE, name.as_bytes(), LEAVE_REPLY, name.as_bytes());
        }
        client.request(JOIN, b"live://3", JOIN_REPLY, b"live://3");
        for n in [1, 3, 2, 0] {
            edge.push(room(&format!("live://{n}")), n, b"to a room");
            if n != 1 {
                client.expect_push(n, b"to a room");
            }
        }
        // goim's operation leaves them all.
        client.request(CHANGE_ROOM, b"live://4", CHANGE_ROOM_REPLY, b"live://4");
        becomes(&1, || edge.metric("rooms"));
        for n in [0, 2, 3, 4] {
            edge.push(room(&format!("live://{n}")), n, b"to a room");
        }
        client.expect_push(4, b"to a room");
        client.request(CHANGE_ROOM, b"", CHANGE_ROOM_REPLY, b"");
        assert_eq!(edge.metric("rooms"), 0);
    }
}

#[test]
fn an_anser_client_learns_why_a_request_is_refused() {
    let edge = Edge::without_owner(|config| {
        config.room_name = 16;
        config.operations_per_connection = 2;
    });
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one").anser());
        for (op, body, code) in [
            (JOIN, &b""[..], "room_name"),
            (JOIN, b"live://too-long-a-name", "room_name"),
            (JOIN, b"live://\xff", "room_name"),
            (JOIN, b"live", "room_name"),
            (CHANGE_ROOM, b"live://", "room_name"),
            (LEAVE, b"live://too-long-a-name", "room_name"),
            (CHANGE_ROOM, b"live://\xff", "room_name"),
            (SUBSCRIBE, b"1001,x", "operations"),
            (SUBSCRIBE, b"1001,1002", "operation_limit"),
            (UNSUBSCRIBE, b"x", "operations"),
            (LIVE, b"", "no_owner"),
        ] {
            let error = client.refused(op, body, code);
            assert!(!error.retry && !error.message.is_empty(), "{error:?}");
        }
        client.request(SUBSCRIBE, b"1001", SUBSCRIBE_REPLY, b"1001");
        client.request(UNSUBSCRIBE, b"1000", UNSUBSCRIBE_REPLY, b"1000");
        // Numbers that Anser keeps for itself and gives no meaning yet, or that only servers send.
        for op in [ERROR, JOIN_REPLY, 109, 199, 4, 1000] {
            let sent = client.send(op, b"");
            client.expect_reply(sent, b"");
        }
    }
}

/// A goim client gets the same answer whether or not it could be done: it knows no other.
#[test]
fn a_goim_client_is_told_of_no_error() {
    let edge = Edge::start(|config| config.room_name = 16);
    for kind in Kind::ALL {
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
        for name in [&b"live://too-long-a-name"[..], b"live://\xff"] {
            client.request(CHANGE_ROOM, name, CHANGE_ROOM_REPLY, name);
            assert_eq!(client.heartbeat(), 1, "what cannot be done changes nothing");
        }
    }
}
