//! The edge, as those see it who have something to deliver.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use thiserror::Error;

use crate::Answer;
use crate::id::{Incarnation, Key, LogId, Position, Room, Session};
use crate::trace::Traces;

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

/// How a push is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The body is a message of the application: it becomes one packet with the push's operation,
    /// version 1 and sequence 0, in a container of operation 9 on WebSocket.
    #[default]
    Message,
    /// The body is whole packets, one behind the other: bare on TCP, in one container of operation 9
    /// on WebSocket. Whoever makes such a push has checked them with [`anser_wire::packet::check_all`].
    Packets,
    /// The body goes into one packet with this header, which has no container on WebSocket either.
    Packet {
        /// Version.
        ver: i16,
        /// Operation, as the client sees it.
        op: i32,
        /// Sequence.
        seq: i32,
    },
}

/// A push to connections of one comet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Who gets it.
    pub target: Target,
    /// The application's operation, by which receivers are chosen.
    pub op: i32,
    /// How it is written.
    pub form: Form,
    /// Opaque, but for [`Form::Packets`].
    pub body: Bytes,
    /// What to do with receivers that cannot keep up.
    pub on_overflow: OnOverflow,
    /// When it is of no use any more: from then on it is not written, and counted as expired.
    pub expires: Option<SystemTime>,
}

/// A push was not taken. Nobody has received any part of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
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
    /// Another role, or the disk of the log, is away. Send it again after this time.
    #[error("{what}: try again in {} ms", .retry_after.as_millis())]
    Unavailable {
        /// What is away, and why.
        what: String,
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The idempotency key stands for another push already. This one has changed nothing: use a new key.
    #[error("the idempotency key was used for another push")]
    Conflict,
}

/// A push on its way from a job's log to a comet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its place in the log.
    pub position: Position,
    /// It comes out of the lane's order, to a key that was elsewhere before. A late parcel has one key.
    pub late: bool,
    /// What to deliver.
    pub push: Push,
}

/// What goes to a comet in one call, in the order of the log but for the late ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The log that it comes from.
    pub log: LogId,
    /// All below is done with: no parcel of it will come again.
    pub done: Position,
    /// Positions that did not come in their order although later ones do, below the last of `parcels`: they
    /// wait behind others for the same room, or come late. Rising.
    pub held: Vec<Position>,
    /// The parcels.
    pub parcels: Vec<Parcel>,
}

/// What a comet says of a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the queues of its receivers' workers, or was at an earlier call.
    Queued,
    /// Nobody here is to get it.
    Absent,
    /// It can never be taken, for this reason.
    Refused(PushError),
    /// A queue on the way to its receivers is full: send it again after this time.
    Full {
        /// How long the work ahead of it takes.
        retry_after: Duration,
    },
    /// The comet is going away, and takes nothing more.
    Draining,
}

/// The answer to a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// One for each parcel, in their order.
    pub outcomes: Vec<Outcome>,
    /// The comet's count of such calls for this log: a [`Report`] with at least this count knows of them.
    pub count: u64,
}

/// What a comet has of a lane, when the lane is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Which life of the comet answers.
    pub incarnation: Incarnation,
    /// The last position that it has seen of this log, if any: it takes none up to there again, but for
    /// those in `missing`.
    pub seen: Option<Position>,
    /// Positions up to `seen` for which it had no place.
    pub missing: Vec<Position>,
}

/// What has become of what a comet has taken: all of it has been written, dropped or found nobody, except
/// what is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Numbers reports; the next request says which one has arrived.
    pub number: u64,
    /// The last call that it knows of, see [`Taken::count`].
    pub count: u64,
    /// Positions that wait for some receiver, in order.
    pub open: Vec<Position>,
    /// Positions from here on are not told of, as there are too many that are open.
    pub end: Option<Position>,
    /// Keys that were not here when their parcel came to them.
    pub absent: Vec<(Position, Key)>,
}

/// A comet cannot be asked now, or does not answer in time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Away(pub String);

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

/// A question about a push that came from a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The log.
    pub log: LogId,
    /// The push's place in it.
    pub position: Position,
    /// Its operation, as a connection may not take it.
    pub op: i32,
    /// The room that it is for, if it is for one.
    pub room: Option<Room>,
    /// The connections that it is asked for; none for all of which something was noted.
    pub keys: Vec<Key>,
}

/// Why a push was not written to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// Its key was not here.
    Absent,
    /// The connection did not take its operation.
    Filtered,
    /// The connection's queue was full.
    Overflow,
    /// The connection ended before.
    Closed,
    /// The connection was closed, as too much waited for all of them together.
    Budget,
    /// The comet went away before.
    Draining,
    /// Its time had come before its turn.
    Expired,
    /// It was left for the client to pull.
    Pulled,
}

/// What a comet has noted of a push that it did not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The connection; none for all that had not got it by then.
    pub key: Option<Key>,
    /// Why.
    pub why: Unwritten,
    /// When.
    pub at: SystemTime,
}

/// A connection that is here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its key.
    pub key: Key,
    /// It takes the push's operation.
    pub takes: bool,
    /// It is in the room that the push is for.
    pub member: bool,
    /// The push waits for it, as its socket takes no more.
    pub waits: bool,
}

/// What a comet can say of a push. It notes only what it did not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testimony {
    /// What was noted, in its order for each connection.
    pub notes: Vec<Note>,
    /// More was noted than is told here.
    pub more: bool,
    /// From then on nothing noted has been forgotten. `None` when nothing is noted (setting `comet.notes`).
    pub since: Option<SystemTime>,
    /// Of the connections that were asked for, those that are here now.
    pub present: Vec<Present>,
}

/// The edge.
pub trait Comet: Send + Sync {
    /// Queues a push for its receivers, all or nothing. Never waits.
    fn push(&self, push: Push) -> Answer<'_, Result<(), PushError>>;

    /// Opens the lane from a log, and says what of it has been taken. Never waits.
    fn open_lane(&self, log: LogId) -> Answer<'_, Result<Welcome, Away>>;

    /// Takes parcels of a lane. One that was taken before is not taken again. Never waits.
    fn take(&self, batch: Batch) -> Answer<'_, Result<Taken, Away>>;

    /// What has become of the parcels: answers when there is something new since report `seen`, or at the
    /// latest after some seconds. What report `seen` said is forgotten.
    fn report(&self, log: LogId, seen: u64) -> Answer<'_, Result<Report, Away>>;

    /// Switches a connection. In order with the pushes to that key that were queued before; without
    /// effect if the connection is gone. Never waits.
    fn switch(&self, session: Session, to: Flow) -> Answer<'_, Result<(), PushError>>;

    /// What became of a push that came from a log, as far as it was noted.
    fn explain(&self, inquiry: Inquiry) -> Answer<'_, Result<Testimony, Away>>;

    /// Who is traced from now on, unless it has been told something newer.
    fn trace(&self, traces: Traces) -> Answer<'_, Result<(), Away>>;
}
