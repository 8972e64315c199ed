//! The push log, and the lanes from it to the comets.

use std::time::SystemTime;

use bytes::Bytes;

use crate::Answer;
use crate::comet::PushError;
use crate::id::{CometName, Key, Position, Room, UserId};

/// A connection, and the comet that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The connection.
    pub key: Key,
    /// Where it is.
    pub comet: CometName,
}

/// Who gets a push, with the way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Connections by key.
    Keys {
        /// Those that are connected.
        routes: Vec<Route>,
        /// Those that are not.
        absent: Vec<Key>,
        /// The users whose connections these are, if it was sent to users.
        users: Vec<UserId>,
    },
    /// The members of a room, on every comet.
    Room(Room),
    /// Everyone, on every comet.
    All {
        /// Connections per second over all comets, 0 for as fast as possible.
        speed: u32,
    },
}

/// By what a repeated request is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key, with the caller that it belongs to.
    pub key: String,
    /// A digest of the request. The same key with another digest is a mistake.
    pub digest: [u8; 32],
}

/// A push to be logged and delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Who gets it.
    pub to: Destination,
    /// The application's operation.
    pub op: i32,
    /// Opaque.
    pub body: Bytes,
    /// When it is of no use any more.
    pub expires: Option<SystemTime>,
    /// By what a repetition is known.
    pub idempotency: Option<Idempotency>,
}

/// A push that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its place in the log.
    pub position: Position,
    /// Connections that it named and that were there; 0 for rooms and everyone, whom nobody counts.
    pub routed: u64,
    /// Keys that it named and that were not there, or users without a connection.
    pub absent: u64,
    /// It is the answer to an earlier request with the same idempotency key.
    pub repeated: bool,
}

/// The job.
pub trait Job: Send + Sync {
    /// Appends a push to the log, sends it on its way at once, and answers when it is on disk.
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>>;
}
