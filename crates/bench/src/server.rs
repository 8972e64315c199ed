//! The server under test: a child of this process, or one that already runs.

use std::collections::hash_map::RandomState;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tempfile::TempDir;

use crate::clock;
use crate::control::Transport;
use crate::helper::reap;
use crate::http::Client;
use crate::placement::{Placement, Side};
use crate::procfs::{self, Memory};

/// How long a server may take until it is ready.
const START: Duration = Duration::from_secs(10);

/// Addresses and processes of a server that already runs: `tcp=HOST:PORT,ws=HOST:PORT,http=HOST:PORT,pid=PID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    tcp: Option<SocketAddr>,
    websocket: Option<SocketAddr>,
    http: Option<SocketAddr>,
    pids: Vec<u32>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut target = Self::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(format!("`{part}` is not NAME=VALUE"))?;
            let address = || {
                let found = value.to_socket_addrs().map_err(|error| format!("{value}: {error}"))?.next();
                found.map(Some).ok_or(format!("{value} has no address"))
            };
            match name {
                "tcp" => target.tcp = address()?,
                "ws" => target.websocket = address()?,
                "http" => target.http = address()?,
                "pid" => target.pids.push(value.parse().map_err(|_| format!("`{value}` is no process id"))?),
                _ => return Err(format!("`{name}` is not one of tcp, ws, http, pid")),
            }
        }
        if target.http.is_none() {
            return Err("http=HOST:PORT, the push API, is missing".into());
        }
        Ok(target)
    }
}

/// A server that takes clients and pushes.
#[derive(Debug)]
pub(crate) struct Server {
    target: Target,
    /// The push API.
    pub(crate) http: SocketAddr,
    child: Option<Child>,
    log: PathBuf,
    /// From exec to the first 200 of /readyz.
    pub(crate) ready_in: Option<Duration>,
    /// Data and log, removed at the end.
    _folder: Option<TempDir>,
}

impl Server {
    /// A server that already runs.
    pub(crate) fn attach(target: &Target) -> anyhow::Result<Self> {
        let http = target.http.context("--target without http=HOST:PORT")?;
        Client::connect(http)?;
        Ok(Self {
            target: target.clone(),
            http,
            child: None,
            log: PathBuf::new(),
            ready_in: None,
            _folder: None,
        })
    }

    /// Starts `program up` on free ports with its data in a new folder below `parent`.
    pub(crate) fn start(
        program: &Path,
        parent: &Path,
        settings: &[String],
        placement: &Placement,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("anser-bench-").tempdir_in(parent)?;
        let log = folder.path().join("log");
        let [tcp, websocket, http] = free_ports()?;
        ensure!(
            program.exists(),
            "there is no {}: build it (`cargo build --release -p anser-server`), or name it with --server",
            program.display()
        );
        let mut command = Command::new(env::current_exe()?);
        command.arg("exec").arg(program).arg("up").arg("--data").arg(folder.path().join("data"));
        let addresses = [
            format!("comet.tcp=[\"{tcp}\"]"),
            format!("comet.websocket=[\"{websocket}\"]"),
            format!("http.bind=\"{http}\""),
            "cluster.comet_bind=[]".to_owned(),
            "cluster.logic_bind=[]".to_owned(),
            // It measures pushes, and goim asks for no key.
            "http.require_key=false".to_owned(),
        ];
        for setting in addresses.iter().chain(settings) {
            command.arg("--set").arg(setting);
        }
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = placement.spawn(Side::Server, &mut command).with_context(|| {
            format!(
                "build it (`cargo build --release -p anser-server`) or name it with --server; {command:?}"
            )
        })?;
        let target =
            Target { tcp: Some(tcp), websocket: Some(websocket), http: Some(http), pids: vec![child.id()] };
        let mut server =
            Self { target, http, child: Some(child), log, ready_in: None, _folder: Some(folder) };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            // Refused connections are what is expected before it listens.
            let answer = Client::connect(self.http).and_then(|mut client| client.get("/readyz"));
            if answer.is_ok_and(|answer| answer.status == 200) {
                let ready = clock::now();
                self.ready_in = self.executed_at().map(|at| Duration::from_nanos(ready - at));
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("the server ended with {status} before it was ready; it said:\n{}", self.said());
            }
            if begun.elapsed() > START {
                bail!("the server was not ready within {START:?}; it said:\n{}", self.said());
            }
            clock::sleep(Duration::from_millis(1));
        }
    }

    /// When [`exec`] gave way to the server: the first line of the log.
    fn executed_at(&self) -> Option<u64> {
        let log = fs::read_to_string(&self.log).ok()?;
        log.lines().next()?.strip_prefix(EXEC)?.parse().ok()
    }

    /// The end of what the server wrote.
    pub(crate) fn said(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Where clients connect.
    pub(crate) fn address(&self, transport: Transport) -> anyhow::Result<SocketAddr> {
        match transport {
            Transport::Tcp => self.target.tcp.context("--target names no tcp=HOST:PORT"),
            Transport::Websocket => self.target.websocket.context("--target names no ws=HOST:PORT"),
        }
    }

    /// Every process of the server; none when --target did not name them.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.target.pids
    }

    /// Memory of all its processes.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let each = self.pids().iter().map(|pid| procfs::memory(*pid)).collect::<Option<Vec<_>>>()?;
        each.into_iter()
            .reduce(|a, b| Memory { resident: a.resident + b.resident, anonymous: a.anonymous + b.anonymous })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::TERM);
            }
            // Nobody waits for a drain here.
            reap(child, Duration::from_secs(2));
        }
    }
}

/// The first line of a server's log.
const EXEC: &str = "exec at ";

/// Becomes the server. Asks the kernel first to end it with its parent, so that a benchmark that is killed
/// leaves no server behind; only a process itself can ask for that.
pub(crate) fn exec(command: &[OsString]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let (program, arguments) = command.split_first().context("no program")?;
    writeln!(io::stdout(), "{EXEC}{}", clock::now())?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot execute {}", program.display()))
}

/// Three ports that were free a moment ago, below the range from which the kernel takes ports for
/// connections: there a client of somebody else would soon have one of them. All are held before one is
/// let go, so they differ.
fn free_ports() -> anyhow::Result<[SocketAddr; 3]> {
    let random = RandomState::new();
    let mut held = Vec::new();
    for attempt in 0..1000 {
        let port = 10_000 + (random.hash_one(attempt) % 20_000) as u16;
        held.extend(TcpListener::bind(("127.0.0.1", port)));
        if let [a, b, c] = &held[..] {
            return Ok([a.local_addr()?, b.local_addr()?, c.local_addr()?]);
        }
    }
    bail!("no free port between 10000 and 30000: see what listens there (`ss -ltn`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target: Target =
            "tcp=127.0.0.1:3101,ws=127.0.0.1:3102,http=127.0.0.1:3111,pid=7,pid=8".parse().unwrap();
        assert_eq!(target.tcp.unwrap().port(), 3101);
        assert_eq!(target.websocket.unwrap().port(), 3102);
        assert_eq!(target.pids, [7, 8]);
        for text in ["", "tcp=127.0.0.1:1", "http=127.0.0.1:1,pid=x", "ftp=127.0.0.1:1", "http"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c);
    }
}
