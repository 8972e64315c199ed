//! A server whose roles are processes of their own, each of which can be killed, stopped and started again
//! in its place.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, Dial, Transport};
use crate::cluster::push_key;
use crate::http::{Answer, Http};
use crate::metrics::Metrics;
use crate::patience::eventually_eq;
use crate::process::{Ended, Process};
use crate::running::Running;

/// A process of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who is where, and the push API.
    Logic,
    /// The push log, and the lanes to comets.
    Job,
    /// An edge, by its number.
    Comet(usize),
}

impl Role {
    /// The name of its command, and of a comet's kind.
    fn command(self) -> &'static str {
        match self {
            Self::Logic => "logic",
            Self::Job => "job",
            Self::Comet(_) => "comet",
        }
    }

    /// How it is called.
    pub fn name(self) -> String {
        match self {
            Self::Comet(number) => format!("comet-{number}"),
            other => other.command().to_owned(),
        }
    }
}

/// What a role has for all its lives.
#[derive(Debug)]
struct Place {
    role: Role,
    grpc: SocketAddr,
    http: SocketAddr,
    running: Option<Running>,
}

/// One logic, one job, and comets that are called `comet-0` and so on. Killed when dropped.
#[derive(Debug)]
pub struct Apart {
    places: Vec<Place>,
    /// What every role gets.
    settings: Vec<String>,
    folder: TempDir,
}

impl Apart {
    /// Starts all roles, with these settings over the defaults, each as `section.key=VALUE`.
    #[track_caller]
    pub fn start(comets: usize, settings: &[&str]) -> Self {
        let mut apart = Self::plan(comets, settings);
        for role in apart.roles() {
            apart.run(role);
        }
        apart.wait_until_joined();
        apart
    }

    /// Finds addresses for all roles, and starts none.
    pub fn plan(comets: usize, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        write_secret(&folder.path().join("secret"), "the secret that all of them share");
        let ip = fresh_ip();
        let roles = [Role::Logic, Role::Job].into_iter().chain((0..comets).map(Role::Comet));
        // All are held until all are found, so that none is found twice.
        let bind = || TcpListener::bind((ip, 0)).expect("an address has a free port");
        let held: Vec<_> = roles.map(|role| (role, bind(), bind())).collect();
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound socket has an address");
        let places = held.iter().map(|(role, grpc, http)| Place {
            role: *role,
            grpc: address(grpc),
            http: address(http),
            running: None,
        });
        let places: Vec<Place> = places.collect();
        let member = |place: &Place| format!("\"{}=grpc://{}\"", place.role.name(), place.grpc);
        let members: Vec<String> = places[2..].iter().map(member).collect();
        let mut all = vec![
            format!("cluster.logic=grpc://{}", places[0].grpc),
            format!("cluster.job=grpc://{}", places[1].grpc),
            format!("cluster.comets=[{}]", members.join(",")),
            format!("cluster.secret_file={}", folder.path().join("secret").display()),
            "comet.renew=100ms".to_owned(),
        ];
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        Self { places, settings: all, folder }
    }

    /// Every role that there is.
    pub fn roles(&self) -> Vec<Role> {
        self.places.iter().map(|place| place.role).collect()
    }

    /// How many comets there are.
    pub fn comets(&self) -> usize {
        self.places.len() - 2
    }

    fn place(&self, role: Role) -> &Place {
        self.places.iter().find(|place| place.role == role).expect("only roles that there are have a place")
    }

    #[track_caller]
    fn running(&self, role: Role) -> &Running {
        let running = self.place(role).running.as_ref();
        running.unwrap_or_else(|| panic!("{} does not run", role.name()))
    }

    #[track_caller]
    fn take(&mut self, role: Role) -> Running {
        let place = self.places.iter_mut().find(|place| place.role == role);
        let running = place.and_then(|place| place.running.take());
        running.unwrap_or_else(|| panic!("{} does not run", role.name()))
    }

    /// The data folder of a role.
    pub fn data(&self, role: Role) -> PathBuf {
        self.folder.path().join(role.name())
    }

    /// Starts a role that does not run, at its addresses and in its folder, and waits until it is ready.
    #[track_caller]
    pub fn run(&mut self, role: Role) {
        self.run_with(role, &[]);
    }

    /// The same with settings that it alone has.
    #[track_caller]
    pub fn run_with(&mut self, role: Role, settings: &[&str]) {
        assert!(self.place(role).running.is_none(), "{} runs already", role.name());
        let process = self.launch(role, settings);
        let running = Running::wait(process).unwrap_or_else(|process| {
            panic!("{} ended before it was ready: {}", role.name(), process.stderr());
        });
        let place = self.places.iter_mut().find(|place| place.role == role);
        place.expect("it was found before").running = Some(running);
    }

    /// Starts a role with these settings beside what runs already, and waits until it has ended, as one that
    /// cannot start does.
    #[track_caller]
    pub fn fail(&self, role: Role, settings: &[&str]) -> Ended {
        self.launch(role, settings).wait()
    }

