//! Every role in one process.

use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anser_comet::{Comet, StartError};
use anser_http::{Http, Keys, Names, Ready, Roles};
use anser_job::Job;
use anser_logic::{Auth, Authenticator, Logic};
use prometheus_client::registry::Registry;
use rustix::system::uname;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Plan, Shortage};
use crate::push_key::{self, Secret};
use crate::{log, out, process, push_log};

/// A worker whose loop has not gone on for so long is told by `/healthz`.
const STALLED: Duration = Duration::from_secs(10);

/// The data folder when no other is named.
pub const DATA: &str = "./anser-data";

/// How long the job may take to learn, after the edge has drained, what has been written.
const JOB_LIMIT: Duration = Duration::from_secs(1);

/// How long requests of the HTTP API may take to finish after the edge has drained.
const HTTP_LIMIT: Duration = Duration::from_secs(2);

/// Runs until a signal ends it: the first one drains, a second one ends at once.
pub async fn run(config: Config, data: PathBuf, log: &log::Running) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let _lock = lock(&data)?;
    let keys = if config.http.require_key { push_key::ensure(&data)? } else { Vec::new() };
    let server = Server::start(config, &data, &keys, |registry| log.register(registry))?;
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), data = %data.display(), "ready");
    if let Err(failure) = out::write(&server.greeting(&data, &keys)) {
        // It runs all the same; the log has the addresses.
        warn!(error = %failure, "cannot print the addresses on stdout; the server runs all the same");
    }
    let name = tokio::select! {
        name = signals.next() => name,
        () = server.comet.failed() => {
            return Err(Failure::new(
                Exit::Software,
                "a thread of the edge has panicked, and its connections are lost",
                "start it again, and report what the log says above",
            )
            .into());
        }
    };
    let comet = server.comet.clone();
    let before = comet.snapshot();
    let connections = before.connections;
    info!(signal = name, connections, "draining; a second signal ends at once");
    let began = Instant::now();
    tokio::select! {
        () = server.stop() => {
            let lost = comet.snapshot().lost - before.lost;
            let seconds = began.elapsed().as_millis() as f64 / 1e3;
            info!(seconds, lost, "ended");
            Ok(())
        }
        name = signals.next() => {
            let what = format!("ended by a second signal, {name}, with {} sockets open", comet.snapshot().open);
            Err(Failure::new(Exit::Software, what, "wait for the drain, or lower comet.drain_limit").into())
        }
    }
}

/// A running server, every role in it.
pub struct Server {
    comet: Arc<Comet>,
    job: Arc<Job>,
    http: Http,
    ready: Ready,
    addresses: Addresses,
}

/// Where a server can be reached.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Clients over TCP.
    pub tcp: Vec<SocketAddr>,
    /// Clients over WebSocket, at `/sub`.
    pub websocket: Vec<SocketAddr>,
    /// Push API, health and metrics.
    pub http: SocketAddr,
}

