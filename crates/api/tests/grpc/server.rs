//! Who may call, and how much.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anser_api::comet::PushError;
use anser_api::grpc::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Endpoint;

use super::fixture::{PATIENCE, Port, SECRET, becomes, bytes, number, proto, raw, silent};

const OURS: &[&str] = &[
    "/anser.comet.v1.Comet/Switch",
    "/anser.logic.v1.Logic/Disconnect",
    "/anser.logic.v1.Directory/Online",
    "/anser.logic.v1.PushApi/Push",
    "/anser.job.v1.Job/Push",
];

const GOIMS: &[&str] = &["/goim.comet.Comet/Ping", "/goim.logic.Logic/Ping"];

async fn with_limits(limits: Limits) -> Port {
    Port::with("127.0.0.1:0".parse().unwrap(), false, limits).await
}

#[tokio::test]
async fn nobody_calls_without_the_secret() {
    let wrong =
        [None, Some(""), Some("Bearer a-secret-of-24-characterS"), Some("Bearer a-secret"), Some(SECRET)];
    let port = Port::start().await;
    let mut refused = 0;
    for path in OURS.iter().chain(GOIMS) {
        for authorization in wrong {
            let status = raw(port.channel().await, path, vec![], authorization, None).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{path} with {authorization:?}");
            let what = if authorization.is_some() { "wrong" } else { "missing" };
            assert!(status.message().contains(what), "{status}");
            assert!(!status.message().contains(SECRET));
            refused += 1;
            assert_eq!(port.counters.unauthenticated.load(Ordering::Relaxed), refused);
        }
    }
    assert_eq!(port.fake.asked(), [""; 0]);
    // With it, they are read: empty messages are none of theirs, but for goim's and one that is empty.
    port.fake.answers(anser_api::logic::Online::default());
    port.fake.answers(());
    for path in ["/anser.logic.v1.Directory/Online", "/anser.logic.v1.Logic/Disconnect", GOIMS[0], GOIMS[1]] {
        assert!(port.call(path, vec![]).await.is_ok(), "{path}");
    }
    for path in [OURS[0], OURS[3], OURS[4]] {
        let status = port.call(path, vec![]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{path}");
        assert!(status.message().contains("is missing"), "{status}");
    }
    port.stop().await;
}

#[tokio::test]
async fn goims_programs_know_of_no_secret() {
    let port = Port::with("127.0.0.1:0".parse().unwrap(), true, Limits::default()).await;
    for path in GOIMS {
        raw(port.channel().await, path, vec![], None, None).await.unwrap();
    }
    for path in OURS {
        let status = raw(port.channel().await, path, vec![], None, None).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{path}");
    }
    port.stop().await;
}

/// goim's job asks every ten seconds whether its comet is there, and is sent away by goim's comet after
/// four times. Here a thousand at once are only answered.
#[tokio::test]
async fn pings_without_calls_are_answered() {
    let port = Port::start().await;
    let socket = TcpStream::connect(port.address).await.unwrap();
    let (mut requests, mut connection) = h2::client::handshake(socket).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..1000 {
        tokio::time::timeout(PATIENCE, pings.ping(h2::Ping::opaque())).await.unwrap().unwrap();
    }
    // No GOAWAY has come: a new call is taken.
    std::future::poll_fn(|cx| requests.poll_ready(cx)).await.unwrap();
    let request = http::Request::post(format!("http://{}/goim.comet.Comet/Ping", port.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {SECRET}"))
        .body(())
        .unwrap();
    let (answer, mut body) = requests.send_request(request, false).unwrap();
    body.send_data(vec![0; 5].into(), true).unwrap();
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!connection.is_finished());
    connection.abort();
    port.stop().await;
}

/// The same with pings of gRPC's own keepalive, over some seconds without a call.
#[tokio::test]
async fn a_lenient_keepalive_holds() {
    let port = Port::start().await;
    let channel = Endpoint::from_shared(format!("http://{}", port.address))
        .unwrap()
        .http2_keep_alive_interval(Duration::from_millis(50))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect()
        .await
        .unwrap();
    let bearer = format!("Bearer {SECRET}");
    let until = Instant::now() + Duration::from_secs(2);
    becomes("two seconds pass", || Instant::now() > until).await;
    // A connection that had gone would be made again: the port would have seen a second one.
    raw(channel, GOIMS[0], vec![], Some(&bearer), None).await.unwrap();
    port.stop().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let port = with_limits(Limits { connections: 2, ..Limits::default() }).await;
    let first = silent(port.address).await;
    let channel = port.channel().await;
    let bearer = format!("Bearer {SECRET}");
    raw(channel.clone(), GOIMS[0], vec![], Some(&bearer), None).await.unwrap();
    let mut third = silent(port.address).await;
    let read = tokio::time::timeout(PATIENCE, third.read(&mut [0; 64])).await.unwrap();
    assert!(!matches!(read, Ok(1..)), "a third connection is closed: {read:?}");
    assert_eq!(port.counters.turned_away.load(Ordering::Relaxed), 1);
    // Those that are there stay, and make room when they go.
    raw(channel.clone(), GOIMS[0], vec![], Some(&bearer), None).await.unwrap();
    drop(first);
    let until = Instant::now() + PATIENCE;
    loop {
        let another = Endpoint::from_shared(format!("http://{}", port.address)).unwrap().connect().await;
        if let Ok(another) = another
            && raw(another, GOIMS[0], vec![], Some(&bearer), None).await.is_ok()
        {
            break;
        }
        assert!(Instant::now() < until, "a place comes free");
    }
    drop(channel);
    port.stop().await;
}

/// Whoever says nothing, or too little, is sent away; whoever has begun may be silent.
#[tokio::test]
async fn a_connection_must_begin() {
    let port = with_limits(Limits { patience: Duration::from_millis(300), ..Limits::default() }).await;
    let channel = port.channel().await;
    let began = Instant::now();
    for said in ["", "PRI * HTTP/2.0\r\n"] {
        let mut socket = silent(port.address).await;
        socket.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut heard)).await.expect("it is closed");
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    let bearer = format!("Bearer {SECRET}");
    raw(channel, GOIMS[0], vec![], Some(&bearer), None).await.unwrap();
    port.stop().await;
}

#[tokio::test]
async fn messages_are_bounded() {
    let port = Port::start().await;
    let push = |len| {
        let room = bytes(1, "live://1");
        [room, bytes(2, proto(1, 5, 0, &vec![b'x'; len]))].concat()
    };
    port.fake.answers::<Result<(), PushError>>(Ok(()));
    port.call("/goim.comet.Comet/BroadcastRoom", push((16 << 20) - 64)).await.unwrap();
    let status = port.call("/goim.comet.Comet/BroadcastRoom", push(16 << 20)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    port.stop().await;
}

/// A role that does not answer keeps its caller as long as is allowed, and a caller that has a shorter
/// deadline not longer than that.
#[tokio::test]
async fn calls_are_given_up() {
    let port = with_limits(Limits { call: Duration::from_millis(200), ..Limits::default() }).await;
    port.fake.hangs(true);
    let push = [number(1, 5), bytes(2, proto(1, 5, 0, b""))].concat();
    let status = port.call("/goim.comet.Comet/Broadcast", push).await.unwrap_err();
    assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status}");
    port.stop().await;
}

/// The end waits for calls that are under way, and not for ever.
#[tokio::test]
async fn the_end_is_bounded() {
    let port = with_limits(Limits { drain: Duration::from_millis(200), ..Limits::default() }).await;
    port.fake.hangs(true);
    let channel = port.channel().await;
    let bearer = format!("Bearer {SECRET}");
    let push = [number(1, 5), bytes(2, proto(1, 5, 0, b""))].concat();
    let call = tokio::spawn(async move {
        let _ = raw(channel, "/goim.comet.Comet/Broadcast", push, Some(&bearer), None).await;
    });
    let fake = port.fake.clone();
    becomes("the call is under way", || !fake.asked().is_empty()).await;
    let began = Instant::now();
    port.stop().await;
    assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < Duration::from_secs(10));
    call.abort();
}
