//! One process of a server, and what each is started with.

use std::collections::hash_map::RandomState;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::hash::BuildHasher;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{EXEC, Layout, Start};
use crate::clock;
use crate::control::Transport;
use crate::helper::reap;
use crate::http::Client;
use crate::placement::Side;

/// What one process is started with.
#[derive(Debug)]
pub(super) struct Plan {
    /// The command of `anser`: what kind of process it is.
    kind: &'static str,
    /// Its name, by which its files are told apart.
    name: String,
    settings: Vec<String>,
    pub(super) http: SocketAddr,
    pub(super) tcp: Option<SocketAddr>,
    pub(super) websocket: Option<SocketAddr>,
}

impl Plan {
    /// Whether the push API is here.
    pub(super) fn takes_pushes(&self) -> bool {
        matches!(self.kind, "up" | "logic")
    }

    fn new(kind: &'static str, name: String, http: SocketAddr) -> Self {
        // It measures pushes, and goim asks for no key.
        let settings = vec![format!("http.bind=\"{http}\""), "http.require_key=false".to_owned()];
        Self { kind, name, settings, http, tcp: None, websocket: None }
    }

    fn with_clients(mut self, tcp: SocketAddr, websocket: SocketAddr) -> Self {
        self.settings.push(format!("comet.tcp=[\"{tcp}\"]"));
        self.settings.push(format!("comet.websocket=[\"{websocket}\"]"));
        (self.tcp, self.websocket) = (Some(tcp), Some(websocket));
        self
    }

    fn with(mut self, settings: impl IntoIterator<Item = String>) -> Self {
        self.settings.extend(settings);
        self
    }
}

/// The processes of a layout. What they share lies in `folder`.
pub(super) fn plan(layout: Layout, folder: &Path) -> anyhow::Result<Vec<Plan>> {
    let Layout::Apart { comets } = layout else {
        let ports = free_ports(3)?;
        let up = Plan::new("up", "anser".into(), ports[0]).with_clients(ports[1], ports[2]);
        let alone = ["cluster.comet_bind=[]", "cluster.logic_bind=[]"].map(str::to_owned);
        return Ok(vec![up.with(alone)]);
    };
    let ports = free_ports(4 + 4 * comets)?;
    let (roles, edges) = ports.split_at(4);
    let edges: Vec<&[SocketAddr]> = edges.chunks_exact(4).collect();
    let secret = folder.join("cluster.secret");
    write_secret(&secret)?;
    let routes = edges.iter().enumerate().map(|(number, edge)| format!("\"c{number}=grpc://{}\"", edge[0]));
    let shared = [
        format!("cluster.secret_file=\"{}\"", secret.display()),
        format!("cluster.logic=\"grpc://{}\"", roles[0]),
        format!("cluster.job=\"grpc://{}\"", roles[1]),
        format!("cluster.comets=[{}]", routes.collect::<Vec<_>>().join(",")),
        format!("cluster.logic_bind=[\"{}\"]", roles[0]),
        format!("cluster.job_bind=[\"{}\"]", roles[1]),
    ];
    let mut plans = vec![
        Plan::new("logic", "logic".into(), roles[2]).with(shared.clone()),
        Plan::new("job", "job".into(), roles[3]).with(shared.clone()),
    ];
    for (number, edge) in edges.into_iter().enumerate() {
        let own = [format!("comet.name=\"c{number}\""), format!("cluster.comet_bind=[\"{}\"]", edge[0])];
        let comet = Plan::new("comet", format!("comet-{number}"), edge[1]).with_clients(edge[2], edge[3]);
        plans.push(comet.with(shared.clone()).with(own));
    }
    Ok(plans)
}

/// A secret for one run on loopback.
fn write_secret(path: &Path) -> anyhow::Result<()> {
    let random = RandomState::new();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{:016x}{:016x}", random.hash_one(1), random.hash_one(2))?;
    Ok(())
}

/// A process of the server.
#[derive(Debug)]
pub(super) struct Role {
    plan: Plan,
    child: Child,
    log: PathBuf,
    stopped: bool,
}

impl Role {
    /// Starts it. It is not ready yet.
    pub(super) fn start(plan: Plan, start: &Start<'_>, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{}.log", plan.name));
        let mut command = Command::new(env::current_exe()?);
        command.arg("exec").arg(start.program).arg(plan.kind).arg("--data").arg(folder.join(&plan.name));
        // Of two that say something about the same the later one counts.
        for setting in plan.settings.iter().chain(start.settings) {
            command.arg("--set").arg(setting);
        }
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = start.placement.spawn(Side::Server, &mut command).with_context(|| {
            format!(
                "build it (`cargo build --release -p anser-server`) or name it with --server; {command:?}"
            )
        })?;
        Ok(Self { plan, child, log, stopped: false })
    }

