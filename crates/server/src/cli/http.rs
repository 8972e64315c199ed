//! One HTTP/1.1 POST. hyper is in the tree through axum already, and knows what a proxy on the way may
//! answer (chunks, continuations, bodies that end with the connection); so it costs less than our own.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, RETRY_AFTER};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::exit::Exit;
use crate::failure::{Failure, plain};
use crate::push_key::Secret;

/// From the first packet to the end of the answer. The server itself gives a request 10 s by default.
const PATIENCE: Duration = Duration::from_secs(15);

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
        match timeout(PATIENCE, self.exchange(path, key, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(
                Exit::Unavailable,
                format!("{self} did not answer within {} s", PATIENCE.as_secs()),
                "the message may or may not have been sent; look at the server's log",
            )),
        }
    }

    async fn exchange(&self, path: &str, key: Option<&Secret>, body: Vec<u8>) -> Result<Answer, Failure> {
        let stream = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port))
            .await
            .map_err(|error| self.unreachable(&error))?;
        let broken = |error: hyper::Error| self.broken(&error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let mut request = Request::post(path).header(HOST, format!("{}:{}", self.host, self.port));
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .expect("the path is made of escaped parts, and keys are visible ASCII");
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
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
