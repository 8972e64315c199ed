//! The push log, and the lanes from it to the comets.

use std::time::SystemTime;

use bytes::Bytes;

use crate::Answer;
use crate::comet::{Away, PushError, Testimony};
use crate::id::{CometName, Key, Position, Room, UserId};
use crate::logic::Place;
use crate::trace::Traces;

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

/// Whose share of a push is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A connection's.
    Key(Key),
    /// A user's.
    User {
        /// The user.
        user: UserId,
        /// The connections that the user has now: which of those that a push reached were the user's is in
        /// no log.
        keys: Vec<Key>,
    },
    /// A room's.
    Room(Room),
}

/// What a number of a message leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// No message has it yet.
    NotGiven {
        /// The next message has this one or a higher one.
        next: Position,
    },
    /// No message that the log keeps has it.
    NotKept {
        /// The first message that is kept, if there is any: one before it may have been removed.
        first: Option<Position>,
    },
    /// What became of the message.
    Kept(Box<Account>),
}

/// What is known of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// When it was taken.
    pub accepted: SystemTime,
    /// Its operation.
    pub op: i32,
    /// Bytes of its body.
    pub bytes: u64,
    /// When it is of no use any more.
    pub expires: Option<SystemTime>,
    /// Whom it was for.
    pub to: Addressed,
    /// It was for the subject: by name, or as it goes to a room or to everyone.
    pub named: bool,
    /// Keys of the subject that it named and that were connected nowhere.
    pub absent: Vec<Key>,
    /// What became of it for the subject, for each of its connections and each comet.
    pub shares: Vec<Share>,
    /// There are so many more.
    pub more: u64,
    /// From then on the job has forgotten nothing of what went wrong.
    pub since: SystemTime,
    /// Where the keys of the subject are now; empty if nobody can be asked.
    pub now: Vec<(Key, Place)>,
}

/// Whom a push was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressed {
    /// Connections by key.
    Keys {
        /// How many were connected.
        connected: u64,
        /// How many were not.
        absent: u64,
    },
    /// All connections of so many users.
    Users {
        /// How many users.
        users: u64,
        /// How many connections they had.
        connected: u64,
    },
    /// The members of a room.
    Room(Room),
    /// Everyone.
    All,
}

/// A push on its way to a connection, or to a room or everyone on one comet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The connection; none for a room.
    pub key: Option<Key>,
    /// The comet that it went to.
    pub comet: CometName,
    /// How far it is.
    pub progress: Progress,
    /// It came here behind its key, which was elsewhere before.
    pub followed: bool,
    /// It was sent again, as it may not have been written by a comet that was lost: it may have come twice.
    pub resent: bool,
    /// What the comet says.
    pub said: Result<Testimony, Away>,
}

/// How far a push is on its way to a comet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits for its turn, or is in a call.
    Turn,
    /// The room's queue at the comet is full; it is tried again then.
    Parked {
        /// When.
        until: SystemTime,
    },
    /// The comet has no place for anything; it is tried again then.
    Paused {
        /// When.
        until: SystemTime,
    },
    /// The comet cannot be spoken to.
    CometAway {
        /// Since when.
        since: SystemTime,
    },
    /// Its comet was lost: it waits for the key to come back.
    Returning {
        /// At the longest until then.
        until: SystemTime,
    },
    /// The comet has it, and has not said yet what became of it.
    Taken,
    /// The comet has said that it is done with it, or that nobody was there for it.
    Done,
    /// It ended before.
    Ended {
        /// Why.
        why: Ended,
        /// When.
        at: SystemTime,
    },
}

/// Why a push did not come to a comet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The comet could never take it.
    Refused,
    /// Its time had come before its turn.
    Expired,
    /// The lane had no room.
    Full,
    /// The comet was away, or took nothing, for longer than it may.
    Away,
    /// The comet has died with it.
    Lost,
    /// Its key did not come back.
    NotBack,
    /// Its comet is none of the job's.
    NoLane,
}

/// The job.
pub trait Job: Send + Sync {
    /// Appends a push to the log, sends it on its way at once, and answers when it is on disk.
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>>;

    /// What became of a push for somebody. Asks the comets that it went to.
    fn explain(&self, position: Position, subject: Subject) -> Answer<'_, Result<Explanation, Away>>;

    /// Who is traced from now on, here and on the comets; those that could not be told it now.
    fn trace(&self, traces: Traces) -> Answer<'_, Result<Vec<CometName>, Away>>;
}
