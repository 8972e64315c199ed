//! The client half of the upgrade from HTTP/1.1 (RFC 6455 §4.1).

use alloc::format;
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Status};
use thiserror::Error;

use super::handshake::{MAX_HEADERS, VERSION, accept, has_token, value};

/// Why a response does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UpgradeError {
    /// Not HTTP/1.1, or more than 64 headers. Check the address, and whether the port wants TLS.
    #[error("the answer is not HTTP/1.1")]
    Malformed,
    /// Another status than 101. A redirect or an error; check the path.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// Status 101 without `Upgrade: websocket` and `Connection: Upgrade`: the server switched to
    /// something else, or a proxy removed them.
    #[error("the server did not switch to WebSocket")]
    NotAnUpgrade,
    /// `Sec-WebSocket-Accept` is missing or belongs to another key: a cache answered, not a server.
    #[error("the server's accept value does not belong to our key")]
    BadAccept,
    /// The server chose an extension or a subprotocol, though none was offered (§4.1). It is broken.
    #[error("the server uses an extension that was not offered")]
    NotOffered,
}

/// Appends an upgrade request. `host` (with the port unless it is the default one) and
/// `path_and_query` must be free of spaces and line ends; `key` is random, for each connection anew.
pub fn write_request(out: &mut Vec<u8>, host: &str, path_and_query: &str, key: &[u8; 16]) {
    out.extend_from_slice(
        format!(
            "GET {path_and_query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: {VERSION}\r\n\r\n",
            STANDARD.encode(key)
        )
        .as_bytes(),
    );
}

/// Reads the head of the response to the request with `key`. The length of the head, blank line
/// included, once it is complete and right; `None` while the blank line has not arrived.
pub fn parse_response(head: &[u8], key: &[u8; 16]) -> Result<Option<usize>, UpgradeError> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(head) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(UpgradeError::Malformed),
    };
    let (Some(1), Some(status)) = (response.version, response.code) else {
        return Err(UpgradeError::Malformed);
    };
    let headers = &*response.headers;
    if status != 101 {
        return Err(UpgradeError::Status(status));
    }
    if !has_token(headers, "Upgrade", "websocket") || !has_token(headers, "Connection", "upgrade") {
        return Err(UpgradeError::NotAnUpgrade);
    }
    let expected = accept(STANDARD.encode(key).as_bytes());
    if value(headers, "Sec-WebSocket-Accept") != Some(&expected) {
        return Err(UpgradeError::BadAccept);
    }
    let offers = ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"];
    if offers.iter().any(|name| value(headers, name).is_some()) {
        return Err(UpgradeError::NotOffered);
    }
    Ok(Some(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    /// The key that the accept value above belongs to.
    const NONCE: &[u8; 16] = b"the sample nonce";

    #[test]
    fn responses() {
        let check = |line: &str, headers: &[&str], expected: Result<(), UpgradeError>| {
            let head = [&[line, "\r\n"], headers, &["\r\n"]].concat().concat();
            let expected = expected.map(|()| Some(head.len()));
            assert_eq!(parse_response(head.as_bytes(), NONCE), expected, "{head}");
        };
        let switching = "HTTP/1.1 101 Switching Protocols";
        check(switching, &[UPGRADE, ACCEPT], Ok(()));
        check("HTTP/1.1 101", &[ACCEPT, "upgrade: WebSocket\r\nCONNECTION: x, upgrade\r\n"], Ok(()));
        check("HTTP/1.0 101 Yes", &[UPGRADE, ACCEPT], Err(UpgradeError::Malformed));
        check("HTTP/1.1 404 Not Found", &[], Err(UpgradeError::Status(404)));
        check("HTTP/1.1 200 OK", &[UPGRADE, ACCEPT], Err(UpgradeError::Status(200)));
        check(switching, &["Upgrade: websocket\r\n", ACCEPT], Err(UpgradeError::NotAnUpgrade));
        check(switching, &["Connection: Upgrade\r\n", ACCEPT], Err(UpgradeError::NotAnUpgrade));
        check(switching, &[UPGRADE], Err(UpgradeError::BadAccept));
        check(switching, &[UPGRADE, &ACCEPT.to_lowercase()], Err(UpgradeError::BadAccept));
        let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        check(switching, &[UPGRADE, ACCEPT, extension], Err(UpgradeError::NotOffered));
        check(
            switching,
            &[UPGRADE, ACCEPT, "Sec-WebSocket-Protocol: mqtt\r\n"],
            Err(UpgradeError::NotOffered),
        );
        check(switching, &[UPGRADE, ACCEPT, &"X: y\r\n".repeat(62)], Err(UpgradeError::Malformed));
    }

    /// What is no HTTP is refused at its first bytes, without waiting for a blank line.
    #[test]
    fn other_protocols_are_refused_at_once() {
        assert_eq!(parse_response(b"SSH-2.0-OpenSSH_9.6\r\n", NONCE), Err(UpgradeError::Malformed));
        assert_eq!(parse_response(b"\x15\x03\x01\0\x02", NONCE), Err(UpgradeError::Malformed));
    }

    proptest! {
        /// Nothing that a server can send panics, and no bytes by chance are the right answer.
        #[test]
        fn garbage_is_refused_quietly(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(!matches!(parse_response(&bytes, NONCE), Ok(Some(_))));
            let head = [b"HTTP/1.1 101 \r\n", &bytes[..], b"\r\n\r\n"].concat();
            prop_assert!(!matches!(parse_response(&head, NONCE), Ok(Some(_))));
        }
    }
}
