//! What the application asks for.

use std::sync::Arc;
use std::time::Duration;

use anser_wire::operation::{self, Dialect};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::Config;
use crate::error::{ConnectError, RequestError};
use crate::event::Events;
use crate::session::{Request, Session};
use crate::task::Task;
use crate::transport::Transport;
use crate::wanted::{OPS_PER_REQUEST, write_ops};

/// A client that keeps itself connected. Clones are cheap and are the same client.
///
/// A request waits for its answer, and before that for a connection, [`Config::request_timeout`] long
/// in all. Answers come behind the pushes that were sent before them, so somebody has to take the
/// [`Events`] meanwhile: a task of their own, or a `select!`.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    requests: mpsc::Sender<Request>,
    /// Set to end the task, whose receiver is dropped when it has ended.
    closing: watch::Sender<bool>,
    dialect: Dialect,
    timeout: Duration,
    max_body: usize,
}

impl Client {
    /// Connects to the first address that works and authenticates there; the first event is
    /// [`Connected`](crate::Event::Connected). Each address is tried once: whoever wants to wait for a
    /// server calls again. From then on the client reconnects by itself.
    ///
    /// The client ends when [`Client::close`] is called or its events are dropped. It does not end when
    /// all `Client`s are dropped and the events are not.
    pub async fn connect(config: Config) -> Result<(Self, Events), ConnectError> {
        let mut session = Session::new(&config.token);
        let transport = Some(Transport::open(&config, &mut session).await?);
        let (requests, requests_receiver) = mpsc::channel(config.requests.max(1));
        let (events, events_receiver) = mpsc::channel(config.events.max(1));
        let (closing, closing_receiver) = watch::channel(false);
        let shared = Shared {
            requests,
            closing,
            dialect: config.token.dialect(),
            timeout: config.request_timeout,
            max_body: config.max_body,
        };
        let task = Task { config, session, transport, requests: requests_receiver, events };
        tokio::spawn(task.run(closing_receiver));
        Ok((Self { shared: Arc::new(shared) }, Events::new(events_receiver)))
    }

    /// Enters one more room, `type://id`, and again after each reconnect. Needs `anser/1`.
    pub async fn join(&self, room: &str) -> Result<(), RequestError> {
        self.needs_anser(operation::JOIN)?;
        self.room(operation::JOIN, room).await
    }

    /// Leaves one room. Needs `anser/1`.
    pub async fn leave(&self, room: &str) -> Result<(), RequestError> {
        self.needs_anser(operation::LEAVE)?;
        self.room(operation::LEAVE, room).await
    }

    /// Leaves every room and enters this one, and again after each reconnect. Empty only leaves.
    pub async fn change_room(&self, room: &str) -> Result<(), RequestError> {
        self.room(operation::CHANGE_ROOM, room).await
    }

    /// Takes pushes of these operations too, and again after each reconnect.
    pub async fn subscribe(&self, ops: &[i32]) -> Result<(), RequestError> {
        self.operations(operation::SUBSCRIBE, ops).await
    }

    /// Takes pushes of these operations no longer.
    pub async fn unsubscribe(&self, ops: &[i32]) -> Result<(), RequestError> {
        self.operations(operation::UNSUBSCRIBE, ops).await
    }

    /// Sends a message of the application to the back end. The answer is empty with goim: it says that
    /// the message arrived, not what became of it.
    pub async fn send(&self, op: i32, body: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        let taken = operation::find(op)
            .is_some_and(|row| row.dialect == Dialect::Goim || self.shared.dialect == Dialect::Anser);
        if taken && op != operation::SEND {
            return Err(RequestError::Reserved(op));
        }
        self.request(op, body.into()).await
    }

    /// Asks the server whether it is there. Gives the number of connections in the client's room, 0
    /// without one. The heartbeats that keep the connection are sent without this.
    pub async fn heartbeat(&self) -> Result<i32, RequestError> {
        let online = self.request(operation::HEARTBEAT, Bytes::new()).await?;
        Ok(online.first_chunk().map_or(0, |online| i32::from_be_bytes(*online)))
    }

    /// Says that what was missed since [`Behind`](crate::Event::Behind) has been pulled, up to what
    /// `body` names. Returns when it is on its way: there is no answer. Needs `anser/1`.
    pub async fn live(&self, body: impl Into<Bytes>) -> Result<(), RequestError> {
        self.needs_anser(operation::LIVE)?;
        self.request(operation::LIVE, body.into()).await?;
        Ok(())
    }

    /// Ends the client: sends what was already taken for sending, says goodbye, and returns when the
    /// socket is closed. Requests that wait fail with [`RequestError::Closed`], events that wait can
    /// still be taken.
    pub async fn close(&self) {
        self.shared.closing.send_replace(true);
        self.shared.closing.closed().await;
    }

    fn needs_anser(&self, op: i32) -> Result<(), RequestError> {
        match self.shared.dialect {
            Dialect::Anser => Ok(()),
            Dialect::Goim => Err(RequestError::NeedsAnser(op)),
        }
    }

    async fn room(&self, op: i32, room: &str) -> Result<(), RequestError> {
        self.request(op, Bytes::copy_from_slice(room.as_bytes())).await?;
        Ok(())
    }

    /// In as many requests as it takes; the first that fails ends it.
    async fn operations(&self, op: i32, ops: &[i32]) -> Result<(), RequestError> {
        for ops in ops.chunks(OPS_PER_REQUEST) {
            self.request(op, write_ops(ops)).await?;
        }
        Ok(())
    }

    async fn request(&self, op: i32, body: Bytes) -> Result<Bytes, RequestError> {
        let Shared { requests, timeout: limit, max_body, .. } = &*self.shared;
        if body.len() > *max_body {
            return Err(RequestError::TooLarge { len: body.len(), limit: *max_body });
        }
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            let request = Request { op, body, answer };
            requests.send(request).await.map_err(|_| RequestError::Closed)?;
            answered.await.unwrap_or(Err(RequestError::Closed))
        };
        timeout(*limit, exchange).await.unwrap_or(Err(RequestError::Timeout(*limit)))
    }
}
