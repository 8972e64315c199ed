//! What a stranger may cost. One value for a listener, shared by all of its connections.

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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4096,
            upgrade: 8192,
            handshake: Duration::from_secs(8),
            linger: Duration::from_secs(1),
            unmasked: true,
        }
    }
}
