//! Pushes of each kind on both transports, to the byte.

use std::time::{Duration, Instant};

use anser_e2e::{Client, Cluster, Dial, Packet, Transport, eventually_eq};
use anser_wire::websocket::Opcode;

/// The token of goim's JavaScript example: 82 bytes.
const JAVASCRIPT_TOKEN: &str =
    r#"{"mid":123, "room_id":"live://1000", "platform":"web", "accepts":[1000,1001,1002]}"#;

/// Bytes from hexadecimal digits, which may stand apart.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// §10 of goim's specification, as far as it is about one connection.
#[test]
fn golden_bytes_on_tcp() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.connect(Transport::Tcp);
    client.write(&[&hex("00000062 0010 0001 00000007 00000001"), JAVASCRIPT_TOKEN.as_bytes()].concat());
    assert_eq!(client.take(16), hex("00000010 0010 0001 00000008 00000001"));

    let others: Vec<Client> =
        (0..4).map(|_| cluster.login(Transport::Tcp, r#"{"room_id":"live://1000"}"#)).collect();
    client.write(&hex("00000010 0010 0001 00000002 00000001"));
    assert_eq!(client.take(20), hex("00000014 0010 0001 00000003 00000001 00000005"));
    drop(others);

    let push = hex("0000001a 0010 0001 000003e8 00000000 7b2274657374223a317d");
    for target in
        ["room?operation=1000&type=live&room=1000", "mids?operation=1000&mids=123", "all?operation=1000"]
    {
        cluster.api().push(target, br#"{"test":1}"#);
        assert_eq!(client.take(26), push, "{target}");
    }
}

/// The same inside frames. A push is in a container, an answer is not.
#[test]
fn golden_bytes_on_websocket() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.connect(Transport::WebSocket);
    let auth = [&hex("00000062 0010 0001 00000007 00000001"), JAVASCRIPT_TOKEN.as_bytes()].concat();
    client.send_frame(Opcode::Binary, &auth);
    assert_eq!(client.take(18), hex("8210 00000010 0010 0001 00000008 00000001"));

    client.send_frame(Opcode::Binary, &hex("00000010 0010 0001 00000002 00000001"));
    assert_eq!(client.take(22), hex("8214 00000014 0010 0001 00000003 00000001 00000001"));

    let push = hex("822a 0000002a 0010 0001 00000009 00000000 \
              0000001a 0010 0001 000003e8 00000000 7b2274657374223a317d");
    for target in
        ["room?operation=1000&type=live&room=1000", "mids?operation=1000&mids=123", "all?operation=1000"]
    {
        cluster.api().push(target, br#"{"test":1}"#);
        assert_eq!(client.take(44), push, "{target}");
    }
}

/// goim answers an upgrade with exactly three headers.
#[test]
fn golden_bytes_of_the_upgrade() {
    let cluster = Cluster::start(&[]);
    let mut client = Dial::new(&cluster, Transport::WebSocket).open();
    client.write(
        b"GET /sub HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(String::from_utf8(client.take(expected.len())).unwrap(), expected);
}

/// Keys, users and everyone are filtered by the operations that a client takes, rooms are not. A push
/// that comes later shows that nothing else came before it.
#[test]
fn each_kind_reaches_those_it_is_for() {
    for transport in Transport::ALL {
        // One worker, so that a push that was accepted later is delivered later.
        let cluster = Cluster::start(&["comet.workers=1"]);
        let login = |name: &str, rest: &str| {
            cluster.login(transport, &format!(r#"{{"key":"{name}","accepts":[1000,9],{rest}}}"#))
        };
        let mut phone = login("phone", r#""mid":1,"room_id":"live://1""#);
        let mut tablet = login("tablet", r#""mid":1,"room_id":"live://2""#);
        let mut other = login("other", r#""mid":2"#);
        let mut nobody = login("nobody", r#""mid":0,"room_id":"live://2""#);

        cluster.push_keys(&["phone", "other", "unknown"], 1000, "keys");
        cluster.push_keys(&["phone", "other"], 1001, "keys, not taken");
        cluster.push_mids(&[1, 2, 77], 1000, "mids");
        cluster.push_mids(&[1, 2, 0], 1001, "mids, not taken");
        cluster.push_keys(&["phone", "tablet", "other", "nobody"], 9, "end");
        for (client, expected) in [
            (&mut phone, &["keys", "mids"][..]),
            (&mut tablet, &["mids"]),
            (&mut other, &["keys", "mids"]),
            (&mut nobody, &[]),
        ] {
            for body in expected {
                assert_eq!(client.push(), (1000, (*body).to_owned()));
            }
            assert_eq!(client.push(), (9, "end".to_owned()));
        }

        cluster.push_room("live://2", 77, "room");
        cluster.push_room("live://3", 1000, "nobody is there");
        cluster.push_all(1001, "all, not taken");
        cluster.push_all(1000, "all");
        for client in [&mut tablet, &mut nobody] {
            assert_eq!(client.push(), (77, "room".to_owned()));
        }
        for client in [&mut phone, &mut tablet, &mut other, &mut nobody] {
            assert_eq!(client.push(), (1000, "all".to_owned()));
        }
        cluster.check_accounts();
    }
}

/// A push to everyone may be slow: so many connections a second, but all of them.
#[test]
fn a_push_to_everyone_can_be_slow() {
    let cluster = Cluster::start(&["comet.workers=1"]);
    let mut clients: Vec<Client> =
        (0..4).map(|_| cluster.login(Transport::Tcp, r#"{"accepts":[1000]}"#)).collect();
    let start = Instant::now();
    cluster.api().push("all?operation=1000&speed=4", b"slowly");
    for client in &mut clients {
        assert_eq!(client.push(), (1000, "slowly".to_owned()));
    }
    let took = start.elapsed();
    assert!(took > Duration::from_millis(600), "4 at 4 a second within {took:?}");
}

/// Each receiver gets the pushes to its key, and those to its room, in the order in which the API took
/// them, whichever worker has it.
#[test]
fn pushes_are_in_order() {
    const PUSHES: usize = 300;
    let cluster = Cluster::start(&["comet.workers=2"]);
    let token = |n: usize| format!(r#"{{"key":"k{n}","room_id":"live://1","accepts":[1000]}}"#);
    let mut clients: Vec<Client> = (0..8).map(|n| cluster.login(Transport::ALL[n % 2], &token(n))).collect();
    let mut api = cluster.api();
    for n in 0..PUSHES {
        api.push_room("live://1", 7, &n.to_string());
        api.push_keys(&["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"], 1000, &n.to_string());
    }
    for client in &mut clients {
        let (mut to_room, mut to_key) = (Vec::new(), Vec::new());
        for _ in 0..2 * PUSHES {
            let (op, body) = client.push();
            if op == 7 { &mut to_room } else { &mut to_key }.push(body);
        }
        let expected: Vec<String> = (0..PUSHES).map(|n| n.to_string()).collect();
        assert_eq!(to_room, expected);
        assert_eq!(to_key, expected);
    }
    let metrics = cluster.metrics();
    assert_eq!(metrics.get("comet_delivered"), 8 * 2 * PUSHES as i64);
    assert_eq!(metrics.get("comet_lost"), 0);
    cluster.check_accounts();
}

/// Whatever the length of a body, and so the form of a frame's length, it arrives.
#[test]
fn bodies_of_every_length() {
    let cluster = Cluster::start(&[]);
    for transport in Transport::ALL {
        let mut client = cluster.login(transport, r#"{"key":"k","accepts":[1000]}"#);
        for len in [0, 1, 93, 94, 125, 65_503, 65_504, 65_536, 1_000_000] {
            let body = "x".repeat(len);
            cluster.push_keys(&["k"], 1000, &body);
            assert!(client.push() == (1000, body), "{transport:?}, {len} bytes");
        }
    }
}

/// What a client asks for is answered with its own version, number and body, and is done.
#[test]
fn clients_choose_what_they_get() {
    let cluster = Cluster::start(&["comet.workers=1"]);
    for transport in Transport::ALL {
        let mut client = cluster.login(transport, r#"{"key":"k","room_id":"live://1"}"#);
        let mut ask = |op, body: &str, expected: i32| {
            let answer = client.request(op, body);
            assert_eq!((answer.ver, answer.op, &answer.body[..]), (1, expected, body.as_bytes()));
        };
        ask(14, "1000,1001", 15);
        ask(14, "1002,x", 15);
        ask(16, "1001", 17);
        ask(12, "live://2", 13);
        cluster.push_room("live://1", 1, "the room that it left");
        cluster.push_room("live://2", 2, "the room that it entered");
        assert_eq!(client.push(), (2, "the room that it entered".to_owned()));
        for op in [1001, 1002, 1000] {
            cluster.push_keys(&["k"], op, "x");
        }
        assert_eq!(client.push(), (1000, "x".to_owned()));
        assert_eq!(client.heartbeat(), 1);
        assert_eq!(client.request(12, ""), Packet::new(13, 7, ""));
        assert_eq!(client.heartbeat(), 0);

        for op in [0, 4, 7, 10, 101, 12_345, -1] {
            client.send(&Packet { ver: -3, op, seq: 99, body: b"anything".to_vec() });
            assert_eq!(client.packet(), Packet { ver: -3, op, seq: 99, body: Vec::new() });
        }
        client.send(&Packet { ver: 2, op: 3, seq: 5, body: Vec::new() });
        assert_eq!(client.packet(), Packet { ver: 2, op: 3, seq: 5, body: vec![0; 4] });
    }
}

/// Who speaks `anser/1` is in several rooms, and is told why something was not done.
#[test]
fn anser_clients_get_reasons() {
    use anser_wire::anser::Error;
    use prost::Message as _;

    let settings =
        ["comet.rooms_per_connection=2", "comet.operations_per_connection=2", "comet.room_name=20"];
    let cluster = Cluster::start(&settings);
    for transport in Transport::ALL {
        let mut client = cluster.login(transport, r#"{"proto":"anser/1","room_id":"live://1"}"#);
        assert_eq!(client.request(101, "live://2"), Packet::new(102, 2, "live://2"));
        for room in ["live://1", "live://2"] {
            cluster.push_room(room, 5, room);
            assert_eq!(client.push(), (5, room.to_owned()));
        }
        let mut refused = |op, body: &str, code: &str| {
            let answer = client.request(op, body);
            assert_eq!(answer.op, 100, "{code}: {answer:?}");
            let error = Error::decode(&answer.body[..]).unwrap();
            assert_eq!((error.op, &*error.code, error.retry), (op, code, false));
            assert!(error.message.len() > 10, "{error:?}");
        };
        refused(101, "live://3", "room_limit");
        refused(101, "", "room_name");
        refused(101, "live://a-name-that-is-too-long", "room_name");
        refused(14, "1,x", "operations");
        refused(14, "1,2,3", "operation_limit");
        refused(108, "", "no_owner");
        assert_eq!(client.request(103, "live://1").op, 104);
        cluster.push_room("live://1", 5, "left");
        cluster.push_room("live://2", 5, "still here");
        assert_eq!(client.push(), (5, "still here".to_owned()));
    }
}

/// An address for clients that take one read for one packet: what they are answered comes packet by
/// packet, while the other addresses join what they can.
#[test]
fn an_address_with_one_write_for_each_packet() {
    let cluster = Cluster::start(&[
        "comet.tcp=[\"127.0.0.1:0\"]",
        "comet.websocket=[\"127.0.0.2:0\"]",
        "comet.one_write_per_packet=[\"127.0.0.1:0\"]",
    ]);
    for (transport, expected) in [(Transport::Tcp, 20), (Transport::WebSocket, 1)] {
        let mut client = cluster.login(transport, "{}");
        let requests = (0..20).flat_map(|seq| client.framed(&Packet::new(2, seq, "")));
        let requests: Vec<u8> = requests.collect();
        let before = cluster.metrics().get("comet_writes");
        client.write(&requests);
        for seq in 0..20 {
            assert_eq!(client.packet().seq, seq);
        }
        eventually_eq("the writes are counted", expected, || cluster.metrics().get("comet_writes") - before);
    }
}
