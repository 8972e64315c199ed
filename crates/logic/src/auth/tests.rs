//! Tests with keys of their own and a small HTTP server.

mod errors;
mod hook;
mod issuer;
mod rotation;
mod site;
mod tokens;
mod vectors;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anser_api::id::CometName;
use anser_api::logic::{Connect, Refused};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{Authenticator, Claims};
use crate::config::{Auth, Config};

/// Longest that a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that sends this.
fn client(body: &[u8], cookie: Option<&str>) -> Connect {
    Connect {
        comet: CometName::parse("comet-1", 64).unwrap(),
        token: Bytes::copy_from_slice(body),
        cookie: cookie.map(str::to_owned),
        remote: Ipv4Addr::new(192, 0, 2, 7).into(),
    }
}

/// A token for tests of others.
pub(crate) fn hs256(secret: &[u8], claims: &str) -> String {
    issuer::Issuer::with_secret(secret).token(&serde_json::from_str(claims).unwrap())
}

fn jwt() -> Config {
    Config { auth: Auth::Jwt, ..Config::default() }
}

fn start(config: &Config) -> Authenticator {
    Authenticator::new(config, &Handle::current()).unwrap()
}

async fn answer(auth: &Authenticator, request: Connect) -> Result<Claims, Refused> {
    tokio::time::timeout(PATIENCE, auth.authenticate(&request)).await.expect("it is answered")
}

/// What becomes of a client: `mid key`, or the refusal.
async fn outcome(auth: &Authenticator, body: impl AsRef<[u8]>) -> String {
    match answer(auth, client(body.as_ref(), None)).await {
        Ok(Claims { user, key, .. }) => format!("{} {key}", user.map_or(0, |user| user.0)).trim().to_owned(),
        Err(refused) => refused.to_string(),
    }
}

/// How often clients were refused for this.
fn refusals(auth: &Authenticator, reason: &str) -> u64 {
    auth.stats.refused().find(|(name, _)| *name == reason).unwrap().1
}

/// Lets time pass for all that waits for a time. Real I/O needs real time, so the clock goes on afterwards.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until something is so.
async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it becomes so");
}

/// A folder with files of keys.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file, as careful people do: beside its place, and then there.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (beside, path) = (self.path().join("beside"), self.path().join(name));
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        path
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}
