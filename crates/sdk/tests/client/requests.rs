use std::time::Duration;

use anser_sdk::operation::{
    self, BEHIND, CHANGE_ROOM, DROPPED, ERROR, HEARTBEAT, HEARTBEAT_REPLY, JOIN, LEAVE, LIVE, SUBSCRIBE,
    UNSUBSCRIBE,
};
use anser_sdk::{Config, Event, Login, Refused, RequestError};
use anser_wire::anser;
use anser_wire::packet::Header;
use anser_wire::server::Close;
use prost::Message;

use crate::server::{Clock, Server, everybody_else, next, soon};

#[tokio::test]
async fn every_request_finds_its_answer() {
    for server in [Server::tcp().await, Server::websocket().await] {
        let (client, _events, mut peer) = server.connect(server.config(Login::new().anser())).await;
        let (done, ()) = tokio::join!(
            async {
                client.join("live://1").await?;
                client.leave("live://1").await?;
                client.change_room("live://2").await?;
                client.change_room("").await?;
                client.subscribe(&[1000, -1]).await?;
                client.unsubscribe(&[1000]).await?;
                assert_eq!(client.send(4, "hello").await?, "hello");
                assert_eq!(client.send(1000, "").await?, "");
                client.heartbeat().await
            },
            async {
                peer.serve(JOIN, "live://1").await;
                peer.serve(LEAVE, "live://1").await;
                peer.serve(CHANGE_ROOM, "live://2").await;
                peer.serve(CHANGE_ROOM, "").await;
                peer.serve(SUBSCRIBE, "1000,-1").await;
                peer.serve(UNSUBSCRIBE, "1000").await;
                peer.serve(4, "hello").await;
                peer.serve(1000, "").await;
                let (header, _) = peer.next().await.unwrap();
                assert_eq!(header.op, HEARTBEAT);
                peer.send(header.reply(HEARTBEAT_REPLY), &[0, 0, 1, 0]).await;
            }
        );
        assert_eq!(done, Ok(256));
    }
}

