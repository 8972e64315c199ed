//! A server to test: started, addressed, watched, ended.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, Dial, Transport};
use crate::http::{Answer, Http};
use crate::metrics::Metrics;
use crate::patience::eventually_eq;
use crate::process::{Ended, Process};
use crate::running::Running;

/// How to start a server.
#[derive(Debug, Default)]
pub struct Builder {
    settings: Vec<String>,
    files: Option<u64>,
    data: Option<PathBuf>,
    config: Option<PathBuf>,
    stderr: Option<PathBuf>,
    environment: Vec<(&'static str, String)>,
}

impl Builder {
    /// Sets keys, each as `section.key=VALUE`.
    #[must_use]
    pub fn set(mut self, settings: &[&str]) -> Self {
        self.settings.extend(settings.iter().map(|setting| (*setting).to_owned()));
        self
    }

    /// Limits its open files.
    #[must_use]
    pub fn files(self, files: u64) -> Self {
        Self { files: Some(files), ..self }
    }

    /// Names its data folder, instead of a fresh one.
    #[must_use]
    pub fn data(self, data: &Path) -> Self {
        Self { data: Some(data.to_owned()), ..self }
    }

    /// Names its configuration file.
    #[must_use]
    pub fn config(self, config: &Path) -> Self {
        Self { config: Some(config.to_owned()), ..self }
    }

    /// Sends its log to this file.
    #[must_use]
    pub fn stderr(self, file: &Path) -> Self {
        Self { stderr: Some(file.to_owned()), ..self }
    }

    /// Adds to its environment.
    #[must_use]
    pub fn environment(mut self, variables: Vec<(&'static str, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Cluster {
        self.start_or_end().unwrap_or_else(|(process, _)| {
            panic!("anser ended before it was ready: {}", process.stderr());
        })
    }

    /// Starts it and waits until it is ready or has ended; its folder comes with one that has ended.
    #[track_caller]
    pub(crate) fn start_or_end(self) -> Result<Cluster, (Process, TempDir)> {
        let (process, folder, data) = self.launch();
        Cluster::ready(process, folder, data)
    }

    /// Starts it and waits until it has ended, as one that cannot start does.
    #[track_caller]
    pub fn fail(self) -> Ended {
        let (mut process, _folder, _) = self.launch();
        process.wait()
    }

    fn launch(self) -> (Process, TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = self.data.unwrap_or_else(|| folder.path().join("data"));
        let mut arguments = vec!["up".to_owned(), "--data".to_owned(), data.display().to_string()];
        if let Some(config) = self.config {
            arguments.extend(["--config".to_owned(), config.display().to_string()]);
        }
        let free = [
            "comet.tcp=[\"127.0.0.1:0\"]",
            "comet.websocket=[\"127.0.0.1:0\"]",
            "http.bind=127.0.0.1:0",
            "cluster.comet_bind=127.0.0.1:0",
            "cluster.logic_bind=127.0.0.1:0",
        ];
        for setting in free.into_iter().map(str::to_owned).chain(self.settings) {
            arguments.extend(["--set".to_owned(), setting]);
        }
        let mut command = match (self.files, self.stderr) {
            (Some(files), _) => Process::limited(files),
            (None, Some(file)) => Process::redirected(&file),
            (None, None) => Process::plain(),
        };
        command.envs(self.environment);
        (Process::start(command, folder.path(), &arguments), folder, data)
    }
}

/// A running server: today one process with every role. Killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    running: Running,
    tcp: SocketAddr,
    websocket: SocketAddr,
    /// Where its data is.
    data: PathBuf,
    /// The key of its push API, unless it wants none.
    key: Option<String>,
    /// Removed when the server is gone.
    _folder: TempDir,
}

impl Cluster {
    /// Starts a server on free ports, in a fresh data folder, with these settings over the defaults,
    /// each as `section.key=VALUE`.
    #[track_caller]
    pub fn start(settings: &[&str]) -> Self {
        Self::builder().set(settings).start()
    }