    fn launch(&self, role: Role, settings: &[&str]) -> Process {
        let Place { grpc, http, .. } = self.place(role);
        let mut own = vec![
            format!("cluster.{}_bind=[\"{grpc}\"]", role.command()),
            format!("http.bind={http}"),
            "comet.tcp=[\"127.0.0.1:0\"]".to_owned(),
            "comet.websocket=[\"127.0.0.1:0\"]".to_owned(),
            format!("comet.name={}", role.name()),
        ];
        own.extend(self.settings.iter().cloned());
        own.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let data = self.data(role).display().to_string();
        let mut arguments = vec![role.command().to_owned(), "--data".to_owned(), data];
        arguments.extend(own.into_iter().flat_map(|setting| ["--set".to_owned(), setting]));
        Process::spawn(self.folder.path(), &arguments)
    }

    /// Another secret for roles: the setting that names it.
    pub fn other_secret(&self, secret: &str) -> String {
        let path = self.folder.path().join("other-secret");
        write_secret(&path, secret);
        format!("cluster.secret_file={}", path.display())
    }

    /// Waits until logic has heard of every comet, and the job can speak to each.
    #[track_caller]
    pub fn wait_until_joined(&self) {
        let comets = self.comets() as i64;
        eventually_eq("logic knows every comet", comets, || {
            let nodes = self.get("/goim/nodes/instances");
            nodes.text().matches(r#""appid":"goim.comet""#).count() as i64
        });
        eventually_eq("every lane is open", comets, || self.metrics(Role::Job).get("job_lane_up"));
    }

    /// Kills a role, which learns nothing of it.
    #[track_caller]
    pub fn kill(&mut self, role: Role) {
        let mut running = self.take(role);
        running.process.signal(Signal::KILL);
        running.process.wait();
    }

    /// Sends a signal to a role that goes on running.
    #[track_caller]
    pub fn signal(&self, role: Role, signal: Signal) {
        self.running(role).process.signal(signal);
    }

    /// Drains a role, and waits until it has ended in order.
    #[track_caller]
    pub fn drain(&mut self, role: Role) -> Ended {
        self.signal(role, Signal::TERM);
        self.ended(role)
    }

    /// Waits until a role that was told to go has ended in order.
    #[track_caller]
    pub fn ended(&mut self, role: Role) -> Ended {
        let ended = self.take(role).process.wait();
        assert_eq!(ended.code, Some(0), "{}: {}", role.name(), ended.stderr);
        ended
    }

    /// What a role has written on stderr.
    #[track_caller]
    pub fn stderr(&self, role: Role) -> String {
        self.running(role).process.stderr()
    }

    /// Where the gRPC of a role is, also while it does not run.
    pub fn grpc(&self, role: Role) -> SocketAddr {
        self.place(role).grpc
    }

    /// Where the HTTP of a role is, also while it does not run.
    pub fn http(&self, role: Role) -> SocketAddr {
        self.place(role).http
    }

    /// How to connect to a comet.
    #[track_caller]
    pub fn dial(&self, comet: usize, transport: Transport) -> Dial {
        let scheme = match transport {
            Transport::Tcp => " tcp://",
            Transport::WebSocket => " ws://",
        };
        let address = self.running(Role::Comet(comet)).address(scheme);
        Dial::to(address.expect("a comet names its addresses"), transport)
    }

    /// A connection to a comet that is authenticated with this token.
    #[track_caller]
    pub fn login(&self, comet: usize, transport: Transport, token: &str) -> Client {
        let mut client = self.dial(comet, transport).connect();
        client.login(token);
        client
    }

    /// The key of the push API, once logic has been started.
    #[track_caller]
    pub fn key(&self) -> String {
        push_key(&self.data(Role::Logic)).expect("logic has made a key")
    }

    /// A connection to the push API, of a back end that has the key.
    #[track_caller]
    pub fn api(&self) -> Http {
        Http::connect(self.http(Role::Logic), Some(&self.key()))
    }

    /// What a `GET` on logic is answered.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.api().request("GET", target, &[], b"")
    }

    /// Every metric of a role, now.
    #[track_caller]
    pub fn metrics(&self, role: Role) -> Metrics {
        self.running(role).metrics()
    }

    /// What came in has gone out, or is known not to, in the job and in every comet that runs: see
    /// [`Metrics::job_balance`] and [`Metrics::comet_balance`]. Waits until nothing is on its way.
    #[track_caller]
    pub fn check_accounts(&self) {
        eventually_eq("the job's parcels add up", Ok(()), || self.metrics(Role::Job).job_balance());
        for place in self.places[2..].iter().filter(|place| place.running.is_some()) {
            let what = format!("the deliveries of {} add up", place.role.name());
            eventually_eq(&what, Ok(()), || self.metrics(place.role).comet_balance());
        }
    }
}

/// An address of loopback on which nobody else looks for ports: what is free there stays free between two
/// lives of a process, also when clients of other tests take ports without asking.
fn fresh_ip() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let [_, a, b, _] = (process << 8).to_be_bytes();
    Ipv4Addr::new(127, 64 + a % 128, b, 1 + (next % 250) as u8).into()
}

fn write_secret(path: &Path, secret: &str) {
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.expect("a temporary folder can be used");
    writeln!(file, "{}", secret.replace(' ', "-")).expect("a temporary folder can be used");
}
