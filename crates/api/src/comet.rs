//! The edge, as those see it who have something to deliver.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::Answer;
use crate::id::{Key, Room, Session};

/// Who gets a push, on this comet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These connections, if they take the push's operation.
    Keys(Vec<Key>),
    /// Every member of the room, whatever operations it takes.
    Room(Room),
    /// Every connection that takes the push's operation.
    All {
        /// Connections per second, 0 for as fast as possible.
        speed: u32,
    },
}

/// What becomes of a push whose receiver cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOverflow {
    /// The receiver can pull it: what is unsent goes, and the receiver is told that it is behind.
    Pull,
    /// It is gone: counted, and told to clients that asked to be told.
    Drop,
}

/// A push to connections of one comet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Who gets it.
    pub target: Target,
    /// The application's operation.
    pub op: i32,
    /// Opaque.
    pub body: Bytes,
    /// What to do with receivers that cannot keep up.
    pub on_overflow: OnOverflow,
}

/// A comet did not take a push. Nobody has received any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// A queue on the way to the sockets is full. Send it again after this time.
    #[error("resource exhausted, retry after {} ms", .retry_after.as_millis())]
    Exhausted {
        /// How long the work ahead of it takes.
        retry_after: Duration,
    },
    /// The body is larger than the setting `comet.push_body` allows: send less, or raise it.
    #[error("a push of {len} bytes is larger than {max}")]
    TooLarge {
        /// Bytes in the body.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The users have more connections than the setting `logic.push_connections` allows for one push: send
    /// several with fewer users, or raise it.
    #[error("the users of a push have more than {max} connections")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The comet is going away, and its clients with it. Send it to another.
    #[error("this server is shutting down")]
    Draining,
}

/// Whether a connection gets pushes that it can also pull (those with [`OnOverflow::Pull`]). Only the
/// owner of the data switches it; the one exception is an overflow, which makes it `Behind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They are written as they come.
    Live,
    /// They are discarded: the client pulls.
    Behind,
    /// They wait, in order and within a bound, until the owner says `Live`.
    Held,
}

/// The edge.
pub trait Comet: Send + Sync {
    /// Queues a push for its receivers, all or nothing. Never waits.
    fn push(&self, push: Push) -> Answer<'_, Result<(), PushError>>;

    /// Switches a connection. In order with the pushes to that key that were queued before; without
    /// effect if the connection is gone. Never waits.
    fn switch(&self, session: Session, to: Flow) -> Answer<'_, Result<(), PushError>>;
}
