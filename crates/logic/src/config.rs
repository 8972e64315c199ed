//! The `[logic]` section of the configuration.

use anser_api::settings;
use anser_api::settings::Span;

settings! {
    /// Logic's part of the configuration.
    pub struct Config {
        /// Whether clients may name themselves (goim's authentication: any user, any key) although the
        /// edge listens beyond loopback. On loopback they always may.
        allow_open_beyond_loopback: bool = false,
        /// How often clients should send a heartbeat. At least 1s, at most 24h.
        heartbeat: Span = Span::secs(240),
        /// How many heartbeats may be missed before a client counts as gone. At least 1, at most
        /// 1000.
        heartbeat_max: u32 = 2,
        /// Longest key of a connection, in bytes. At most 4096.
        key: usize = 256,
        /// Most connections that a push to users may reach; one to more is refused. At least 1.
        push_connections: usize = 100_000,
    }
}
