//! What a client has to know before it connects.

use std::time::Duration;

use anser_wire::client::Timing;

use crate::{Address, Backoff, Token};

/// The settings of a client. [`Config::new`] gives each its default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to connect, in order of preference: each attempt starts with the first.
    pub addresses: Vec<Address>,
    /// What to show to be let in, at every connection. Rooms and operations to start with are in it.
    pub token: Token,
    /// Time limits of a connection. `handshake` holds for each address, from the look-up of its name
    /// until it has authenticated us; `heartbeat` must be shorter than the server's idle limit.
    pub timing: Timing,
    /// How long to wait before connecting again.
    pub backoff: Backoff,
    /// How long a request may take, the wait for a connection included. Default 10 s.
    pub request_timeout: Duration,
    /// How many refused authentications in a row end the client. `u32::MAX` is never. Default 10: with
    /// the default backoff about two minutes, in which a server whose own back end restarts is back.
    pub auth_attempts: u32,
    /// Events that wait for [`Events::next`](crate::Events::next). When so many wait, the socket is no
    /// longer read. At least 1; default 256.
    pub events: usize,
    /// Requests that wait to be written. When so many wait, the caller of the next one waits. At least
    /// 1; default 64.
    pub requests: usize,
    /// Largest body of a request, in bytes. Default 4096, goim's limit: a server closes the connection
    /// on a larger one than it allows.
    pub max_body: usize,
}

impl Config {
    /// Connects to these addresses with this token, everything else as by default.
    pub fn new(addresses: impl IntoIterator<Item = Address>, token: impl Into<Token>) -> Self {
        Self {
            addresses: addresses.into_iter().collect(),
            token: token.into(),
            timing: Timing::default(),
            backoff: Backoff::default(),
            request_timeout: Duration::from_secs(10),
            auth_attempts: 10,
            events: 256,
            requests: 64,
            max_body: 4096,
        }
    }
}