/// More at once than may wait anywhere; pushes in between; answers in the opposite order.
#[tokio::test]
async fn many_requests_at_once() {
    const MANY: usize = 3000;
    const AT_A_TIME: usize = 500;
    let server = Server::websocket().await;
    let (client, mut events, mut peer) = server.connect(server.config(Login::new())).await;
    let mut requests = tokio::task::JoinSet::new();
    for i in 0..MANY {
        let client = client.clone();
        requests
            .spawn(async move { assert_eq!(client.send(1000, i.to_string()).await.unwrap(), i.to_string()) });
    }
    let pushes = tokio::spawn(async move {
        for i in 0..MANY / AT_A_TIME {
            match next(&mut events).await {
                Event::Push { body, .. } => assert_eq!(body, i.to_string()),
                other => panic!("{other:?}"),
            }
        }
        events
    });
    for i in 0..MANY / AT_A_TIME {
        let mut packets = Vec::new();
        while packets.len() < AT_A_TIME {
            packets.push(peer.next().await.unwrap());
        }
        peer.push(1000, i.to_string().as_bytes()).await;
        for (header, body) in packets.iter().rev() {
            peer.send(*header, body).await;
        }
    }
    let _events = soon(pushes).await.unwrap();
    while let Some(done) = soon(requests.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn refusals_say_why_and_when_to_come_back() {
    let server = Server::tcp().await;
    let (client, _events, mut peer) = server.connect(server.config(Login::new().anser())).await;
    let (refused, ()) = tokio::join!(client.join("live://1"), async {
        let (header, _) = peer.next().await.unwrap();
        let error = anser::Error {
            op: JOIN,
            code: "room_limit".into(),
            retry: true,
            retry_after_ms: 1500,
            message: "leave another room first".into(),
        };
        peer.send(header.reply(ERROR), &error.encode_to_vec()).await;
    });
    let expected = Refused {
        op: JOIN,
        code: "room_limit".into(),
        retry: true,
        retry_after: Duration::from_millis(1500),
        message: "leave another room first".into(),
    };
    assert_eq!(refused, Err(RequestError::Refused(expected)));
    // The next one finds its own answer.
    let (joined, ()) = tokio::join!(client.join("live://2"), peer.serve(JOIN, "live://2"));
    assert_eq!(joined, Ok(()));
}

#[tokio::test]
async fn what_is_not_even_sent() {
    let server = Server::tcp().await;
    let config = Config { max_body: 10, ..server.config(Login::new()) };
    let (client, _events, mut peer) = server.connect(config).await;
    assert_eq!(client.join("live://1").await, Err(RequestError::NeedsAnser(JOIN)));
    assert_eq!(client.leave("live://1").await, Err(RequestError::NeedsAnser(LEAVE)));
    assert_eq!(client.live("").await, Err(RequestError::NeedsAnser(LIVE)));
    for op in [HEARTBEAT, operation::AUTH, operation::RAW, CHANGE_ROOM] {
        assert_eq!(client.send(op, "").await, Err(RequestError::Reserved(op)));
    }
    assert_eq!(client.send(1000, "eleven byte").await, Err(RequestError::TooLarge { len: 11, limit: 10 }));
    // Without anser/1 its numbers are the application's.
    let (sent, ()) = tokio::join!(client.send(JOIN, "mine"), async {
        let (header, body) = peer.next().await.unwrap();
        assert_eq!((header.op, &body[..]), (JOIN, &b"mine"[..]));
        peer.send(header, b"").await;
    });
    assert_eq!(sent.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come() {
    const LIMIT: Duration = Duration::from_secs(5);
    let clock = Clock::stopped();
    let server = Server::tcp().await;
    let config = Config { request_timeout: LIMIT, ..server.config(Login::new()) };
    let (client, mut events, mut peer) = server.connect(config).await;
    let (answered, header) = tokio::join!(client.send(1000, "1"), async {
        let (header, _) = peer.next().await.unwrap();
        clock.advance(LIMIT).await;
        header
    });
    assert_eq!(answered, Err(RequestError::Timeout(LIMIT)));
    // It comes late, and is no push.
    peer.send(header, b"late").await;
    peer.push(1000, b"a push").await;
    assert!(matches!(next(&mut events).await, Event::Push { body, .. } if body == "a push"));
}

#[tokio::test]
async fn behind_then_live() {
    for server in [Server::tcp().await, Server::websocket().await] {
        let (client, mut events, mut peer) = server.connect(server.config(Login::new().dropped())).await;
        let notice = |op| Header { ver: 1, op, seq: 0 };
        peer.send(notice(DROPPED), &anser::Dropped { count: 3 }.encode_to_vec()).await;
        peer.send(notice(BEHIND), b"").await;
        assert!(matches!(next(&mut events).await, Event::Dropped(3)));
        assert!(matches!(next(&mut events).await, Event::Behind));
        client.live("up to 9").await.unwrap();
        peer.serve(LIVE, "up to 9").await;
        peer.push(1000, b"10").await;
        assert!(matches!(next(&mut events).await, Event::Push { body, .. } if body == "10"));
    }
}

#[tokio::test]
async fn closing() {
    for server in [Server::tcp().await, Server::websocket().await] {
        let (client, mut events, mut peer) = server.connect(server.config(Login::new())).await;
        peer.push(1000, b"taken later").await;
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.send(1000, "unanswered").await }
        });
        assert_eq!(peer.next().await.unwrap().1, "unanswered");
        everybody_else().await;
        soon(client.close()).await;
        assert_eq!(soon(waiting).await.unwrap(), Err(RequestError::Closed));
        assert_eq!(client.send(1000, "").await, Err(RequestError::Closed));
        assert!(matches!(next(&mut events).await, Event::Push { .. }));
        assert!(soon(events.next()).await.is_none());
        assert!(peer.next().await.is_none());
        assert_eq!(peer.closed, peer.connection.is_websocket().then_some(Close::Peer));
        soon(client.close()).await;
    }
}

#[tokio::test]
async fn the_events_keep_the_client_alive() {
    let server = Server::tcp().await;
    let (client, mut events, mut peer) = server.connect(server.config(Login::new())).await;
    drop(client);
    peer.push(1000, b"still here").await;
    assert!(matches!(next(&mut events).await, Event::Push { .. }));
    drop(events);
    assert!(peer.next().await.is_none());
}
