//! The roles of a process, put together: all of them, or one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anser_api::grpc;
use anser_api::grpc::client::{RemoteComet, RemoteDirectory, RemoteJob, RemoteLogic};
use anser_api::logic::{Directory, Logic as LogicTrait};
use anser_comet::{Comet, StartError};
use anser_http::{Alive, Http, Keys, Names, Ready};
use anser_job::{Job, Route};
use anser_logic::{Auth, Authenticator, Logic};
use prometheus_client::registry::Registry;
use rustix::system::uname;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Plan, Shortage};
use crate::push_key::Secret;
use crate::{process, push_log};

/// A worker whose loop has not gone on for so long is told by `/healthz`.
const STALLED: Duration = Duration::from_secs(10);

/// How long the job may take to learn, after the edge has drained, what has been written.
const JOB_LIMIT: Duration = Duration::from_secs(1);

/// How long requests may take to finish after the edge has drained.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// Everything.
    All,
    /// The edge.
    Comet,
    /// Who is where, and the push API.
    Logic,
    /// The push log, and the lanes to comets.
    Job,
}

impl Roles {
    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "anser",
            Self::Comet => "comet",
            Self::Logic => "logic",
            Self::Job => "job",
        }
    }

    pub(crate) fn has_comet(self) -> bool {
        matches!(self, Self::All | Self::Comet)
    }

    pub(crate) fn has_logic(self) -> bool {
        matches!(self, Self::All | Self::Logic)
    }

    pub(crate) fn has_job(self) -> bool {
        matches!(self, Self::All | Self::Job)
    }
}

/// Where a server can be reached.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Clients over TCP.
    pub tcp: Vec<SocketAddr>,
    /// Clients over WebSocket, at `/sub`.
    pub websocket: Vec<SocketAddr>,
    /// Push API, health and metrics.
    pub http: Option<SocketAddr>,
    /// gRPC of the roles, by their names.
    pub grpc: Vec<(&'static str, SocketAddr)>,
}

/// Running roles.
pub struct Server {
    pub(crate) comet: Option<Arc<Comet>>,
    job: Option<Arc<Job>>,
    http: Http,
    grpc: Grpc,
    ready: Ready,
    pub(crate) addresses: Addresses,
}

/// What every role gets.
struct Parts<'a> {
    config: &'a Config,
    secret: &'a grpc::Secret,
    registry: Registry,
}

impl Server {
    /// Binds every address, then starts the roles. Must be called on a runtime. The push API wants one of
    /// `keys`, unless the configuration says that it wants none. `more` are metrics beyond those of the roles.
    pub(crate) async fn start(
        roles: Roles,
        mut config: Config,
        data: &Path,
        keys: &[Secret],
        more: impl FnOnce(&mut Registry),
    ) -> Result<Self, Failure> {
        let plan = Plan::of(files::raise(), config.comet.max_connections, config.http.max_connections);
        if roles.has_comet() {
            tell_shortage(&plan, config.comet.max_connections);
        }
        if config.comet.name.is_empty() {
            config.comet.name = uname().nodename().to_string_lossy().into_owned();
        }
        config.comet.max_connections = plan.clients;
        config.http.max_connections = plan.callers;
        let secret = config.cluster.secret(data)?;
        // Keys and addresses of authentication are of use where logic is, and need not be elsewhere.
        let auth = roles.has_logic().then(|| Authenticator::new(&config.logic, &Handle::current()));
        let auth = auth.transpose().map_err(|error| Failure::new(Exit::Config, error.what, error.remedy))?;

        let bind = |comet: anser_comet::Config| anser_comet::Bound::bind(comet).map_err(start_failure);
        let bound = roles.has_comet().then(|| bind(config.comet.clone())).transpose()?;
        let http = anser_http::Bound::bind(config.http.clone())
            .map_err(|error| Failure::bind(config.http.bind, &error))?;
        let mut addresses = Addresses {
            tcp: bound.as_ref().map(|bound| bound.tcp().to_vec()).unwrap_or_default(),
            websocket: bound.as_ref().map(|bound| bound.websocket().to_vec()).unwrap_or_default(),
            http: Some(http.address()),
            grpc: Vec::new(),
        };
        let mut grpc = Grpc::default();
        for (wanted, name, list) in [
            (roles.has_comet(), "comet", &config.cluster.comet_bind),
            (roles.has_logic(), "logic", &config.cluster.logic_bind),
            (roles == Roles::Job, "job", &config.cluster.job_bind),
        ] {
            for address in list.iter().filter(|_| wanted) {
                grpc.bind(name, *address).await?;
            }
        }
        addresses.grpc = grpc.addresses();

        let mut parts = Parts { config: &config, secret: &secret, registry: Registry::default() };
        let logic = auth.map(|auth| parts.logic(auth, roles));
        let comet = bound.map(|bound| parts.comet(bound, logic.clone())).transpose()?;
        let job =
            if roles.has_job() { Some(parts.job(data, comet.clone(), logic.clone()).await?) } else { None };
        if let Some(logic) = &logic {
            match &job {
                Some(job) => logic.set_job(job.clone()),
                None => logic.set_job(Arc::new(RemoteJob::new(parts.link(&config.cluster.job)?))),
            }
        }
        grpc.serve(&config, &secret, comet.as_ref(), logic.as_ref(), job.as_ref());
        let mut registry = parts.registry;
        http.register(&mut registry);
        process::register(&mut registry, &plan);
        more(&mut registry);
        let ready = Ready::default();
        let api = logic.map(|logic| anser_http::Roles {
            push: logic.clone(),
            operator: logic.clone(),
            directory: logic,
            advice: config.logic.advice(),
            keys: Keys::new(keys.iter().map(Secret::expose)),
            names: Names { key: config.logic.key, room: config.comet.room_name },
        });
        let http = http.start(api, Arc::new(registry), alive(comet.as_ref()), ready.clone());
        ready.set(true);
        tell_addresses(roles, &config, &addresses, &plan);
        Ok(Self { comet, job, http, grpc, ready, addresses })
    }

