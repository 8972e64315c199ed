//! What can go wrong, and what to do about it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anser_wire::client::Closed;
use anser_wire::{anser, operation};
use thiserror::Error;

use crate::Address;

/// Why a connection could not be made, or was lost.
#[derive(Clone, Debug, Error)]
pub enum Failure {
    /// The name is unknown, or nobody listens there, or a firewall refuses.
    #[error("cannot connect: {0}")]
    Connect(#[source] Arc<io::Error>),
    /// Nobody answered: the host is down or the packets are dropped on the way.
    #[error("cannot connect within {0:?}")]
    ConnectTimeout(Duration),
    /// The server closed in answer to the upgrade, as goim does for any path but `/sub`.
    #[error("closed instead of upgraded to WebSocket")]
    NotUpgraded,
    /// The server closed in answer to the authentication, which is how goim refuses. On WebSocket,
    /// Anser may add a reason.
    #[error("authentication refused{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused {
        /// The server's words; empty when it had none.
        reason: String,
    },
    /// The server closed an authenticated connection without a word: it stopped, took the client for
    /// idle, or another connection came with the same key.
    #[error("closed by the server")]
    Ended,
    /// The operating system gave the connection up.
    #[error("connection lost: {0}")]
    Io(#[source] Arc<io::Error>),
    /// The server spoke wrongly, said why it closes, or fell silent.
    #[error(transparent)]
    Protocol(#[from] Closed),
}

impl Failure {
    /// What the user of the address, or the operator of the server, can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Connect(_) => "check host and port, and that the server runs",
            Self::ConnectTimeout(_) => "check host and port, and the firewalls in between",
            Self::NotUpgraded => "check that the path is /sub and the port is the server's WebSocket port",
            Self::Refused { .. } => "check the token, and the server's log for the reason",
            Self::Protocol(Closed::HandshakeTimeout(_)) => {
                "check that the port speaks this protocol, tcp:// or ws://, and that the server is not overloaded"
            }
            Self::Protocol(Closed::Upgrade(_)) => {
                "check the path, and that the port is the server's WebSocket port"
            }
            Self::Protocol(Closed::Malformed(_) | Closed::WebSocket(_)) => {
                "check that the port speaks this protocol, tcp:// or ws://, without TLS"
            }
            Self::Ended
            | Self::Io(_)
            | Self::Protocol(Closed::Server { .. } | Closed::HeartbeatTimeout(_)) => {
                "nothing: it is tried again"
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// No address could be used. Prints each with its cause and what to do.
#[derive(Clone, Debug, Error)]
pub struct ConnectError {
    /// Every address of the configuration, in the order in which they were tried.
    pub failures: Vec<(Address, Failure)>,
}

impl ConnectError {
    /// Whether a server was reached and did not accept the token.
    pub fn is_refused(&self) -> bool {
        self.failures.iter().any(|(_, failure)| matches!(failure, Failure::Refused { .. }))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failures.is_empty() {
            return f.write_str("no address is configured: name at least one, such as tcp://localhost:3101");
        }
        f.write_str("no server could be used: ")?;
        for (i, (address, failure)) in self.failures.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {failure} ({})", failure.remedy())?;
        }
        Ok(())
    }
}

/// A server's refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("refused ({code}): {message}")]
pub struct Refused {
    /// The operation that was refused.
    pub op: i32,
    /// A stable name for the cause, such as `room_limit`.
    pub code: String,
    /// Whether the same request can succeed later.
    pub retry: bool,
    /// How long to wait before that.
    pub retry_after: Duration,
    /// For people: the cause, and what to do.
    pub message: String,
}

impl From<anser::Error> for Refused {
    fn from(error: anser::Error) -> Self {
        let anser::Error { op, code, retry, retry_after_ms, message } = error;
        Self { op, code, retry, retry_after: Duration::from_millis(retry_after_ms.into()), message }
    }
}

/// A request was not done, or nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The server said no, and why. [`Refused::retry`] says whether to try again.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No answer in time, or no connection for all that time. It may have been done. Try again; if it
    /// happens while events are not taken, take them: answers wait behind them.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection was lost while the answer was awaited. It may have been done. Try again.
    #[error("the connection was lost before the answer came")]
    Disconnected,
    /// The client has ended: closed, its [`Events`](crate::Events) dropped, or its token refused.
    /// Connect anew.
    #[error("the client is closed")]
    Closed,
    /// The operation exists only in `anser/1`, and the token does not ask for it or the server does
    /// not know it. Build the token with [`Login::anser`](crate::Login::anser), and check that the
    /// server is an Anser.
    #[error("{} needs anser/1, in the token (Login::anser) and on the server", operation_name(*.0))]
    NeedsAnser(i32),
    /// The number belongs to the protocol itself. Use the method for it, or another number for the
    /// application's own: [`operation::TABLE`] lists those that are taken.
    #[error("operation {0} belongs to the protocol: choose another, such as 1000")]
    Reserved(i32),
    /// The body is larger than [`Config::max_body`](crate::Config::max_body). Send less.
    #[error("a body of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the body.
        len: usize,
        /// Bytes that the configuration allows.
        limit: usize,
    },
}

fn operation_name(op: i32) -> &'static str {
    operation::find(op).map_or("this operation", |row| row.name)
}

#[cfg(test)]
mod tests {
    use anser_wire::websocket::UpgradeError;

    use super::*;

    #[test]
    fn connect_errors_list_every_address() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let failures = vec![
            ("tcp://a:1".parse().unwrap(), Failure::Connect(Arc::new(refused))),
            ("ws://b:2/x".parse().unwrap(), Failure::from(Closed::Upgrade(UpgradeError::Status(404)))),
        ];
        let error = ConnectError { failures };
        assert_eq!(
            error.to_string(),
            "no server could be used: tcp://a:1: cannot connect: connection refused \
             (check host and port, and that the server runs); \
             ws://b:2/x: the server answered with status 404 \
             (check the path, and that the port is the server's WebSocket port)"
        );
        assert!(!error.is_refused());
        assert!(ConnectError { failures: vec![] }.to_string().contains("name at least one"));
    }

    #[test]
    fn messages() {
        let check = |error: &dyn fmt::Display, expected| assert_eq!(error.to_string(), expected);
        check(&Failure::Refused { reason: String::new() }, "authentication refused");
        check(&Failure::Refused { reason: "expired".into() }, "authentication refused: expired");
        check(
            &RequestError::NeedsAnser(operation::JOIN),
            "JOIN needs anser/1, in the token (Login::anser) and on the server",
        );
    }
}
