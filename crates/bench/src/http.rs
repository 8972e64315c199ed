//! A client for the push API: HTTP/1.1 with keep-alive over one blocking socket.
//!
//! It is this small because it is part of what is measured. One write and one read for each push, no
//! runtime, no pool, no second thread: what the generator adds to a latency is two system calls.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use std::{fmt, io, str};

use anyhow::{Context, bail};

/// How long one request may take. The server's own limits are shorter.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer that is taken. Those of the push API are below 200 bytes.
pub(crate) const MAX_ANSWER: usize = 1 << 20;

/// How long to wait after a refusal that names no time.
const DEFAULT_RETRY: Duration = Duration::from_millis(50);

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server took it.
    Accepted,
    /// The server has too much to do: try again after this time.
    Refused(Duration),
    /// Anything else, in the server's words.
    Failed(String),
}

/// An answer as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Seconds of the `Retry-After` header.
    retry_after: Option<u64>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// What the answer to a push means.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.status == 200 && self.body.starts_with(br#"{"code":0,"#) {
            return Outcome::Accepted;
        }
        if self.status == 429 {
            let told = retry_in_words(&self.body).or(self.retry_after.map(Duration::from_secs));
            return Outcome::Refused(told.unwrap_or(DEFAULT_RETRY));
        }
        Outcome::Failed(self.to_string())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "status {}: {}", self.status, body.chars().take(300).collect::<String>())
    }
}

/// The time in `... retry after 12 ms`, which is finer than the header's whole seconds.
fn retry_in_words(body: &[u8]) -> Option<Duration> {
    let (_, rest) = str::from_utf8(body).ok()?.rsplit_once("retry after ")?;
    let (number, _) = rest.split_once(" ms")?;
    Some(Duration::from_millis(number.parse().ok()?))
}

/// One connection to the push API.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = dial(address).with_context(|| format!("cannot reach the push API at {address}"))?;
        Ok(Self { address, stream, request: Vec::new(), answer: vec![0; 4096] })
    }

    /// Posts a push to a path with its query.
    pub(crate) fn push(&mut self, path: &str, body: &[u8]) -> anyhow::Result<Outcome> {
        self.request("POST", path, body).map(|answer| answer.outcome())
    }

    /// Gets a page.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.request("GET", path, b"")
    }

    fn request(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        write_request(&mut self.request, method, path, self.address, body)?;
        match self.exchange() {
            // A server may close a connection that was idle; the next request finds out.
            Err(error) if is_closed(&error) => {
                self.stream = dial(self.address)?;
                self.exchange()
            }
            other => other,
        }
        .with_context(|| format!("{method} {path} at {}", self.address))
    }

    fn exchange(&mut self) -> io::Result<Answer> {
        self.stream.write_all(&self.request)?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.answer[filled..])?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let parsed = parse(&self.answer[..filled])
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
            if let Some((answer, close)) = parsed {
                if close {
                    self.stream = dial(self.address)?;
                }
                return Ok(answer);
            }
            if filled == self.answer.len() {
                if filled >= MAX_ANSWER {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the answer is larger than 1 MiB"));
                }
                self.answer.resize(filled * 2, 0);
            }
        }
    }
}

/// A request in place of what was in `out`.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    method: &str,
    path: &str,
    host: SocketAddr,
    body: &[u8],
) -> io::Result<()> {
    out.clear();
    let length = body.len();
    write!(out, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")?;
    out.extend_from_slice(body);
    Ok(())
}

/// A connection to the push API.
pub(crate) fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
    )
}

/// The answer that `bytes` hold and whether the server closes after it; `None` while it is incomplete.
pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Answer, bool)>> {
    let Some(head_len) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = str::from_utf8(&bytes[..head_len]).context("the answer's head is not UTF-8")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let status = status
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .with_context(|| format!("not HTTP/1: {status}"))?;
    let (mut length, mut retry_after, mut close) = (None, None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<usize>().context("bad Content-Length")?);
        } else if name.eq_ignore_ascii_case("retry-after") {
            retry_after = value.parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("Transfer-Encoding: {value}, which this client does not know; the push API sends lengths");
        }
    }
    let length = length.context("an answer without Content-Length")?;
    let Some(body) = bytes.get(head_len + 4..head_len + 4 + length) else { return Ok(None) };
    Ok(Some((Answer { status, retry_after, body: body.to_vec() }, close)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let check = |text: &str, expected: Outcome| {
            let (answer, _) = parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(answer.outcome(), expected);
        };
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{\"code\":0,\"message\":\"\"}",
            Outcome::Accepted,
        );
        check(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 46\r\n\r\n{\"code\":-429,\"message\":\"full, retry after 7 ms\"}",
            Outcome::Refused(Duration::from_millis(7)),
        );
        check(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 2\r\n\r\n{}",
            Outcome::Refused(Duration::from_secs(2)),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{\"code\":-500,\"message\":\"no\"}",
            Outcome::Failed("status 200: {\"code\":-500,\"message\":\"no\"}".into()),
        );
    }

    #[test]
    fn answers_may_come_in_pieces() {
        let whole = b"HTTP/1.1 204 No Content\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]).unwrap(), None, "{cut}");
        }
        let expected = Answer { status: 204, retry_after: None, body: b"abc".to_vec() };
        assert_eq!(parse(whole).unwrap(), Some((expected, true)));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
