//! Clients that have to show who they are.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use anser_e2e::{Cluster, Dial, Packet, Transport};
use anser_wire::operation;
use tempfile::TempDir;

const SECRET: &str = "thirty-two bytes, and not a secret\n";

/// `{"sub":"7","exp":99999999999}` by HS256 with [`SECRET`].
const SEVEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3IiwiZXhwIjo5OTk5OTk5OTk5OX0.G_SQgNVibDsNaWfc8pG7JELWX5MAhKn8aFlHjskODJM";

/// `{"sub":"8","exp":1000000000}`, the same.
const EXPIRED: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI4IiwiZXhwIjoxMDAwMDAwMDAwfQ.rOcEEPTb8lfX8Glj8KCQM9-of1n7h4TOJiyYWVJHdG4";

/// A server that lets in whom [`SECRET`] has signed for, on an address that others reach.
fn cluster(folder: &TempDir) -> Cluster {
    let path = folder.path().join("secret");
    fs::write(&path, SECRET).unwrap();
    let secret = format!("logic.jwt_secret_file={}", path.display());
    Cluster::start(&["logic.auth=jwt", &secret, "comet.tcp=0.0.0.0:0"])
}

/// How the server ends the connection of a client that sends this.
fn refused(cluster: &Cluster, transport: Transport, body: &str) -> Option<(u16, String)> {
    let mut client = cluster.connect(transport);
    client.send(&Packet::new(operation::AUTH, 1, body));
    client.closed()
}

#[test]
fn signed_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster(&folder);
    for transport in Transport::ALL {
        let packet = format!(r#"{{"token":"{SEVEN}","key":"{transport:?}","accepts":[1000]}}"#);
        let mut client = cluster.login(transport, &packet);
        let _bare = cluster.login(transport, SEVEN);
        cluster.push_mids(&[7], 1000, "hello");
        assert_eq!(client.push().1, "hello");
        for (body, told) in [
            (EXPIRED, "bad token: the token has expired"),
            (
                r#"{"mid":7}"#,
                "bad token: there is no token: send it as the body, or in the field token of the JSON",
            ),
        ] {
            let told = (transport == Transport::WebSocket).then(|| (1008, told.to_owned()));
            assert_eq!(refused(&cluster, transport, body), told);
        }
    }
    let metrics = cluster.metrics();
    assert_eq!(metrics.labels("logic_auth_refused"), [("expired", 2), ("no_token", 2)]);
}

/// A browser cannot put a token into its upgrade, but a cookie is there by itself.
#[test]
fn a_cookie_of_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster(&folder);
    let mut client = Dial::new(&cluster, Transport::WebSocket).open();
    let request = format!(
        "GET /sub HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
         dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nCookie: theme=dark; anser_token={SEVEN}\r\n\r\n"
    );
    client.write(request.as_bytes());
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.take(1));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    client.login(r#"{"accepts":[1000]}"#);
    cluster.push_mids(&[7], 1000, "hello");
    assert_eq!(client.push().1, "hello");
}

/// A back end that answers one question, and what it was asked.
fn back_end(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"}") {
            let mut some = [0; 4096];
            let len = socket.read(&mut some).unwrap();
            assert!(len > 0, "the question is cut");
            asked.extend_from_slice(&some[..len]);
        }
        socket.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, asked)
}

#[test]
fn a_back_end_is_asked() {
    let (address, asked) =
        back_end("HTTP/1.1 200 OK\r\ncontent-length: 29\r\n\r\n{\"mid\":7,\"accepts\":[1000]}   ");
    let url = format!("logic.webhook_url=http://{address}/auth");
    let cluster = Cluster::start(&["logic.auth=webhook", &url]);
    let mut client = cluster.login(Transport::Tcp, "any form of token");
    cluster.push_mids(&[7], 1000, "hello");
    assert_eq!(client.push().1, "hello");
    assert!(asked.join().unwrap().contains(r#""token":"any form of token""#));
    // Nobody listens there any more.
    let told = refused(&cluster, Transport::WebSocket, "another");
    assert_eq!(told, Some((1013, "authentication is unavailable".to_owned())));
    let metrics = cluster.metrics();
    assert_eq!((metrics.get("logic_webhook_requests"), metrics.get("logic_webhook_failures")), (2, 1));
    assert_eq!(metrics.labels("logic_auth_refused"), [("unavailable", 1)]);
}

#[test]
fn a_start_without_keys_says_what_to_do() {
    let ended = Cluster::builder().set(&["logic.auth=jwt", "logic.jwt_secret_file=/nowhere/secret"]).fail();
    assert_eq!(ended.code, Some(78));
    let told = "anser: logic.jwt_secret_file = /nowhere/secret: it cannot be read (No such file or directory): name \
                a file with a secret, such as one made by `openssl rand -base64 48`\n";
    assert_eq!(ended.stderr, told);
}
