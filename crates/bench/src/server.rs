//! The server under test: children of this process, or one that already runs.

mod role;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use tempfile::TempDir;

use self::role::Role;
use crate::clock;
use crate::control::Transport;
use crate::http::Client;
use crate::metrics::Scrape;
use crate::placement::Placement;
use crate::procfs::{self, Memory};

/// How long a server may take until it is ready.
const START: Duration = Duration::from_secs(10);

/// How long all its processes may take to end.
const END: Duration = Duration::from_secs(2);

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

/// Which processes a server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One, with all roles.
    #[default]
    Together,
    /// One for logic, one for the job, and so many comets.
    Apart { comets: usize },
}

/// What a server is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) program: &'a Path,
    /// Its data goes to a new folder in here.
    pub(crate) parent: &'a Path,
    /// Settings of every process, as `--set` takes them.
    pub(crate) settings: &'a [String],
    pub(crate) layout: Layout,
    pub(crate) placement: &'a Placement,
}

/// A server that takes clients and pushes.
#[derive(Debug)]
pub(crate) struct Server {
    /// That of the first comet, where there are several.
    target: Target,
    /// The push API.
    pub(crate) http: SocketAddr,
    /// None, when it ran already.
    roles: Vec<Role>,
    /// From exec to the first 200 of /readyz; of one process only.
    pub(crate) ready_in: Option<Duration>,
    /// Data and logs, removed at the end.
    _folder: Option<TempDir>,
}

impl Server {
    /// A server that already runs.
    pub(crate) fn attach(target: &Target) -> anyhow::Result<Self> {
        let http = target.http.context("--target without http=HOST:PORT")?;
        Client::connect(http)?;
        Ok(Self { target: target.clone(), http, roles: Vec::new(), ready_in: None, _folder: None })
    }

    /// Starts the processes on free ports, and waits until they know each other.
    pub(crate) fn start(start: &Start<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("anser-bench-").tempdir_in(start.parent)?;
        ensure!(
            start.program.exists(),
            "there is no {}: build it (`cargo build --release -p anser-server`), or name it with --server",
            start.program.display()
        );
        let plans = role::plan(start.layout, folder.path())?;
        let first = plans.iter().find(|plan| plan.tcp.is_some()).context("no comet")?;
        let api = plans.iter().find(|plan| plan.takes_pushes()).context("no logic")?;
        let http = api.http;
        let mut target =
            Target { tcp: first.tcp, websocket: first.websocket, http: Some(http), pids: vec![] };
        let mut roles = Vec::new();
        for plan in plans {
            roles.push(Role::start(plan, start, folder.path())?);
        }
        target.pids = roles.iter().map(Role::pid).collect();
        let mut server = Self { target, http, roles, ready_in: None, _folder: Some(folder) };
        server.wait(start.layout)?;
        Ok(server)
    }

    fn wait(&mut self, layout: Layout) -> anyhow::Result<()> {
        // Many processes share the processors while they start.
        let limit = START + START / 10 * self.roles.len() as u32;
        let begun = Instant::now();
        for role in &mut self.roles {
            self.ready_in = role.wait(begun, limit)?;
        }
        let Layout::Apart { comets } = layout else { return Ok(()) };
        self.ready_in = None;
        loop {
            let scrape = self.scrape()?;
            let known = scrape.sum("anser_logic_comets").unwrap_or(0.0);
            let up = scrape.sum("anser_job_lane_up").unwrap_or(0.0);
            if known.min(up) >= comets as f64 {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < limit + START,
                "of {comets} comets logic knows {known} and the job reaches {up} after {:?}; they said:\n{}",
                begun.elapsed(),
                self.said()
            );
            clock::sleep(Duration::from_millis(20));
        }
    }

    /// The end of what its processes wrote.
    pub(crate) fn said(&self) -> String {
        let lines = if self.roles.len() > 1 { 10 } else { 40 };
        let said = self.roles.iter().map(|role| role.said(lines));
        said.collect::<Vec<_>>().join("\n")
    }

    /// Where clients connect.
    pub(crate) fn address(&self, transport: Transport) -> anyhow::Result<SocketAddr> {
        match transport {
            Transport::Tcp => self.target.tcp.context("--target names no tcp=HOST:PORT"),
            Transport::Websocket => self.target.websocket.context("--target names no ws=HOST:PORT"),
        }
    }

    /// Where clients of one of several comets connect.
    pub(crate) fn address_of(&self, comet: usize, transport: Transport) -> anyhow::Result<SocketAddr> {
        let role = self.comets().nth(comet).with_context(|| format!("there is no comet {comet}"))?;
        role.address(transport).with_context(|| format!("comet {comet} has no {transport}"))
    }

    fn comets(&self) -> impl Iterator<Item = &Role> {
        self.roles.iter().filter(|role| role.address(Transport::Tcp).is_some())
    }

    /// Every process of the server; none when --target did not name them.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.target.pids
    }

    /// The processes by the name of their role, without the number of a comet.
    pub(crate) fn pids_by_role(&self) -> BTreeMap<&str, Vec<u32>> {
        let mut pids = BTreeMap::<&str, Vec<u32>>::new();
        for role in &self.roles {
            pids.entry(role.kind()).or_default().push(role.pid());
        }
        pids
    }

    /// Memory of all its processes.
    pub(crate) fn memory(&self) -> Option<Memory> {
        memory(self.pids())
    }

    /// The metrics of all its processes, but for those that are stopped.
    pub(crate) fn scrape(&self) -> anyhow::Result<Scrape> {
        match &self.roles[..] {
            [] => Scrape::of([self.http]),
            roles => Scrape::of(roles.iter().filter(|role| !role.is_stopped()).map(Role::http)),
        }
    }

    /// Stops a comet in the midst of whatever it does, as SIGSTOP does, or lets it go on.
    pub(crate) fn stop_comet(&mut self, comet: usize, stop: bool) -> anyhow::Result<()> {
        let mut comets = self.roles.iter_mut().filter(|role| role.address(Transport::Tcp).is_some());
        comets.nth(comet).with_context(|| format!("there is no comet {comet}"))?.stop(stop)
    }

    /// Fails when a process has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.roles.iter_mut().try_for_each(Role::check)
    }
}

/// Memory of some processes; `None` when there is none, or one of them cannot be looked at.
pub(crate) fn memory(pids: &[u32]) -> Option<Memory> {
    let each = pids.iter().map(|pid| procfs::memory(*pid)).collect::<Option<Vec<_>>>()?;
    each.into_iter()
        .reduce(|a, b| Memory { resident: a.resident + b.resident, anonymous: a.anonymous + b.anonymous })
}

impl Drop for Server {
    fn drop(&mut self) {
        // All are told before the first is waited for; nobody waits for a drain here.
        for role in &mut self.roles {
            role.tell_to_end();
        }
        let ends = Instant::now() + END;
        for role in &mut self.roles {
            role.reap(ends.saturating_duration_since(Instant::now()));
        }
    }
}

/// The first line of a server's log.
const EXEC: &str = "exec at ";

/// Becomes the server. Asks the kernel first to end it with its parent, so that a benchmark that is killed
/// leaves no server behind; only a process itself can ask for that. By SIGKILL, as one that is stopped takes no
/// other signal.
pub(crate) fn exec(command: &[OsString]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (program, arguments) = command.split_first().context("no program")?;
    writeln!(io::stdout(), "{EXEC}{}", clock::now())?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot execute {}", program.display()))
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
}
