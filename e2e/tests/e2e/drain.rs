//! The end of a server: whom it tells, what it still writes, how long it takes.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anser_e2e::{Client, Cluster, Dial, Incoming, Transport, eventually};
use anser_sdk::{Backoff, Cause, Config, Event, Login};
use anser_wire::anser::Draining;
use prost::Message as _;
use rustix::process::Signal;

/// Longer than any test waits: whoever ends has not waited for the limit.
const NO_LIMIT: &str = "comet.drain_limit=10m";

const TOKEN: &str = r#"{"key":"k","room_id":"live://1","accepts":[1000]}"#;
const ANSER_TOKEN: &str = r#"{"room_id":"live://1","proto":"anser/1"}"#;

/// A client for which pushes wait, because it does not read. How many were pushed.
fn stuck(cluster: &Cluster) -> (Client, u64) {
    let mut client = Dial::new(cluster, Transport::Tcp).receive_buffer(4096).connect();
    client.login(TOKEN);
    let mut api = cluster.api();
    let mut pushed = 0;
    eventually("pushes wait", || {
        api.push_keys(&["k"], 1000, &format!("{pushed:04000}"));
        pushed += 1;
        (cluster.metrics().get("comet_outbound_bytes") > 50_000).then_some(())
    });
    (client, pushed)
}

/// Nobody is cut without a word who can be told: `anser/1` clients when to come back, WebSocket clients
/// by a close frame, goim's TCP clients, for whom there is no word, by the end of the stream.
#[test]
fn clients_are_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut cluster = Cluster::start(&[NO_LIMIT, "comet.drain_spread=20s"]);
        let goim = Transport::ALL.map(|transport| cluster.login(transport, "{}"));
        let anser = Transport::ALL.map(|transport| cluster.login(transport, ANSER_TOKEN));
        let mut unauthenticated = Transport::ALL.map(|transport| cluster.connect(transport));
        cluster.signal(signal);
        let going_away = Some((1001, "the server is going away".to_owned()));
        for mut client in anser {
            let packet = client.packet();
            assert_eq!((packet.ver, packet.op, packet.seq), (1, 106, 0));
            let after = Draining::decode(&packet.body[..]).unwrap().retry_after_ms;
            assert!(after <= 20_000, "{after}");
            assert!(client.closed().is_none_or(|said| Some(said) == going_away));
        }
        let [mut tcp, mut websocket] = goim;
        assert_eq!((tcp.closed(), websocket.closed()), (None, going_away));
        for client in &mut unauthenticated {
            client.closed();
        }
        let ended = cluster.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

/// The moments to come back are spread, so that not all clients come back at once.
#[test]
fn clients_come_back_one_after_another() {
    let cluster = Cluster::start(&[NO_LIMIT, "comet.drain_spread=100s"]);
    let clients: Vec<Client> = (0..20).map(|_| cluster.login(Transport::Tcp, ANSER_TOKEN)).collect();
    cluster.signal(Signal::TERM);
    let mut times: Vec<u32> = clients
        .into_iter()
        .map(|mut client| Draining::decode(&client.packet().body[..]).unwrap().retry_after_ms)
        .collect();
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 15, "{times:?}");
    assert!(times[0] < 50_000 && times[times.len() - 1] > 50_000, "{times:?}");
}

/// What was accepted is written before the end, also to a client that takes its time. Meanwhile the
/// server says that it wants no more traffic, and takes none.
#[test]
fn what_is_queued_is_written() {
    let mut cluster = Cluster::start(&[NO_LIMIT, "comet.send_buffer=4096"]);
    let (mut slow, pushed) = stuck(&cluster);
    cluster.signal(Signal::TERM);
    eventually("/readyz says no", || {
        let answer = cluster.get("/readyz");
        (answer.status() == 503).then(|| assert_eq!(answer.text(), "not ready: starting or draining\n"))
    });
    assert_eq!(cluster.get("/healthz").text(), "ok\n");
    eventually("no connection is taken", || TcpStream::connect(cluster.tcp()).is_err().then_some(()));
    let answer = cluster.api().request("POST", "/goim/push/all?operation=1000", &[], b"x");
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.text(), r#"{"code":-500,"message":"this server is shutting down"}"#);
    assert!(cluster.process().try_wait().is_none(), "it waits for the client");
    for n in 0..pushed {
        assert_eq!(slow.push(), (1000, format!("{n:04000}")));
    }
    assert_eq!(slow.incoming(), Incoming::End);
    assert_eq!(cluster.wait().code, Some(0));
}

