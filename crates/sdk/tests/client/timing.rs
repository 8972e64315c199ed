use std::time::Duration;

use anser_sdk::operation::{HEARTBEAT, HEARTBEAT_REPLY};
use anser_sdk::{Cause, Closed, Config, Event, Failure, Login};

use crate::server::{Clock, Server, next, now};

const BEAT: Duration = Duration::from_secs(60);
const REPLY: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(10);
const ALMOST_BEAT: Duration = Duration::from_millis(59_990);
const ALMOST_REPLY: Duration = Duration::from_millis(4_990);

fn config(server: &Server) -> Config {
    let mut config = server.config(Login::new());
    config.timing.heartbeat = BEAT;
    config.timing.heartbeat_reply = REPLY;
    config
}

#[tokio::test(start_paused = true)]
async fn heartbeats_leave_on_time() {
    let clock = Clock::stopped();
    for server in [Server::tcp().await, Server::websocket().await] {
        let (client, _events, mut peer) = server.connect(config(&server)).await;
        for _ in 0..3 {
            clock.advance(ALMOST_BEAT).await;
            // Whatever the client sent before comes before this.
            let (sent, ()) = tokio::join!(client.send(1000, "not yet"), peer.serve(1000, "not yet"));
            sent.unwrap();
            clock.advance(MOMENT).await;
            let (header, _) = peer.next().await.unwrap();
            assert_eq!(header.op, HEARTBEAT);
            peer.send(header.reply(HEARTBEAT_REPLY), &[0; 4]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left() {
    let clock = Clock::stopped();
    let server = Server::tcp().await;
    let (_client, mut events, mut peer) = server.connect(config(&server)).await;
    clock.advance(BEAT).await;
    assert_eq!(peer.next().await.unwrap().0.op, HEARTBEAT);
    // Whatever it sends, it is there.
    clock.advance(ALMOST_REPLY).await;
    peer.push(1000, b"still here").await;
    assert!(matches!(next(&mut events).await, Event::Push { .. }));
    clock.advance(ALMOST_REPLY).await;
    assert!(now(events.next()).await.is_none());
    clock.advance(MOMENT).await;
    match next(&mut events).await {
        Event::Disconnected { cause: Cause::Lost { failure, .. }, .. } => {
            assert!(matches!(failure, Failure::Protocol(Closed::HeartbeatTimeout(REPLY))), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(peer.next().await.is_none());
    clock.advance(MOMENT).await;
    server.accept_and_admit().await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
}
