//! A push as it lies in the log. The log adds version and checksum.

use std::time::{Duration, SystemTime};

use anser_api::id::{CometName, Key, Position, Room, TooLong, UserId};
use anser_api::job::{Accepted, Destination, Idempotency, Push, Route};
use bytes::Bytes;
use prost::Message;

/// Keys on one comet.
#[derive(Clone, PartialEq, Eq, Message)]
struct Routes {
    #[prost(string, tag = "1")]
    comet: String,
    #[prost(string, repeated, tag = "2")]
    keys: Vec<String>,
}

/// The record. Fields are only ever added.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Record {
    /// Milliseconds since 1970.
    #[prost(uint64, tag = "1")]
    accepted: u64,
    #[prost(int32, tag = "2")]
    op: i32,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
    /// Milliseconds since 1970.
    #[prost(uint64, optional, tag = "4")]
    expires: Option<u64>,
    #[prost(message, repeated, tag = "5")]
    routes: Vec<Routes>,
    #[prost(string, repeated, tag = "6")]
    absent: Vec<String>,
    #[prost(int64, repeated, tag = "7")]
    users: Vec<i64>,
    #[prost(string, optional, tag = "8")]
    room: Option<String>,
    /// A push to everyone, at this speed.
    #[prost(uint32, optional, tag = "9")]
    all: Option<u32>,
    #[prost(string, optional, tag = "10")]
    idempotency: Option<String>,
    #[prost(bytes = "vec", tag = "11")]
    digest: Vec<u8>,
}

/// A push of the log, and when it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// When the log took it.
    pub accepted: SystemTime,
    /// What it is.
    pub push: Push,
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn time(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

pub(crate) fn encode(push: &Push, now: SystemTime) -> Vec<u8> {
    let mut record = Record {
        accepted: millis(now),
        op: push.op,
        body: push.body.clone(),
        expires: push.expires.map(millis),
        ..Record::default()
    };
    match &push.to {
        Destination::Keys { routes, absent, users } => {
            for Route { key, comet } in routes {
                let of_comet = record.routes.iter_mut().find(|routes| routes.comet == comet.as_str());
                let key = key.as_str().to_owned();
                match of_comet {
                    Some(routes) => routes.keys.push(key),
                    None => {
                        record.routes.push(Routes { comet: comet.as_str().to_owned(), keys: vec![key] });
                    }
                }
            }
            record.absent = absent.iter().map(|key| key.as_str().to_owned()).collect();
            record.users = users.iter().map(|user| user.0).collect();
        }
        Destination::Room(room) => record.room = Some(room.as_str().to_owned()),
        Destination::All { speed } => record.all = Some(*speed),
    }
    if let Some(Idempotency { key, digest }) = &push.idempotency {
        record.idempotency = Some(key.clone());
        record.digest = digest.to_vec();
    }
    record.encode_to_vec()
}

impl Logged {
    /// What a record of the log says. `None` for bytes that no version has written.
    pub fn decode(record: Bytes) -> Option<Self> {
        decode(record)
    }
}

/// `None` for bytes that no version has written.
pub(crate) fn decode(bytes: Bytes) -> Option<Logged> {
    let record = Record::decode(bytes).ok()?;
    let digest = record.digest.try_into().ok();
    let idempotency = record.idempotency.zip(digest).map(|(key, digest)| Idempotency { key, digest });
    let to = match (record.room, record.all) {
        (Some(room), _) => Destination::Room(name(Room::parse, &room)?),
        (None, Some(speed)) => Destination::All { speed },
        (None, None) => {
            let mut routes = Vec::new();
            for of_comet in record.routes {
                let comet = name(CometName::parse, &of_comet.comet)?;
                for key in of_comet.keys {
                    routes.push(Route { key: name(Key::parse, &key)?, comet: comet.clone() });
                }
            }
            let absent = record.absent.iter().map(|key| name(Key::parse, key)).collect::<Option<_>>()?;
            Destination::Keys { routes, absent, users: record.users.into_iter().map(UserId).collect() }
        }
    };
    let push = Push { to, op: record.op, body: record.body, expires: record.expires.map(time), idempotency };
    Some(Logged { accepted: time(record.accepted), push })
}

/// What was a name when it was written is one.
fn name<T>(parse: impl Fn(&str, usize) -> Result<T, TooLong>, text: &str) -> Option<T> {
    parse(text, usize::MAX).ok()
}

/// What the back end is answered for a push at this position.
pub(crate) fn accepted(position: Position, to: &Destination, repeated: bool) -> Accepted {
    let (routed, missing) = match to {
        Destination::Keys { routes, absent, .. } => (routes.len(), absent.len()),
        Destination::Room(_) | Destination::All { .. } => (0, 0),
    };
    Accepted { position, routed: routed as u64, absent: missing as u64, repeated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_what_was_written() {
        let key = |key| Key::parse(key, 64).unwrap();
        let comet = |comet| CometName::parse(comet, 64).unwrap();
        let routes = vec![
            Route { key: key("a"), comet: comet("one") },
            Route { key: key("c"), comet: comet("one") },
            Route { key: key("b"), comet: comet("two") },
        ];
        let now = time(1_700_000_000_123);
        for to in [
            Destination::Keys { routes, absent: vec![key("d")], users: vec![UserId(7)] },
            Destination::Room(Room::parse("live://1", 64).unwrap()),
            Destination::All { speed: 5 },
            Destination::All { speed: 0 },
            Destination::Keys { routes: vec![], absent: vec![], users: vec![] },
        ] {
            let push = Push {
                to,
                op: 1000,
                body: Bytes::from_static(b"hello"),
                expires: Some(time(1_700_000_001_000)),
                idempotency: Some(Idempotency { key: "k".into(), digest: [7; 32] }),
            };
            let expected = Some(Logged { accepted: now, push: push.clone() });
            assert_eq!(decode(encode(&push, now).into()), expected);
            let bare = Push { expires: None, idempotency: None, ..push };
            assert_eq!(decode(encode(&bare, now).into()), Some(Logged { accepted: now, push: bare }));
        }
        assert_eq!(decode(Bytes::from_static(b"\xff\xff")), None);
    }
}
