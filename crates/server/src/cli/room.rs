//! The name of a room, as an argument.

use std::fmt;
use std::str::FromStr;

/// A room as goim names it, `type://id`. The API takes the two parts apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoomName {
    pub(super) kind: String,
    pub(super) id: String,
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind, self.id)
    }
}

impl FromStr for RoomName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once("://") {
            Some((kind, id)) if !kind.is_empty() && !id.is_empty() => {
                Ok(Self { kind: kind.to_owned(), id: id.to_owned() })
            }
            _ => Err("write type://id, such as live://1"),
        }
    }
}
