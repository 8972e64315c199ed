use std::time::Duration;

use anser_sdk::{Client, Closed, Config, ConnectError, Event, Failure, Login, Token};
use anser_wire::limits::Limits;
use anser_wire::time::Instant;
use anser_wire::websocket::UpgradeError;

use crate::server::{Server, next, soon};

/// The one address' failure.
fn only(error: ConnectError) -> Failure {
    let [(_, failure)] = <[_; 1]>::try_from(error.failures).unwrap();
    failure
}

async fn connects_and_delivers(server: Server) {
    let config = server.config(Login::new().mid(7).key("phone"));
    let (connected, mut peer) = tokio::join!(Client::connect(config), async {
        let mut peer = server.accept().await;
        assert_eq!(peer.admit().await, r#"{"mid":7,"key":"phone"}"#);
        peer
    });
    let (_client, mut events) = connected.unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { address } if address == server.address()));

    let large = vec![b'x'; 100_000];
    peer.push(1000, b"1").await;
    peer.push_batch(1001, &[b"2", b"", b"4"]).await;
    peer.push(1000, &large).await;
    for expected in [(1000, &b"1"[..]), (1001, b"2"), (1001, b""), (1001, b"4"), (1000, &large)] {
        match next(&mut events).await {
            Event::Push { op, body } => assert_eq!((op, &body[..]), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn over_tcp() {
    connects_and_delivers(Server::tcp().await).await;
}

#[tokio::test]
async fn over_websocket() {
    connects_and_delivers(Server::websocket().await).await;
}

/// Pushes that come in the same read as the answer to the authentication.
#[tokio::test]
async fn pushes_may_follow_the_authentication_at_once() {
    for server in [Server::tcp().await, Server::websocket().await] {
        let (connected, ()) = tokio::join!(Client::connect(server.config(Login::new())), async {
            let mut peer = server.accept().await;
            let (header, _) = peer.next().await.unwrap();
            let (idle, goim) = (Duration::from_secs(480), anser_wire::operation::Dialect::Goim);
            peer.connection.authenticated(Instant::ZERO, header, idle, goim, &mut peer.out);
            peer.push(1000, b"early").await;
        });
        let (_client, mut events) = connected.unwrap();
        assert!(matches!(next(&mut events).await, Event::Connected { .. }));
        assert!(matches!(next(&mut events).await, Event::Push { body, .. } if body == "early"));
    }
}

#[tokio::test]
async fn the_second_address_is_used_when_the_first_is_dead() {
    let dead = Server::tcp().await.address();
    let server = Server::tcp().await;
    let config = Config { addresses: vec![dead, server.address()], ..server.config(Login::new()) };
    let (connected, _peer) = tokio::join!(Client::connect(config), server.accept_and_admit());
    let (_client, mut events) = connected.unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { address } if address == server.address()));
}

#[tokio::test]
async fn the_error_names_every_address() {
    let (dead, silent) = (Server::tcp().await.address(), Server::websocket().await);
    let mut config = Config::new([dead.clone(), silent.address()], Login::new());
    config.timing.handshake = Duration::from_millis(50);
    let error = soon(Client::connect(config)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&dead.to_string()) && text.contains(&silent.address().to_string()), "{text}");
    assert!(text.contains("check host and port") && text.contains("not authenticated within 50ms"), "{text}");
    let [(_, Failure::Connect(_)), (_, Failure::Protocol(Closed::HandshakeTimeout(_)))] = &error.failures[..]
    else {
        panic!("{error:?}");
    };
    assert!(soon(Client::connect(Config::new([], Login::new()))).await.is_err());
}

#[tokio::test]
async fn a_refused_token() {
    for server in [Server::tcp().await, Server::websocket().await] {
        let (connected, ()) = tokio::join!(Client::connect(server.config(Token::raw("stolen"))), async {
            let mut peer = server.accept().await;
            assert_eq!(peer.next().await.unwrap().1, "stolen");
            peer.connection.end(Instant::ZERO, 1008, "token is stolen", &Limits::default(), &mut peer.out);
            peer.flush().await;
        });
        let error = connected.unwrap_err();
        assert!(error.is_refused());
        match only(error) {
            Failure::Refused { reason } if reason == "token is stolen" => {
                assert!(server.address().to_string().starts_with("ws"));
            }
            Failure::Refused { reason } => {
                assert_eq!(reason, "");
                assert!(server.address().to_string().starts_with("tcp"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn no_websocket_there() {
    let server = Server::websocket().await;
    let elsewhere = format!("{}/elsewhere", server.address().to_string().trim_end_matches("/sub"));
    let config = Config::new([elsewhere.parse().unwrap()], Login::new());
    let (connected, _) = tokio::join!(Client::connect(config), async { server.accept().await.next().await });
    let failure = only(connected.unwrap_err());
    assert!(matches!(failure, Failure::Protocol(Closed::Upgrade(UpgradeError::Status(404)))), "{failure:?}");

    // goim closes without an answer.
    let goim = Server::websocket().await;
    let (connected, ()) =
        tokio::join!(Client::connect(goim.config(Login::new())), async { drop(goim.accept().await) });
    let failure = only(connected.unwrap_err());
    assert!(matches!(failure, Failure::NotUpgraded), "{failure:?}");
}

#[tokio::test]
async fn not_our_protocol() {
    let server = Server::tcp().await;
    let (connected, ()) = tokio::join!(Client::connect(server.config(Login::new())), async {
        let mut peer = server.accept().await;
        peer.out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        peer.flush().await;
    });
    let failure = only(connected.unwrap_err());
    assert!(matches!(failure, Failure::Protocol(Closed::Malformed(_))), "{failure:?}");
}
