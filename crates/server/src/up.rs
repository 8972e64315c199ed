//! A process with its roles, from its start to the signal that ends it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anser_comet::Comet;
use anser_store::disk::make_folder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::greeting::greeting;
use crate::roles::{Roles, Server};
use crate::{log, out, push_key};

/// The data folder when no other is named.
pub const DATA: &str = "./anser-data";

/// Runs until a signal ends it: the first one drains, a second one ends at once.
pub async fn run(roles: Roles, config: Config, data: PathBuf, log: &log::Running) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let _lock = lock(roles, &data)?;
    let keys =
        if config.http.require_key && roles.has_logic() { push_key::ensure(&data)? } else { Vec::new() };
    let server = Server::start(roles, config, &data, &keys, |registry| log.register(registry)).await?;
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), data = %data.display(), "ready");
    if let Err(failure) = out::write(&greeting(roles, &server.addresses, &data, &keys)) {
        // It runs all the same; the log has the addresses.
        warn!(error = %failure, "cannot print the addresses on stdout; the server runs all the same");
    }
    let edge = server.comet.clone();
    let name = tokio::select! {
        name = signals.next() => name,
        () = failed(edge.as_deref()) => {
            return Err(Failure::new(
                Exit::Software,
                "a thread of the edge has panicked, and its connections are lost",
                "start it again, and report what the log says above",
            )
            .into());
        }
    };
    let snapshot = || edge.as_ref().map(|comet| comet.snapshot()).unwrap_or_default();
    let before = snapshot();
    let connections = before.connections;
    info!(signal = name, connections, "draining; a second signal ends at once");
    let began = Instant::now();
    tokio::select! {
        () = server.stop() => {
            let lost = snapshot().lost - before.lost;
            let seconds = began.elapsed().as_millis() as f64 / 1e3;
            info!(seconds, lost, "ended");
            Ok(())
        }
        name = signals.next() => {
            let what = format!("ended by a second signal, {name}, with {} sockets open", snapshot().open);
            Err(Failure::new(Exit::Software, what, "wait for the drain, or lower comet.drain_limit").into())
        }
    }
}

/// Waits until a thread of the edge has panicked, if there is an edge.
async fn failed(comet: Option<&Comet>) {
    match comet {
        Some(comet) => comet.failed().await,
        None => std::future::pending().await,
    }
}

/// A path as a word for a shell.
pub(crate) fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The file in the data folder that a server holds locked, and whoever else writes the push log there.
pub(crate) const LOCK: &str = "anser.lock";

/// The same for roles that write no log, so that all of a machine can share a folder.
const ROLE_LOCKS: [(Roles, &str); 2] = [(Roles::Comet, "comet.lock"), (Roles::Logic, "logic.lock")];

/// Makes the data folder, for this user alone, and holds it against a second process.
fn lock(roles: Roles, data: &Path) -> Result<File, Failure> {
    make_folder(data).map_err(|error| Failure::create(data, &error))?;
    let own = ROLE_LOCKS.iter().find(|(role, _)| *role == roles);
    let path = data.join(own.map_or(LOCK, |(_, file)| file));
    let file = File::create(&path).map_err(|error| Failure::create(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Unavailable,
            format!("another anser uses the data folder {}", data.display()),
            "stop it, or name another folder with --data",
        )),
        Err(TryLockError::Error(error)) => Err(Failure::create(&path, &error)),
    }
}

/// The signals that end a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Some services reopen a file or print statistics on these. Here they do nothing, and kill nothing.
    _others: [Signal; 2],
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _others: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