    /// Takes no more connections and pushes, writes what is queued, tells clients when to come back.
    pub(crate) async fn stop(self) {
        self.ready.set(false);
        if let Some(comet) = &self.comet {
            comet.drain().await;
        }
        if self.job.is_some() && self.comet.is_none() {
            // Nobody may hand in what could not be logged any more.
            self.grpc.stop().await;
            if let Some(job) = &self.job {
                job.stop(JOB_LIMIT).await;
            }
            self.http.stop(CALL_LIMIT).await;
            return;
        }
        if let Some(job) = &self.job {
            job.stop(JOB_LIMIT).await;
        }
        self.http.stop(CALL_LIMIT).await;
        self.grpc.stop().await;
    }
}

impl Parts<'_> {
    fn link(&self, address: &str) -> Result<grpc::client::Link, Failure> {
        self.config.cluster.link(address, self.secret)
    }

    fn logic(&mut self, auth: Authenticator, roles: Roles) -> Arc<Logic> {
        let logic = Arc::new(Logic::new(self.config.logic.clone(), self.config.comet.room_name, auth));
        if roles == Roles::Logic {
            let members = self.config.cluster.members().unwrap_or_default();
            if members.is_empty() {
                warn!("cluster.comets names no comet: after a start, pushes to keys do not wait for any");
            }
            logic.expect(members.into_iter().map(|member| member.name).collect());
        }
        logic.register(&mut self.registry);
        logic
    }

    fn comet(&mut self, bound: anser_comet::Bound, logic: Option<Arc<Logic>>) -> Result<Arc<Comet>, Failure> {
        let logic: Arc<dyn LogicTrait> = match logic {
            Some(logic) => logic,
            None => Arc::new(RemoteLogic::new(self.link(&self.config.cluster.logic)?)),
        };
        let comet = Arc::new(bound.start(logic, Handle::current()).map_err(start_failure)?);
        comet.register(&mut self.registry);
        Ok(comet)
    }

    /// The ways to the comets of the cluster.
    fn routes(&self) -> Result<Vec<Route>, Failure> {
        let members = self.config.cluster.members().unwrap_or_default();
        if members.is_empty() {
            return Err(Failure::new(
                Exit::Config,
                "cluster.comets names no comet, so the job would bring pushes nowhere",
                "write them as [\"name=grpc://host:port\"]",
            ));
        }
        let route = |member: crate::cluster::Member| {
            let link = self.link(&member.address)?;
            Ok(Route { name: member.name, comet: Arc::new(RemoteComet::new(link)), local: false })
        };
        members.into_iter().map(route).collect()
    }

    async fn job(
        &mut self,
        data: &Path,
        comet: Option<Arc<Comet>>,
        logic: Option<Arc<Logic>>,
    ) -> Result<Arc<Job>, Failure> {
        let push_log = Arc::new(push_log::open(&self.config.store, data)?);
        push_log.register(&mut self.registry);
        let directory: Arc<dyn Directory> = match logic {
            Some(logic) => logic,
            None => Arc::new(RemoteDirectory::new(self.link(&self.config.cluster.logic)?)),
        };
        let routes = match comet {
            Some(comet) => vec![Route { name: comet.name(), comet, local: true }],
            None => self.routes()?,
        };
        let config = self.config.job.clone();
        // Reading the log back may take a while.
        let runtime = Handle::current();
        let start = move || Job::start(config, push_log, routes, directory, &runtime);
        let job = tokio::task::spawn_blocking(start).await.map_err(anyhow::Error::from)?;
        let job = Arc::new(job.map_err(|error| {
            Failure::new(Exit::System, format!("cannot read the push log ({error})"), "look at the disk")
        })?);
        job.register(&mut self.registry);
        Ok(job)
    }
}

