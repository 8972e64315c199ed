use std::io;
use std::time::Duration;

use anser_sdk::operation::{HEARTBEAT, HEARTBEAT_REPLY};
use anser_sdk::{Config, Event, Login};
use anser_wire::push::Frame;

use crate::server::{Clock, Peer, Server, everybody_else, next, soon};

const BEAT: Duration = Duration::from_secs(60);

/// More than all of a connection's buffers hold: the kernel's take some megabytes.
const FAR_TOO_MUCH: usize = 256 << 20;

/// Writes pushes whose body begins with their number until the socket takes no more. Gives the bytes
/// that it did not take, and the number of pushes.
async fn push_until_it_is_stuck(peer: &mut Peer) -> (Vec<u8>, u64) {
    let (mut rest, mut pushes, mut written) = (Vec::new(), 0u64, 0);
    loop {
        if rest.is_empty() {
            let mut body = pushes.to_be_bytes().to_vec();
            body.resize(4000, b'x');
            let frame = Frame::push(1000, &body);
            rest = if peer.connection.is_websocket() {
                frame.websocket().to_vec()
            } else {
                frame.tcp().to_vec()
            };
            pushes += 1;
        }
        match peer.socket.try_write(&rest) {
            Ok(len) => {
                rest.drain(..len);
                written += len;
                assert!(written < FAR_TOO_MUCH, "the client reads on and on");
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Not stuck while the client still reads.
                if is_full(peer).await {
                    return (rest, pushes);
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether the socket does not become writable, however often everybody else has run.
async fn is_full(peer: &Peer) -> bool {
    tokio::select! {
        biased;
        _ = peer.socket.writable() => false,
        () = everybody_else() => true,
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_takes_no_events_holds_the_server_back() {
    let clock = Clock::stopped();
    for server in [Server::tcp().await, Server::websocket().await] {
        let mut config = Config { events: 1, ..server.config(Login::new()) };
        config.timing.heartbeat = BEAT;
        let (client, mut events, mut peer) = server.connect(config).await;
        let (rest, pushes) = push_until_it_is_stuck(&mut peer).await;

        // The client still lives, and says so in time: longer than it would wait for an answer.
        for _ in 0..3 {
            clock.advance(BEAT).await;
            assert_eq!(peer.next().await.unwrap().0.op, HEARTBEAT);
        }

        // Nothing is lost, and all is in order.
        peer.out = rest;
        let (mut taken, mut flushed) = (0, false);
        while taken < pushes {
            tokio::select! {
                () = peer.flush(), if !flushed => flushed = true,
                event = next(&mut events) => match event {
                    Event::Push { body, .. } => {
                        assert_eq!(body[..8], taken.to_be_bytes());
                        taken += 1;
                    }
                    other => panic!("{other:?}"),
                },
            }
        }

        // It is the same connection, and in use.
        let (online, ()) = soon(async {
            tokio::join!(client.heartbeat(), async {
                let (header, _) = peer.next().await.unwrap();
                peer.send(header.reply(HEARTBEAT_REPLY), &[0, 0, 0, 1]).await;
            })
        })
        .await;
        assert_eq!(online, Ok(1));
    }
}