    /// To start a server in another way.
    pub fn builder() -> Builder {
        Builder::default()
    }

    #[track_caller]
    fn ready(process: Process, folder: TempDir, data: PathBuf) -> Result<Self, (Process, TempDir)> {
        let running = match Running::wait(process) {
            Ok(running) => running,
            Err(process) => return Err((process, folder)),
        };
        let address = |scheme| running.address(scheme).expect("the greeting names every address");
        let (tcp, websocket) = (address(" tcp://"), address(" ws://"));
        let key = push_key(&data);
        Ok(Self { running, tcp, websocket, data, key, _folder: folder })
    }

    /// What `anser up` printed.
    pub fn greeting(&self) -> &str {
        &self.running.greeting
    }

    /// Where TCP clients connect.
    pub fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    /// Where WebSocket clients connect.
    pub fn websocket(&self) -> SocketAddr {
        self.websocket
    }

    /// Where the HTTP API is.
    pub fn http(&self) -> SocketAddr {
        self.running.http
    }

    /// Where its data is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The header that the push API wants, with its end of line, for requests that are written by hand.
    #[track_caller]
    pub fn authorization(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.key.as_ref().expect("the server wants a key"))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.running.process
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        self.running.process.signal(signal);
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        self.running.process.wait()
    }

    /// Files and sockets that it has open now.
    pub fn open_files(&self) -> u64 {
        let files = fs::read_dir(format!("/proc/{}/fd", self.running.process.id()));
        files.expect("a running process has descriptors").count() as u64
    }

    /// Memory that it has in use now, in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running.process.id()))
            .expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("VmRSS is in kB");
        kilobytes << 10
    }

    /// A connection that has done nothing yet; a WebSocket is open.
    #[track_caller]
    pub fn connect(&self, transport: Transport) -> Client {
        Dial::new(self, transport).connect()
    }

    /// A connection that is authenticated with this token.
    #[track_caller]
    pub fn login(&self, transport: Transport, token: &str) -> Client {
        let mut client = self.connect(transport);
        client.login(token);
        client
    }

    /// A connection to the HTTP API, of a back end that has the key.
    #[track_caller]
    pub fn api(&self) -> Http {
        Http::connect(self.running.http, self.key.as_deref())
    }

    /// A connection to the HTTP API of somebody who has no key.
    #[track_caller]
    pub fn stranger(&self) -> Http {
        Http::connect(self.running.http, None)
    }

    /// What a `GET` on a connection of its own is answered.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.api().request("GET", target, &[], b"")
    }

    /// Every metric, now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        self.running.metrics()
    }

    /// What came in has gone out, or is known not to: see [`Metrics::job_balance`] and
    /// [`Metrics::comet_balance`]. Waits until nothing is on its way.
    #[track_caller]
    pub fn check_accounts(&self) {
        eventually_eq("the job's parcels add up", Ok(()), || self.metrics().job_balance());
        eventually_eq("the comet's deliveries add up", Ok(()), || self.metrics().comet_balance());
    }

    /// Pushes to keys; see [`Http::push`].
    #[track_caller]
    pub fn push_keys(&self, keys: &[&str], op: i32, body: &str) {
        self.api().push_keys(keys, op, body);
    }

    /// Pushes to users.
    #[track_caller]
    pub fn push_mids(&self, mids: &[i64], op: i32, body: &str) {
        self.api().push_mids(mids, op, body);
    }

    /// Pushes to a room, `type://id`.
    #[track_caller]
    pub fn push_room(&self, room: &str, op: i32, body: &str) {
        self.api().push_room(room, op, body);
    }

    /// Pushes to everyone.
    #[track_caller]
    pub fn push_all(&self, op: i32, body: &str) {
        self.api().push_all(op, body);
    }
}

/// The first key of a data folder's push API, if it has one.
pub(crate) fn push_key(data: &Path) -> Option<String> {
    let text = fs::read_to_string(data.join("push.key")).ok()?;
    text.lines().find(|line| !line.starts_with('#')).map(str::to_owned)
}
