//! The server half of the upgrade from HTTP/1.1 (RFC 6455 §4.2), and what both halves share.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Header, Status};
use sha1::{Digest, Sha1};
use thiserror::Error;

/// Most headers in one head. Browsers send about 15; proxies add a few. Each costs 32 bytes of stack
/// while a head is parsed.
pub(super) const MAX_HEADERS: usize = 64;

/// What the key is hashed with, so that only a WebSocket server answers right (§1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version there is (§4.1).
pub(super) const VERSION: &str = "13";

/// A request for a WebSocket that can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Bytes of the head, the blank line included. Frames follow.
    pub len: usize,
    /// The target up to the `?`, still percent-encoded.
    pub path: &'a str,
    /// The target behind the `?`, still percent-encoded.
    pub query: Option<&'a str>,
    /// Whose web page asks; nobody's, if it is no browser.
    pub origin: Option<&'a [u8]>,
    /// The first `Cookie` header, when it is UTF-8.
    pub cookie: Option<&'a str>,
    /// The value of `Sec-WebSocket-Accept`, for [`write_response`].
    pub accept: [u8; 28],
}

/// Why a request is not granted. The messages go to the client as they are, so they say what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not HTTP/1.1 at all, such as a TLS hello or a goim packet. 400.
    #[error("this port speaks WebSocket: send a valid HTTP/1.1 request")]
    Malformed,
    /// Another method than GET. 405.
    #[error("a WebSocket starts with a GET request")]
    Method,
    /// There is no WebSocket at this path. 404; the caller decides that.
    #[error("no WebSocket here: check the path")]
    NotFound,
    /// A page of somebody else's asks. 403; the caller decides that.
    #[error("pages of this origin may not connect: the server's comet.allowed_origins names those that may")]
    Origin,
    /// Another version than 13. 426.
    #[error("set Sec-WebSocket-Version to 13")]
    Version,
    /// Ordinary HTTP: `Upgrade` or `Connection` does not ask for a WebSocket. 426.
    #[error("this address only speaks WebSocket: set Upgrade: websocket and Connection: Upgrade")]
    NotAnUpgrade,
    /// No `Sec-WebSocket-Key`, or an empty one. 400.
    #[error("set Sec-WebSocket-Key to 16 random bytes in base64")]
    Key,
    /// More than 64 headers, or, as the caller decides, too many bytes. 431.
    #[error("too many or too large headers: send fewer headers or cookies")]
    TooLarge,
}

impl Refusal {
    /// A short fixed name, for counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "upgrade_malformed",
            Self::Method => "upgrade_method",
            Self::NotFound => "upgrade_not_found",
            Self::Origin => "upgrade_origin",
            Self::Version => "upgrade_version",
            Self::NotAnUpgrade => "upgrade_missing",
            Self::Key => "upgrade_key",
            Self::TooLarge => "upgrade_too_large",
        }
    }

    /// Appends the whole HTTP response. The connection is to be closed behind it.
    pub fn write(self, out: &mut Vec<u8>) {
        let (status, headers) = match self {
            Self::Malformed | Self::Key => ("400 Bad Request", "Connection: close\r\n"),
            Self::Method => ("405 Method Not Allowed", "Allow: GET\r\nConnection: close\r\n"),
            Self::NotFound => ("404 Not Found", "Connection: close\r\n"),
            Self::Origin => ("403 Forbidden", "Connection: close\r\n"),
            // Who sends Upgrade must name it in Connection (RFC 9110 §7.8).
            Self::Version => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: close, Upgrade\r\n",
            ),
            Self::NotAnUpgrade => {
                ("426 Upgrade Required", "Upgrade: websocket\r\nConnection: close, Upgrade\r\n")
            }
            Self::TooLarge => ("431 Request Header Fields Too Large", "Connection: close\r\n"),
        };
        let body = self.to_string();
        let len = body.len() + 1;
        out.extend_from_slice(
            format!(
                "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain\r\nContent-Length: {len}\r\n\r\n{body}\n"
            )
            .as_bytes(),
        );
    }
}

