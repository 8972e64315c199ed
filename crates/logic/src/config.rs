//! The `[logic]` section of the configuration.

use std::path::PathBuf;

use anser_api::logic::{Advice, Backoff};
use anser_api::settings;
use anser_api::settings::Span;
use serde::{Deserialize, Serialize};

/// How clients show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// They say so, and are believed: goim's authentication.
    Open,
    /// With a signed token that names them.
    Jwt,
    /// With whatever a back end, asked for each of them, makes out.
    Webhook,
}

/// What becomes of clients while the back end that decides cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Absence {
    /// Each is told to come again.
    Refuse,
    /// Those that it let in a short while ago come in again.
    Last,
}

settings! {
    /// Logic's part of the configuration.
    pub struct Config {
        /// How clients show who they are: "open" (they name themselves, as with goim), "jwt" (a signed token
        /// names them) or "webhook" (a back end is asked). docs/authentication.md tells of each.
        auth: Auth = Auth::Open,
        /// In open mode: whether clients may name themselves (goim's authentication: any user, any key) although the
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
        /// For jwt: file with the secret of tokens signed by HS256, at least 32 bytes; a newline at its end
        /// does not count. Empty: none. This and the next three may be set together; each file is read
        /// again when it changes.
        jwt_secret_file: PathBuf = PathBuf::new(),
        /// For jwt: file with a public key (PEM) for tokens signed by EdDSA (Ed25519), ES256 (P-256) or RS256
        /// (RSA of at least 2048 bits). Empty: none.
        jwt_public_key_file: PathBuf = PathBuf::new(),
        /// For jwt: file with a set of keys (JWKS). Empty: none.
        jwks_file: PathBuf = PathBuf::new(),
        /// For jwt: http or https address of a set of public keys (JWKS). Redirects are not followed. Empty:
        /// none.
        jwks_url: String = String::new(),
        /// How often jwks_url is fetched again; also at once, but at most every 30s, when a token names a key
        /// that is not known. At least 10s, at most 24h.
        jwks_refresh: Span = Span::secs(600),
        /// Longest that jwks_url may take to answer. At least 100ms, and less than comet.handshake_timeout.
        jwks_timeout: Span = Span::secs(5),
        /// For jwt: the issuer (`iss`) that a token must have. Empty: any.
        jwt_issuer: String = String::new(),
        /// For jwt: the audience (`aud`) that a token must be for. Empty: any.
        jwt_audience: String = String::new(),
        /// For jwt: how far the clocks of issuers may be off, for `exp` and `nbf`. At most 1h.
        jwt_leeway: Span = Span::secs(30),
        /// For jwt: the cookie of a WebSocket upgrade that holds the token when the authentication packet has
        /// none. Browsers send cookies for pages of others too, so name yours in comet.allowed_origins.
        /// Empty: no cookie counts.
        jwt_cookie: String = "anser_token".to_owned(),
        /// For webhook: http or https address that is asked about each client. Redirects are not followed.
        webhook_url: String = String::new(),
        /// Longest that webhook_url may take to answer. At least 100ms, and less than comet.handshake_timeout.
        webhook_timeout: Span = Span::secs(3),
        /// While webhook_url does not answer: "refuse" tells clients to come again, "last" lets in those whose
        /// token it let in within webhook_grace.
        webhook_away: Absence = Absence::Refuse,
        /// How long an answer that let a client in counts for `webhook_away = "last"`. At least 1s, at most
        /// 24h.
        webhook_grace: Span = Span::secs(300),
        /// For webhook: file with a secret that is sent as `Authorization: Bearer`. Empty: none.
        webhook_secret_file: PathBuf = PathBuf::new(),
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
