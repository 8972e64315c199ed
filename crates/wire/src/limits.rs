//! What a stranger may cost. One value for a listener, shared by all of its connections.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// Limits of the protocol core. All are enforced before the bytes that would break them are kept.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body of a packet from a client, in bytes. goim has 4096, and its clients know no other.
    pub body: usize,
    /// Largest header block of a WebSocket upgrade, in bytes.
    pub upgrade: usize,
    /// From accept until authentication is complete.
    pub handshake: Duration,
    /// How long a closing connection waits for the peer's own close before it is cut.
    pub linger: Duration,
    /// Whether WebSocket clients may send frames without a mask (RFC 6455 §5.1 forbids it, goim takes them).
    pub unmasked: bool,
    /// Whose web pages may open a WebSocket.
    pub origins: Origins,
}

/// Whose web pages may open a WebSocket: browsers let every page connect to every server, and say in
/// `Origin` whose page it is (RFC 6455 §10.2). Clients that are no browsers send none, and are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Anybody's.
    All,
    /// Those of servers on this machine.
    Loopback,
    /// Those of these origins, such as `https://app.example`.
    Only(Vec<String>),
}

impl Origins {
    /// Whether a request with this `Origin` may pass.
    pub fn allow(&self, origin: Option<&[u8]>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::All => true,
            Self::Loopback => str::from_utf8(origin).is_ok_and(is_loopback),
            Self::Only(list) => list.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin)),
        }
    }
}

/// Whether an origin, `scheme://host[:port]`, is of this machine.
fn is_loopback(origin: &str) -> bool {
    let Some((_, host)) = origin.split_once("://") else { return false };
    let host = match host.strip_prefix('[') {
        Some(ipv6) => ipv6.split(']').next(),
        None => host.split(':').next(),
    };
    host.is_some_and(|host| {
        let host = host.to_ascii_lowercase();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
    })
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4096,
            upgrade: 8192,
            handshake: Duration::from_secs(8),
            linger: Duration::from_secs(1),
            unmasked: true,
            origins: Origins::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use super::*;

    #[test]
    fn origins() {
        let only = || Origins::Only([("https://app.example".to_owned())].into());
        for (origin, loopback, listed) in [
            ("http://localhost", true, false),
            ("http://LOCALHOST:8080", true, false),
            ("https://app.localhost", true, false),
            ("http://127.0.0.1:1999", true, false),
            ("http://[::1]:1999", true, false),
            ("https://app.example", false, true),
            ("https://APP.example", false, true),
            ("https://app.example:444", false, false),
            ("http://app.example", false, false),
            ("https://localhost.evil.example", false, false),
            ("https://evil.example", false, false),
            ("http://127.0.0.1.evil.example", false, false),
            ("http://192.0.2.1", false, false),
            ("localhost", false, false),
            ("null", false, false),
            ("", false, false),
        ] {
            assert!(Origins::All.allow(Some(origin.as_bytes())));
            assert_eq!(Origins::Loopback.allow(Some(origin.as_bytes())), loopback, "{origin}");
            assert_eq!(only().allow(Some(origin.as_bytes())), listed, "{origin}");
        }
        for origins in [Origins::All, Origins::Loopback, only()] {
            assert!(origins.allow(None), "a client that is no browser");
        }
    }
}
