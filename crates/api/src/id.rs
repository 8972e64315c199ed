//! Names that travel between roles.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// A name was refused at the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} of {len} bytes is longer than {max}: choose a shorter one, or raise the limit")]
pub struct TooLong {
    /// What kind of name.
    pub what: &'static str,
    /// Its length in bytes.
    pub len: usize,
    /// The limit in bytes.
    pub max: usize,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes a name of at most `max` bytes.
            pub fn parse(name: &str, max: usize) -> Result<Self, TooLong> {
                if name.len() > max {
                    return Err(TooLong { what: $what, len: name.len(), max });
                }
                Ok(Self(name.into()))
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// Names one connection: a device, or a random UUID when the client has no name for itself.
    Key, "a key"
}

name! {
    /// Names a room, `type://id`.
    Room, "a room name"
}

name! {
    /// Names a comet in its cluster; goim calls it a server, and takes the host's name.
    CometName, "the name of a comet"
}

impl Room {
    /// Whether a push can name it: `type://id`, neither part empty.
    pub fn is_pushable(&self) -> bool {
        self.0.split_once("://").is_some_and(|(kind, id)| !kind.is_empty() && !id.is_empty())
    }
}

/// A user: goim's `mid`. Positive; a connection without a user has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub i64);

impl UserId {
    /// goim counts only positive numbers as users.
    pub fn parse(mid: i64) -> Option<Self> {
        (mid > 0).then_some(Self(mid))
    }
}

/// Tells two connections with the same key apart: the later one has the larger number. A late close
/// of an earlier one can therefore not take the later one's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// A place in the push log, and so the number of the message there. Never given twice, whatever was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Names a push log, by chance: positions in two logs have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub u64);

/// Tells two lives of a comet apart: what the one had taken, the other has never seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

/// One connection, as the other roles name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its key.
    pub key: Key,
    /// Which of the connections that had this key.
    pub generation: Generation,
}