impl Server {
    /// Binds every address, then starts every role. Must be called on a runtime. The push API wants one of
    /// `keys`, unless the configuration says that it wants none. `more` are metrics beyond those of the roles.
    fn start(
        mut config: Config,
        data: &Path,
        keys: &[Secret],
        more: impl FnOnce(&mut Registry),
    ) -> Result<Self, Failure> {
        let plan = Plan::of(files::raise(), config.comet.max_connections, config.http.max_connections);
        tell_shortage(&plan, config.comet.max_connections);
        let Plan { limit: open_files, clients: max_connections, callers: max_callers, .. } = plan;
        if config.comet.name.is_empty() {
            config.comet.name = uname().nodename().to_string_lossy().into_owned();
        }
        config.comet.max_connections = max_connections;
        config.http.max_connections = max_callers;
        let workers = config.comet.worker_count();
        let auth = Authenticator::new(&config.logic, &Handle::current())
            .map_err(|error| Failure::new(Exit::Config, error.what, error.remedy))?;
        let open = config.logic.auth == Auth::Open;
        let cookies = match config.logic.auth {
            Auth::Open => false,
            Auth::Jwt => !config.logic.jwt_cookie.is_empty(),
            Auth::Webhook => true,
        };
        let any_page = cookies && config.comet.allowed_origins.is_empty();
        let comet = anser_comet::Bound::bind(config.comet.clone()).map_err(start_failure)?;
        let (address, require_key) = (config.http.bind, config.http.require_key);
        let names = Names { key: config.logic.key, room: config.comet.room_name };
        let http = anser_http::Bound::bind(config.http).map_err(|error| Failure::bind(address, &error))?;
        let addresses = Addresses {
            tcp: comet.tcp().to_vec(),
            websocket: comet.websocket().to_vec(),
            http: http.address(),
        };

        let push_log = Arc::new(push_log::open(&config.store, data)?);
        let advice = config.logic.advice();
        let logic = Arc::new(Logic::new(config.logic, config.comet.room_name, auth));
        let comet = Arc::new(comet.start(logic.clone(), Handle::current()).map_err(start_failure)?);
        let routes = vec![anser_job::Route { name: comet.name(), comet: comet.clone(), local: true }];
        let job = Job::start(config.job, push_log.clone(), routes, logic.clone(), &Handle::current());
        let job = Arc::new(job.map_err(|error| {
            Failure::new(Exit::System, format!("cannot read the push log ({error})"), "look at the disk")
        })?);
        logic.set_job(job.clone());
        let mut registry = Registry::default();
        comet.register(&mut registry);
        job.register(&mut registry);
        push_log.register(&mut registry);
        logic.register(&mut registry);
        http.register(&mut registry);
        process::register(&mut registry, &plan);
        more(&mut registry);
        let ready = Ready::default();
        let edge = Arc::downgrade(&comet);
        let alive = Arc::new(move || match edge.upgrade().and_then(|comet| comet.stalled(STALLED)) {
            None => Ok(()),
            Some(worker) => {
                Err(format!("worker {worker} of the edge has stood still for {} s", STALLED.as_secs()))
            }
        });
        let keys = Keys::new(keys.iter().map(Secret::expose));
        let roles = Roles { push: logic.clone(), directory: logic, advice, keys, names };
        let http = http.start(roles, Arc::new(registry), alive, ready.clone());
        ready.set(true);
        let Addresses { tcp, websocket, http: api } = &addresses;
        info!(?tcp, ?websocket, http = %api, workers, max_connections, max_callers, open_files, "listening");
        for address in
            tcp.iter().chain(websocket).filter(|address| open && !address.ip().to_canonical().is_loopback())
        {
            warn!(%address, "whoever reaches this address may connect as any user");
        }
        let beyond = websocket.iter().find(|address| !address.ip().to_canonical().is_loopback());
        if let Some(address) = beyond.filter(|_| any_page) {
            warn!(
                %address,
                "web pages of any origin may connect here with the cookies of whoever looks at them: name yours in \
                 comet.allowed_origins"
            );
        }
        if !api.ip().to_canonical().is_loopback() {
            warn!(address = %api, "keys of the push API come to this address in the clear: put TLS before it");
        }
        if !require_key {
            warn!(address = %api, "whoever reaches this address may push to everyone, as http.require_key is false");
        }
        Ok(Self { comet, job, http, ready, addresses })
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Takes no more connections and pushes, writes what is queued, tells clients when to come back.
    pub async fn stop(self) {
        self.ready.set(false);
        self.comet.drain().await;
        self.job.stop(JOB_LIMIT).await;
        self.http.stop(HTTP_LIMIT).await;
    }

    /// What the operator is told, with lines to paste. `keys` is empty when none is needed.
    fn greeting(&self, data: &Path, keys: &[Secret]) -> String {
        let Addresses { tcp, websocket, http } = &self.addresses;
        let mut text = format!(
            "Anser {} is up: every role in this process, data in {}\n\n",
            env!("CARGO_PKG_VERSION"),
            data.display()
        );
        for address in tcp {
            let _ = writeln!(text, "  clients, TCP        tcp://{address}");
        }
        for address in websocket {
            let _ = writeln!(text, "  clients, WebSocket  ws://{address}/sub");
        }
        let _ = writeln!(
            text,
            "  push API            http://{http}/api/v1/push, explained at /docs; /goim/push/*"
        );
        if !keys.is_empty() {
            let _ = writeln!(text, "  push API key        {}", push_key::path(data).display());
        }
        let _ = writeln!(text, "  health, metrics     http://{http}/healthz /readyz /metrics");
        let (tcp, websocket): (Vec<_>, Vec<_>) =
            (tcp.iter().copied().map(here).collect(), websocket.iter().copied().map(here).collect());
        let http = here(*http);
        let anser = std::env::args().next().unwrap_or_else(|| "anser".into());
        let server = match (&tcp[..], &websocket[..]) {
            ([first, ..], _) if *first == SocketAddr::from((Ipv4Addr::LOCALHOST, 3101)) => String::new(),
            ([first, ..], _) => format!(" --server tcp://{first}"),
            ([], [first, ..]) => format!(" --server ws://{first}/sub"),
            ([], []) => String::new(),
        };
        let api = if http == SocketAddr::from((Ipv4Addr::LOCALHOST, 3111)) {
            String::new()
        } else {
            format!(" --http http://{http}")
        };
        let (folder, authorization) = match keys {
            [] => (String::new(), String::new()),
            keys => {
                let usual = data == Path::new(DATA);
                let folder = if usual { String::new() } else { format!(" --data {}", quote(data)) };
                (folder, format!(" -H \"Authorization: Bearer $({})\"", push_key::shown_by(data, keys)))
            }
        };
        let _ = write!(
            text,
            "\nFirst step: paste the first line into a second terminal, the second into a third.\n\n  \
             {anser} listen{server}\n  {anser} push room live://1 hello{api}{folder}\n\n\
             The same as a back end does it:\n\n  \
             curl{authorization} -d hello 'http://{http}/goim/push/room?operation=1000&type=live&room=1'\n\n\
             Ctrl-C drains and ends.\n"
        );
        text
    }
}

/// A path as a word for a shell.
pub(crate) fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Where an address is reached from this machine: what is bound to every address is so at loopback.
pub(crate) fn here(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
    }
}

/// The server starts all the same, with fewer connections.
fn tell_shortage(plan: &Plan, configured: usize) {
    let Plan { limit: open_files, most, .. } = *plan;
    match plan.shortage(configured) {
        Some(Shortage::Configured) => warn!(
            configured,
            most,
            open_files,
            "comet.max_connections is more than the limit on open files allows: {}",
            files::REMEDY
        ),
        Some(Shortage::Few) => {
            warn!(
                most,
                open_files,
                "the limit on open files leaves place for few connections: {}",
                files::REMEDY
            );
        }
        None => {}
    }
}

fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Bind { address, cause } => Failure::bind(address, &cause),
        StartError::Worker(cause) => Failure::system(
            "cannot start the edge's workers",
            &cause,
            "raise the limits on threads (`ulimit -u`) and open files (`ulimit -n`)",
        ),
    }
}

/// The file in the data folder that a server holds locked.
pub(crate) const LOCK: &str = "anser.lock";

/// Makes the data folder, for this user alone, and holds it against a second process.
fn lock(data: &Path) -> Result<File, Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let create = |error: io::Error| Failure::create(data, &error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(create)?;
    let path = data.join(LOCK);
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
