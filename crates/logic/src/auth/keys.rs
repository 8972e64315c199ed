//! Where keys come from, and when they are looked at again.
//!
//! Files are looked at every second, and an address every [`Config::jwks_refresh`]. A token that does not fit
//! makes both be read at once, within limits. What cannot be read changes nothing: the last good keys go on.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Client, StatusCode, Url};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::fault::{Fault, Reason};
use super::file::Stamp;
use super::gate::{Entry, Gate, Pass};
use super::jwt::KeySet;
use super::key::{self, From, Key};
use super::quiet::Quiet;
use super::stats::{Stats, count};
use super::{AuthError, fetch, file};
use crate::config::Config;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// For one token that does not fit files are read, even unchanged ones; for others not again within this.
const REREAD_PAUSE: Duration = Duration::from_secs(5);

/// The same for the address, which is somebody else's server.
const FETCH_PAUSE: Duration = Duration::from_secs(30);

/// How soon an address that failed is tried again while there is no key from it, and when there is.
const RETRY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// Largest set of keys that is fetched, in bytes.
const LARGEST: usize = 1 << 20;

/// Keys, and where they come from.
pub(super) struct Keys {
    files: Vec<Source>,
    remote: Option<Remote>,
    reread: Arc<Gate>,
    fetch: Arc<Gate>,
    /// A short lock: each token copies a pointer.
    known: Mutex<Known>,
    runtime: Handle,
    stats: Arc<Stats>,
    unreadable: Quiet,
    away: Quiet,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// A file with keys.
struct Source {
    setting: &'static str,
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    Pem,
    Set,
}

/// An address with keys.
struct Remote {
    url: Url,
    client: Client,
    timeout: Duration,
    refresh: Duration,
}

struct Known {
    /// From each file: as which the file was last read, and its keys.
    files: Vec<(Stamp, Vec<Arc<Key>>)>,
    /// From the address, once it has answered.
    fetched: Option<Vec<Arc<Key>>>,
    /// The address did not answer the last time.
    failed: bool,
    /// All of them.
    set: Arc<KeySet>,
}

impl Keys {
    /// Reads all files, and begins to fetch.
    pub(super) fn start(
        config: &Config,
        runtime: &Handle,
        stats: Arc<Stats>,
    ) -> Result<Arc<Self>, AuthError> {
        let files = [
            ("logic.jwt_secret_file", &config.jwt_secret_file, Kind::Secret),
            ("logic.jwt_public_key_file", &config.jwt_public_key_file, Kind::Pem),
            ("logic.jwks_file", &config.jwks_file, Kind::Set),
        ];
        let files = files.into_iter().filter(|(_, path, _)| !path.as_os_str().is_empty());
        let files: Vec<_> =
            files.map(|(setting, path, kind)| Source { setting, path: path.clone(), kind }).collect();
        let remote = Remote::new(config)?;
        if files.is_empty() && remote.is_none() {
            return Err(AuthError {
                what: "logic.auth = \"jwt\", but there is no key to check tokens with".to_owned(),
                remedy: "set logic.jwt_secret_file, logic.jwt_public_key_file, logic.jwks_file or \
                         logic.jwks_url"
                    .to_owned(),
            });
        }
        let known = files.iter().map(|source| source.load().map_err(|cause| source.error(&cause)));
        let known = Known {
            files: known.collect::<Result<_, _>>()?,
            fetched: None,
            failed: false,
            set: Arc::default(),
        };
        let keys = Arc::new(Self {
            files,
            remote,
            reread: Gate::new(REREAD_PAUSE),
            fetch: Gate::new(FETCH_PAUSE),
            known: Mutex::new(known),
            runtime: runtime.clone(),
            stats,
            unreadable: Quiet::default(),
            away: Quiet::default(),
            tasks: Mutex::default(),
        });
        keys.update(|_| {});
        keys.watch();
        Ok(keys)
    }