/// Reads the head of an upgrade request; `None` while its blank line has not arrived.
///
/// `Host` is not checked, nor whether the key is 16 bytes in base64: goim's clients
/// send what they like, and only the accept value depends on it.
pub fn parse_request(head: &[u8]) -> Result<Option<Request<'_>>, Refusal> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(head) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        Err(_) => return Err(Refusal::Malformed),
    };
    let (Some(1), Some(method), Some(target)) = (request.version, request.method, request.path) else {
        return Err(Refusal::Malformed);
    };
    let headers = &*request.headers;
    if method != "GET" {
        return Err(Refusal::Method);
    }
    if !has_token(headers, "Upgrade", "websocket") || !has_token(headers, "Connection", "upgrade") {
        return Err(Refusal::NotAnUpgrade);
    }
    if value(headers, "Sec-WebSocket-Version") != Some(VERSION.as_bytes()) {
        return Err(Refusal::Version);
    }
    let key = value(headers, "Sec-WebSocket-Key").filter(|key| !key.is_empty()).ok_or(Refusal::Key)?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let cookie = value(headers, "Cookie").and_then(|cookie| str::from_utf8(cookie).ok());
    let origin = value(headers, "Origin");
    Ok(Some(Request { len, path, query, origin, cookie, accept: accept(key) }))
}

/// Appends the response that grants a request. Frames follow.
pub fn write_response(out: &mut Vec<u8>, accept: &[u8; 28]) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept);
    out.extend_from_slice(b"\r\n\r\n");
}

/// The answer to a key as it stands in the header: SHA-1 of it and [`GUID`], in base64 (§4.2.2).
pub(super) fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    let written = STANDARD.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(28), "20 bytes are 28 in base64");
    accept
}

/// The value of the first header called `name`.
pub(super) fn value<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    Some(header.value.trim_ascii())
}

