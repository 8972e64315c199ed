//! The `[http]` section of the configuration.

use std::net::SocketAddr;

use anser_api::settings;
use anser_api::settings::Span;

settings! {
    /// The HTTP API's part of the configuration.
    pub struct Config {
        /// Address of the push API, health and metrics.
        bind: SocketAddr = ([127, 0, 0, 1], 3111).into(),
        /// Whether back ends must send a key of push.key in the data folder (`Authorization: Bearer KEY`).
        /// When false, whoever reaches the address may push; it must then be loopback.
        require_key: bool = true,
        /// Web pages that may call the API from a browser, by origin, such as "https://app.example"; "*" for
        /// all. When empty, none but the server's own /docs. Back ends are no browsers and have no origin.
        allowed_origins: Vec<String> = Vec::new(),
        /// Largest request body, in bytes. At least 1.
        body: usize = 1_000_000,
        /// Longest a caller may take over a request's head and body, and leave an answer unread. At least
        /// 100ms.
        request_timeout: Span = Span::secs(10),
        /// Most connections at once. At least 1; at most the files that are kept for them, see
        /// comet.max_connections.
        max_connections: usize = 4096,
        /// Most devices, users or rooms in one push, and most rooms in one question for members. At least 1.
        receivers: usize = 10_000,
        /// The environment that /goim/nodes/instances tells of every comet.
        deploy_env: String = "dev".to_owned(),
    }
}
