//! The stand-ins: what a role is asked and answers is the same on both sides, and what becomes of calls
//! when the other side is not there.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use anser_api::Answer;
use anser_api::comet::{
    Away, Batch, Comet as _, Flow, Form, Inquiry, Note, OnOverflow, Outcome, Parcel, Present, Push,
    PushError, Report, Taken, Target, Testimony, Unwritten, Welcome,
};
use anser_api::grpc::client::{
    DEADLINE, Link, RemoteComet, RemoteDirectory, RemoteJob, RemoteLogic, RemotePushApi,
};
use anser_api::grpc::{Limits, Secret};
use anser_api::id::{CometName, Generation, Incarnation, Key, LogId, Position, Room, Session, UserId};
use anser_api::job::{
    self, Accepted, Account, Addressed, Destination, Ended, Explanation, Idempotency, Job as _, Progress,
    Route, Share, Subject,
};
use anser_api::logic::{
    self, Audience, Connect, Connected, Directory as _, Logic as _, Node, NodeState, Online, Place,
    PushApi as _, Received, Refused, Renewal, Renewed, Restore,
};
use anser_api::trace::{Trace, Traced, Traces};

use super::fixture::{PATIENCE, Port, becomes, body, key, room, secret};

fn session() -> Session {
    Session { key: key("k"), generation: Generation(3) }
}

fn comet(name: &str) -> CometName {
    CometName::parse(name, 64).unwrap()
}

fn push() -> Push {
    Push {
        target: Target::Keys(vec![key("a"), key("b")]),
        op: -5,
        form: Form::Packet { ver: -1, op: 2, seq: 3 },
        body: body("hi"),
        on_overflow: OnOverflow::Pull,
        expires: Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789)),
    }
}

fn errors() -> Vec<PushError> {
    vec![
        PushError::Exhausted { retry_after: Duration::from_micros(1234) },
        PushError::TooLarge { len: 10, max: 9 },
        PushError::TooMany { max: 100 },
        PushError::Draining,
        PushError::Unavailable { what: "the disk".into(), retry_after: Duration::from_secs(1) },
        PushError::Conflict,
    ]
}

fn node() -> Node {
    Node {
        comet: comet("comet-1"),
        addresses: vec!["1.1.1.1".into()],
        region: "sh".into(),
        zone: "sh001".into(),
        weight: 10,
        offline: true,
        grpc: "grpc://1.1.1.1:3109".into(),
    }
}

impl Port {
    /// A call gets there with its request, and its answer gets back.
    #[track_caller]
    fn passes<'a, T: Clone + Debug + PartialEq + Send + 'static>(
        &'a self,
        answer: T,
        asked: impl Debug + 'a,
        call: impl FnOnce() -> Answer<'a, T>,
    ) -> impl Future<Output = ()> + 'a {
        self.fake.answers(answer.clone());
        let call = call();
        async move {
            assert_eq!(call.await, answer);
            assert_eq!(self.fake.asked(), [format!("{asked:?}")]);
        }
    }
}

#[tokio::test]
async fn a_comet() {
    let port = Port::start().await;
    let remote = RemoteComet::new(port.link(DEADLINE));
    let done = errors().into_iter().map(Err).chain([Ok(())]);
    for answer in done.clone() {
        port.passes(answer, push(), || remote.push(push())).await;
    }
    for answer in done {
        port.passes(answer, (session(), Flow::Held), || remote.switch(session(), Flow::Held)).await;
    }
    let away: Away = Away("gone".into());
    let log = LogId(u64::MAX);
    let seen = Some(Position(7));
    let welcome = Welcome { incarnation: Incarnation(1 << 63), seen, missing: vec![Position(3)] };
    for answer in [Ok(welcome), Err(away.clone())] {
        port.passes(answer, log, || remote.open_lane(log)).await;
    }
    let parcels = vec![Parcel { position: Position(8), late: true, push: push() }];
    let batch = Batch { log, done: Position(2), held: vec![Position(1)], parcels };
    let outcomes = vec![
        Outcome::Queued,
        Outcome::Absent,
        Outcome::Refused(PushError::TooLarge { len: 2, max: 1 }),
        Outcome::Full { retry_after: Duration::from_millis(5) },
    ];
    for answer in [Ok(Taken { outcomes, count: 9 }), Err(away.clone())] {
        port.passes(answer, batch.clone(), || remote.take(batch.clone())).await;
    }
    let report = Report {
        number: 1,
        count: 2,
        open: vec![Position(3), Position(4)],
        end: Some(Position(9)),
        absent: vec![(Position(5), key("k"))],
    };
    for answer in [Ok(report), Ok(Report::default()), Err(away)] {
        port.passes(answer, (log, 5), || remote.report(log, 5)).await;
    }
    port.stop().await;
}

