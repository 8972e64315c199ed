//! Ten thousand connections at once.

use std::io::{self, Write as _};
use std::net::Ipv4Addr;

use anser_e2e::{Client, Cluster, Dial, Packet, Transport, eventually_eq};
use anser_wire::operation::{AUTH, AUTH_REPLY};
use rustix::process::{Resource, getrlimit};

const CONNECTIONS: usize = 10_000;

/// Open files that this takes, here and in the server, with room for the other tests.
const FILES: u64 = 20_000;

/// Says something past the capture of the test harness, because it must be seen when the test passes.
fn say(text: &str) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "many: {text}");
}

/// All of them get a push to everyone and one to their room; each costs little; all leave, and nothing
/// of them is left.
#[test]
fn ten_thousand_connections() {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files < FILES {
        say(&format!("skipped: {FILES} open files are needed and {files} are allowed (`ulimit -n {FILES}`)"));
        return;
    }
    let cluster = Cluster::start(&["comet.handshake_timeout=60s"]);
    let before = cluster.resident();
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|n| {
            let source = Ipv4Addr::new(127, 0, 1 + (n / 200) as u8, 1);
            let mut client = Dial::new(&cluster, Transport::ALL[n % 2]).source(source).connect();
            let token =
                format!(r#"{{"mid":{},"key":"key-{n}","room_id":"live://all","accepts":[1000]}}"#, n + 1);
            client.send(&Packet::new(AUTH, 1, token));
            client
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.packet(), Packet::new(AUTH_REPLY, 1, ""));
    }
    let metrics = cluster.metrics();
    for name in ["comet_connections", "comet_sockets_open", "logic_sessions", "logic_users"] {
        assert_eq!(metrics.get(name), CONNECTIONS as i64, "{name}");
    }
    assert_eq!(clients[0].heartbeat(), CONNECTIONS as i32);

    cluster.push_all(1000, "to everyone");
    cluster.push_room("live://all", 1, "to the room");
    for client in &mut clients {
        let mut pushes = [client.push(), client.push()];
        pushes.sort();
        assert_eq!(pushes, [(1, "to the room".to_owned()), (1000, "to everyone".to_owned())]);
    }
    let resident = cluster.resident();
    let each = resident.saturating_sub(before) / CONNECTIONS as u64;
    say(&format!(
        "{CONNECTIONS} connections, half of them WebSocket: {} KiB resident in the server, {each} bytes for each",
        resident >> 10
    ));
    assert!(each < 4096, "a connection takes {each} bytes");
    let metrics = cluster.metrics();
    assert_eq!((metrics.get("comet_lost"), metrics.get("comet_delivered")), (0, 2 * CONNECTIONS as i64));

    drop(clients);
    for name in ["comet_connections", "comet_sockets_open", "logic_sessions", "logic_users", "comet_rooms"] {
        eventually_eq(name, 0, || cluster.metrics().get(name));
    }
    let metrics = cluster.metrics();
    assert_eq!(metrics.labels("comet_closed"), [("peer", CONNECTIONS as i64)]);
    for name in ["comet_outbound_bytes", "comet_queue_depth", "comet_backlog_deliveries"] {
        assert_eq!(metrics.get(name), 0, "{name}");
    }
}
