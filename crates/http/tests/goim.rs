//! goim's nine routes over a socket: what is asked, and every byte of what is answered that goim's clients
//! can see.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anser_api::comet::{Away, PushError};
use anser_api::id::{CometName, Key, Position, Room};
use anser_api::job::{Accepted, Explanation, Subject};
use anser_api::logic::{
    Advice, Audience, Backoff, Directory, Node, NodeState, Online, Operator, Place, Push, PushApi,
    TooManyTraces, Tracing,
};
use anser_api::trace::Traced;
use anser_api::{Answer, ready};
use anser_http::{Bound, Config, Http, Keys, Names, Ready, Roles};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Takes pushes, but for some operations.
#[derive(Default)]
struct FakeApi(Mutex<Vec<Audience>>);

impl Operator for FakeApi {
    fn explain(&self, _: Position, _: Subject) -> Answer<'_, Result<Explanation, Away>> {
        unreachable!("goim has no such route")
    }

    fn trace(&self, _: Traced, _: SystemTime) -> Answer<'_, Result<Tracing, TooManyTraces>> {
        unreachable!("goim has no such route")
    }
}

impl PushApi for FakeApi {
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>> {
        let retry_after = Duration::from_millis(1001);
        let result = match push.op {
            1429 => Err(PushError::Exhausted { retry_after }),
            1413 => Err(PushError::TooLarge { len: 9, max: 8 }),
            1414 => Err(PushError::TooMany { max: 7 }),
            1503 => Err(PushError::Unavailable { what: "the disk is full".into(), retry_after }),
            1504 => Err(PushError::Draining),
            1409 => Err(PushError::Conflict),
            _ => Ok(Accepted { position: Position(1), routed: 1, absent: 0, repeated: false }),
        };
        self.0.lock().unwrap().push(push.to);
        ready(result)
    }
}

fn room(name: &str) -> Room {
    Room::parse(name, 4096).unwrap()
}

/// Some comets, and some rooms.
#[derive(Clone, Default)]
struct FakeDirectory {
    nodes: Vec<NodeState>,
    rooms: Vec<(&'static str, u32)>,
}

impl Directory for FakeDirectory {
    fn locate(&self, keys: Vec<Key>) -> Answer<'_, Result<Vec<Place>, Away>> {
        ready(Ok(vec![Place::Absent; keys.len()]))
    }

    fn online(&self) -> Answer<'_, Online> {
        ready(Online { connections: 12_345_678_901, users: 3, addresses: 77 })
    }

    fn largest_rooms(&self, kind: String, limit: usize) -> Answer<'_, Vec<(Room, u32)>> {
        let named = self.rooms.iter().filter(|(name, _)| name.starts_with(&kind)).take(limit);
        ready(named.map(|(name, members)| (room(name), *members)).collect())
    }

    fn members(&self, rooms: Vec<Room>) -> Answer<'_, Vec<u32>> {
        let members =
            |room: &Room| self.rooms.iter().find(|(name, _)| *name == room.as_str()).map_or(0, |(_, n)| *n);
        ready(rooms.iter().map(members).collect())
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeState>> {
        ready(self.nodes.clone())
    }

    fn best_nodes(&self) -> Answer<'_, Vec<Node>> {
        ready(self.nodes.iter().map(|state| state.node.clone()).collect())
    }
}

fn node(name: &str, addresses: &[&str], grpc: &str) -> NodeState {
    let node = Node {
        comet: CometName::parse(name, 64).unwrap(),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        region: "sh".into(),
        zone: "sh001".into(),
        weight: 10,
        offline: name == "edge-b",
        grpc: grpc.into(),
    };
    NodeState { node, connections: 1_000_001, addresses: 77, since: 1_544_769_245_123_456_789 }
}

fn advice() -> Advice {
    Advice {
        domain: "conn.goim.io".into(),
        host_domain: ".goim.io".into(),
        tcp_port: 3101,
        ws_port: 3102,
        wss_port: 3103,
        heartbeat: Duration::from_secs(240),
        heartbeat_max: 2,
        backoff: Backoff {
            max_delay: Duration::from_secs(300),
            base_delay: Duration::from_secs(3),
            factor: 1.8,
            jitter: 0.3,
        },
    }
}

struct Server {
    address: SocketAddr,
    api: Arc<FakeApi>,
    http: Http,
}

