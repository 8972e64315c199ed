//! What hyper answers by itself to a head that is too long, in the form of the API.
//!
//! goim's API has its keys in the URL, and goim takes 100 KB of them. hyper ends at 64 KiB of URL, and
//! its answer has no body, so nobody would know what to do.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How hyper's own answers begin. No route of ours has these statuses.
const STATUS_LINES: [&str; 2] = ["HTTP/1.1 414 URI Too Long", "HTTP/1.1 431 Request Header Fields Too Large"];

const BODY: &str = r#"{"code":-400,"message":"the URL or the headers are too long (a URL may have 65534 bytes): send several pushes with fewer keys or mids in each"}"#;

/// A caller's socket, on which such an answer gets a body.
#[derive(Debug)]
pub(crate) struct Told {
    stream: TcpStream,
    /// What is written instead, after which hyper closes.
    answer: Option<Bytes>,
}

impl Told {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, answer: None }
    }
}

/// The whole answer, if hyper is about to write one of its own.
fn answer(bytes: &[u8]) -> Option<Bytes> {
    let line = STATUS_LINES.into_iter().find(|line| bytes.starts_with(line.as_bytes()))?;
    let len = BODY.len();
    let answer = format!(
        "{line}\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {len}\r\n\r\n{BODY}"
    );
    Some(answer.into())
}

impl AsyncRead for Told {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Told {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, answer: own } = &mut *self;
        if own.is_none() {
            *own = answer(bytes);
        }
        let Some(own) = own else { return Pin::new(stream).poll_write(cx, bytes) };
        while own.has_remaining() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, own))?;
            own.advance(written);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_answers_are_replaced() {
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(answer(b"HTTP/1.1 413 Payload Too Large\r\n"), None);
        let told = answer(b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\n\r\n").unwrap();
        assert!(told.starts_with(b"HTTP/1.1 414 URI Too Long\r\n") && told.ends_with(BODY.as_bytes()));
    }
}
