//! The HTTP server: how many may talk to it at once, how long they may take, how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anser_api::logic::{Advice, Directory, PushApi};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::ORIGIN;
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use crate::config::Config;
use crate::goim::{self, Goim};
use crate::health::{self, Alive, Ready};
use crate::long::Told;

/// Longest request head, in bytes: goim takes request lines of 100 KB.
const HEAD: usize = 128 << 10;

/// The address is bound, and does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
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
        Ok(Self { address: listener.local_addr()?, listener, config })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to answer. `advice` is what clients are told beside the addresses of comets.
    pub fn start(
        self,
        push: Arc<dyn PushApi>,
        directory: Arc<dyn Directory>,
        advice: Advice,
        registry: Arc<Registry>,
        alive: Alive,
        ready: Ready,
    ) -> Http {
        let goim = Goim {
            push,
            directory,
            advice: advice.into(),
            deploy_env: self.config.deploy_env.into(),
            max_body: self.config.body,
            max_receivers: self.config.receivers,
        };
        let timeout = self.config.request_timeout.0;
        let origins: Arc<[String]> = self.config.allowed_origins.into();
        let app = Router::new()
            .merge(goim::routes(goim))
            .merge(health::routes(alive, ready, registry))
            .fallback(goim::fallback)
            .method_not_allowed_fallback(goim::fallback)
            .layer(middleware::from_fn(move |request, next| within(timeout, request, next)))
            .layer(middleware::from_fn(move |request, next| of_a_page(origins.clone(), request, next)));
        let (stop, stopped) = watch::channel(());
        let slots = Arc::new(Semaphore::new(self.config.max_connections));
        let server = Server { app, timeout, slots: slots.clone(), stopped };
        tokio::spawn(server.run(self.listener));
        Http { stop, slots, max_connections: self.config.max_connections as u32 }
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
        let service = TowerToHyperService::new(self.app.clone());
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

/// A browser lets every web page post to every server: what comes from a page, with an `Origin`, is
/// refused unless that is in the list.
async fn of_a_page(origins: Arc<[String]>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN) else { return next.run(request).await };
    let allowed =
        |allowed: &String| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    if origins.iter().any(allowed) {
        return next.run(request).await;
    }
    let message = "web pages of this origin may not call the API: http.allowed_origins names those that may";
    goim::envelope(StatusCode::FORBIDDEN, -403, message)
}

/// A request that takes too long to arrive is given up.
async fn within(timeout: Duration, request: Request, next: Next) -> Response {
    tokio::time::timeout(timeout, next.run(request)).await.unwrap_or_else(|_| {
        goim::envelope(StatusCode::REQUEST_TIMEOUT, -400, "the request took too long to arrive")
    })
}
