//! goim's routes that tell who is where, asked while real clients come and go.

use std::fs;

use anser_e2e::{Cluster, Transport, eventually, eventually_eq};

/// The data of a successful answer.
fn data(cluster: &Cluster, target: &str) -> String {
    let answer = cluster.get(target);
    let kind = answer.header("content-type");
    assert_eq!((answer.status(), kind), (200, Some("application/json; charset=utf-8")), "{answer}");
    let data = answer.text().strip_prefix(r#"{"code":0,"message":"","data":"#);
    data.and_then(|data| data.strip_suffix('}')).unwrap_or_else(|| panic!("no data in {answer}")).to_owned()
}

fn becomes(cluster: &Cluster, target: &str, expected: &str) {
    eventually_eq(target, expected.to_owned(), || data(cluster, target));
}

/// The instances without the time at which they were last heard of, and that time.
fn instances(cluster: &Cluster) -> (String, u64) {
    let text = data(cluster, "/goim/nodes/instances");
    let (before, rest) = text.split_once(r#""latest_timestamp":"#).expect("an instance has a time");
    let (time, after) = rest.split_once(',').expect("the time is not the last");
    (format!("{before}{after}"), time.parse().expect("the time is a number"))
}

#[test]
fn rooms_and_totals_follow_the_clients() {
    let cluster = Cluster::start(&["comet.renew=100ms"]);
    becomes(&cluster, "/goim/online/total", r#"{"conn_count":0,"ip_count":0}"#);
    becomes(&cluster, "/goim/online/top?type=live&limit=5", "[]");
    let log_in = |transport, room: &str| cluster.login(transport, &format!(r#"{{"room_id":"{room}"}}"#));
    let mut one = log_in(Transport::Tcp, "live://1000");
    let two = log_in(Transport::WebSocket, "live://1000");
    let _three = log_in(Transport::Tcp, "live://2000");
    let _four = log_in(Transport::Tcp, "chat://1000");
    becomes(&cluster, "/goim/online/total", r#"{"conn_count":4,"ip_count":1}"#);
    let top = r#"[{"room_id":"1000","count":2},{"room_id":"2000","count":1}]"#;
    becomes(&cluster, "/goim/online/top?type=live&limit=5", top);
    becomes(&cluster, "/goim/online/top?type=live&limit=1", r#"[{"room_id":"1000","count":2}]"#);
    let rooms = "/goim/online/room?type=live&rooms=3000&rooms=1000&rooms=2000";
    becomes(&cluster, rooms, r#"{"1000":2,"2000":1,"3000":0}"#);

    // goim goes on telling of rooms that have emptied (its W25).
    one.request(12, b"live://3000");
    drop(two);
    becomes(&cluster, rooms, r#"{"1000":0,"2000":1,"3000":1}"#);
    let ids = || data(&cluster, "/goim/online/top?type=live&limit=5").matches("1000").count();
    assert_eq!(ids(), 0, "a room without members is not told of");
    becomes(&cluster, "/goim/online/total", r#"{"conn_count":3,"ip_count":1}"#);
}

#[test]
fn nodes_are_told() {
    let cluster = Cluster::start(&[
        "comet.renew=100ms",
        "comet.name=edge-a",
        "comet.public=192.0.2.1,192.0.2.2",
        "comet.region=bj",
        "comet.zone=bj001",
        "comet.weight=7",
        "logic.host_domain=.example.org",
        "logic.wss_port=3103",
    ]);
    let weighted = |nodes: &str| {
        format!(
            r#"{{"domain":"conn.goim.io","tcp_port":3101,"ws_port":3102,"wss_port":3103,"heartbeat":240,"nodes":[{nodes}],"backoff":{{"max_delay":300,"base_delay":3,"factor":1.8,"jitter":0.3}},"heartbeat_max":2}}"#
        )
    };
    // The comet has said how it is before anybody can ask.
    assert_eq!(data(&cluster, "/goim/nodes/weighted"), weighted(r#""192.0.2.1","192.0.2.2""#));
    assert_eq!(data(&cluster, "/goim/nodes/weighted?platform=web"), weighted(r#""edge-a.example.org""#));
    let instance = |connections: u64| {
        format!(
            r#"[{{"region":"bj","zone":"bj001","env":"dev","appid":"goim.comet","hostname":"edge-a","addrs":[],"version":"","metadata":{{"addrs":"192.0.2.1,192.0.2.2","conn_count":"{connections}","ip_count":"{connections}","offline":"false","weight":"7"}}}}]"#
        )
    };
    let (first, since) = instances(&cluster);
    assert_eq!(first, instance(0));
    let _client = cluster.login(Transport::Tcp, "{}");
    eventually_eq("the instance", instance(1), || instances(&cluster).0);
    assert!(instances(&cluster).1 > since);
    assert_eq!(cluster.metrics().get("logic_comets"), 1);
}

/// A comet that is to get no clients is not told of as a node.
#[test]
fn an_offline_comet_gets_no_clients() {
    let cluster = Cluster::start(&["comet.offline=true", "logic.default_domain=chat.example.org"]);
    let told = data(&cluster, "/goim/nodes/weighted");
    assert!(told.contains(r#""nodes":["chat.example.org"]"#), "{told}");
    let (instance, _) = instances(&cluster);
    assert!(instance.contains(r#""offline":"true""#), "{instance}");
    // Without a name of its own it has the host's.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("the host has a name");
    assert!(instance.contains(&format!(r#""hostname":"{}""#, host.trim_end())), "{instance}");
}

/// What a client says to the application comes to logic.
#[test]
fn packets_of_the_application_are_received() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.login(Transport::WebSocket, r#"{"key":"phone","mid":7}"#);
    client.request(1000, b"hello");
    client.request(4, b"hi");
    eventually("two packets", || (cluster.metrics().get("logic_received") == 2).then_some(()));
    assert_eq!(cluster.metrics().get("logic_received_bytes"), 7);
    assert_eq!(cluster.metrics().get("comet_receive_lost"), 0);
}