    /// Starts the tasks that look again.
    fn watch(self: &Arc<Self>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remote) = &self.remote
            && let Entry::Enter(pass) = self.fetch.enter(true)
        {
            let task = fetch_in_turn(Arc::downgrade(self), remote.refresh, pass);
            tasks.push(self.runtime.spawn(task).abort_handle());
        }
        if !self.files.is_empty() {
            tasks.push(self.runtime.spawn(look_in_turn(Arc::downgrade(self))).abort_handle());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and what tokens are checked with.
    fn update(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        change(&mut known);
        let from_files = known.files.iter().flat_map(|(_, keys)| keys);
        let keys = from_files.chain(known.fetched.iter().flatten()).cloned().collect();
        let set = KeySet {
            keys,
            named: self.remote.is_some() || self.files.iter().any(|source| source.kind == Kind::Set),
            lacking: self.remote.is_some() && known.fetched.is_none(),
            stale: known.failed,
        };
        known.set = Arc::new(set);
    }

    /// The keys of this moment.
    pub(super) fn set(&self) -> Arc<KeySet> {
        self.known().set.clone()
    }

    /// Reads anew what may make a token a good one that was refused for this. `None` if there is nothing to
    /// read, or it was read a short while ago.
    pub(super) fn renew(self: &Arc<Self>, fault: &Fault) -> Option<impl Future<Output = ()> + Send + use<>> {
        let of_kid = matches!(fault.reason, Reason::UnknownKey | Reason::Unavailable);
        let remote = of_kid && self.remote.is_some();
        let files = (of_kid || fault.reason == Reason::Signature) && !self.files.is_empty();
        let fetching = remote.then(|| self.fetch_now()).flatten();
        let rereading = files.then(|| self.reread_now()).flatten();
        (fetching.is_some() || rereading.is_some()).then_some(async move {
            if let Some(rereading) = rereading {
                rereading.await;
            }
            if let Some(fetching) = fetching {
                fetching.await;
            }
        })
    }

    fn fetch_now(self: &Arc<Self>) -> Option<impl Future<Output = ()> + Send + use<>> {
        match self.fetch.enter(false) {
            Entry::Enter(pass) => {
                let keys = self.clone();
                self.runtime.spawn(async move { keys.fetch(pass).await });
            }
            Entry::Join => {}
            Entry::Closed => return None,
        }
        Some(self.fetch.left())
    }

    fn reread_now(self: &Arc<Self>) -> Option<impl Future<Output = ()> + Send + use<>> {
        match self.reread.enter(false) {
            Entry::Enter(pass) => {
                let keys = self.clone();
                self.runtime.spawn_blocking(move || {
                    keys.look(|_, _| true);
                    drop(pass);
                });
            }
            Entry::Join => {}
            Entry::Closed => return None,
        }
        Some(self.reread.left())
    }

    /// Reads those files that `wanted` picks, by the state in which they were read last. Waits for the disk.
    fn look(&self, wanted: impl Fn(&Source, Stamp) -> bool) {
        for (at, source) in self.files.iter().enumerate() {
            let stamp = self.known().files[at].0;
            if !wanted(source, stamp) {
                continue;
            }
            match source.load() {
                Ok(read) => {
                    if stamp != read.0 {
                        info!(path = %source.path.display(), "{} has changed, and was read", source.setting);
                    }
                    self.update(|known| known.files[at] = read);
                }
                Err(cause) if self.unreadable.may_speak() => {
                    warn!(error = %source.error(&cause), "the last good keys go on");
                }
                Err(_) => {}
            }
        }
    }

    async fn fetch(&self, pass: Pass) {
        let Some(remote) = &self.remote else { return };
        count(&self.stats.jwks_fetches);
        let answer = timeout(remote.timeout, remote.get()).await;
        match answer.unwrap_or_else(|_| Err("it does not answer in time".to_owned())) {
            Ok(fetched) => {
                let fetched: Vec<_> = fetched.into_iter().map(Arc::new).collect();
                let keys = fetched.len();
                let first = self.known().fetched.is_none();
                self.update(|known| (known.fetched, known.failed) = (Some(fetched), false));
                if self.away.over() || first {
                    info!(keys, "logic.jwks_url was fetched");
                }
            }
            Err(cause) => {
                count(&self.stats.jwks_failures);
                self.update(|known| known.failed = true);
                if self.away.may_speak() {
                    let lacking = self.set().lacking;
                    let meanwhile =
                        if lacking { "clients are told to come again" } else { "the last good keys go on" };
                    warn!(%cause, "logic.jwks_url cannot be fetched: {meanwhile}");
                }
            }
        }
        drop(pass);
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Fetches every `refresh`, sooner after a failure, as long as there is somebody who checks tokens.
async fn fetch_in_turn(keys: Weak<Keys>, refresh: Duration, first: Pass) {
    let mut entry = Entry::Enter(first);
    loop {
        let Some(keys) = keys.upgrade() else { return };
        // If somebody else fetches at this moment, it is done.
        if let Entry::Enter(pass) = entry {
            keys.fetch(pass).await;
        }
        let again = match keys.set() {
            set if set.lacking => RETRY[0].min(refresh),
            set if set.stale => RETRY[1].min(refresh),
            _ => refresh,
        };
        let gate = keys.fetch.clone();
        drop(keys);
        sleep(again).await;
        entry = gate.enter(true);
    }
}

/// Looks whether files have changed.
async fn look_in_turn(keys: Weak<Keys>) {
    loop {
        sleep(LOOK).await;
        let Some(keys) = keys.upgrade() else { return };
        let changed = |source: &Source, stamp| Stamp::of(&source.path).is_ok_and(|now| now != stamp);
        let look = tokio::task::spawn_blocking(move || keys.look(changed));
        if look.await.is_err() {
            return;
        }
    }
}

impl Source {
    /// Its state is taken first: who writes between the two is seen at the next look.
    fn load(&self) -> Result<(Stamp, Vec<Arc<Key>>), String> {
        let stamp = Stamp::of(&self.path).unwrap_or_default();
        let keys = match self.kind {
            Kind::Secret => vec![Key::secret(&file::secret(&self.path)?)?],
            Kind::Pem => vec![Key::pem(&file::read(&self.path)?)?],
            Kind::Set => key::set(&file::read(&self.path)?, From::File)?,
        };
        Ok((stamp, keys.into_iter().map(Arc::new).collect()))
    }

    fn error(&self, cause: &str) -> AuthError {
        let remedy = match self.kind {
            Kind::Secret => "name a file with a secret, such as one made by `openssl rand -base64 48`",
            Kind::Pem => "name a file with a public key in PEM (Ed25519, P-256, or RSA of 2048 bits or more)",
            Kind::Set => "name a file with a set of keys, {\"keys\":[..]}",
        };
        AuthError {
            what: format!("{} = {}: {cause}", self.setting, self.path.display()),
            remedy: remedy.to_owned(),
        }
    }
}

impl Remote {
    fn new(config: &Config) -> Result<Option<Self>, AuthError> {
        if config.jwks_url.is_empty() {
            return Ok(None);
        }
        let timeout = config.jwks_timeout.0;
        let url = fetch::url(&config.jwks_url).map_err(|cause| AuthError::url("logic.jwks_url", &cause))?;
        let client =
            fetch::client(&url, timeout).map_err(|cause| AuthError::client("logic.jwks_url", &cause))?;
        Ok(Some(Self { url, client, timeout, refresh: config.jwks_refresh.0 }))
    }

    async fn get(&self) -> Result<Vec<Key>, String> {
        let request = self.client.get(self.url.clone()).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|cause| fetch::told(&cause))?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answers with status {}", response.status().as_u16()));
        }
        key::set(&fetch::body(&mut response, LARGEST).await?, From::Url)
    }
}
