//! The `[logic]` section of the configuration.

use anser_api::logic::{Advice, Backoff};
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
        /// A comet that has said nothing for so long is taken for dead, and its sessions for over. At least
        /// 1s, and at least twice comet.renew.
        comet_silence: Span = Span::secs(60),
        /// After a start, the longest that pushes to keys and users wait for comets to tell who is connected.
        /// At most 24h.
        settle: Span = Span::secs(5),
        /// The node balancer multiplies the weight of a comet in the client's region by this. Clients have no
        /// region, so it holds for comets whose comet.region is "". From 0.001 to 1000.
        region_weight: f64 = 1.6,
        /// The domain that clients are told to connect to, and the only node while there is no comet.
        default_domain: String = "conn.goim.io".to_owned(),
        /// What stands behind a comet's name in the nodes that web pages are told.
        host_domain: String = ".goim.io".to_owned(),
        /// The port for TCP that clients are told. 0: none.
        tcp_port: u16 = 3101,
        /// The port for WebSocket that clients are told. 0: none.
        ws_port: u16 = 3102,
        /// The port for WebSocket over TLS that clients are told. 0: none.
        wss_port: u16 = 0,
        /// Longest that clients are told to wait before they connect again, in whole seconds.
        backoff_max_delay: Span = Span::secs(300),
        /// What they are told to wait first, in whole seconds.
        backoff_base_delay: Span = Span::secs(3),
        /// By how much they are told to multiply that after each failure. From 0 to 1000.
        backoff_factor: f64 = 1.8,
        /// How far they are told to stray from it, as a share. From 0 to 1000.
        backoff_jitter: f64 = 0.3,
    }
}

impl Config {
    /// What clients are told beside the addresses of comets.
    pub fn advice(&self) -> Advice {
        Advice {
            domain: self.default_domain.clone(),
            host_domain: self.host_domain.clone(),
            tcp_port: self.tcp_port,
            ws_port: self.ws_port,
            wss_port: self.wss_port,
            heartbeat: self.heartbeat.0,
            heartbeat_max: self.heartbeat_max,
            backoff: Backoff {
                max_delay: self.backoff_max_delay.0,
                base_delay: self.backoff_base_delay.0,
                factor: self.backoff_factor as f32,
                jitter: self.backoff_jitter as f32,
            },
        }
    }
}
