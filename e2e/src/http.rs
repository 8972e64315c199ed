//! The push API over one blocking connection, with every byte of an answer to look at.

use std::fmt::{self, Write as _};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::patience::{PATIENCE, eventually};

/// What the API answers to a push that it took.
const TAKEN: &str = r#"{"code":0,"message":""}"#;

/// A connection to the HTTP API, used for one request after another.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    stream: TcpStream,
    /// Sent with every request that has no other.
    key: Option<String>,
    /// What was read behind the last answer.
    unread: Vec<u8>,
}

impl Http {
    /// Connects, to send this key of the push API, if any, with each request.
    #[track_caller]
    pub fn connect(address: SocketAddr, key: Option<&str>) -> Self {
        let api = Self::try_connect(address).expect("the HTTP API can be reached");
        Self { key: key.map(str::to_owned), ..api }
    }

    /// Connects without a key, if the server is there.
    #[track_caller]
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) =>
            {
                return None;
            }
            Err(error) => panic!("the HTTP API cannot be reached: {error}"),
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit above zero can be set");
        stream.set_nodelay(true).expect("an open socket has options");
        Some(Self { address, stream, key: None, unread: Vec::new() })
    }

    /// Sends a request and waits for its answer. `Host`, the key and, with a body, `Content-Length` are
    /// added.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.write(&self.message(method, target, headers, body));
        self.answer()
    }

    /// The same, if the server lives until it has answered.
    #[track_caller]
    pub fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        self.stream.write_all(&self.message(method, target, headers, body)).ok()?;
        self.try_answer().ok()
    }

    fn message(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        let named = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        if let Some(key) = self.key.as_ref().filter(|_| !named) {
            let _ = write!(request, "Authorization: Bearer {key}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            let _ = write!(request, "Content-Length: {}\r\n", body.len());
        }
        request.push_str("\r\n");
        [request.as_bytes(), body].concat()
    }

    /// Sends this request again and again, and reads nothing, until the server takes no more of them.
    #[must_use]
    #[track_caller]
    pub fn into_deaf(mut self, request: &str) -> Self {
        let many = request.repeat(100);
        self.stream
            .set_write_timeout(Some(Duration::from_millis(100)))
            .expect("a limit above zero can be set");
        while self.stream.write_all(many.as_bytes()).is_ok() {}
        self
    }

    /// Sends these bytes, and nothing else.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the HTTP API reads");
    }

    /// Waits for an answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer().unwrap_or_else(|closed| panic!("the HTTP API closed {closed}"))
    }

    /// Waits for an answer. If the server closes, when it did.
    #[track_caller]
    fn try_answer(&mut self) -> Result<Answer, String> {
        let head = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break self.unread.drain(..at + 4).collect();
            }
            if !self.read() {
                return Err(format!("instead of answering: {:?}", String::from_utf8_lossy(&self.unread)));
            }
        };
        let head = String::from_utf8(head).expect("heads are text");
        let mut answer = Answer { head, body: Vec::new() };
        let len = answer.header("content-length").map_or(0, |len| len.parse().expect("a length is a number"));
        while self.unread.len() < len {
            if !self.read() {
                return Err(format!("in the middle of an answer: {answer}"));
            }
        }
        answer.body = self.unread.drain(..len).collect();
        Ok(answer)
    }

    /// Whether the server closes now, without another byte.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.read()
    }

    /// Pushes, such as `room?operation=1&type=live&room=1`. The API must take it, at once or, as it
    /// may ask for, later.
    #[track_caller]
    pub fn push(&mut self, query: &str, body: &[u8]) {
        eventually("a push is taken", || {
            let answer = self.request("POST", &format!("/goim/push/{query}"), &[], body);
            let taken = (answer.status(), answer.text()) == (200, TAKEN);
            assert!(taken || answer.status() == 429, "{query} is refused: {answer}");
            taken.then_some(())
        });
    }

    /// Pushes to keys.
    #[track_caller]
    pub fn push_keys(&mut self, keys: &[&str], op: i32, body: &str) {
        self.push(&format!("keys?operation={op}&keys={}", keys.join("&keys=")), body.as_bytes());
    }

    /// Pushes to users.
    #[track_caller]
    pub fn push_mids(&mut self, mids: &[i64], op: i32, body: &str) {
        let mids: Vec<String> = mids.iter().map(i64::to_string).collect();
        self.push(&format!("mids?operation={op}&mids={}", mids.join("&mids=")), body.as_bytes());
    }

    /// Pushes to a room, `type://id`.
    #[track_caller]
    pub fn push_room(&mut self, room: &str, op: i32, body: &str) {
        let (kind, id) = room.split_once("://").expect("a room is named type://id");
        self.push(&format!("room?operation={op}&type={kind}&room={id}"), body.as_bytes());
    }

    /// Pushes to everyone.
    #[track_caller]
    pub fn push_all(&mut self, op: i32, body: &str) {
        self.push(&format!("all?operation={op}"), body.as_bytes());
    }

    /// Reads some more; whether there was more.
    #[track_caller]
    fn read(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.unread.extend_from_slice(&buffer[..n]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
            Err(error) => panic!("no answer from the HTTP API: {error}"),
        }
    }
}

/// An answer, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// The status code.
    pub fn status(&self) -> u16 {
        let code = self.head.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.expect("a status line has a code")
    }

    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The body.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("bodies of the API are text")
    }
}

/// The whole answer without its date, which is the one part that no test can know.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.head.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")) {
            f.write_str(line)?;
        }
        f.write_str(&String::from_utf8_lossy(&self.body))
    }
}
