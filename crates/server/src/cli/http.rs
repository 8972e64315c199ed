//! One HTTP/1.1 request. hyper is in the tree through axum already, and knows what a proxy on the way may
//! answer (chunks, continuations, bodies that end with the connection); so it costs less than our own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, RETRY_AFTER};
use hyper::http::request::Builder;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::exit::Exit;
use crate::failure::{Failure, plain};
use crate::push_key::Secret;

/// From the first packet to the end of the answer. The server itself gives a request 10 s by default.
const PATIENCE: Duration = Duration::from_secs(15);

/// The same for what a server answers at once.
const GET_PATIENCE: Duration = Duration::from_secs(3);

/// Longest answer that is read, in bytes. The longest that there is are the metrics, of some kilobytes for
/// each worker.
const LONGEST: usize = 16 << 20;

/// The address of an HTTP server, `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    host: String,
    port: u16,
}

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Seconds, or a date.
    pub(super) retry_after: Option<String>,
    pub(super) body: Bytes,
}

impl Base {
    /// Sends the body to `path`, which begins with a slash and may hold a query, with a key if there is one.
    pub(super) async fn post(
        &self,
        path: &str,
        key: Option<&Secret>,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::post(path);
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        match timeout(PATIENCE, self.exchange(request, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(
                Exit::Unavailable,
                format!("{self} did not answer within {} s", PATIENCE.as_secs()),
                "the message may or may not have been sent; look at the server's log",
            )),
        }
    }

    /// Asks the API something that may be asked again.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        key: Option<&Secret>,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        match timeout(PATIENCE, self.exchange(request, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(
                Exit::Unavailable,
                format!("{self} did not answer within {} s", PATIENCE.as_secs()),
                "try again; look at the server's log",
            )),
        }
    }

    /// Asks for `path`, and reads no more of the answer than a server of ours says.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        match timeout(GET_PATIENCE, self.exchange(Request::get(path), Vec::new())).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(
                Exit::Unavailable,
                format!("{self} did not answer within {} s", GET_PATIENCE.as_secs()),
                "it hangs, or is no HTTP server; look at its log",
            )),
        }
    }

    async fn exchange(&self, request: Builder, body: Vec<u8>) -> Result<Answer, Failure> {
        let stream = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port))
            .await
            .map_err(|error| self.unreachable(&error))?;
        let broken = |error: hyper::Error| self.broken(&error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let request = request
            .header(HOST, format!("{}:{}", self.host, self.port))
            .body(Full::new(Bytes::from(body)))
            .expect("the path is made of escaped parts, and keys are visible ASCII");
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await.map_err(|error| self.cut(&*error))?.to_bytes();
        connection.abort();
        let retry_after =
            head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: head.status.as_u16(), retry_after, body })
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        if error.is_parse() {
            return Failure::new(
                Exit::Unavailable,
                format!("{self} does not answer as an HTTP server does ({error})"),
                "--http must name the address of http.bind",
            );
        }
        Failure::new(
            Exit::Unavailable,
            format!("{self} closed the connection without an answer ({error})"),
            "the message may or may not have been sent; look at the server's log",
        )
    }

    fn cut(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        Failure::new(
            Exit::Unavailable,
            format!("the answer of {self} broke off ({error})"),
            "--http must name the address of http.bind",
        )
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let what = format!("no server at {self} ({})", plain(error));
        Failure::new(Exit::Unavailable, what, "`anser up` starts one, --http names another")
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for Base {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        Self { host, port: address.port() }
    }
}

impl FromStr for Base {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write http://host:port, such as http://127.0.0.1:3111";
        let uri: Uri = text.parse().map_err(|_| FORM)?;
        if uri.scheme_str() == Some("https") {
            return Err(
                "the push API speaks plain HTTP; write http://host:port, through a tunnel if need be",
            );
        }
        let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
        match uri.host().filter(|_| plain) {
            Some(host) => Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(80) }),
            None => Err(FORM),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("http://127.0.0.1:3111", "http://127.0.0.1:3111"),
            ("http://[::1]:3111/", "http://[::1]:3111"),
            ("http://push.example", "http://push.example:80"),
        ] {
            assert_eq!(text.parse::<Base>().unwrap().to_string(), shown);
        }
        for text in
            ["", "127.0.0.1:3111", "ftp://host:1", "http://host/path", "http://host?q", "https://host"]
        {
            assert!(text.parse::<Base>().unwrap_err().contains("write http://host:port"), "{text}");
        }
    }
}