/// Whether a list of words, which may be spread over several headers, has `token` in it.
pub(super) fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name))
        .flat_map(|header| header.value.split(|byte| *byte == b','))
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    const VERSION_13: &str = "Sec-WebSocket-Version: 13\r\n";

    #[test]
    fn requests() {
        let check = |line: &str, headers: &[&str], expected: Result<(&str, Option<&str>), Refusal>| {
            let head = [&[line, "\r\n"], headers, &["\r\n"]].concat().concat();
            let got = parse_request(head.as_bytes()).map(|request| {
                let request = request.expect("the head is complete");
                (request.path, request.cookie)
            });
            assert_eq!(got, expected, "{head}");
        };
        let get = "GET /sub HTTP/1.1";
        let ok = Ok(("/sub", None));
        check(get, &[UPGRADE, KEY, VERSION_13], ok);
        check(
            get,
            &["UPGRADE: h2c, WebSocket\r\nconnection: keep-alive,\tupgrade \r\n", KEY, VERSION_13],
            ok,
        );
        check(get, &["Connection: keep-alive\r\n", UPGRADE, "Connection: x\r\n", KEY, VERSION_13], ok);
        // Not 16 bytes, not even base64: goim takes it.
        check(get, &[UPGRADE, VERSION_13, "Sec-WebSocket-Key: x\r\n"], ok);
        check(get, &["Cookie: a=b; c\r\n", UPGRADE, KEY, VERSION_13], Ok(("/sub", Some("a=b; c"))));
        check("GET /?x HTTP/1.1", &[UPGRADE, KEY, VERSION_13], Ok(("/", None)));
        check("POST /sub HTTP/1.1", &[UPGRADE, KEY, VERSION_13], Err(Refusal::Method));
        check("GET /sub HTTP/1.0", &[UPGRADE, KEY, VERSION_13], Err(Refusal::Malformed));
        check("GET /sub HTTP/2.0", &[UPGRADE, KEY, VERSION_13], Err(Refusal::Malformed));
        check("GET  /sub HTTP/1.1", &[UPGRADE, KEY, VERSION_13], Err(Refusal::Malformed));
        check(get, &[UPGRADE, KEY, "no colon\r\n", VERSION_13], Err(Refusal::Malformed));
        check(get, &[], Err(Refusal::NotAnUpgrade));
        check(get, &["Upgrade: websocket\r\n", KEY, VERSION_13], Err(Refusal::NotAnUpgrade));
        check(get, &["Connection: Upgrade\r\n", KEY, VERSION_13], Err(Refusal::NotAnUpgrade));
        check(
            get,
            &["Upgrade: websockets\r\nConnection: upgrade\r\n", KEY, VERSION_13],
            Err(Refusal::NotAnUpgrade),
        );
        check(get, &[UPGRADE, KEY], Err(Refusal::Version));
        check(get, &[UPGRADE, KEY, "Sec-WebSocket-Version: 8\r\n"], Err(Refusal::Version));
        check(get, &[UPGRADE, VERSION_13], Err(Refusal::Key));
        check(get, &[UPGRADE, VERSION_13, "Sec-WebSocket-Key:  \r\n"], Err(Refusal::Key));
        check(get, &[UPGRADE, KEY, VERSION_13, &"X: y\r\n".repeat(60)], ok);
        check(get, &[UPGRADE, KEY, VERSION_13, &"X: y\r\n".repeat(61)], Err(Refusal::TooLarge));
    }

    /// A cookie of another application on the same domain must not lock the user out.
    #[test]
    fn cookies_that_are_not_utf8_are_ignored() {
        let head =
            [b"GET / HTTP/1.1\r\nCookie: \xff\r\n", [UPGRADE, KEY, VERSION_13].concat().as_bytes(), b"\r\n"]
                .concat();
        assert_eq!(parse_request(&head).unwrap().unwrap().cookie, None);
    }

    /// What is no HTTP is refused at its first bytes, without waiting for a blank line.
    #[test]
    fn other_protocols_are_refused_at_once() {
        assert_eq!(parse_request(b"\x16\x03\x01\x02\x00\x01"), Err(Refusal::Malformed));
        assert_eq!(parse_request(b"\x00\x00\x00\x10\x00\x10"), Err(Refusal::Malformed));
    }

    #[test]
    fn refusals_are_whole_responses() {
        let check = |refusal: Refusal, status: u16, expected: &[(&str, &str)]| {
            let mut out = Vec::new();
            refusal.write(&mut out);
            let mut headers = [EMPTY_HEADER; 8];
            let mut response = httparse::Response::new(&mut headers);
            let len = response.parse(&out).unwrap().unwrap();
            assert_eq!(response.code, Some(status));
            let get = |name| value(response.headers, name).map(|value| str::from_utf8(value).unwrap());
            for (name, value) in expected {
                assert_eq!(get(name), Some(*value), "{name} of {refusal:?}");
            }
            assert!(has_token(response.headers, "Connection", "close"));
            assert_eq!(get("Content-Type"), Some("text/plain"));
            let body = str::from_utf8(&out[len..]).unwrap();
            assert_eq!(get("Content-Length").unwrap().parse(), Ok(body.len()));
            assert_eq!(body.lines().count(), 1);
            assert_eq!(response.headers.len(), 3 + expected.len() - usize::from(status == 426));
        };
        check(Refusal::Malformed, 400, &[]);
        check(Refusal::Method, 405, &[("Allow", "GET")]);
        check(Refusal::NotFound, 404, &[]);
        let upgrade = [("Upgrade", "websocket"), ("Connection", "close, Upgrade")];
        check(Refusal::NotAnUpgrade, 426, &upgrade);
        check(Refusal::Version, 426, &[&upgrade[..], &[("Sec-WebSocket-Version", "13")]].concat());
        check(Refusal::Key, 400, &[]);
        check(Refusal::TooLarge, 431, &[]);
    }

    proptest! {
        /// Heads that are nearly right are granted or refused, and never panic; one that is granted
        /// has the length that it says.
        #[test]
        fn any_head_is_answered(
            line in "(GET|PUT) /[a-z?=%]{0,9} HTTP/1\\.[01]\r\n",
            headers in "((Upgrade|Connection|Cookie|Sec-WebSocket-(Key|Version)): [\\x20-\\x7f\u{e9}]{0,9}\r\n){0,8}",
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let head = String::from_iter([&line, &headers, UPGRADE, KEY, VERSION_13, "\r\n"]);
            if let Ok(Some(request)) = parse_request(head.as_bytes()) {
                prop_assert_eq!(request.len, head.len());
            }
            let _ = parse_request(&bytes);
        }
    }
}
