use std::time::Duration;

use anser_sdk::operation::{CHANGE_ROOM, ERROR, JOIN, LEAVE, SUBSCRIBE};
use anser_sdk::{Backoff, Cause, Client, Closed, Config, Event, Events, Failure, Login, RequestError};
use anser_wire::anser;
use anser_wire::limits::Limits;
use anser_wire::packet::Header;
use anser_wire::time::Instant;
use prost::Message;
use tokio::io::AsyncReadExt;

use crate::server::{Clock, Peer, Server, next, soon};

/// The next event, which must be that a connection was lost.
async fn lost(events: &mut Events) -> (Failure, Option<Duration>) {
    match next(events).await {
        Event::Disconnected { cause: Cause::Lost { failure, .. }, retry_in } => (failure, retry_in),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn after_the_server_closed() {
    for server in [Server::tcp().await, Server::websocket().await] {
        let (client, mut events, mut peer) = server.connect(server.config(Login::new().key("phone"))).await;
        peer.push(1000, b"last words").await;
        drop(peer);
        assert!(matches!(next(&mut events).await, Event::Push { .. }));
        let (failure, retry_in) = lost(&mut events).await;
        assert!(matches!(failure, Failure::Ended), "{failure:?}");
        assert!(retry_in.unwrap() <= Duration::from_millis(1));

        let mut peer = server.accept().await;
        assert_eq!(peer.admit().await, r#"{"key":"phone"}"#);
        assert!(matches!(next(&mut events).await, Event::Connected { .. }));
        let (sent, ()) = tokio::join!(client.send(1000, "again"), peer.serve(1000, "again"));
        assert_eq!(sent.unwrap(), "again");
    }
}

#[tokio::test]
async fn the_server_says_why_it_closes() {
    let server = Server::websocket().await;
    let (_client, mut events, mut peer) = server.connect(server.config(Login::new())).await;
    peer.connection.end(Instant::ZERO, 1001, "maintenance", &Limits::default(), &mut peer.out);
    peer.flush().await;
    let (failure, _) = lost(&mut events).await;
    let expected = Closed::Server { code: 1001, reason: "maintenance".into() };
    assert!(matches!(failure, Failure::Protocol(closed) if closed == expected));
    // The client has closed in its turn, masked as a client's frames are.
    let mut frame = [0; 2];
    soon(peer.socket.read_exact(&mut frame)).await.unwrap();
    assert_eq!(frame, [0x88, 0x82]);
}

/// Joins and subscribes as asked for, loses the connection, and gives the next one.
async fn lose_after(server: &Server, client: &Client, events: &mut Events, mut peer: Peer) -> Peer {
    let (done, ()) = tokio::join!(
        async {
            client.leave("of the token").await?;
            client.join("a").await?;
            client.join("b").await?;
            client.leave("a").await?;
            client.subscribe(&[1000, 1001]).await
        },
        async {
            peer.serve(LEAVE, "of the token").await;
            peer.serve(JOIN, "a").await;
            peer.serve(JOIN, "b").await;
            peer.serve(LEAVE, "a").await;
            peer.serve(SUBSCRIBE, "1000,1001").await;
        }
    );
    done.unwrap();
    drop(peer);
    lost(events).await;
    let peer = server.accept_and_admit().await;
    assert!(matches!(next(events).await, Event::Connected { .. }));
    peer
}

#[tokio::test]
async fn rooms_and_operations_are_restored() {
    let server = Server::websocket().await;
    let login = Login::new().room("of the token").anser();
    let (client, mut events, peer) = server.connect(server.config(login)).await;
    let mut peer = lose_after(&server, &client, &mut events, peer).await;
    // Ahead of what is asked for now.
    let (changed, ()) = tokio::join!(client.change_room("c"), async {
        peer.serve(LEAVE, "of the token").await;
        peer.serve(JOIN, "b").await;
        peer.serve(SUBSCRIBE, "1000,1001").await;
        peer.serve(CHANGE_ROOM, "c").await;
    });
    changed.unwrap();
    drop(peer);
    lost(&mut events).await;
    let mut peer = server.accept_and_admit().await;
    peer.serve(CHANGE_ROOM, "c").await;
    peer.serve(SUBSCRIBE, "1000,1001").await;
}

#[tokio::test]
async fn a_room_that_cannot_be_restored_is_told_and_given_up() {
    let server = Server::tcp().await;
    let (client, mut events, peer) =
        server.connect(server.config(Login::new().room("of the token").anser())).await;
    let mut peer = lose_after(&server, &client, &mut events, peer).await;
    peer.serve(LEAVE, "of the token").await;
    let (header, room) = peer.next().await.unwrap();
    assert_eq!((header.op, &room[..]), (JOIN, &b"b"[..]));
    let error = anser::Error { op: JOIN, code: "room_limit".into(), ..anser::Error::default() };
    peer.send(header.reply(ERROR), &error.encode_to_vec()).await;
    match next(&mut events).await {
        Event::Refused { error, body } => assert_eq!((&error.code[..], &body[..]), ("room_limit", &b"b"[..])),
        other => panic!("{other:?}"),
    }
    peer.serve(SUBSCRIBE, "1000,1001").await;
    drop(peer);
    lost(&mut events).await;
    let mut peer = server.accept_and_admit().await;
    peer.serve(LEAVE, "of the token").await;
    peer.serve(SUBSCRIBE, "1000,1001").await;
}

#[tokio::test]
async fn requests_wait_for_the_next_connection_and_fail_with_the_last() {
    let server = Server::tcp().await;
    let (client, mut events, mut peer) = server.connect(server.config(Login::new())).await;
    let (unanswered, ()) = tokio::join!(client.send(1000, "1"), async {
        peer.next().await.unwrap();
        drop(peer);
    });
    assert_eq!(unanswered, Err(RequestError::Disconnected));
    lost(&mut events).await;
    let (answered, ()) = tokio::join!(client.send(1000, "2"), async {
        server.accept_and_admit().await.serve(1000, "2").await;
    });
    assert_eq!(answered.unwrap(), "2");
}

/// Whose caller has given up is not done behind his back.
#[tokio::test(start_paused = true)]
async fn a_request_that_timed_out_before_it_was_sent_is_not_sent() {
    const LIMIT: Duration = Duration::from_secs(5);
    let clock = Clock::stopped();
    let server = Server::tcp().await;
    let config = Config { request_timeout: LIMIT, ..server.config(Login::new().anser()) };
    let (client, mut events, mut peer) = server.connect(config).await;
    peer.connection.drain(Instant::ZERO, 10_000, &Limits::default(), &mut peer.out);
    peer.flush().await;
    drop(peer);
    assert!(matches!(next(&mut events).await, Event::Draining(_)));
    lost(&mut events).await;
    let (abandoned, ()) = tokio::join!(client.send(1000, "abandoned"), clock.advance(LIMIT));
    assert_eq!(abandoned, Err(RequestError::Timeout(LIMIT)));
    clock.advance(LIMIT).await;
    let (sent, ()) = tokio::join!(client.send(1000, "wanted"), async {
        server.accept_and_admit().await.serve(1000, "wanted").await;
    });
    assert_eq!(sent.unwrap(), "wanted");
}

#[tokio::test(start_paused = true)]
async fn draining_says_when_to_come_back() {
    const AFTER: Duration = Duration::from_secs(30);
    const ALMOST: Duration = Duration::from_millis(29_990);
    let clock = Clock::stopped();
    for server in [Server::tcp().await, Server::websocket().await] {
        let (_client, mut events, mut peer) = server.connect(server.config(Login::new().anser())).await;
        peer.connection.drain(Instant::ZERO, AFTER.as_millis() as u32, &Limits::default(), &mut peer.out);
        peer.flush().await;
        drop(peer);
        assert!(matches!(next(&mut events).await, Event::Draining(AFTER)));
        let (_, retry_in) = lost(&mut events).await;
        assert_eq!(retry_in, Some(AFTER));
        clock.advance(ALMOST).await;
        assert!(!server.is_called().await);
        clock.advance(Duration::from_millis(20)).await;
        server.accept_and_admit().await;
        assert!(matches!(next(&mut events).await, Event::Connected { .. }));
        // It holds once. The next loss has the usual wait.
        let (_, retry_in) = lost(&mut events).await;
        assert!(retry_in.unwrap() <= Duration::from_millis(1));
    }
}

/// The wait grows from a moment to an hour at once, so that which of them it is leaves no doubt.
#[tokio::test(start_paused = true)]
async fn waits_grow_until_a_connection_lasts() {
    const MOMENT: Duration = Duration::from_millis(1);
    const HOUR: Duration = Duration::from_secs(3600);
    let clock = Clock::stopped();
    let server = Server::tcp().await;
    let mut config = server.config(Login::new());
    config.backoff = Backoff { base: MOMENT, max: HOUR, factor: 1e9 };
    config.timing.heartbeat = HOUR * 2;
    let (_client, mut events, peer) = server.connect(config).await;
    drop(peer);
    for grown in [false, true, false, true] {
        let (_, retry_in) = lost(&mut events).await;
        let wait = retry_in.unwrap();
        assert_eq!(wait > MOMENT, grown);
        clock.advance(wait).await;
        let peer = server.accept_and_admit().await;
        assert!(matches!(next(&mut events).await, Event::Connected { .. }));
        if grown {
            clock.advance(HOUR).await;
        }
        drop(peer);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_again_and_again_ends_the_client() {
    let server = Server::tcp().await;
    let config = Config { auth_attempts: 3, ..server.config(Login::new()) };
    let (client, mut events, peer) = server.connect(config).await;
    drop(peer);
    assert!(lost(&mut events).await.1.is_some());
    for attempt in 1..=3 {
        server.accept().await.next().await.unwrap();
        match next(&mut events).await {
            Event::Disconnected { cause: Cause::Unreachable(error), retry_in } => {
                assert!(error.is_refused());
                assert_eq!(retry_in.is_none(), attempt == 3);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(soon(events.next()).await.is_none());
    assert_eq!(client.send(1000, "").await, Err(RequestError::Closed));
}

#[tokio::test]
async fn an_unreachable_server_is_tried_for_ever_until_closed() {
    let server = Server::tcp().await;
    let config = Config { auth_attempts: 1, ..server.config(Login::new()) };
    let (client, mut events, peer) = server.connect(config).await;
    drop((peer, server));
    lost(&mut events).await;
    for _ in 0..5 {
        match next(&mut events).await {
            Event::Disconnected { cause: Cause::Unreachable(_), retry_in: Some(_) } => {}
            other => panic!("{other:?}"),
        }
    }
    soon(client.close()).await;
    while soon(events.next()).await.is_some() {}
}

#[tokio::test]
async fn a_client_whose_key_was_taken_does_not_come_back() {
    let server = Server::tcp().await;
    let config = server.config(Login::new().key("phone").anser());
    let (client, mut events, mut peer) = server.connect(config).await;
    let error = anser::Error { code: anser::REPLACED.into(), ..Default::default() };
    let header = Header { op: ERROR, ..Header::default() };
    peer.send(header, &error.encode_to_vec()).await;
    drop(peer);
    match next(&mut events).await {
        Event::Disconnected { cause: Cause::Replaced, retry_in: None } => {}
        other => panic!("{other:?}"),
    }
    assert!(soon(events.next()).await.is_none());
    assert_eq!(client.heartbeat().await, Err(RequestError::Closed));
}
