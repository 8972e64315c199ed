//! What goim's clients in the wild really do (§8 of its specification), all of which goim takes.

use anser_e2e::{Client, Cluster, Dial, Incoming, Packet, Transport};
use anser_wire::websocket::Opcode;

const TOKEN: &str = r#"{"key":"k","accepts":[1000]}"#;

/// A packet with any length in its header.
fn with_length(len: i32, op: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Packet::new(op, 1, body).bytes();
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// A push shows that the connection is in order.
fn works(cluster: &Cluster, client: &mut Client) {
    cluster.push_keys(&["k"], 1000, "still there");
    assert_eq!(client.push(), (1000, "still there".to_owned()));
}

/// The Dart client writes header and body apart. Here every byte of a stream is written by itself, so
/// that wherever the network cuts it is covered.
#[test]
fn bytes_one_by_one() {
    let cluster = Cluster::start(&[]);
    for transport in Transport::ALL {
        let mut client = cluster.connect(transport);
        for packet in [Packet::new(7, 1, TOKEN), Packet::new(2, 2, "body"), Packet::new(12, 3, "live://1")] {
            for byte in client.framed(&packet) {
                client.write(&[byte]);
            }
        }
        assert_eq!(client.packet(), Packet::new(8, 1, ""));
        assert_eq!(client.packet(), Packet::new(3, 2, [0; 4]));
        assert_eq!(client.packet(), Packet::new(13, 3, "live://1"));
        works(&cluster, &mut client);
    }
    let mut client = Dial::new(&cluster, Transport::WebSocket).open();
    for byte in
        "GET /sub HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: x\r\n\r\n"
            .bytes()
    {
        client.write(&[byte]);
    }
    assert_eq!(client.take(12), b"HTTP/1.1 101");
}

/// Everything in one segment, the upgrade included, in the hope that it goes well.
#[test]
fn everything_at_once() {
    let cluster = Cluster::start(&["comet.workers=2"]);
    for transport in Transport::ALL {
        // Several times, so that the connection has to move to the worker of its key.
        for _ in 0..4 {
            let mut client = Dial::new(&cluster, transport).open();
            let mut bytes = Vec::new();
            if transport == Transport::WebSocket {
                anser_wire::websocket::write_request(&mut bytes, "x", "/sub", b"0123456789abcdef");
            }
            let packets = [
                Packet::new(2, 1, "too early, so ignored"),
                Packet::new(1000, 2, "as well"),
                Packet::new(7, 3, TOKEN),
                Packet::new(2, 4, ""),
                Packet::new(14, 5, "1001"),
                Packet::new(2, 6, ""),
            ];
            bytes.extend(packets.iter().flat_map(|packet| client.framed(packet)));
            client.write(&bytes);
            if transport == Transport::WebSocket {
                client.take(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".len(),
                );
                client.take("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n".len());
            }
            for (op, seq) in [(8, 3), (3, 4), (15, 5), (3, 6)] {
                let packet = client.packet();
                assert_eq!((packet.op, packet.seq), (op, seq));
            }
            works(&cluster, &mut client);
        }
    }
}

/// iOS says version 2, the benchmark 0, and nobody has ever looked at it.
#[test]
fn any_version_is_echoed() {
    let cluster = Cluster::start(&[]);
    for transport in Transport::ALL {
        for ver in [0, 2, -1, i16::MAX] {
            let mut client = cluster.connect(transport);
            client.send(&Packet { ver, op: 7, seq: -5, body: TOKEN.into() });
            assert_eq!(client.packet(), Packet { ver, op: 8, seq: -5, body: Vec::new() });
            client.send(&Packet { ver, op: 2, seq: 0, body: b"v1 sends one".to_vec() });
            assert_eq!(client.packet(), Packet { ver, op: 3, seq: 0, body: vec![0; 4] });
            works(&cluster, &mut client);
        }
    }
}

/// §1.1: a length below that of the header means no body, also when it is negative (TCP only, as
/// WebSocket has it otherwise).
#[test]
fn lengths_below_the_header() {
    let cluster = Cluster::start(&[]);
    let mut tcp = cluster.login(Transport::Tcp, TOKEN);
    for len in [16, 15, 1, 0, -1, i32::MIN + 16] {
        tcp.write(&with_length(len, 2, b""));
        assert_eq!(tcp.packet(), Packet::new(3, 1, [0; 4]), "{len}");
    }
    works(&cluster, &mut tcp);
    let mut websocket = cluster.login(Transport::WebSocket, TOKEN);
    for len in [16, 15, 1, 0] {
        websocket.send_frame(Opcode::Binary, &with_length(len, 2, b"ignored"));
        assert_eq!(websocket.packet(), Packet::new(3, 1, [0; 4]), "{len}");
    }
    works(&cluster, &mut websocket);
}

/// Text frames, frames without a mask, fragments, bytes behind the packet, pings between: all are
/// taken by goim.
#[test]
fn frames_of_every_kind() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.connect(Transport::WebSocket);
    client.send_frame(Opcode::Text, &Packet::new(7, 1, TOKEN).bytes());
    assert_eq!(client.packet(), Packet::new(8, 1, ""));

    let heartbeat = Packet::new(2, 2, "").bytes();
    let answer = Packet::new(3, 2, [0; 4]);
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
    client.write(&unmasked(0x82, &heartbeat));
    assert_eq!(client.packet(), answer);
    client.send_frame(Opcode::Binary, &[&heartbeat[..], &heartbeat].concat());
    assert_eq!(client.packet(), answer, "a second packet in a message is ignored");
    let (a, b) = heartbeat.split_at(7);
    client.write(&[unmasked(0x02, a), unmasked(0x89, b"ping"), unmasked(0x80, b)].concat());
    assert_eq!(client.incoming(), Incoming::Pong(b"ping".to_vec()));
    assert_eq!(client.packet(), answer);
    for _ in 0..150 {
        client.send_frame(Opcode::Ping, b"");
        client.send_frame(Opcode::Pong, b"unasked");
    }
    for _ in 0..150 {
        assert_eq!(client.incoming(), Incoming::Pong(Vec::new()), "goim closes at the 102nd");
    }
    works(&cluster, &mut client);
    client.send_frame(Opcode::Close, &[&1000_u16.to_be_bytes()[..], b"bye"].concat());
    assert_eq!(client.closed(), Some((1000, String::new())));
}

