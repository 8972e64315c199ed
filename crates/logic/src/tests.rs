//! Logic from outside, without a comet and without a job.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anser_api::comet::PushError;
use anser_api::id::{CometName, Incarnation, Position, UserId};
use anser_api::job::{self, Accepted, Destination, Explanation, Route, Subject};
use anser_api::logic::{
    Audience, Directory as _, Logic as _, Node, NodeState, Online, Operator as _, Place, Push, PushApi as _,
};
use anser_api::settings::Span;
use anser_api::trace::{Traced, Traces};
use bytes::Bytes;
use tokio::time::advance;

use super::*;

fn comet(name: &str) -> CometName {
    CometName::parse(name, 64).unwrap()
}

fn key(name: &str) -> Key {
    Key::parse(name, 64).unwrap()
}

fn room(name: &str) -> Room {
    Room::parse(name, 64).unwrap()
}

fn logic(change: impl FnOnce(&mut Config)) -> Logic {
    let mut config = Config::default();
    change(&mut config);
    Logic::new(config, 256, Authenticator::open())
}

fn connect_at(logic: &Logic, at: &str, token: &str) -> Result<Connected, Refused> {
    let mut answer = logic.connect(Connect {
        comet: comet(at),
        token: Bytes::copy_from_slice(token.as_bytes()),
        cookie: None,
        remote: Ipv4Addr::LOCALHOST.into(),
    });
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("nobody has to be asked"),
    }
}

fn connect(logic: &Logic, token: &str) -> Result<Connected, Refused> {
    connect_at(logic, "comet-1", token)
}

/// A client with this key comes to a comet.
fn log_in(logic: &Logic, at: &str, key: &str) -> Session {
    connect_at(logic, at, &format!(r#"{{"key":"{key}","mid":7}}"#)).unwrap().session
}

fn node(name: &str) -> Node {
    Node {
        comet: comet(name),
        addresses: vec!["192.0.2.1".into()],
        region: "sh".into(),
        zone: "sh001".into(),
        weight: 10,
        offline: false,
        grpc: String::new(),
    }
}

fn renewal(name: &str, incarnation: u64, connections: u64) -> Renewal {
    Renewal {
        node: node(name),
        incarnation: Incarnation(incarnation),
        connections,
        addresses: connections,
        rooms: Vec::new(),
    }
}

/// A comet says how it is; whether it is asked for its sessions.
async fn renew(logic: &Logic, name: &str, incarnation: u64, connections: u64) -> bool {
    logic.renew(renewal(name, incarnation, connections)).await.unwrap().restore
}

fn page(name: &str, incarnation: u64, sessions: &[(&str, u64)], last: bool) -> Restore {
    let session = |&(name, generation): &(&str, u64)| {
        (Session { key: key(name), generation: Generation(generation) }, Some(UserId(7)))
    };
    let sessions = sessions.iter().map(session).collect();
    Restore { comet: comet(name), incarnation: Incarnation(incarnation), sessions, last }
}

async fn place(logic: &Logic, name: &str) -> Place {
    logic.locate(vec![key(name)]).await.unwrap().remove(0)
}

fn at(name: &str) -> Place {
    Place::At(comet(name))
}

/// Notes what it is to deliver.
#[derive(Default)]
struct FakeJob(Mutex<Vec<Destination>>);

impl FakeJob {
    fn of(logic: &Logic) -> Arc<Self> {
        let job = Arc::new(Self::default());
        logic.set_job(job.clone());
        job
    }

    fn pushed(&self) -> Vec<Destination> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Job for FakeJob {
    fn push(&self, push: job::Push) -> Answer<'_, Result<Accepted, PushError>> {
        self.0.lock().unwrap().push(push.to);
        ready(Ok(Accepted { position: Position(5), routed: 1, absent: 2, repeated: false }))
    }

    fn explain(&self, position: Position, subject: Subject) -> Answer<'_, Result<Explanation, Away>> {
        ready(Err(Away(format!("{position} {subject:?}"))))
    }

    fn trace(&self, traces: Traces) -> Answer<'_, Result<Vec<CometName>, Away>> {
        let names = traces.list.iter().map(|trace| comet(&format!("{:?}", trace.of)));
        ready(Ok(names.collect()))
    }
}