fn alive(comet: Option<&Arc<Comet>>) -> Alive {
    let edge = comet.map(Arc::downgrade);
    Arc::new(move || match edge.as_ref().and_then(|edge| edge.upgrade()?.stalled(STALLED)) {
        None => Ok(()),
        Some(worker) => {
            Err(format!("worker {worker} of the edge has stood still for {} s", STALLED.as_secs()))
        }
    })
}

/// The ports for other processes.
#[derive(Default)]
struct Grpc {
    bound: Vec<(&'static str, SocketAddr, Option<TcpListener>)>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Grpc {
    async fn bind(&mut self, name: &'static str, address: SocketAddr) -> Result<(), Failure> {
        let fail = |error: std::io::Error| Failure::bind(address, &error);
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        self.bound.push((name, address, Some(listener)));
        Ok(())
    }

    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.bound.iter().map(|(name, address, _)| (*name, *address)).collect()
    }

    /// Answers on every port with the services of its role.
    fn serve(
        &mut self,
        config: &Config,
        secret: &grpc::Secret,
        comet: Option<&Arc<Comet>>,
        logic: Option<&Arc<Logic>>,
        job: Option<&Arc<Job>>,
    ) {
        for (name, _, listener) in &mut self.bound {
            let Some(listener) = listener.take() else { continue };
            let mut server = grpc::Server::new(grpc::Options {
                secret: secret.clone(),
                goim_without_secret: config.cluster.goim_without_secret,
                limits: grpc::Limits { drain: CALL_LIMIT, ..grpc::Limits::default() },
            });
            match (*name, comet, logic, job) {
                ("comet", Some(comet), _, _) => {
                    server = server.comet(comet.clone()).goim_comet(comet.clone(), comet.clone());
                }
                ("logic", _, Some(logic), _) => {
                    server = server
                        .logic(logic.clone())
                        .directory(logic.clone())
                        .push_api(logic.clone())
                        .goim_logic(logic.clone(), logic.clone(), config.logic.advice());
                }
                ("job", _, _, Some(job)) => server = server.job(job.clone()),
                _ => {}
            }
            let mut stop = self.stop.subscribe();
            self.tasks.push(tokio::spawn(async move {
                let stopped = async move {
                    // The sender lives as long as the server.
                    let _ = stop.wait_for(|stop| *stop).await;
                };
                if let Err(cause) = server.serve(listener, stopped).await {
                    error!(error = %cause, "a gRPC port does not answer any more: start this process again");
                }
            }));
        }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = tokio::time::timeout(CALL_LIMIT, task).await;
        }
    }
}

/// Says where the process can be reached, and what of that is open to strangers.
fn tell_addresses(roles: Roles, config: &Config, addresses: &Addresses, plan: &Plan) {
    let Addresses { tcp, websocket, http, grpc } = addresses;
    let Plan { limit: open_files, clients: max_connections, callers: max_callers, .. } = *plan;
    let workers = config.comet.worker_count();
    info!(
        role = roles.name(),
        ?tcp,
        ?websocket,
        http = http.map(tracing::field::display),
        ?grpc,
        workers,
        max_connections,
        max_callers,
        open_files,
        "listening"
    );
    let beyond = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
    if roles.has_comet() && config.logic.auth == Auth::Open {
        for address in tcp.iter().chain(websocket).filter(beyond) {
            warn!(%address, "whoever reaches this address may connect as any user");
        }
    }
    let cookies = match config.logic.auth {
        Auth::Open => false,
        Auth::Jwt => !config.logic.jwt_cookie.is_empty(),
        Auth::Webhook => true,
    };
    if let Some(address) = websocket.iter().find(beyond)
        && cookies
        && config.comet.allowed_origins.is_empty()
    {
        warn!(
            %address,
            "web pages of any origin may connect here with the cookies of whoever looks at them: name yours in \
             comet.allowed_origins"
        );
    }
    for (_, address) in grpc.iter().filter(|(_, address)| beyond(&address)) {
        warn!(%address, "the cluster secret comes to this address in the clear: keep it in a private network");
    }
    let Some(api) = http.filter(|_| roles.has_logic()) else { return };
    if beyond(&&api) {
        warn!(address = %api, "keys of the push API come to this address in the clear: put TLS before it");
    }
    if !config.http.require_key {
        warn!(address = %api, "whoever reaches this address may push to everyone, as http.require_key is false");
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