fn testimony() -> Testimony {
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    let notes = vec![
        Note { key: Some(key("a")), why: Unwritten::Overflow, at },
        Note { key: None, why: Unwritten::Expired, at },
    ];
    let present = vec![Present { key: key("a"), takes: true, member: false, waits: true }];
    Testimony { notes, more: true, since: Some(at), present }
}

fn traces() -> Traces {
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let list = vec![
        Trace { of: Traced::Key(key("a")), until },
        Trace { of: Traced::User(UserId(7)), until: until + Duration::from_nanos(1) },
    ];
    Traces { revision: u64::MAX, list }
}

#[tokio::test]
async fn what_became_of_a_push() {
    let port = Port::start().await;
    let (edge, job) = (RemoteComet::new(port.link(DEADLINE)), RemoteJob::new(port.link(DEADLINE)));
    let away = Away("gone".into());
    let keys = vec![key("a"), key("b")];
    let (log, position) = (LogId(u64::MAX), Position(8));
    for (room, keys) in [(Some(room("live://1")), vec![]), (None, keys.clone())] {
        let inquiry = Inquiry { log, position, op: -5, room, keys };
        for answer in [Ok(testimony()), Err(away.clone())] {
            port.passes(answer, inquiry.clone(), || edge.explain(inquiry.clone())).await;
        }
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let ended = Progress::Ended { why: Ended::NotBack, at };
    let share = |progress, said| Share {
        key: Some(key("a")),
        comet: comet("comet-1"),
        progress,
        followed: true,
        resent: true,
        said,
    };
    let account = Account {
        accepted: at,
        op: 1000,
        bytes: 3,
        expires: Some(at),
        to: Addressed::Users { users: 2, connected: 3 },
        named: true,
        absent: vec![key("b")],
        shares: vec![share(ended, Ok(testimony())), share(Progress::Parked { until: at }, Err(away.clone()))],
        more: 9,
        since: at,
        now: vec![(key("a"), Place::At(comet("comet-2"))), (key("b"), Place::Unknown)],
    };
    for subject in
        [Subject::Key(key("a")), Subject::User { user: UserId(7), keys }, Subject::Room(room("live://1"))]
    {
        for answer in [
            Ok(Explanation::NotGiven { next: Position(9) }),
            Ok(Explanation::NotKept { first: Some(Position(3)) }),
            Ok(Explanation::Kept(Box::new(account.clone()))),
            Err(away.clone()),
        ] {
            let asked = (position, subject.clone());
            port.passes(answer, asked, || job.explain(position, subject.clone())).await;
        }
    }
    port.stop().await;
}

#[tokio::test]
async fn who_is_traced() {
    let port = Port::start().await;
    let (edge, job) = (RemoteComet::new(port.link(DEADLINE)), RemoteJob::new(port.link(DEADLINE)));
    for traces in [traces(), Traces::default()] {
        for answer in [Ok(()), Err(Away("gone".into()))] {
            port.passes(answer, traces.clone(), || edge.trace(traces.clone())).await;
        }
        for answer in [Ok(vec![comet("comet-2")]), Err(Away("gone".into()))] {
            port.passes(answer, traces.clone(), || job.trace(traces.clone())).await;
        }
    }
    port.stop().await;
}

#[tokio::test]
async fn a_logic() {
    let port = Port::start().await;
    let remote = RemoteLogic::new(port.link(DEADLINE));
    let connected = Connected {
        session: session(),
        user: Some(UserId(7)),
        room: Some(room("live://1")),
        accepts: vec![1000, -1],
        idle: Duration::from_secs(480),
        anser: true,
        tell_dropped: true,
    };
    let answers = [
        Ok(connected),
        Err(Refused::BadToken("no JSON".into())),
        Err(Refused::TooLong(Key::parse("long", 1).unwrap_err())),
        Err(Refused::Unavailable("the hook".into())),
    ];
    for answer in answers {
        for remote_address in ["1.2.3.4", "2001:db8::1"] {
            let connect = Connect {
                comet: comet("comet-1"),
                token: body("token"),
                cookie: Some("a=b".into()),
                remote: remote_address.parse().unwrap(),
            };
            port.passes(answer.clone(), connect.clone(), || remote.connect(connect)).await;
        }
    }
    port.passes((), session(), || remote.disconnect(session())).await;
    let packet = Received { session: session(), user: None, op: 1000, seq: 5, body: body("said") };
    port.passes((), packet.clone(), || remote.receive(packet)).await;
    let renewal = Renewal {
        node: node(),
        incarnation: Incarnation(9),
        connections: 10,
        addresses: 11,
        rooms: vec![(room("live://1"), 12)],
    };
    let elsewhere = vec![(room("live://1"), 13)];
    let renewed = Renewed { restore: true, elsewhere, traces: traces() };
    for answer in [Ok(renewed), Ok(Renewed::default()), Err(Away("gone".into()))] {
        port.passes(answer, renewal.clone(), || remote.renew(renewal.clone())).await;
    }
    let sessions = vec![(session(), Some(UserId(7))), (session(), None)];
    let restore = Restore { comet: comet("comet-1"), incarnation: Incarnation(9), sessions, last: true };
    for answer in [Ok(()), Err(Away("gone".into()))] {
        port.passes(answer, restore.clone(), || remote.restore(restore.clone())).await;
    }
    port.stop().await;
}

#[tokio::test]
async fn a_directory() {
    let port = Port::start().await;
    let remote = RemoteDirectory::new(port.link(DEADLINE));
    let keys = vec![key("a"), key("b"), key("c")];
    let places = vec![Place::At(comet("comet-1")), Place::Absent, Place::Unknown];
    for answer in [Ok(places), Err(Away("gone".into()))] {
        port.passes(answer, keys.clone(), || remote.locate(keys.clone())).await;
    }
    port.passes(Online { connections: 3, users: 2, addresses: 1 }, "online", || remote.online()).await;
    let rooms = vec![(room("live://1"), 7), (room("live://2"), 0)];
    let names: Vec<Room> = rooms.iter().map(|(room, _)| room.clone()).collect();
    port.passes(rooms, ("live", 5_usize), || remote.largest_rooms("live".into(), 5)).await;
    port.passes(vec![7, 0], names.clone(), || remote.members(names)).await;
    let state = NodeState { node: node(), connections: 1, addresses: 2, since: u64::MAX };
    port.passes(vec![state], "nodes", || remote.nodes()).await;
    port.passes(vec![node(), node()], "best nodes", || remote.best_nodes()).await;

    // Answers that do not fit the question.
    port.fake.answers::<Result<Vec<Place>, Away>>(Ok(vec![]));
    let Away(why) = remote.locate(vec![key("a")]).await.unwrap_err();
    assert!(why.contains("0 places for 1 keys"), "{why}");
    port.fake.answers(vec![1_u32, 2, 3]);
    assert_eq!(remote.members(vec![room("x")]).await, [1]);
    port.stop().await;
}

#[tokio::test]
async fn pushes_that_are_logged() {
    let port = Port::start().await;
    let (api, remote) = (RemotePushApi::new(port.link(DEADLINE)), RemoteJob::new(port.link(DEADLINE)));
    let accepted = Accepted { position: Position(1), routed: 2, absent: 3, repeated: true };
    let answers: Vec<Result<Accepted, PushError>> =
        errors().into_iter().map(Err).chain([Ok(accepted)]).collect();
    let idempotency = Some(Idempotency { key: "once".into(), digest: [7; 32] });
    let (op, body, expires) = (1000, body("hi"), push().expires);
    let to = [
        Audience::Keys(vec![key("a")]),
        Audience::Users(vec![UserId(1), UserId(2)]),
        Audience::Room(room("live://1")),
        Audience::All { speed: 9 },
    ];
    for to in to {
        for answer in &answers {
            let (to, body, idempotency) = (to.clone(), body.clone(), idempotency.clone());
            let push = logic::Push { to, op, body, expires, idempotency };
            port.passes(answer.clone(), push.clone(), || api.push(push)).await;
        }
    }
    let to = [
        Destination::Keys {
            routes: vec![Route { key: key("a"), comet: comet("comet-1") }],
            absent: vec![key("b")],
            users: vec![UserId(1)],
        },
        Destination::Room(room("live://1")),
        Destination::All { speed: 9 },
    ];
    for to in to {
        for answer in &answers {
            let push = job::Push { to: to.clone(), op, body: body.clone(), expires: None, idempotency: None };
            port.passes(answer.clone(), push.clone(), || remote.push(push)).await;
        }
    }
    port.stop().await;
}

/// A link to an address where nobody is.
async fn nobody() -> (Link, SocketAddr) {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let runtime = tokio::runtime::Handle::current();
    (Link::new(&format!("grpc://{address}"), &secret(), DEADLINE, runtime).unwrap(), address)
}

#[tokio::test]
async fn a_role_that_cannot_be_reached_is_away() {
    let (link, address) = nobody().await;
    let began = Instant::now();
    let check = |why: &str| {
        assert!(why.starts_with(&format!("grpc://{address}: cannot be reached: ")), "{why}");
        assert!(why.contains("refused"), "{why}");
    };
    // The second fails as well while it is not tried again, and says the same.
    for _ in 0..2 {
        let Away(why) = RemoteComet::new(link.clone()).open_lane(LogId(1)).await.unwrap_err();
        check(&why);
    }
    let error = RemoteComet::new(link.clone()).push(push()).await.unwrap_err();
    let PushError::Unavailable { what, retry_after } = error else { panic!("{error}") };
    check(&what);
    assert_eq!(retry_after, Duration::from_secs(1));
    let logic = RemoteLogic::new(link.clone());
    let connect = Connect { comet: comet("c"), token: body(""), cookie: None, remote: [127, 0, 0, 1].into() };
    let refused = logic.connect(connect).await.unwrap_err();
    let Refused::Unavailable(why) = refused else { panic!("{refused}") };
    check(&why);
    logic.disconnect(session()).await;
    let directory = RemoteDirectory::new(link);
    assert_eq!(directory.online().await, Online::default());
    assert_eq!(directory.members(vec![room("a"), room("b")]).await, [0, 0]);
    assert_eq!(directory.best_nodes().await, []);
    assert!(began.elapsed() < DEADLINE, "none of it waits");
}

#[tokio::test]
async fn a_role_that_hangs_is_away() {
    let port = Port::start().await;
    port.fake.hangs(true);
    let deadline = Duration::from_millis(300);
    let remote = RemoteComet::new(port.link(deadline));
    let began = Instant::now();
    let Away(why) = remote.open_lane(LogId(1)).await.unwrap_err();
    assert!(began.elapsed() >= deadline && began.elapsed() < PATIENCE);
    assert_eq!(why, format!("grpc://{} did not answer within 300ms", port.address));
    // One that answers again is there again.
    port.fake.hangs(false);
    port.fake.answers::<Result<(), PushError>>(Ok(()));
    remote.push(push()).await.unwrap();
    port.stop().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_away() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("grpc://{}", silent.local_addr().unwrap());
    let runtime = tokio::runtime::Handle::current();
    let link = Link::new(&address, &secret(), Duration::from_millis(200), runtime).unwrap();
    let Away(why) = RemoteComet::new(link).open_lane(LogId(1)).await.unwrap_err();
    assert_eq!(why, format!("{address} did not answer within 200ms"));
}

#[tokio::test]
async fn a_role_that_comes_back_is_found() {
    let port = Port::start().await;
    let address = port.address;
    let remote = RemoteComet::new(port.link(DEADLINE));
    port.fake.answers::<Result<(), PushError>>(Ok(()));
    remote.push(push()).await.unwrap();
    port.stop().await;
    becomes_away(&remote).await;
    let port = Port::with(address, false, Limits::default()).await;
    let back = Instant::now();
    port.fake.answers::<Result<(), PushError>>(Ok(()));
    let until = Instant::now() + PATIENCE;
    while remote.push(push()).await.is_err() {
        assert!(Instant::now() < until, "it is found again");
        tokio::task::yield_now().await;
    }
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    port.stop().await;
}

async fn becomes_away(remote: &RemoteComet) {
    let Err(PushError::Unavailable { what, .. }) = remote.push(push()).await else { panic!("it is gone") };
    assert!(what.contains("cannot be reached"), "{what}");
}

#[tokio::test]
async fn a_wrong_secret_is_said() {
    let port = Port::start().await;
    let other = Secret::parse("another-secret-of-the-kind").unwrap();
    let runtime = tokio::runtime::Handle::current();
    let link = Link::new(&format!("grpc://{}", port.address), &other, DEADLINE, runtime).unwrap();
    let Away(why) = RemoteComet::new(link).open_lane(LogId(1)).await.unwrap_err();
    assert!(why.contains("the secret of the cluster is wrong"), "{why}");
    port.stop().await;
}

/// A worker of the edge has no runtime, and polls once.
#[test]
fn answers_can_be_polled_anywhere() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let port = runtime.block_on(Port::start());
    let link = runtime.block_on(async { port.link(DEADLINE) });
    port.fake.answers(());
    let mut answer = RemoteLogic::new(link).disconnect(session());
    let polled = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Pending);
    runtime.block_on(answer);
    assert_eq!(port.fake.asked(), [format!("{:?}", session())]);
    runtime.block_on(port.stop());
}

