//! Who a client is: whether what it shows is true, and what that leaves it to choose.
//!
//! - open: it says who it is, and is believed (goim's authentication).
//! - jwt: it shows a signed token ([`jwt`]), checked with keys from files or an address ([`keys`]).
//! - webhook: a back end is asked ([`webhook`]).
//!
//! An answer is ready at once unless somebody has to be asked. Tokens are secrets: no error and no log line
//! holds a part of one.

mod crypto;
mod fault;
mod fetch;
mod file;
mod gate;
mod jwt;
mod key;
mod keys;
mod memory;
mod packet;
mod quiet;
mod stats;
mod verdict;
mod webhook;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anser_api::id::UserId;
use anser_api::logic::{Connect, Refused};
use anser_api::{Answer, ready};
use thiserror::Error;
use tokio::runtime::Handle;

use self::fault::{Fault, Reason};
use self::jwt::Rules;
use self::keys::Keys;
use self::packet::Packet;
use self::webhook::Webhook;
use crate::config::{Auth, Config};

pub use self::crypto::install_crypto;
pub(crate) use self::stats::Stats;

/// What a client may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user behind it, if any.
    pub user: Option<UserId>,
    /// The name of its connection; empty means that the server makes one.
    pub key: String,
    /// The key comes from whoever let the client in, or nobody checks anything: it may take the place of
    /// whoever has it. A key that the client chose must not be another user's.
    pub key_is_bound: bool,
    /// The room to start in; empty means none.
    pub room_id: String,
    /// Operations that it takes.
    pub accepts: Vec<i32>,
    /// It speaks `anser/1`.
    pub anser: bool,
    /// It wants to be told of dropped pushes.
    pub dropped: bool,
}

/// Authentication cannot be set up as configured.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: {remedy}")]
pub struct AuthError {
    /// What is wrong, with the setting.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl AuthError {
    fn url(setting: &str, cause: &str) -> Self {
        Self {
            what: format!("{setting}: {cause}"),
            remedy: "write an address such as \"https://id.example/keys\"".to_owned(),
        }
    }

    fn client(setting: &str, cause: &str) -> Self {
        Self {
            what: format!("{setting}: this machine cannot speak TLS ({cause})"),
            remedy: "install the certificates of authorities (package ca-certificates), or name a file with \
                     them in the environment variable SSL_CERT_FILE"
                .to_owned(),
        }
    }
}

/// Finds out who clients are.
#[derive(Clone)]
pub struct Authenticator {
    mode: Mode,
    stats: Arc<Stats>,
}

#[derive(Clone)]
enum Mode {
    Open,
    Jwt(Arc<Jwt>),
    Webhook(Arc<Webhook>),
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            Mode::Open => "Authenticator(open)",
            Mode::Jwt(_) => "Authenticator(jwt)",
            Mode::Webhook(_) => "Authenticator(webhook)",
        })
    }
}

impl Authenticator {
    /// As configured. Reads the files that are named; whoever has to be asked over the network need not be
    /// there yet. Makes ring the provider of cryptography for this process.
    pub fn new(config: &Config, runtime: &Handle) -> Result<Self, AuthError> {
        install_crypto();
        let stats = Arc::new(Stats::new());
        let mode = match config.auth {
            Auth::Open => Mode::Open,
            Auth::Jwt => Mode::Jwt(Arc::new(Jwt::start(config, runtime, stats.clone())?)),
            Auth::Webhook => Mode::Webhook(Webhook::start(config, runtime, stats.clone())?),
        };
        Ok(Self { mode, stats })
    }

    /// Believes everybody.
    pub fn open() -> Self {
        Self { mode: Mode::Open, stats: Arc::new(Stats::new()) }
    }

    /// Finds out who a client is.
    pub fn authenticate(&self, request: &Connect) -> Answer<'static, Result<Claims, Refused>> {
        let answer = match &self.mode {
            Mode::Open => return ready(open(request).map_err(|fault| self.stats.refuse(fault))),
            Mode::Jwt(jwt) => jwt.authenticate(request),
            Mode::Webhook(webhook) => webhook.authenticate(request),
        };
        let stats = self.stats.clone();
        Box::pin(async move { answer.await.map_err(|fault| stats.refuse(fault)) })
    }

    /// The refusal of a client that chose another user's key.
    pub(crate) fn key_is_taken(&self) -> Refused {
        let text = "another user has this key at the moment: choose another one";
        self.stats.refuse(Fault::new(Reason::KeyTaken, text))
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// goim's authentication.
fn open(request: &Connect) -> Result<Claims, Fault> {
    let token = packet::parse(&request.token)?;
    Ok(Claims {
        user: UserId::parse(token.mid),
        key: token.key,
        key_is_bound: true,
        room_id: token.room_id,
        accepts: token.accepts,
        anser: token.anser,
        dropped: token.dropped,
    })
}

/// Authentication by signed tokens.
struct Jwt {
    keys: Arc<Keys>,
    rules: Rules,
    /// The cookie that may hold a token. Empty: none.
    cookie: String,
}

impl Jwt {
    fn start(config: &Config, runtime: &Handle, stats: Arc<Stats>) -> Result<Self, AuthError> {
        let rules = Rules {
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
            leeway: config.jwt_leeway.0.as_secs_f64(),
        };
        Ok(Self { keys: Keys::start(config, runtime, stats)?, rules, cookie: config.jwt_cookie.clone() })
    }

    /// A token that does not fit is looked at a second time, when keys have been read anew.
    fn authenticate(self: &Arc<Self>, request: &Connect) -> Answer<'static, Result<Claims, Fault>> {
        let Packet { token, wishes } = match self.packet(request) {
            Ok(packet) => packet,
            Err(fault) => return ready(Err(fault)),
        };
        let first = jwt::check(&token, &self.keys.set(), &self.rules, now());
        if let Err(fault) = &first
            && let Some(renewed) = self.keys.renew(fault)
        {
            let jwt = self.clone();
            return Box::pin(async move {
                renewed.await;
                jwt::check(&token, &jwt.keys.set(), &jwt.rules, now())?.merge(wishes)
            });
        }
        ready(first.and_then(|verdict| verdict.merge(wishes)))
    }

    fn packet(&self, request: &Connect) -> Result<Packet, Fault> {
        let mut packet = Packet::read(request)?;
        let cookie = request.cookie.as_deref().filter(|_| !self.cookie.is_empty());
        if packet.token.is_empty()
            && let Some(token) = cookie.and_then(|header| packet::cookie(header, &self.cookie))
        {
            packet.token = token.as_bytes().to_vec();
        }
        if packet.token.is_empty() {
            let text = "there is no token: send it as the body, or in the field token of the JSON";
            return Err(Fault::new(Reason::NoToken, text));
        }
        Ok(packet)
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