fn push_to(to: Audience) -> Push {
    Push { to, op: 1000, body: Bytes::from_static(b"hi"), expires: None, idempotency: None }
}

fn keys(names: &[&str]) -> Audience {
    Audience::Keys(names.iter().map(|name| key(name)).collect())
}

fn routes(routes: &[(&str, &str)], absent: &[&str], users: &[i64]) -> Destination {
    Destination::Keys {
        routes: routes.iter().map(|(name, at)| Route { key: key(name), comet: comet(at) }).collect(),
        absent: absent.iter().map(|name| key(name)).collect(),
        users: users.iter().copied().map(UserId).collect(),
    }
}

#[test]
fn a_client_without_a_key_gets_a_uuid() {
    let logic = logic(|_| {});
    let connected = connect(&logic, r#"{"mid":7,"room_id":"live://1","accepts":[1000,1001]}"#).unwrap();
    assert_eq!(connected.session.key.as_str().len(), 36);
    assert_eq!(connected.user, Some(UserId(7)));
    assert_eq!(connected.room.unwrap().as_str(), "live://1");
    assert_eq!(connected.accepts, [1000, 1001]);
    assert_eq!(connected.idle, Duration::from_secs(480));
    assert_ne!(connect(&logic, "null").unwrap().session.key, connected.session.key);
}

#[tokio::test]
async fn w3_a_late_disconnect_keeps_the_newer_session() {
    for newer in ["comet-1", "comet-2"] {
        let logic = logic(|_| {});
        let old = log_in(&logic, "comet-1", "phone");
        let new = log_in(&logic, newer, "phone");
        logic.disconnect(old).await;
        assert_eq!(logic.online().await, Online { connections: 1, users: 1, addresses: 0 });
        assert_eq!(place(&logic, "phone").await, at(newer));
        logic.disconnect(new).await;
        assert_eq!(logic.online().await, Online::default());
        assert_eq!(place(&logic, "phone").await, Place::Absent);
    }
}

#[test]
fn rooms_that_no_push_could_name_are_for_goims_clients() {
    let logic = logic(|_| {});
    for room in ["live", "live://", "://1"] {
        assert!(connect(&logic, &format!(r#"{{"room_id":"{room}"}}"#)).is_ok());
        let refused = connect(&logic, &format!(r#"{{"room_id":"{room}","proto":"anser/1"}}"#)).unwrap_err();
        assert_eq!(refused, Refused::BadToken("room_id must be type://id, such as live://1".to_owned()));
    }
    assert!(connect(&logic, r#"{"room_id":"live://1","proto":"anser/1"}"#).is_ok());
}

#[test]
fn long_names_are_refused() {
    let logic = Logic::new(Config { key: 4, ..Config::default() }, 8, Authenticator::open());
    assert!(matches!(connect(&logic, r#"{"key":"12345"}"#), Err(Refused::TooLong(_))));
    assert!(matches!(connect(&logic, r#"{"room_id":"123456789"}"#), Err(Refused::TooLong(_))));
    assert!(connect(&logic, r#"{"key":"1234","room_id":"12345678"}"#).is_ok());
}

#[tokio::test]
async fn pushes_find_their_way() {
    let logic = logic(|config| config.push_connections = 3);
    let answer = logic.push(push_to(keys(&["a"]))).await;
    assert_eq!(answer, Err(PushError::Draining), "there is no job yet");
    let job = FakeJob::of(&logic);
    for (at, token) in [
        ("comet-1", r#"{"mid":7,"key":"a"}"#),
        ("comet-2", r#"{"mid":7,"key":"b"}"#),
        ("comet-2", r#"{"mid":8,"key":"c"}"#),
    ] {
        connect_at(&logic, at, token).unwrap();
    }
    let users = |mids: &[i64]| Audience::Users(mids.iter().copied().map(UserId).collect());
    for (to, expected, absent) in [
        (
            keys(&["c", "x", "a", "c", "y", "x"]),
            routes(&[("c", "comet-2"), ("a", "comet-1")], &["x", "y"], &[]),
            2,
        ),
        (keys(&["x"]), routes(&[], &["x"], &[]), 2),
        (
            users(&[8, 7, 8, 9, 7, 7]),
            routes(&[("b", "comet-2"), ("a", "comet-1"), ("c", "comet-2")], &[], &[7, 8, 9]),
            3,
        ),
        (users(&[9, 10]), routes(&[], &[], &[9, 10]), 4),
        (users(&[]), routes(&[], &[], &[]), 2),
        (Audience::Room(room("live://1")), Destination::Room(room("live://1")), 2),
        (Audience::All { speed: 5 }, Destination::All { speed: 5 }, 2),
    ] {
        let accepted = logic.push(push_to(to)).await.unwrap();
        assert_eq!(accepted, Accepted { position: Position(5), routed: 1, absent, repeated: false });
        assert_eq!(job.pushed(), [expected]);
    }
    connect(&logic, r#"{"mid":8,"key":"d"}"#).unwrap();
    assert_eq!(logic.push(push_to(users(&[8, 7]))).await, Err(PushError::TooMany { max: 3 }));
    assert!(logic.push(push_to(users(&[7]))).await.is_ok());
}

/// A comet that logic does not know is asked for its sessions; what connects meanwhile is kept.
#[tokio::test]
async fn a_restore_races_with_connects_and_closes() {
    let logic = logic(|_| {});
    // It comes before the comet's first word, and is not taken for a session of another life.
    log_in(&logic, "comet-1", "early");
    assert!(renew(&logic, "comet-1", 1, 5).await);
    let moved = log_in(&logic, "comet-2", "moved").generation.0;
    let again = log_in(&logic, "comet-1", "again").generation.0;
    let gone = Session { key: key("gone"), generation: Generation(50) };
    logic.disconnect(gone.clone()).await;
    let first = page("comet-1", 1, &[("old", 10), ("moved", 11), ("again", 12), ("gone", 50)], false);
    logic.restore(first).await.unwrap();
    assert!(renew(&logic, "comet-1", 1, 5).await, "as long as it has not told the last");
    let future = again + 1_000_000;
    logic.restore(page("comet-1", 1, &[("future", future), ("old", 9)], true)).await.unwrap();
    for (name, expected) in [
        ("early", at("comet-1")),
        ("old", at("comet-1")),
        ("moved", at("comet-2")),
        ("again", at("comet-1")),
        ("future", at("comet-1")),
        ("gone", Place::Absent),
    ] {
        assert_eq!(place(&logic, name).await, expected, "{name}");
    }
    // Those that were told have the generations that they had, and users.
    let close = |name: &str, generation| Session { key: key(name), generation: Generation(generation) };
    for (name, stale, last) in [("moved", 11, moved), ("again", 12, again), ("old", 9, 10)] {
        logic.disconnect(close(name, stale)).await;
        assert_ne!(place(&logic, name).await, Place::Absent, "{name}");
        logic.disconnect(close(name, last)).await;
        assert_eq!(place(&logic, name).await, Place::Absent, "{name}");
    }
    assert_eq!(logic.online().await, Online { connections: 2, users: 1, addresses: 5 });
    // Whoever connects now is later than everyone who was told.
    assert!(log_in(&logic, "comet-2", "future").generation.0 > future);
    assert!(!renew(&logic, "comet-1", 1, 5).await);
    // A key that was told over has been forgotten: it may come again.
    assert!(renew(&logic, "comet-3", 1, 1).await);
    logic.restore(page("comet-3", 1, &[("gone", 50)], true)).await.unwrap();
    assert_eq!(place(&logic, "gone").await, at("comet-3"));
}

#[tokio::test]
async fn only_the_comet_that_was_asked_may_restore() {
    let logic = logic(|_| {});
    assert!(logic.restore(page("comet-1", 1, &[("a", 1)], true)).await.is_err(), "it has not renewed");
    assert!(!renew(&logic, "comet-1", 1, 0).await, "it has nothing to tell");
    assert!(logic.restore(page("comet-1", 2, &[("a", 1)], true)).await.is_err(), "another life of it");
    assert_eq!(place(&logic, "a").await, Place::Absent);
}

/// What was connected to a former life of a comet is over at once, also when the new one has nobody yet.
#[tokio::test]
async fn a_new_life_ends_the_former() {
    for (connections, asked) in [(0, false), (3, true)] {
        let logic = logic(|_| {});
        assert!(!renew(&logic, "comet-1", 1, 0).await);
        for n in 0..1000 {
            log_in(&logic, "comet-1", &format!("key-{n}"));
        }
        log_in(&logic, "comet-2", "other");
        assert_eq!(renew(&logic, "comet-1", 2, connections).await, asked);
        assert_eq!(place(&logic, "key-0").await, Place::Absent);
        assert_eq!(place(&logic, "key-999").await, Place::Absent);
        assert_eq!(logic.online().await, Online { connections: 1, users: 1, addresses: connections });
        assert_eq!(logic.shared.counts.dropped.load(Ordering::Relaxed), 1000);
        log_in(&logic, "comet-1", "key-0");
        assert_eq!(place(&logic, "key-0").await, at("comet-1"));
    }
}

/// goim's W20: a comet that has crashed leaves its users' routes behind for half an hour.
#[tokio::test(start_paused = true)]
async fn w20_a_silent_comet_is_taken_for_dead() {
    let logic = logic(|config| config.comet_silence = Span::secs(10));
    for name in ["comet-1", "comet-2"] {
        let rooms = vec![(room("live://1"), 1)];
        logic.renew(Renewal { rooms, ..renewal(name, 1, 0) }).await.unwrap();
        log_in(&logic, name, name);
    }
    advance(Duration::from_secs(6)).await;
    assert!(!renew(&logic, "comet-2", 1, 4).await);
    logic.renew(Renewal { rooms: vec![(room("live://1"), 4)], ..renewal("comet-2", 1, 4) }).await.unwrap();
    advance(Duration::from_millis(3999)).await;
    assert_eq!(place(&logic, "comet-1").await, at("comet-1"), "one word in ten seconds is enough");
    advance(Duration::from_millis(1)).await;
    assert_eq!(place(&logic, "comet-1").await, Place::Absent);
    assert_eq!(place(&logic, "comet-2").await, at("comet-2"));
    assert_eq!(logic.members(vec![room("live://1")]).await, [4]);
    assert_eq!(logic.online().await, Online { connections: 1, users: 1, addresses: 4 });
    assert_eq!(logic.nodes().await.len(), 1);
    assert_eq!(logic.shared.counts.dropped.load(Ordering::Relaxed), 1);
    // It was not dead after all.
    assert!(renew(&logic, "comet-1", 1, 1).await);
    logic.restore(page("comet-1", 1, &[("comet-1", 3)], true)).await.unwrap();
    assert_eq!(place(&logic, "comet-1").await, at("comet-1"));
    // Clients are a sign of life, too.
    advance(Duration::from_secs(9)).await;
    log_in(&logic, "comet-1", "other");
    advance(Duration::from_secs(9)).await;
    assert_eq!(place(&logic, "comet-1").await, at("comet-1"));
}

/// Until those that are expected have told their sessions, a key that is not there may be anywhere.
#[tokio::test(start_paused = true)]
async fn absent_keys_are_unknown_until_all_have_told() {
    let logic = logic(|_| {});
    let job = FakeJob::of(&logic);
    assert_eq!(place(&logic, "a").await, Place::Absent, "nobody is expected");
    logic.expect(vec![comet("comet-1"), comet("comet-2")]);
    log_in(&logic, "comet-3", "there");
    assert_eq!(place(&logic, "there").await, at("comet-3"));
    assert_eq!(place(&logic, "a").await, Place::Unknown);

    let told = async {
        assert!(!renew(&logic, "comet-1", 1, 0).await);
        assert_eq!(place(&logic, "a").await, Place::Unknown, "comet-2 has said nothing");
        assert!(renew(&logic, "comet-2", 1, 2).await);
        logic.restore(page("comet-2", 1, &[("b", 1)], false)).await.unwrap();
        assert_eq!(place(&logic, "a").await, Place::Unknown, "comet-2 has more to tell");
        logic.push(push_to(Audience::All { speed: 0 })).await.unwrap();
        assert_eq!(job.pushed(), [Destination::All { speed: 0 }], "this push waits for nobody");
        logic.restore(page("comet-2", 1, &[("a", 1)], true)).await.unwrap();
    };
    let (pushed, ()) = tokio::join!(logic.push(push_to(keys(&["b", "a", "c"]))), told);
    pushed.unwrap();
    assert_eq!(job.pushed(), [routes(&[("b", "comet-2"), ("a", "comet-2")], &["c"], &[])]);
    assert_eq!(logic.shared.started.elapsed(), Duration::ZERO, "nobody waited for a clock");
    assert_eq!(place(&logic, "c").await, Place::Absent);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let logic = logic(|config| config.settle = Span::secs(3));
    let job = FakeJob::of(&logic);
    logic.expect(vec![comet("comet-1")]);
    for to in [keys(&["a"]), Audience::Users(vec![UserId(1)])] {
        logic.push(push_to(to)).await.unwrap();
        assert_eq!(logic.shared.started.elapsed().as_secs(), 3, "after the start, and not once more");
    }
    assert_eq!(job.pushed(), [routes(&[], &["a"], &[]), routes(&[], &[], &[1])]);
    assert_eq!(place(&logic, "a").await, Place::Unknown, "it may still come");
    advance(Duration::from_secs(57)).await;
    assert_eq!(place(&logic, "a").await, Place::Absent, "it is taken for dead");
}

#[tokio::test]
async fn rooms_are_those_that_comets_named_last() {
    let logic = logic(|_| {});
    let say = async |name: &str, incarnation, rooms: &[(&str, u32)]| {
        let rooms = rooms.iter().map(|(name, members)| (room(name), *members)).collect();
        logic.renew(Renewal { rooms, ..renewal(name, incarnation, 0) }).await.unwrap().elsewhere
    };
    assert_eq!(say("comet-1", 1, &[("live://1", 3), ("live://2", 1)]).await, []);
    assert_eq!(say("comet-2", 1, &[("live://1", 4), ("chat://1", 9)]).await, [(room("live://1"), 3)]);
    assert_eq!(say("comet-1", 1, &[("live://1", 2)]).await, [(room("live://1"), 4)]);
    let members = logic.members(["live://1", "live://2", "chat://1"].map(room).into()).await;
    assert_eq!(members, [6, 0, 9]);
    let largest = logic.largest_rooms("li".into(), 9).await;
    assert_eq!(largest, [(room("live://1"), 6)]);
    // What a former life said is forgotten with it.
    assert_eq!(say("comet-2", 2, &[]).await, []);
    assert_eq!(logic.members(vec![room("live://1"), room("chat://1")]).await, [2, 0]);
}

#[tokio::test]
async fn the_balancer_counts_whom_it_sends() {
    let logic = logic(|_| {});
    log_in(&logic, "comet-0", "not renewed");
    assert!(logic.best_nodes().await.is_empty());
    for (name, connections) in [("comet-1", 12), ("comet-2", 8)] {
        renew(&logic, name, 1, connections).await;
    }
    let offline = Node { offline: true, ..node("comet-3") };
    logic.renew(Renewal { node: offline, ..renewal("comet-3", 1, 0) }).await.unwrap();
    let first = async || logic.best_nodes().await[0].comet.to_string();
    for _ in 0..3 {
        assert_eq!(first().await, "comet-2");
    }
    assert_eq!(logic.best_nodes().await.len(), 2);
    // With equal weights the emptier one wins, so both come to have as many, up to half a connection.
    let mut sent = 4;
    while first().await == "comet-2" {
        sent += 1;
    }
    assert!((4..=6).contains(&sent), "{sent} were sent to the emptier one");
    // What a comet says counts, and not what it was sent before.
    renew(&logic, "comet-1", 1, 12).await;
    renew(&logic, "comet-2", 1, 8).await;
    assert_eq!(first().await, "comet-2");
    let nodes: Vec<NodeState> = logic.nodes().await;
    let said: Vec<_> = nodes.iter().map(|state| (state.node.comet.as_str(), state.connections)).collect();
    assert_eq!(said, [("comet-1", 12), ("comet-2", 8), ("comet-3", 0)]);
    assert!(nodes.iter().all(|state| state.since > 1_700_000_000_000_000_000));
}

/// Every row of the table is there, and counts.
#[tokio::test]
async fn metrics_are_exported() {
    let logic = logic(|_| {});
    let mut registry = Registry::default();
    logic.register(&mut registry);
    let session = log_in(&logic, "comet-1", "a");
    let body = Bytes::from_static(b"12345");
    logic.receive(Received { session, user: None, op: 1000, seq: 1, body }).await;
    renew(&logic, "comet-2", 1, 0).await;
    log_in(&logic, "comet-2", "b");
    renew(&logic, "comet-2", 2, 0).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "sessions 1",
        "users 1",
        "comets 2",
        "sessions_dropped_total 1",
        "received_total 1",
        "received_bytes_total 5",
    ] {
        assert!(text.contains(&format!("\nanser_logic_{line}\n")), "{line} in\n{text}");
    }
    for metric in METRICS {
        assert!(text.contains(&format!("# HELP anser_logic_{} {}", metric.name, metric.help)), "{text}");
    }
}

#[tokio::test]
async fn a_key_of_another_user_is_not_taken() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, [b'x'; 32]).unwrap();
    let config = Config { auth: Auth::Jwt, jwt_secret_file: secret.path().into(), ..Config::default() };
    let auth = Authenticator::new(&config, &tokio::runtime::Handle::current()).unwrap();
    let logic = Logic::new(config, 256, auth);
    let token = |claims: &str| auth::tests::hs256(&[b'x'; 32], claims);
    let choosing = |user: i64| {
        let claims = format!(r#"{{"sub":{user},"exp":99999999999}}"#);
        connect(&logic, &format!(r#"{{"token":"{}","key":"phone"}}"#, token(&claims)))
    };
    let old = choosing(7).unwrap().session;
    let taken = "bad token: another user has this key at the moment: choose another one";
    assert_eq!(choosing(8).unwrap_err().to_string(), taken);
    let new = choosing(7).unwrap().session;
    assert_ne!(old.generation, new.generation);
    // Whoever made the token may give the key to somebody else.
    connect(&logic, &token(r#"{"sub":8,"key":"phone","exp":99999999999}"#)).unwrap();
    assert_eq!(choosing(7).unwrap_err().to_string(), taken);
    assert_eq!(logic.online().await.connections, 1);
}

#[tokio::test]
async fn operators_ask_the_job() {
    let logic = logic(|_| {});
    let away = logic.explain(Position(5), Subject::Key(key("a"))).await.unwrap_err();
    assert_eq!(away.0, "there is no job yet");
    let _job = FakeJob::of(&logic);
    log_in(&logic, "comet-1", "a");
    let asked = |subject| {
        let logic = &logic;
        async move { logic.explain(Position(5), subject).await.unwrap_err().0 }
    };
    assert_eq!(asked(Subject::Key(key("b"))).await, format!("5 {:?}", Subject::Key(key("b"))));
    // The keys of a user are those of now, whatever was asked.
    let user = UserId(7);
    let with_keys = Subject::User { user, keys: vec![key("a")] };
    assert_eq!(asked(Subject::User { user, keys: vec![key("x")] }).await, format!("5 {with_keys:?}"));
}

/// The job hears of a trace at once, and comets with their next word.
#[tokio::test]
async fn traces_are_told() {
    let logic = logic(|_| {});
    let until = SystemTime::now() + Duration::from_secs(60);
    let (of, first) = (Traced::Key(key("a")), logic.renew(renewal("comet-1", 1, 0)).await.unwrap());
    assert_eq!(first.traces, Traces::default());
    let tracing = logic.trace(of.clone(), until).await.unwrap();
    assert_eq!(tracing.away.unwrap().0, "there is no job yet");
    let _job = FakeJob::of(&logic);
    let tracing = logic.trace(Traced::User(UserId(7)), until).await.unwrap();
    assert_eq!((tracing.list.len(), tracing.missing.len(), tracing.away), (2, 2, None));
    let told = logic.renew(renewal("comet-1", 1, 0)).await.unwrap().traces;
    assert!(told.revision > 0 && told.list == tracing.list);
    logic.trace(of, SystemTime::now()).await.unwrap();
    let later = logic.renew(renewal("comet-1", 1, 0)).await.unwrap().traces;
    assert!(later.revision > told.revision && later.list.len() == 1);
}
