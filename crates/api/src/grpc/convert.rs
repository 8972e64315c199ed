//! Between the types of this crate and those of the messages.
//!
//! Towards messages nothing can fail. From messages names are parsed, and what does not parse is [`Bad`].
//! No conversion uses `..`, so that a field that is new in a trait is not forgotten here.

use std::time::{Duration, SystemTime};

use super::NAME;
use super::generated::anser::logic::v1 as message;
use crate::id::{CometName, Key, Position, Room, UserId};

mod comet;
mod common;
mod explain;
mod job;
mod logic;
#[cfg(test)]
mod tests;
mod trace;

/// A message that is none of ours, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad(pub(super) String);

impl Bad {
    fn missing(field: &str) -> Self {
        Self(format!("`{field}` is missing, or of a kind that is not known here: update the older side"))
    }
}

impl From<crate::id::TooLong> for Bad {
    fn from(cause: crate::id::TooLong) -> Self {
        Self(cause.to_string())
    }
}

fn key(name: &str) -> Result<Key, Bad> {
    Ok(Key::parse(name, NAME)?)
}

fn room(name: &str) -> Result<Room, Bad> {
    Ok(Room::parse(name, NAME)?)
}

fn comet_name(name: &str) -> Result<CometName, Bad> {
    Ok(CometName::parse(name, NAME)?)
}

fn user(mid: i64) -> Result<UserId, Bad> {
    UserId::parse(mid).ok_or_else(|| Bad(format!("{mid} is no user: those are positive")))
}

/// Reads each of a list.
fn all<T, U>(list: &[T], read: impl Fn(&T) -> Result<U, Bad>) -> Result<Vec<U>, Bad> {
    list.iter().map(read).collect()
}

fn strings<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn positions(list: &[Position]) -> Vec<u64> {
    list.iter().map(|position| position.0).collect()
}

/// Five centuries and more are five centuries.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Times before 1970 are 1970.
fn since_1970(time: SystemTime) -> u64 {
    nanos(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn time(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Rooms with their members.
pub(super) fn room_counts(rooms: Vec<(Room, u32)>) -> Vec<message::RoomCount> {
    let count = |(room, members): (Room, u32)| message::RoomCount { room: room.to_string(), members };
    rooms.into_iter().map(count).collect()
}

/// See [`room_counts`].
pub(super) fn counted_rooms(rooms: &[message::RoomCount]) -> Result<Vec<(Room, u32)>, Bad> {
    all(rooms, |count| Ok((room(&count.room)?, count.members)))
}