/// What logic was not told of it is told behind the next renewal, once.
#[tokio::test]
async fn ends_that_were_lost_are_told_again() {
    let port = Port::start().await;
    let remote = RemoteLogic::new(port.link(Duration::from_millis(300)));
    let renewal =
        || Renewal { node: node(), incarnation: Incarnation(1), connections: 0, addresses: 0, rooms: vec![] };
    let ended = |generation| Session { key: key("k"), generation: Generation(generation) };
    port.fake.hangs(true);
    tokio::join!(remote.disconnect(ended(1)), remote.disconnect(ended(2)));
    port.fake.asked();
    remote.renew(renewal()).await.unwrap_err();
    port.fake.hangs(false);
    port.fake.asked();
    port.fake.answers::<Result<Renewed, Away>>(Ok(Renewed::default()));
    port.fake.answers(());
    port.fake.answers(());
    remote.renew(renewal()).await.unwrap();
    let mut told = Vec::new();
    becomes("both are told", || {
        told.extend(port.fake.asked());
        told.len() == 3
    })
    .await;
    told[1..].sort_unstable();
    assert_eq!(told, [format!("{:?}", renewal()), format!("{:?}", ended(1)), format!("{:?}", ended(2))]);
    port.passes(Ok(Renewed::default()), renewal(), || remote.renew(renewal())).await;
    port.stop().await;
}

/// Whoever does not wait any more is not worked for.
#[tokio::test]
async fn an_answer_that_is_dropped_is_given_up() {
    let port = Port::start().await;
    port.fake.hangs(true);
    let remote = RemoteComet::new(port.link(3 * PATIENCE));
    {
        let mut answer = remote.open_lane(LogId(1));
        let asked = || !port.fake.asked().is_empty();
        tokio::select! {
            _ = &mut answer => panic!("it hangs"),
            () = becomes("it is asked", asked) => {}
        }
    }
    // The end has no call to wait for.
    let began = Instant::now();
    port.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