/// goim takes `/sub` alone. Nobody is hurt by a query, which proxies and balancers like to add.
#[test]
fn upgrades() {
    let cluster = Cluster::start(&[]);
    for path in ["/sub", "/sub?x=1", "/sub?"] {
        let mut client = Dial::new(&cluster, Transport::WebSocket).open();
        client.upgrade(path);
        client.login(TOKEN);
        works(&cluster, &mut client);
    }
    let mut client = Dial::new(&cluster, Transport::WebSocket).open();
    client.write(
        b"GET /sub HTTP/1.1\r\nhost: x\r\nUPGRADE: WebSocket\r\nconnection: keep-alive, upgrade\r\n\
          Origin: http://localhost:1999\r\nCookie: a=b\r\nSec-WebSocket-Protocol: chat\r\n\
          Sec-WebSocket-Extensions: permessage-deflate\r\nsec-websocket-version: 13\r\n\
          sec-websocket-key: any key\r\n\r\n",
    );
    let head = String::from_utf8(client.take(129)).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.ends_with("\r\n\r\n"), "{head}");
    client.login(TOKEN);
}

/// The largest body that goim's clients may send.
#[test]
fn the_largest_packet() {
    let cluster = Cluster::start(&[]);
    for transport in Transport::ALL {
        let mut client = cluster.login(transport, TOKEN);
        client.send(&Packet::new(4, 9, [b'x'; 4096]));
        assert_eq!(client.packet(), Packet::new(4, 9, ""));
        works(&cluster, &mut client);
    }
}

/// Eight requests in one segment could end a connection to goim; hundreds are answered here, in order.
#[test]
fn requests_are_answered_in_order() {
    let cluster = Cluster::start(&[]);
    for transport in Transport::ALL {
        let mut client = cluster.login(transport, TOKEN);
        let bytes: Vec<u8> = (0..500).flat_map(|seq| client.framed(&Packet::new(2, seq, ""))).collect();
        client.write(&bytes);
        for seq in 0..500 {
            assert_eq!(client.packet(), Packet::new(3, seq, [0; 4]));
        }
        works(&cluster, &mut client);
    }
}

/// Entering the room that one is in already left goim's client in no room at all (W6).
#[test]
fn entering_the_same_room_again() {
    let cluster = Cluster::start(&[]);
    for transport in Transport::ALL {
        let mut client = cluster.login(transport, r#"{"room_id":"live://1"}"#);
        for _ in 0..3 {
            assert_eq!(client.request(12, "live://1").body, b"live://1");
            assert_eq!(client.heartbeat(), 1);
            cluster.push_room("live://1", 1, "here");
            assert_eq!(client.push(), (1, "here".to_owned()));
        }
    }
}

/// A container as a request is answered by nothing on TCP, and by an empty one on WebSocket.
#[test]
fn operation_9_from_a_client() {
    let cluster = Cluster::start(&[]);
    let [mut tcp, mut websocket] = Transport::ALL.map(|transport| cluster.login(transport, "{}"));
    tcp.send(&Packet::new(9, 1, "x"));
    assert_eq!(tcp.heartbeat(), 0);
    websocket.send(&Packet::new(9, 1, "x"));
    assert_eq!(websocket.packet(), Packet::new(9, 1, ""));
}
