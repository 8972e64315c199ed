//! Who is where, and may they; and the push API.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use thiserror::Error;

use crate::Answer;
use crate::comet::{Away, PushError};
use crate::id::{CometName, Incarnation, Key, Position, Room, Session, TooLong, UserId};
use crate::job::{Accepted, Explanation, Idempotency, Subject};
use crate::trace::{Trace, Traced, Traces};

/// A client that wants in.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The comet that it has come to.
    pub comet: CometName,
    /// The body of its authentication packet.
    pub token: Bytes,
    /// The `Cookie` header of its WebSocket upgrade.
    pub cookie: Option<String>,
    /// Where it comes from.
    pub remote: IpAddr,
}

/// Tokens and cookies are secrets, and do not come into a log by accident.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("comet", &self.comet)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
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

/// A push, as a back end wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Who gets it.
    pub to: Audience,
    /// The application's operation.
    pub op: i32,
    /// Opaque.
    pub body: Bytes,
    /// When it is of no use any more.
    pub expires: Option<SystemTime>,
    /// By what a repetition is known.
    pub idempotency: Option<Idempotency>,
}

/// A packet with an operation of the application, from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub session: Session,
    /// The user behind it, if any.
    pub user: Option<UserId>,
    /// Its operation.
    pub op: i32,
    /// Its number, as the client chose it.
    pub seq: i32,
    /// Opaque.
    pub body: Bytes,
}

/// How many are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Online {
    /// Authenticated connections.
    pub connections: u64,
    /// Users with at least one of those.
    pub users: u64,
    /// Addresses that they come from, counted by each comet for itself.
    pub addresses: u64,
}

/// A comet as clients are sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub comet: CometName,
    /// Addresses for clients, without ports.
    pub addresses: Vec<String>,
    /// The region and the zone that it is in, as goim has them.
    pub region: String,
    /// See `region`.
    pub zone: String,
    /// Its share of new clients, against other comets.
    pub weight: u32,
    /// Takes no new clients.
    pub offline: bool,
    /// Where other roles reach it, `grpc://host:port`; empty inside one process.
    pub grpc: String,
}

/// What clients are told beside the addresses of comets.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// Where to connect by name, and the only node while there is no comet.
    pub domain: String,
    /// What stands behind the name of a comet in the nodes for web pages.
    pub host_domain: String,
    /// The port for TCP, 0 for none.
    pub tcp_port: u16,
    /// The port for WebSocket, 0 for none.
    pub ws_port: u16,
    /// The port for WebSocket over TLS, 0 for none.
    pub wss_port: u16,
    /// How often to send a heartbeat.
    pub heartbeat: Duration,
    /// How many may be missed.
    pub heartbeat_max: u32,
    /// When to connect again.
    pub backoff: Backoff,
}

/// When a client had better connect again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// At the latest after this, in whole seconds.
    pub max_delay: Duration,
    /// At first after this, in whole seconds.
    pub base_delay: Duration,
    /// Each time after so much more.
    pub factor: f32,
    /// How far to stray from that, as a share.
    pub jitter: f32,
}

/// What a comet says of itself every few seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The comet.
    pub node: Node,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Authenticated connections.
    pub connections: u64,
    /// Addresses that they come from.
    pub addresses: u64,
    /// Its rooms, and how many members each has there.
    pub rooms: Vec<(Room, u32)>,
}

/// A comet, and what it last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// The comet.
    pub node: Node,
    /// Authenticated connections.
    pub connections: u64,
    /// Addresses that they come from.
    pub addresses: u64,
    /// When it last said something, in nanoseconds since 1970.
    pub since: u64,
}

/// The answer to a [`Renewal`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Logic does not know the sessions of this comet: it is to tell them all, see [`Logic::restore`].
    pub restore: bool,
    /// Those of its rooms that have members elsewhere, and how many there.
    pub elsewhere: Vec<(Room, u32)>,
    /// Who is traced.
    pub traces: Traces,
}

/// Who is traced, after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// All of them.
    pub list: Vec<Trace>,
    /// Comets that could not be told now. They hear of it with their next renewal.
    pub missing: Vec<CometName>,
    /// Why not even the job could be told, if so: then no comet has been.
    pub away: Option<Away>,
}

/// As many are traced as may be: wait for one to end, or end one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} are traced already, which is as many as may be", crate::trace::MOST)]
pub struct TooManyTraces;

/// Sessions that a comet has, for a logic that lost them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// The comet.
    pub comet: CometName,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Some of the sessions there.
    pub sessions: Vec<(Session, Option<UserId>)>,
    /// These were the last.
    pub last: bool,
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this comet.
    At(CometName),
    /// Nowhere.
    Absent,
    /// Not known yet: not every comet has told its sessions.
    Unknown,
}

/// Logic, as comets see it.
pub trait Logic: Send + Sync {
    /// Authenticates a client and registers its session.
    fn connect(&self, request: Connect) -> Answer<'static, Result<Connected, Refused>>;

    /// Forgets a session. A session that has been replaced by a later one of the same key stays as
    /// it is.
    fn disconnect(&self, session: Session) -> Answer<'static, ()>;

    /// A client sent a packet with an operation of the application.
    fn receive(&self, packet: Received) -> Answer<'static, ()>;

    /// A comet is there, and says how it is. Silent for long, it is taken for dead, and its sessions for
    /// over.
    fn renew(&self, renewal: Renewal) -> Answer<'_, Result<Renewed, Away>>;

    /// A comet tells its sessions.
    fn restore(&self, restore: Restore) -> Answer<'_, Result<(), Away>>;
}

/// The push API, behind every surface.
pub trait PushApi: Send + Sync {
    /// Finds the way of a push to its audience, and hands it to the job. Answers when it is on disk.
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>>;
}

/// Who is where.
pub trait Directory: Send + Sync {
    /// Where these keys are, in their order.
    fn locate(&self, keys: Vec<Key>) -> Answer<'_, Result<Vec<Place>, Away>>;

    /// Who is connected, now.
    fn online(&self) -> Answer<'_, Online>;

    /// The rooms whose names begin with `kind`, with their members: the `limit` largest.
    fn largest_rooms(&self, kind: String, limit: usize) -> Answer<'_, Vec<(Room, u32)>>;

    /// How many members these rooms have, in their order.
    fn members(&self, rooms: Vec<Room>) -> Answer<'_, Vec<u32>>;

    /// The comets that are there.
    fn nodes(&self) -> Answer<'_, Vec<NodeState>>;

    /// The comets to which the next client had better go, the best first, at most five. Counts as a client
    /// of the first.
    fn best_nodes(&self) -> Answer<'_, Vec<Node>>;
}

/// What an operator asks.
pub trait Operator: Send + Sync {
    /// What became of a push for somebody. The keys of a user are filled in.
    fn explain(&self, position: Position, subject: Subject) -> Answer<'_, Result<Explanation, Away>>;

    /// Has somebody traced until then, in place of an earlier end; not any more if that is over.
    fn trace(&self, of: Traced, until: SystemTime) -> Answer<'_, Result<Tracing, TooManyTraces>>;
}
