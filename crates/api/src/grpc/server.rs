//! Roles on the network: which services a port has, and what its callers may do.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport;
use tracing::warn;

use super::generated::anser::comet::v1::comet_server::CometServer;
use super::generated::anser::job::v1::job_server::JobServer;
use super::generated::anser::logic::v1::directory_server::DirectoryServer;
use super::generated::anser::logic::v1::logic_server::LogicServer;
use super::generated::anser::logic::v1::push_api_server::PushApiServer;
use super::generated::goim;
use super::goim::{CometService, LogicService, Rooms};
use super::quiet::Quiet;
use super::secret::{Guard, Secret};
use super::socket::Incoming;
use super::{CONNECTION_WINDOW, MESSAGE, STREAM_WINDOW, ours};
use crate::comet::Comet;
use crate::job::Job;
use crate::logic::{Advice, Directory, Logic, PushApi};

/// Longest metadata of a call, in bytes.
const METADATA: u32 = 16 << 10;

/// After so long without a word a caller is asked whether it is there, and has as long again to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What callers may do to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. One more is closed at once.
    pub connections: usize,
    /// Calls at once on one connection. More wait with the caller.
    pub streams: u32,
    /// From a connection until its first words of HTTP/2.
    pub patience: Duration,
    /// A call is given up when it takes longer, its arrival included. It is longer than any call that
    /// waits on purpose.
    pub call: Duration,
    /// When the server ends: for calls that are under way.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 1024,
            patience: Duration::from_secs(20),
            call: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// What a port is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// What callers must know.
    pub secret: Secret,
    /// goim's services can be called without the secret, as goim's own programs know of none. Only for
    /// ports that strangers cannot reach.
    pub goim_without_secret: bool,
    /// What callers may do.
    pub limits: Limits,
}

/// What has been refused.
#[derive(Debug, Default)]
pub struct Counters {
    /// Calls without the secret.
    pub unauthenticated: AtomicU64,
    /// Connections beyond [`Limits::connections`].
    pub turned_away: AtomicU64,
    pub(super) unauthenticated_said: Quiet,
    pub(super) turned_away_said: Quiet,
    pub(super) accept_said: Quiet,
}

/// The services of one port. Calls that no service of it knows are answered with `UNIMPLEMENTED`.
#[derive(Debug)]
pub struct Server {
    options: Options,
    routes: Routes,
    counters: Arc<Counters>,
}

/// Adds a generated service, behind the secret, with gzip and the limit on messages.
macro_rules! serve {
    ($server:ident, $guard:ident, $service:expr) => {{
        let service =
            $service.max_decoding_message_size(MESSAGE).accept_compressed(CompressionEncoding::Gzip);
        let routes = $server.routes.clone().add_service(InterceptedService::new(service, $server.$guard()));
        Self { routes, ..$server }
    }};
}

impl Server {
    /// A port without a service yet.
    pub fn new(options: Options) -> Self {
        Self { options, routes: Routes::default(), counters: Arc::default() }
    }

    /// What has been refused, also while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Serves `anser.comet.v1.Comet`.
    #[must_use]
    pub fn comet(self, comet: Arc<dyn Comet>) -> Self {
        serve!(self, guard, CometServer::new(ours::Comet(comet)))
    }

    /// Serves `anser.logic.v1.Logic`.
    #[must_use]
    pub fn logic(self, logic: Arc<dyn Logic>) -> Self {
        serve!(self, guard, LogicServer::new(ours::Logic(logic)))
    }

    /// Serves `anser.logic.v1.Directory`.
    #[must_use]
    pub fn directory(self, directory: Arc<dyn Directory>) -> Self {
        serve!(self, guard, DirectoryServer::new(ours::Directory(directory)))
    }

    /// Serves `anser.logic.v1.PushApi`.
    #[must_use]
    pub fn push_api(self, push_api: Arc<dyn PushApi>) -> Self {
        serve!(self, guard, PushApiServer::new(ours::PushApi(push_api)))
    }

    /// Serves `anser.job.v1.Job`.
    #[must_use]
    pub fn job(self, job: Arc<dyn Job>) -> Self {
        serve!(self, guard, JobServer::new(ours::Job(job)))
    }

    /// Serves `goim.comet.Comet`.
    #[must_use]
    pub fn goim_comet(self, comet: Arc<dyn Comet>, rooms: Arc<dyn Rooms>) -> Self {
        let service = CometService::new(comet, rooms);
        serve!(self, goim_guard, goim::comet::comet_server::CometServer::new(service))
    }

    /// Serves `goim.logic.Logic`.
    #[must_use]
    pub fn goim_logic(self, logic: Arc<dyn Logic>, directory: Arc<dyn Directory>, advice: Advice) -> Self {
        let service = LogicService::new(logic, directory, advice);
        serve!(self, goim_guard, goim::logic::logic_server::LogicServer::new(service))
    }

    /// Answers until `shutdown` is done. Then calls that are under way may end within
    /// [`Limits::drain`].
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), transport::Error> {
        let limits = self.options.limits;
        let incoming = Incoming::new(listener, limits.connections, limits.patience, self.counters);
        let (ending, ended) = oneshot::channel();
        let shutdown = async {
            shutdown.await;
            let _ = ending.send(());
        };
        // HTTP/2 has limits of its own on what goim's programs do: a ping costs a caller nothing here,
        // however often it comes, and is never answered by GOAWAY.
        let serving = transport::Server::builder()
            .max_concurrent_streams(limits.streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .http2_max_header_list_size(METADATA)
            .timeout(limits.call)
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(incoming, shutdown);
        let patience = async {
            if ended.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(limits.drain).await;
        };
        tokio::select! {
            result = serving => result,
            () = patience => {
                warn!("gRPC calls were still under way at the end");
                Ok(())
            }
        }
    }

    fn guard(&self) -> Guard {
        Guard { secret: Some(self.options.secret.clone()), counters: self.counters.clone() }
    }

    fn goim_guard(&self) -> Guard {
        let guard = self.guard();
        if self.options.goim_without_secret { Guard { secret: None, ..guard } } else { guard }
    }
}