/// A client that takes nothing cannot hold the server up for longer than the limit.
#[test]
fn the_limit_ends_the_wait() {
    let mut cluster = Cluster::start(&["comet.drain_limit=1s", "comet.send_buffer=4096"]);
    let (_stuck, _) = stuck(&cluster);
    let start = Instant::now();
    cluster.signal(Signal::TERM);
    let ended = cluster.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(500), "it waited for {waited:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut cluster = Cluster::start(&[NO_LIMIT, "comet.send_buffer=4096"]);
    let (_stuck, _) = stuck(&cluster);
    cluster.signal(Signal::TERM);
    eventually("/readyz says no", || (cluster.get("/readyz").status() == 503).then_some(()));
    assert!(cluster.process().try_wait().is_none(), "it waits for the client");
    cluster.signal(Signal::INT);
    let ended = cluster.wait();
    assert_eq!(ended.code, Some(70));
    let said = "anser: ended by a second signal, SIGINT, with 1 sockets open: wait for the drain, or lower";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

/// An idle caller of the API holds nothing up.
#[test]
fn an_idle_http_connection_holds_nothing_up() {
    let mut cluster = Cluster::start(&[NO_LIMIT]);
    let mut api = cluster.api();
    api.push_all(1000, "x");
    cluster.signal(Signal::TERM);
    assert!(api.is_closed());
    assert_eq!(cluster.wait().code, Some(0));
}

/// The library does what a draining server asks for, and finds its way to another server, where it is
/// in its rooms again.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_library_moves_to_another_server() {
    let mut first = Cluster::start(&[NO_LIMIT, "comet.drain_spread=200ms"]);
    let second = Cluster::start(&[]);
    let addresses = [
        format!("tcp://{}", first.tcp()).parse().unwrap(),
        format!("ws://{}/sub", second.websocket()).parse().unwrap(),
    ];
    let login = Login::new().mid(7).key("phone").accepts([1000]).anser();
    let backoff = Backoff { base: Duration::from_millis(50), ..Backoff::default() };
    let config = Config { backoff, ..Config::new(addresses.clone(), login) };
    let (client, mut events) = anser_sdk::Client::connect(config).await.unwrap();
    let mut next = async || tokio::time::timeout(anser_e2e::PATIENCE, events.next()).await.unwrap().unwrap();
    assert!(matches!(next().await, Event::Connected { address } if address == addresses[0]));
    client.join("live://1").await.unwrap();
    client.subscribe(&[1001]).await.unwrap();
    first.push_room("live://1", 9, "first");
    assert!(matches!(next().await, Event::Push { op: 9, body } if body == "first"));

    first.signal(Signal::TERM);
    let Event::Draining(after) = next().await else { panic!("the server says that it goes") };
    assert!(after <= Duration::from_millis(200), "{after:?}");
    let lost = next().await;
    assert!(matches!(lost, Event::Disconnected { cause: Cause::Lost { .. }, retry_in: Some(_) }), "{lost:?}");
    assert_eq!(first.wait().code, Some(0));
    let connected = next().await;
    assert!(matches!(&connected, Event::Connected { address } if *address == addresses[1]), "{connected:?}");

    // An answer comes behind what was restored.
    assert_eq!(client.heartbeat().await, Ok(1));
    second.push_room("live://1", 9, "second");
    second.push_mids(&[7], 1001, "second");
    let mut ops = Vec::new();
    for _ in 0..2 {
        let Event::Push { op, body } = next().await else { panic!("a push comes") };
        assert_eq!(body, "second");
        ops.push(op);
    }
    ops.sort_unstable();
    assert_eq!(ops, [9, 1001]);
    client.close().await;
}
