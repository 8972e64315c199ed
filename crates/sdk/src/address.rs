//! Where a server is: `tcp://host:port` or `ws://host:port/path?query`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// The path of a WebSocket address that names none: goim's and Anser's only one.
const DEFAULT_PATH: &str = "/sub";

/// The address of a server, and how to speak to it.
///
/// ```
/// use anser_sdk::Address;
///
/// let tcp: Address = "tcp://push.example.com:3101".parse()?;
/// let websocket: Address = "ws://[::1]:3102/sub?from=docs".parse()?;
/// assert_eq!(websocket.to_string(), "ws://[::1]:3102/sub?from=docs");
/// assert_ne!(tcp, websocket);
/// # Ok::<(), anser_sdk::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    host: String,
    port: u16,
    /// Path and query of a WebSocket; `None` is TCP.
    target: Option<String>,
}

impl Address {
    /// What to look up and connect to.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Path and query of the upgrade, for a WebSocket.
    pub(crate) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// `host:port` as an HTTP `Host` header has it.
    pub(crate) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            None => write!(f, "tcp://{}", self.authority()),
            Some(target) => write!(f, "ws://{}{target}", self.authority()),
        }
    }
}

/// A text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// It starts with neither `tcp://` nor `ws://`. TLS is not spoken yet.
    #[error("address {0:?} must start with tcp:// or ws://")]
    Scheme(String),
    /// The host is missing, or has characters that no host has. IPv6 needs brackets.
    #[error("address {0:?} has no valid host: write tcp://host:port, with an IPv6 host as [::1]")]
    Host(String),
    /// The port is missing, or not from 1 to 65535.
    #[error("address {0:?} has no valid port: write host:port, such as {1}")]
    Port(String, &'static str),
    /// Path and query have characters that must be percent-encoded, or there is a fragment (`#`).
    #[error("address {0:?} has no valid path: percent-encode blanks and non-ASCII, and leave out #")]
    Path(String),
    /// A TCP address with a path.
    #[error("address {0:?} has a path, which TCP has no use for: leave it out, or use ws://")]
    TcpPath(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let owned = || text.to_owned();
        let (websocket, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tcp") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => (true, rest),
            _ => return Err(AddressError::Scheme(owned())),
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = split_port(authority).ok_or_else(|| AddressError::Host(owned()))?;
        let example = if websocket { "ws://localhost:3102" } else { "tcp://localhost:3101" };
        let port = match port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse()) {
            Some(Ok(port)) if port != 0 => port,
            _ => return Err(AddressError::Port(owned(), example)),
        };
        let target = match (websocket, target) {
            (false, "" | "/") => None,
            (false, _) => return Err(AddressError::TcpPath(owned())),
            (true, target) if !is_target(target) => return Err(AddressError::Path(owned())),
            (true, target) if target.starts_with('/') => Some(target.to_owned()),
            (true, query) => Some(format!("{DEFAULT_PATH}{query}")),
        };
        Ok(Self { host: host.to_owned(), port, target })
    }
}

/// Host (without brackets) and port of `host:port`, or nothing if the host is none. The port is
/// empty when it is missing.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return if port.is_empty() { Some((host, port)) } else { Some((host, port.strip_prefix(':')?)) };
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (!host.is_empty() && host.bytes().all(valid)).then_some((host, port))
}

/// Whether the text can stand in the request line as it is.
fn is_target(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        let check = |text: &str, expected: &str| {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), expected);
            assert_eq!(expected.parse(), Ok(address));
        };
        check("tcp://localhost:3101", "tcp://localhost:3101");
        check("TCP://10.0.0.1:1/", "tcp://10.0.0.1:1");
        check("tcp://[::1]:3101", "tcp://[::1]:3101");
        check("ws://push-1.example_a.com:80/", "ws://push-1.example_a.com:80/");
        check("ws://localhost:3102/a/b?x=1&y=%20", "ws://localhost:3102/a/b?x=1&y=%20");
        check("ws://localhost:3102", "ws://localhost:3102/sub");
        check("ws://localhost:3102?x=1", "ws://localhost:3102/sub?x=1");
        check("Ws://[2001:db8::1]:65535/sub", "ws://[2001:db8::1]:65535/sub");
    }

    #[test]
    fn errors_name_the_part_that_is_wrong() {
        let check = |text: &str, expected: fn(String) -> AddressError| {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error, expected(text.to_owned()));
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        };
        let tcp_port = |text| AddressError::Port(text, "tcp://localhost:3101");
        let ws_port = |text| AddressError::Port(text, "ws://localhost:3102");
        check("", AddressError::Scheme);
        check("localhost:3101", AddressError::Scheme);
        check("wss://localhost:3103/sub", AddressError::Scheme);
        check("http://localhost:3102/sub", AddressError::Scheme);
        check("tcp://", AddressError::Host);
        check("tcp://:3101", AddressError::Host);
        check("tcp://user@host:3101", AddressError::Host);
        check("tcp://a b:3101", AddressError::Host);
        check("tcp://[::1:3101", AddressError::Host);
        check("tcp://[localhost]:3101", AddressError::Host);
        check("tcp://[::1]3101", AddressError::Host);
        check("tcp://localhost", tcp_port);
        check("tcp://localhost:", tcp_port);
        check("tcp://localhost:0", tcp_port);
        check("tcp://localhost:65536", tcp_port);
        check("tcp://localhost:+80", tcp_port);
        check("tcp://::1:3101", AddressError::Host);
        check("ws://localhost/sub", ws_port);
        check("ws://localhost:http/sub", ws_port);
        check("ws://localhost:3102/a b", AddressError::Path);
        check("ws://localhost:3102/a\r\nX: y", AddressError::Path);
        check("ws://localhost:3102/\u{e9}", AddressError::Path);
        check("ws://localhost:3102/sub#top", AddressError::Path);
        check("tcp://localhost:3101/sub", AddressError::TcpPath);
    }
}
