//! Who is where, and may they; and the push API.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::Answer;
use crate::comet::PushError;
use crate::id::{Key, Room, Session, TooLong, UserId};

/// A client that wants in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The body of its authentication packet.
    pub token: Bytes,
    /// The `Cookie` header of its WebSocket upgrade.
    pub cookie: Option<String>,
    /// Where it comes from.
    pub remote: IpAddr,
}

/// What the edge has to know of a client that may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its name from now on.
    pub session: Session,
    /// The user behind it, if any.
    pub user: Option<UserId>,
    /// The room that it starts in.
    pub room: Option<Room>,
    /// The operations that it takes.
    pub accepts: Vec<i32>,
    /// Without a packet for so long it counts as gone.
    pub idle: Duration,
    /// Whether it speaks `anser/1`.
    pub anser: bool,
    /// Whether it wants to be told of pushes that were dropped.
    pub tell_dropped: bool,
}

/// A client may not come in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The token is not one, or not a good one. The client needs another.
    #[error("bad token: {0}")]
    BadToken(String),
    /// A name in the token is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Whoever decides cannot be asked now. The client should try again.
    #[error("authentication is unavailable: {0}")]
    Unavailable(String),
}

/// Who gets a push, wherever they are connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Connections by key.
    Keys(Vec<Key>),
    /// Every connection of these users.
    Users(Vec<UserId>),
    /// The members of a room.
    Room(Room),
    /// Everyone.
    All {
        /// Connections per second, 0 for as fast as possible.
        speed: u32,
    },
}

/// How many are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Online {
    /// Authenticated connections.
    pub connections: u64,
    /// Users with at least one of those.
    pub users: u64,
}

/// Logic.
pub trait Logic: Send + Sync {
    /// Authenticates a client and registers its session.
    fn connect(&self, request: Connect) -> Answer<'static, Result<Connected, Refused>>;

    /// Forgets a session. A session that has been replaced by a later one of the same key stays as
    /// it is.
    fn disconnect(&self, session: Session) -> Answer<'static, ()>;

    /// Sends a push to its audience.
    fn push(&self, to: Audience, op: i32, body: Bytes) -> Answer<'_, Result<(), PushError>>;

    /// Who is connected, now.
    fn online(&self) -> Answer<'_, Online>;
}
