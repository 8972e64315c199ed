//! The HTTP server: how many may talk to it at once, how long they may take, how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anser_api::logic::{Advice, Directory, Operator, PushApi};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::access::{self, Guard, Keys, Peer};
use crate::config::Config;
use crate::goim::{self, Goim};
use crate::health::{self, Alive, Ready};
use crate::long::Told;
use crate::metrics::{self, Metrics, Refused};
use crate::origin::{self, Origins};
use crate::v1::{self, Limits, V1};
use crate::{problem, surface};

/// Longest request head, in bytes: goim takes request lines of 100 KB.
const HEAD: usize = 128 << 10;

/// How long names may be, by the settings of other roles.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Bytes of a device's key, `logic.key`.
    pub key: usize,
    /// Bytes of a room's name, `comet.room_name`.
    pub room: usize,
}

/// What the API stands on.
pub struct Roles {
    /// Takes the pushes.
    pub push: Arc<dyn PushApi>,
    /// Answers what operators ask.
    pub operator: Arc<dyn Operator>,
    /// Knows who is where.
    pub directory: Arc<dyn Directory>,
    /// What clients are told beside the addresses of comets.
    pub advice: Advice,
    /// The keys that are good, if the configuration asks for keys.
    pub keys: Keys,
    /// How long names may be.
    pub names: Names,
}

/// The address is bound, and does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    metrics: Metrics,
}

impl Bound {
    /// Binds the address of the configuration. A port of 0 becomes one that is free.
    pub fn bind(config: Config) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(config.bind), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // A caller that asks and never reads is cut like one that asks and never ends; Linux copies this
        // into each accepted socket.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(config.request_timeout.0))?;
        socket.bind(&config.bind.into())?;
        socket.listen(1024)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok(Self { address: listener.local_addr()?, listener, config, metrics: Metrics::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts the metrics of the HTTP API into a registry, under `anser_http_`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Starts to answer. Without `roles` there are only health and metrics.
    pub fn start(self, roles: Option<Roles>, registry: Arc<Registry>, alive: Alive, ready: Ready) -> Http {
        let timeout = self.config.request_timeout.0;
        let keys = roles.as_ref().map(|roles| roles.keys.clone()).unwrap_or_default();
        let routes = roles.map_or_else(Router::new, |roles| self.routes(roles));
        let routes = routes.merge(health::routes(alive, ready, registry));
        let app = self.fence(routes, keys);
        let (stop, stopped) = watch::channel(());
        let slots = Arc::new(Semaphore::new(self.config.max_connections));
        let server = Server { app, timeout, slots: slots.clone(), stopped };
        tokio::spawn(server.run(self.listener));
        Http { stop, slots, max_connections: self.config.max_connections as u32 }
    }

    /// What back ends and clients call.
    pub(crate) fn routes(&self, roles: Roles) -> Router {
        let Config { body, receivers, ref deploy_env, .. } = self.config;
        let Roles { push, operator, directory, advice, names, .. } = roles;
        let goim = Goim {
            push: push.clone(),
            directory,
            advice: advice.into(),
            deploy_env: deploy_env.as_str().into(),
            max_body: body,
            max_receivers: receivers,
        };
        let limits = Limits { body, receivers, key: names.key, room: names.room };
        Router::new()
            .merge(goim::routes(goim))
            .merge(v1::routes(V1 { push, operator, limits }))
            .merge(problem::routes())
    }

    /// What a request goes through before it comes to a route; the last layer is the first that sees it.
    pub(crate) fn fence(&self, routes: Router, keys: Keys) -> Router {
        let Config { request_timeout, require_key, allowed_origins, .. } = &self.config;
        let metrics = self.metrics.clone();
        let origins =
            Origins { allowed: allowed_origins.clone(), keys: *require_key, metrics: metrics.clone() };
        // These count for the routes that are there by now, so they come behind all of them.
        let routes = routes.fallback(surface::missing).method_not_allowed_fallback(surface::other_method);
        let routes = routes.layer(from_fn_with_state((request_timeout.0, metrics.clone()), within));
        let guarded = if *require_key {
            routes.layer(from_fn_with_state(Arc::new(Guard::new(keys, metrics.clone())), access::ask))
        } else {
            routes
        };
        guarded
            .layer(from_fn_with_state(Arc::new(origins), origin::check))
            .layer(from_fn_with_state(metrics, metrics::count))
    }
}

/// A running HTTP server.
#[derive(Debug)]
pub struct Http {
    stop: watch::Sender<()>,
    slots: Arc<Semaphore>,
    max_connections: u32,
}

impl Http {
    /// Stops accepting, lets requests that are under way finish within `limit`, and cuts the rest.
    pub async fn stop(self, limit: Duration) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(limit, self.slots.acquire_many(self.max_connections)).await;
    }
}

/// A request as hyper has it.
type Incoming = hyper::Request<body::Incoming>;

struct Server {
    app: Router,
    timeout: Duration,
    /// One permit for each connection. When all are taken, callers wait in the kernel's queue.
    slots: Arc<Semaphore>,
    stopped: watch::Receiver<()>,
}

impl Server {
    async fn run(mut self, listener: TcpListener) {
        let mut said = None;
        let mut may_speak = move || {
            let quiet = said.is_none_or(|said: Instant| said.elapsed() > Duration::from_secs(10));
            if quiet {
                said = Some(Instant::now());
            }
            quiet
        };
        loop {
            if self.slots.available_permits() == 0 && may_speak() {
                warn!("as many callers as http.max_connections allows are connected: others wait");
            }
            let Ok(permit) = self.slots.clone().acquire_owned().await else { return };
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, from)) => self.serve(socket, from, permit),
                    Err(cause) => {
                        if may_speak() {
                            warn!(error = %cause, "cannot accept an HTTP connection; trying again. If it stays, raise the limit on open files");
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                _ = self.stopped.changed() => return,
            }
        }
    }

    fn serve(&self, socket: TcpStream, from: SocketAddr, permit: OwnedSemaphorePermit) {
        let peer = Peer(from.ip());
        let service = TowerToHyperService::new(self.app.clone().map_request(move |mut request: Incoming| {
            request.extensions_mut().insert(peer);
            request
        }));
        let mut stopped = self.stopped.clone();
        let timeout = self.timeout;
        if let Err(cause) = socket.set_nodelay(true) {
            debug!(remote = %from, error = %cause, "cannot set TCP_NODELAY on an HTTP connection");
        }
        tokio::spawn(async move {
            let _permit = permit;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(timeout)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(Told::new(socket)), service);
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(cause) = result {
                debug!(remote = %from, error = %cause, "HTTP connection ended");
            }
        });
    }
}

/// A request that takes too long to arrive is given up.
async fn within(
    State((timeout, metrics)): State<(Duration, Metrics)>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    tokio::time::timeout(timeout, next.run(request)).await.unwrap_or_else(|_| {
        metrics.refused(Refused::Timeout);
        surface::refuse(&path, &problem::TIMEOUT, "the request took too long to arrive")
    })
}