impl Server {
    fn start(directory: FakeDirectory, advice: Advice) -> Self {
        let bind = ([127, 0, 0, 1], 0).into();
        let config = Config { bind, require_key: false, body: 9, receivers: 3, ..Config::default() };
        let bound = Bound::bind(config).unwrap();
        let (address, api) = (bound.address(), Arc::new(FakeApi::default()));
        let registry = Arc::new(Registry::default());
        let alive = Arc::new(|| Ok(()));
        let roles = Roles {
            push: api.clone(),
            operator: api.clone(),
            directory: Arc::new(directory),
            advice,
            keys: Keys::default(),
            names: Names { key: 256, room: 256 },
        };
        let http = bound.start(Some(roles), registry, alive, Ready::default());
        Self { address, api, http }
    }

    /// The status, the content type and other headers that say something, and the body.
    async fn ask(&self, method: &str, target: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("an answer in time").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        let said = ["content-type", "location", "retry-after"].into_iter().filter_map(|name| {
            let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
            Some(if name == "content-type" { value.to_owned() } else { format!("{name}: {value}") })
        });
        [status.to_owned()].into_iter().chain(said).chain([body.to_owned()]).collect::<Vec<_>>().join(" | ")
    }

    async fn check(&self, rows: &[(&str, &str, &str)]) {
        for (method, target, expected) in rows {
            let target = target.replace("{long}", &"x".repeat(5000));
            assert_eq!(self.ask(method, &format!("/goim/{target}")).await, *expected, "{method} {target}");
        }
    }
}

const TAKEN: &str = r#"200 | application/json; charset=utf-8 | {"code":0,"message":""}"#;
const NOT_FOUND: &str = "404 | text/plain | 404 page not found";

