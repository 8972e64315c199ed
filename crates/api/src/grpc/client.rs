//! Stand-ins for roles in other processes: each implements the trait of its role over a [`Link`].
//!
//! - A link connects when it is first used, and again whenever its connection is lost. While the other
//!   side cannot be reached, calls fail at once and it is tried again every second at most.
//! - Every call has a deadline, and tells the other side of it.
//! - A link that is idle is asked every ten seconds whether it still is one.
//! - Answers may be polled on any thread: what they need of a runtime is done on the link's own.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, TimeoutExpired};
use tracing::warn;

use super::convert::Bad;
use super::quiet::Quiet;
use super::{CONNECTION_WINDOW, STREAM_WINDOW, Secret};
use connector::Connector;

mod comet;
mod connector;
mod job;
mod logic;
mod missed;

pub use comet::RemoteComet;
pub use job::RemoteJob;
pub use logic::{RemoteDirectory, RemoteLogic, RemotePushApi};

/// What calls may take where nothing else is said.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Between two questions whether the other side is there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// For the answer to such a question.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(5);

/// What an address of a role must look like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address of a role: write grpc://host:port")]
pub struct BadAddress(String);

/// The way to another process, for any number of stand-ins. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: String,
    channel: Channel,
    bearer: MetadataValue<Ascii>,
    deadline: Duration,
    runtime: Handle,
    quiet: Quiet,
}

impl Link {
    /// The way to `grpc://host:port`. Nothing is connected yet. Calls may take as long as `deadline`,
    /// but for those that wait on purpose.
    pub fn new(
        address: &str,
        secret: &Secret,
        deadline: Duration,
        runtime: Handle,
    ) -> Result<Self, BadAddress> {
        let bad = || BadAddress(address.to_owned());
        let (host, port) = address.strip_prefix("grpc://").and_then(split).ok_or_else(bad)?;
        let endpoint = Endpoint::from_shared(format!("http://{}", &address[7..]))
            .map_err(|_| bad())?
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_ANSWER)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let channel = {
            let _here = runtime.enter();
            endpoint.connect_with_connector_lazy(Connector::new(host, port))
        };
        Ok(Self(Arc::new(Inner {
            address: address.to_owned(),
            channel,
            bearer: secret.bearer(),
            deadline,
            runtime,
            quiet: Quiet::default(),
        })))
    }

    /// Where it leads.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// What calls may take that do not wait on purpose.
    fn deadline(&self) -> Duration {
        self.0.deadline
    }

    /// One call. It is made when the future is first polled, and given up when that is dropped.
    fn call<Q, A, F>(
        &self,
        limit: Duration,
        message: Q,
        rpc: impl FnOnce(Channel, Request<Q>) -> F + Send + 'static,
    ) -> impl Future<Output = Result<A, String>> + Send + 'static
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        let link = self.clone();
        async move {
            let mut request = Request::new(message);
            request.set_timeout(limit);
            request.metadata_mut().insert("authorization", link.0.bearer.clone());
            let answer = rpc(link.0.channel.clone(), request);
            // The timer has to be made there, too.
            let answer = async move { tokio::time::timeout(limit, answer).await };
            let answer = Task(link.0.runtime.spawn(answer)).await;
            let address = link.address();
            let late = || format!("{address} did not answer within {limit:?}");
            match answer {
                Ok(Ok(Ok(answer))) => Ok(answer.into_inner()),
                Ok(Ok(Err(status))) if is_late(&status) => Err(late()),
                Ok(Ok(Err(status))) => Err(format!("{address}: {}", explain(&status))),
                Ok(Err(_)) => Err(late()),
                Err(_) => Err(format!("{address} was not asked, as this process ends")),
            }
        }
    }

    /// The answer, in the types of this crate.
    fn parse<M, T: TryFrom<M, Error = Bad>>(&self, message: M) -> Result<T, String> {
        message
            .try_into()
            .map_err(|Bad(what)| format!("{} answered what cannot be read: {what}", self.address()))
    }

    /// For answers that cannot say that a role is away.
    fn complain(&self, what: &str, why: &str) {
        if self.0.quiet.may_speak(Instant::now()) {
            warn!(error = why, "{what}");
        }
    }
}

/// `host:port`, neither of them empty, and nothing behind.
fn split(authority: &str) -> Option<(String, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let odd = |c: char| c.is_whitespace() || "/@?#[]".contains(c);
    if host.is_empty() || host.contains(odd) {
        return None;
    }
    Some((host.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
}

/// Whether the channel or the other side has given the call up, as both know its deadline.
fn is_late(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded
        || innermost(status).is_some_and(<dyn Error>::is::<TimeoutExpired>)
}

fn innermost(status: &Status) -> Option<&(dyn Error + 'static)> {
    let mut cause = status.source()?;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause)
}

/// What a status means: its own words, or the innermost cause when the call did not get there.
fn explain(status: &Status) -> String {
    match innermost(status) {
        Some(cause) => format!("cannot be reached: {cause}"),
        None => format!("{}: {}", status.code(), status.message()),
    }
}

/// A task that ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A generated client over the channel, with the limits of both sides.
macro_rules! client {
    ($client:ident, $channel:expr) => {
        $client::new($channel)
            .max_decoding_message_size($crate::grpc::MESSAGE)
            .max_encoding_message_size($crate::grpc::MESSAGE)
    };
}

/// One call of a generated client: `rpc!(link, limit, Client::method, request)`.
macro_rules! rpc {
    ($link:expr, $limit:expr, $client:ident :: $method:ident, $request:expr) => {
        $link.call($limit, $request, |channel, request| async move {
            $crate::grpc::client::client!($client, channel).$method(request).await
        })
    };
}

use {client, rpc};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let secret = Secret::parse("0123456789abcdef").unwrap();
        let check = |address: &str| {
            let link = Link::new(address, &secret, DEADLINE, runtime.handle().clone());
            link.map(|link| link.address().to_owned())
        };
        for good in ["grpc://comet-1:3109", "grpc://127.0.0.1:1", "grpc://[::1]:65535"] {
            assert_eq!(check(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "comet-1:3109",
            "http://comet-1:3109",
            "grpc://comet-1",
            "grpc://:3109",
            "grpc://comet-1:0",
            "grpc://comet-1:65536",
            "grpc://comet-1:3109/",
            "grpc://a@comet-1:3109",
            "grpc://comet 1:3109",
            "grpc://::1",
        ] {
            assert_eq!(check(bad), Err(BadAddress(bad.to_owned())), "{bad}");
        }
    }
}