    /// Waits until it is ready; tells how long that took from its exec.
    pub(super) fn wait(&mut self, begun: Instant, limit: Duration) -> anyhow::Result<Option<Duration>> {
        loop {
            // Refused connections are what is expected before it listens.
            let answer = Client::connect(self.plan.http).and_then(|mut client| client.get("/readyz"));
            if answer.is_ok_and(|answer| answer.status == 200) {
                let ready = clock::now();
                return Ok(self.executed_at().map(|at| Duration::from_nanos(ready - at)));
            }
            self.check()?;
            if begun.elapsed() > limit {
                bail!("{} was not ready within {limit:?}; it said:\n{}", self.plan.name, self.said(40));
            }
            clock::sleep(Duration::from_millis(1));
        }
    }

    /// Fails when it has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended by itself, with {status}; it said:\n{}", self.plan.name, self.said(40))
            }
        }
    }

    /// When [`super::exec`] gave way to it: the first line of the log.
    fn executed_at(&self) -> Option<u64> {
        let log = fs::read_to_string(&self.log).ok()?;
        log.lines().next()?.strip_prefix(EXEC)?.parse().ok()
    }

    /// The last lines that it wrote.
    pub(super) fn said(&self, most: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(most)..].join("\n")
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kind(&self) -> &'static str {
        self.plan.kind
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.plan.http
    }

    pub(super) fn address(&self, transport: Transport) -> Option<SocketAddr> {
        match transport {
            Transport::Tcp => self.plan.tcp,
            Transport::Websocket => self.plan.websocket,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// SIGSTOP, or SIGCONT.
    pub(super) fn stop(&mut self, stop: bool) -> anyhow::Result<()> {
        self.signal(if stop { Signal::STOP } else { Signal::CONT })
            .with_context(|| format!("cannot stop {} or let it go on", self.plan.name))?;
        self.stopped = stop;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        let Some(pid) = Pid::from_raw(self.child.id() as i32) else { return Ok(()) };
        kill_process(pid, signal)
    }

    /// Sends SIGTERM, and SIGCONT where it would not be heard.
    pub(super) fn tell_to_end(&mut self) {
        // It may have ended by itself.
        let _ = self.signal(Signal::TERM);
        if self.stopped {
            let _ = self.signal(Signal::CONT);
        }
    }

    /// Waits for its end, and kills it when that takes too long.
    pub(super) fn reap(&mut self, patience: Duration) {
        reap(&mut self.child, patience);
    }
}

/// Ports that were free a moment ago, below the range from which the kernel takes ports for connections:
/// there a client of somebody else would soon have one of them. All are held before one is let go, so they
/// differ.
fn free_ports(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let random = RandomState::new();
    let mut held = Vec::new();
    for attempt in 0..1000 + 10 * count {
        if held.len() == count {
            break;
        }
        let port = 10_000 + (random.hash_one(attempt) % 20_000) as u16;
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    if held.len() < count {
        bail!("no {count} free ports between 10000 and 30000: see what listens there (`ss -ltn`)");
    }
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let mut ports = free_ports(50).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn roles_apart_know_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let plans = plan(Layout::Apart { comets: 2 }, folder.path()).unwrap();
        let kinds: Vec<_> = plans.iter().map(|plan| plan.kind).collect();
        assert_eq!(kinds, ["logic", "job", "comet", "comet"]);
        assert_eq!(plans.iter().filter(|plan| plan.takes_pushes()).count(), 1);
        let setting = |plan: &Plan, key: &str| {
            let found = plan.settings.iter().find_map(|setting| setting.strip_prefix(key));
            found.unwrap_or_else(|| panic!("{key} of {}", plan.name)).to_owned()
        };
        let comets = setting(&plans[1], "cluster.comets=");
        for comet in &plans[2..] {
            assert_eq!(setting(comet, "cluster.comets="), comets);
            let bound = setting(comet, "cluster.comet_bind=");
            let name = setting(comet, "comet.name=");
            let route = format!("{}=grpc://{}", name.trim_matches('"'), bound.trim_matches(['[', ']', '"']));
            assert!(comets.contains(&route), "{comets} has no {route}");
        }
        let alone = plan(Layout::Together, folder.path()).unwrap();
        assert!(alone.len() == 1 && alone[0].takes_pushes() && alone[0].tcp.is_some());
    }
}