macro_rules! ok {
    ($data:literal) => {
        concat!(r#"200 | application/json; charset=utf-8 | {"code":0,"message":"","data":"#, $data, "}")
    };
}

macro_rules! unbound {
    ($message:literal) => {
        concat!(r#"400 | text/plain; charset=utf-8 | {"code":-400,"message":""#, $message, r#""}"#)
    };
}

macro_rules! refused {
    ($status:literal, $code:literal, $message:literal) => {
        concat!($status, r#" | {"code":"#, $code, r#","message":""#, $message, r#""}"#)
    };
}

/// All nine routes, where there is everything to tell.
#[tokio::test]
async fn nine_routes() {
    let directory = FakeDirectory {
        nodes: vec![
            node("edge-a", &["192.0.2.1", "192.0.2.2"], "grpc://10.0.0.1:3109"),
            node("edge-b", &[], ""),
        ],
        rooms: vec![
            ("live://1000", 100),
            ("live://b/c", 50),
            ("live:// no URL", 40),
            ("live", 30),
            ("line://<&>", 20),
            ("line://7", 10),
            ("chat://1", 5),
        ],
    };
    let server = Server::start(directory, advice());
    server
        .check(&[
            ("POST", "push/keys?operation=1&keys=a&keys=b", TAKEN),
            ("POST", "push/keys?keys=a", TAKEN),
            (
                "POST",
                "push/keys?operation=1",
                r#"200 | application/json; charset=utf-8 | {"code":-400,"message":""}"#,
            ),
            (
                "POST",
                "push/keys?operation=x&keys=a",
                unbound!(r#"strconv.ParseInt: parsing \"x\": invalid syntax"#),
            ),
            (
                "POST",
                "push/keys?keys=a&keys=b&keys=c&keys=d",
                refused!(
                    "413 | application/json; charset=utf-8",
                    -400,
                    "4 receivers in one push are more than 3: send several, or raise http.receivers"
                ),
            ),
            ("POST", "push/mids?operation=1&mids=1&mids=2", TAKEN),
            ("POST", "push/mids?", TAKEN),
            ("POST", "push/mids?mids=1,2", unbound!(r#"strconv.ParseInt: parsing \"1,2\": invalid syntax"#)),
            ("POST", "push/room?operation=1&type=live&room=1000", TAKEN),
            (
                "POST",
                "push/room?operation=1",
                unbound!(
                    r"Key: 'Type' Error:Field validation for 'Type' failed on the 'required' tag\nKey: 'Room' Error:Field validation for 'Room' failed on the 'required' tag"
                ),
            ),
            ("POST", "push/all?operation=1&speed=5", TAKEN),
            (
                "POST",
                "push/all",
                unbound!("Key: 'Op' Error:Field validation for 'Op' failed on the 'required' tag"),
            ),
            (
                "POST",
                "push/all?operation=1429",
                refused!(
                    "429 | application/json; charset=utf-8 | retry-after: 2",
                    -429,
                    "resource exhausted, retry after 1001 ms"
                ),
            ),
            (
                "POST",
                "push/all?operation=1503",
                refused!(
                    "503 | application/json; charset=utf-8 | retry-after: 2",
                    -500,
                    "the disk is full: try again in 1001 ms"
                ),
            ),
            (
                "POST",
                "push/all?operation=1504",
                refused!("503 | application/json; charset=utf-8", -500, "this server is shutting down"),
            ),
            (
                "POST",
                "push/all?operation=1409",
                refused!(
                    "409 | application/json; charset=utf-8",
                    -500,
                    "the idempotency key was used for another push"
                ),
            ),
            (
                "POST",
                "push/all?operation=1413",
                refused!("413 | application/json; charset=utf-8", -500, "a push of 9 bytes is larger than 8"),
            ),
            (
                "POST",
                "push/all?operation=1414",
                refused!(
                    "413 | application/json; charset=utf-8",
                    -500,
                    "the users of a push have more than 7 connections"
                ),
            ),
            ("POST", "push/all/?operation=1", "307 | location: /goim/push/all?operation=1 | "),
            ("GET", "push/all?operation=1", NOT_FOUND),
            ("GET", "push/all/", NOT_FOUND),
            //
            (
                "GET",
                "online/top?type=live&limit=2",
                ok!(r#"[{"room_id":"1000","count":100},{"room_id":"b","count":50}]"#),
            ),
            // What is no URL is passed over, and the next one told; what has no host has an empty id.
            (
                "GET",
                "online/top?type=li&limit=5",
                ok!(
                    r#"[{"room_id":"1000","count":100},{"room_id":"b","count":50},{"room_id":"","count":30},{"room_id":"\u003c\u0026\u003e","count":20},{"room_id":"7","count":10}]"#
                ),
            ),
            (
                "GET",
                "online/top?type=li&limit=3&limit=x",
                ok!(
                    r#"[{"room_id":"1000","count":100},{"room_id":"b","count":50},{"room_id":"","count":30}]"#
                ),
            ),
            ("GET", "online/top?type=line&limit=9223372036854775807", ok!(r#"[{"room_id":"\u003c\u0026\u003e","count":20},{"room_id":"7","count":10}]"#)),
            ("GET", "online/top?type=x&limit=1", ok!("[]")),
            ("GET", "online/top?type=live&limit=-1", unbound!("limit must be 1 or more")),
            (
                "GET",
                "online/top?type=live&limit=0",
                unbound!("Key: 'Limit' Error:Field validation for 'Limit' failed on the 'required' tag"),
            ),
            (
                "GET",
                "online/top",
                unbound!(
                    r"Key: 'Type' Error:Field validation for 'Type' failed on the 'required' tag\nKey: 'Limit' Error:Field validation for 'Limit' failed on the 'required' tag"
                ),
            ),
            (
                "GET",
                "online/top?limit=%3C",
                unbound!(r#"strconv.ParseInt: parsing \"\u003c\": invalid syntax"#),
            ),
            (
                "GET",
                "online/top?limit=9223372036854775808",
                unbound!(r#"strconv.ParseInt: parsing \"9223372036854775808\": value out of range"#),
            ),
            (
                "GET",
                "online/top/?type=live&limit=2",
                "301 | text/html; charset=utf-8 | location: /goim/online/top?type=live&limit=2 | \
                 <a href=\"/goim/online/top?type=live&amp;limit=2\">Moved Permanently</a>.\n\n",
            ),
            ("POST", "online/top?type=live&limit=2", NOT_FOUND),
            ("HEAD", "online/top?type=live&limit=2", "404 | text/plain | "),
            //
            ("GET", "online/room?type=live&rooms=9&rooms=1000&rooms=9", ok!(r#"{"1000":100,"9":0}"#)),
            ("GET", "online/room?type=line&rooms=%3C%26%3E", ok!(r#"{"\u003c\u0026\u003e":20}"#)),
            ("GET", "online/room?type=live&rooms=", ok!(r#"{"":0}"#)),
            ("GET", "online/room?type={long}&rooms=1000", ok!(r#"{"1000":0}"#)),
            (
                "GET",
                "online/room",
                unbound!(
                    r"Key: 'Type' Error:Field validation for 'Type' failed on the 'required' tag\nKey: 'Rooms' Error:Field validation for 'Rooms' failed on the 'required' tag"
                ),
            ),
            (
                "GET",
                "online/room?type=live&rooms=1&rooms=2&rooms=3&rooms=4",
                refused!(
                    "413 | application/json; charset=utf-8",
                    -400,
                    "4 rooms in one request are more than 3: ask for fewer at once, or raise http.receivers"
                ),
            ),
            //
            ("GET", "online/total", ok!(r#"{"conn_count":12345678901,"ip_count":77}"#)),
            (
                "GET",
                "online/total/",
                "301 | text/html; charset=utf-8 | location: /goim/online/total | \
                 <a href=\"/goim/online/total\">Moved Permanently</a>.\n\n",
            ),
            ("POST", "online/total/", NOT_FOUND),
            //
            (
                "GET",
                "nodes/weighted",
                ok!(
                    r#"{"domain":"conn.goim.io","tcp_port":3101,"ws_port":3102,"wss_port":3103,"heartbeat":240,"nodes":["192.0.2.1","192.0.2.2",""],"backoff":{"max_delay":300,"base_delay":3,"factor":1.8,"jitter":0.3},"heartbeat_max":2}"#
                ),
            ),
            (
                "GET",
                "nodes/weighted?platform=web&platform=x",
                ok!(
                    r#"{"domain":"conn.goim.io","tcp_port":3101,"ws_port":3102,"wss_port":3103,"heartbeat":240,"nodes":["edge-a.goim.io","edge-b.goim.io"],"backoff":{"max_delay":300,"base_delay":3,"factor":1.8,"jitter":0.3},"heartbeat_max":2}"#
                ),
            ),
            (
                "GET",
                "nodes/instances",
                ok!(
                    r#"[{"region":"sh","zone":"sh001","env":"dev","appid":"goim.comet","hostname":"edge-a","addrs":["grpc://10.0.0.1:3109"],"version":"","latest_timestamp":1544769245123456789,"metadata":{"addrs":"192.0.2.1,192.0.2.2","conn_count":"1000001","ip_count":"77","offline":"false","weight":"10"}},{"region":"sh","zone":"sh001","env":"dev","appid":"goim.comet","hostname":"edge-b","addrs":[],"version":"","latest_timestamp":1544769245123456789,"metadata":{"addrs":"","conn_count":"1000001","ip_count":"77","offline":"true","weight":"10"}}]"#
                ),
            ),
            ("GET", "nodes/other", NOT_FOUND),
            ("GET", "", NOT_FOUND),
        ])
        .await;
    let pushed = std::mem::take(&mut *server.api.0.lock().unwrap());
    assert_eq!(pushed[0], Audience::Keys(["a", "b"].map(|key| Key::parse(key, 9).unwrap()).into()));
    assert!(pushed.contains(&Audience::Room(room("live://1000"))));
    assert!(pushed.contains(&Audience::All { speed: 5 }));
    server.http.stop(Duration::from_secs(20)).await;
}

/// The same where there is nothing: what is zero is left out.
#[tokio::test]
async fn nothing_to_tell() {
    let backoff = Backoff {
        max_delay: Duration::ZERO,
        base_delay: Duration::from_millis(1999),
        factor: 0.0,
        jitter: 0.5,
    };
    let advice = Advice {
        wss_port: 0,
        tcp_port: 0,
        heartbeat: Duration::from_millis(1500),
        heartbeat_max: 0,
        backoff,
        ..advice()
    };
    let server = Server::start(FakeDirectory::default(), advice);
    for platform in ["web", "android"] {
        let expected = ok!(
            r#"{"domain":"conn.goim.io","ws_port":3102,"heartbeat":1,"nodes":["conn.goim.io"],"backoff":{"base_delay":1,"jitter":0.5}}"#
        );
        server.check(&[("GET", &format!("nodes/weighted?platform={platform}"), expected)]).await;
    }
    server
        .check(&[
            ("GET", "nodes/instances", ok!("null")),
            ("GET", "online/top?type=live&limit=2", ok!("[]")),
            ("GET", "online/room?type=live&rooms=1", ok!(r#"{"1":0}"#)),
        ])
        .await;
}
