//! What happens to a client, in order.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::Address;
use crate::error::{ConnectError, Failure, Refused};

/// Something that the application did not ask for.
#[derive(Clone, Debug)]
pub enum Event {
    /// Connected and authenticated. After a reconnect, the rooms and operations that were asked for
    /// are being restored, ahead of every new request.
    Connected {
        /// The address that worked.
        address: Address,
    },
    /// A push.
    Push {
        /// The application's number for it.
        op: i32,
        /// The application's bytes.
        body: Bytes,
    },
    /// The server lost so many pushes, because this client took events too slowly. Only with
    /// [`Login::dropped`](crate::Login::dropped).
    Dropped(u64),
    /// The server holds pushes back that can also be pulled: pull, then call
    /// [`Client::live`](crate::Client::live). Only with `anser/1`.
    Behind,
    /// The server is about to close the connection; the client comes back after this time. Only with
    /// `anser/1`.
    Draining(Duration),
    /// The server refused something that no caller waits for: a room or an operation that was to be
    /// restored after a reconnect, which is given up, or a `live`. Only with `anser/1`.
    Refused {
        /// Why, and of which operation.
        error: Refused,
        /// The body of the request, such as the room; empty for a `live`.
        body: Bytes,
    },
    /// The connection was lost, or connecting again has failed once more.
    Disconnected {
        /// Why.
        cause: Cause,
        /// When the next attempt begins; `None` when there is none, and this is the last event.
        retry_in: Option<Duration>,
    },
}

/// Why there is no connection.
#[derive(Clone, Debug, Error)]
pub enum Cause {
    /// There was one, and it was lost.
    #[error("{address}: {failure}")]
    Lost {
        /// Where it was connected.
        address: Address,
        /// Why it was lost.
        failure: Failure,
    },
    /// Another connection has this one's key now. The client has ended: coming back would throw the
    /// other out, which would come back in its turn. Only with `anser/1`.
    #[error("another connection has this key now: give each device a key of its own")]
    Replaced,
    /// None could be made.
    #[error(transparent)]
    Unreachable(#[from] ConnectError),
}

/// The events of a client. Dropping them closes it.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

impl Events {
    pub(crate) fn new(receiver: mpsc::Receiver<Event>) -> Self {
        Self { receiver }
    }

    /// The next event, or `None` once the client has ended. Safe to use in `select!`: an event is
    /// never lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}
