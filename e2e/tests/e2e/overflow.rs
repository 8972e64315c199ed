//! Clients that do not read: what they cost, and whom.

use anser_e2e::{Client, Cluster, Dial, Packet, Transport, eventually, eventually_eq};
use anser_wire::anser::Dropped;
use prost::Message as _;

const PUSHES: u64 = 400;

/// A connection for which the kernel keeps little.
fn narrow(cluster: &Cluster, transport: Transport, token: &str) -> Client {
    let mut client = Dial::new(cluster, transport).receive_buffer(4096).connect();
    client.login(token);
    client
}

/// A room with three members: one reads, two do not. The one gets everything, in order; of the others'
/// pushes those that find their queue full are dropped, counted, and told to whom asked for it. Once
/// they read on, they get what was queued, in order, and everything that comes later.
#[test]
fn pushes_beyond_the_queue_are_dropped_counted_and_told() {
    for transport in Transport::ALL {
        let cluster = Cluster::start(&["comet.workers=1", "comet.send_buffer=4096", "comet.queue=8"]);
        let mut reader = cluster.login(transport, r#"{"room_id":"live://1"}"#);
        let token = r#"{"room_id":"live://1","proto":"anser/1","dropped":true}"#;
        let mut anser = narrow(&cluster, transport, token);
        let mut goim = narrow(&cluster, transport, r#"{"room_id":"live://1","dropped":true}"#);

        let mut api = cluster.api();
        for n in 0..PUSHES {
            let body = format!("{n:01000}");
            api.push_room("live://1", 1000, &body);
            assert_eq!(reader.push(), (1000, body));
        }
        // One worker does one thing after another: now it has done with the last push.
        assert_eq!(reader.heartbeat(), 3);
        let lost = cluster.metrics().labelled("comet_lost", "overflow") as u64;

        let mut told = 0;
        let dropped = loop {
            let packet = anser.packet();
            if packet.op == 105 {
                assert_eq!((packet.ver, packet.seq), (1, 0));
                break Dropped::decode(&packet.body[..]).unwrap().count;
            }
            told += 1;
        };
        assert!(dropped > 0);
        assert_eq!(told + dropped, PUSHES, "each push was read, or told as dropped");
        let left = PUSHES - (lost - dropped);
        let read: Vec<String> = (0..left).map(|_| goim.push().1).collect();
        assert!(read.is_sorted(), "{read:?}");

        api.push_room("live://1", 1000, "later");
        for client in [&mut reader, &mut anser, &mut goim] {
            assert_eq!(client.push(), (1000, "later".to_owned()));
        }
        eventually_eq("every delivery is counted", (PUSHES + told + left + 3) as i64, || {
            cluster.metrics().get("comet_delivered")
        });
        let metrics = cluster.metrics();
        assert_eq!(metrics.labels("comet_lost"), [("overflow", lost as i64)]);
        assert_eq!(metrics.get("comet_outbound_bytes"), 0);
        assert_eq!(metrics.get("comet_connections"), 3, "nobody was closed");
        cluster.check_accounts();
    }
}

/// The bound in bytes holds too. A push that is larger than the bound is taken by an empty queue.
#[test]
fn queues_are_bounded_in_bytes() {
    let cluster = Cluster::start(&["comet.queue_bytes=10000", "comet.queue=1000000"]);
    for transport in Transport::ALL {
        let mut client = narrow(&cluster, transport, r#"{"key":"k","accepts":[1000]}"#);
        let large = "x".repeat(900_000);
        cluster.push_keys(&["k"], 1000, &large);
        let before = cluster.metrics().labelled("comet_lost", "overflow");
        cluster.push_keys(&["k"], 1000, "does not fit behind it");
        eventually_eq("the second is dropped", before + 1, || {
            cluster.metrics().labelled("comet_lost", "overflow")
        });
        assert!(client.push() == (1000, large));
        cluster.push_keys(&["k"], 1000, "fits again");
        assert_eq!(client.push(), (1000, "fits again".to_owned()));
        cluster.check_accounts();
    }
}

/// A client that asks and does not listen is not read any longer, so that its own TCP slows it down;
/// not one answer is lost.
#[test]
fn requests_without_end_are_all_answered() {
    let cluster = Cluster::start(&["comet.send_buffer=4096"]);
    for transport in Transport::ALL {
        let mut client = narrow(&cluster, transport, "{}");
        for seq in 0..5000 {
            client.send(&Packet::new(4, seq, "a message"));
        }
        let waiting = cluster.metrics().get("comet_outbound_bytes");
        assert!(waiting < 64 << 10, "{waiting} bytes of answers wait");
        for seq in 0..5000 {
            assert_eq!(client.packet(), Packet::new(4, seq, ""));
        }
    }
}

/// A connection that is not read at all, and for which too much waits, is cut; whoever reads stays.
#[test]
fn the_budget_cuts_the_worst() {
    let settings = ["comet.send_buffer=4096", "comet.queue=100000", "comet.queue_bytes=100000000"];
    let cluster = Cluster::builder().set(&settings).set(&["comet.outbound_budget=1000000"]).start();
    let mut worst = narrow(&cluster, Transport::Tcp, r#"{"key":"worst","accepts":[1000]}"#);
    let mut slow = narrow(&cluster, Transport::WebSocket, r#"{"key":"slow","accepts":[1000]}"#);
    let mut api = cluster.api();
    for n in 0..100 {
        api.push_keys(&["slow"], 1000, &format!("{n:01000}"));
    }
    eventually("the worst is cut", || {
        api.push_keys(&["worst"], 1000, &"x".repeat(10_000));
        (cluster.metrics().labelled("comet_closed", "budget") > 0).then_some(())
    });
    worst.rest();
    for n in 0..100 {
        assert_eq!(slow.push(), (1000, format!("{n:01000}")));
    }
    eventually_eq("nothing waits", 0, || cluster.metrics().get("comet_outbound_bytes"));
    let metrics = cluster.metrics();
    assert!(metrics.labelled("comet_lost", "budget") > 0);
    assert_eq!(metrics.get("comet_connections"), 1);
    assert_eq!(metrics.get("logic_sessions"), 1);
    cluster.check_accounts();
}
