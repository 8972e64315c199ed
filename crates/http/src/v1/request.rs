//! A push, as a back end asks for it: what it may hold, and what is wrong with it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anser_api::id::{Key, Room, UserId};
use anser_api::logic::Audience;
use anser_api::settings::Span;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use serde::Serialize;
use utoipa::ToSchema;

use super::Limits;
use super::read;
use crate::problem::{self, Mistakes, Problem};

/// The standard alphabet, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// No end is later, in seconds since 1970: the end of the year 2199. What counts in nanoseconds has place
/// for it, and a push that is to live for longer needs no end.
const LAST: u64 = 7_258_118_399;

const FAR: &str = "is later than the year 2199: leave it out, or set an earlier one";

/// A push.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PushRequest {
    pub(super) to: To,
    /// By which clients tell kinds of messages apart. Use 1000 and above: 0 to 17 and 100 to 199 are the
    /// protocol's own, and are refused.
    #[schema(examples(1000))]
    pub(super) operation: i32,
    /// The message as text. Either this or `body_base64`.
    #[schema(examples("hello"))]
    pub(super) body: Option<String>,
    /// The message as bytes, in standard base64. Either this or `body`.
    #[schema(examples("aGVsbG8="))]
    pub(super) body_base64: Option<String>,
    pub(super) expires_in: Option<ExpiresIn>,
    /// When the message is of no use any more, in RFC 3339. Not with `expires_in`.
    #[schema(format = DateTime, examples("2099-12-31T12:00:00Z"))]
    pub(super) expires_at: Option<String>,
}

/// Who gets it; one of these.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum To {
    /// Connections.
    Devices {
        /// By the key that each chose when it connected; a device has one.
        #[schema(min_items = 1, examples(json!(["phone-7"])))]
        devices: Vec<String>,
    },
    /// All connections of some users, each once.
    Users {
        /// By their numbers, above 0.
        #[schema(min_items = 1, examples(json!([7, 8])))]
        users: Vec<i64>,
    },
    /// Every member of some rooms, whatever operations it takes.
    Rooms {
        /// By their names, `type://id`. Each gets a message of its own.
        #[schema(min_items = 1, examples(json!(["live://1"])))]
        rooms: Vec<String>,
    },
    /// Everyone.
    All {
        /// At once, or at a speed.
        all: All,
    },
}

/// How everyone gets it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct All {
    /// Connections per second over the whole server; 0, as when it is left out, for as fast as possible.
    #[schema(required = false, examples(5000))]
    pub(super) speed: u32,
}

/// When the message is of no use any more: a duration such as `"30s"` (`ms`, `s`, `m`, `h`), or seconds as
/// a number. Not with `expires_at`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(examples("30s", 30))]
pub(super) enum ExpiresIn {
    /// As people write it.
    Text(String),
    /// Seconds.
    Seconds(f64),
}

/// A request in which nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// One push for each of these, with the name that it has in the answer.
    pub(super) pushes: Vec<(String, Audience)>,
    pub(super) op: i32,
    pub(super) body: Bytes,
    pub(super) expires: Option<Expires>,
}

/// An end, as it was asked for: a request that is repeated later asks for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expires {
    In(Duration),
    At(SystemTime),
}

impl Expires {
    /// The moment itself; none if it is beyond what a clock can show.
    pub(super) fn at(self, now: SystemTime) -> Option<SystemTime> {
        match self {
            Self::In(time) => now.checked_add(time),
            Self::At(time) => Some(time),
        }
    }

    fn check(self, now: SystemTime) -> Result<Self, String> {
        let end = self.at(now).and_then(|end| end.duration_since(UNIX_EPOCH).ok().map(|since| (end, since)));
        match (self, end) {
            (_, Some((end, since))) if end > now && since.as_secs() <= LAST => Ok(self),
            (_, Some((_, since))) if since.as_secs() > LAST => Err(FAR.to_owned()),
            (Self::In(_), None) => Err(FAR.to_owned()),
            _ => Err("is over already: nobody could get the message".to_owned()),
        }
    }
}

/// Reads a body, and says all that is wrong with it.
pub(super) fn parse(body: &[u8], limits: &Limits, now: SystemTime) -> Result<Checked, Problem> {
    let json = serde_json::from_slice(body)
        .map_err(|cause| Problem::new(&problem::MALFORMED, format!("the body is no JSON: {cause}")))?;
    read::push(json).map_err(Problem::invalid)?.check(limits, now)
}

impl PushRequest {
    fn check(self, limits: &Limits, now: SystemTime) -> Result<Checked, Problem> {
        let mut mistakes = Mistakes::default();
        let pushes = self.to.check(limits, &mut mistakes)?;
        if matches!(self.operation, 0..=17 | 100..=199) {
            mistakes.add("/operation", "belongs to the protocol (0 to 17, 100 to 199): use 1000 or above");
        }
        let body = content(&mut mistakes, self.body, self.body_base64);
        let expires = end(&mut mistakes, self.expires_in, self.expires_at, now);
        if !mistakes.is_empty() {
            return Err(Problem::invalid(mistakes));
        }
        Ok(Checked { pushes, op: self.operation, body, expires })
    }
}

impl To {
    fn check(self, limits: &Limits, mistakes: &mut Mistakes) -> Result<Vec<(String, Audience)>, Problem> {
        let one = |name: &str, audience| Ok(vec![(name.to_owned(), audience)]);
        match self {
            Self::Devices { devices: keys } => {
                let keys = list(mistakes, "/to/devices", keys, limits, |key| match key.len() {
                    0 => Err("is empty".to_owned()),
                    _ => {
                        Key::parse(&key, limits.key).map_err(|long| too_long(long.len, "logic.key", long.max))
                    }
                })?;
                one("devices", Audience::Keys(keys))
            }
            Self::Users { users } => {
                let users = list(mistakes, "/to/users", users, limits, |user| {
                    UserId::parse(user)
                        .ok_or_else(|| "is no user: users are whole numbers above 0".to_owned())
                })?;
                one("users", Audience::Users(users))
            }
            Self::Rooms { rooms } => {
                let rooms = list(mistakes, "/to/rooms", rooms, limits, |room| {
                    let room = Room::parse(&room, limits.room)
                        .map_err(|long| too_long(long.len, "comet.room_name", long.max))?;
                    let form = || "must be type://id, such as live://1".to_owned();
                    room.is_pushable().then_some(room).ok_or_else(form)
                })?;
                Ok(rooms.into_iter().map(|room| (room.to_string(), Audience::Room(room))).collect())
            }
            Self::All { all: All { speed } } => one("all", Audience::All { speed }),
        }
    }
}

fn too_long(len: usize, setting: &str, max: usize) -> String {
    format!("has {len} bytes, {setting} allows {max}")
}

/// The receivers of a list, each once, in the order in which they are first named.
fn list<T, U: Ord + Clone>(
    mistakes: &mut Mistakes,
    pointer: &str,
    items: Vec<T>,
    limits: &Limits,
    check: impl Fn(T) -> Result<U, String>,
) -> Result<Vec<U>, Problem> {
    let (count, max) = (items.len(), limits.receivers);
    if count > max {
        let told =
            format!("{pointer} names {count}, http.receivers allows {max}: send several pushes, or raise it");
        return Err(Problem::new(&problem::TOO_LARGE, told));
    }
    if count == 0 {
        mistakes.add(pointer, "names nobody: name at least one");
    }
    let (mut seen, mut list) = (BTreeSet::new(), Vec::with_capacity(count));
    for (n, item) in items.into_iter().enumerate() {
        match check(item) {
            Ok(item) if seen.insert(item.clone()) => list.push(item),
            Ok(_) => {}
            Err(message) => mistakes.add(&format!("{pointer}/{n}"), message),
        }
    }
    Ok(list)
}

fn content(mistakes: &mut Mistakes, text: Option<String>, base64: Option<String>) -> Bytes {
    match (text, base64) {
        (Some(text), None) => text.into(),
        (None, Some(text)) => BASE64.decode(text).map_or_else(
            |cause| {
                mistakes.add("/body_base64", format!("is no standard base64: {cause}"));
                Bytes::new()
            },
            Bytes::from,
        ),
        (Some(_), Some(_)) => {
            mistakes.add("/body_base64", "stands beside `body`: send one of them");
            Bytes::new()
        }
        (None, None) => {
            mistakes.add("/body", "is missing: send `body`, which may be empty, or `body_base64`");
            Bytes::new()
        }
    }
}

fn end(
    mistakes: &mut Mistakes,
    within: Option<ExpiresIn>,
    at: Option<String>,
    now: SystemTime,
) -> Option<Expires> {
    let (pointer, expires) = match (within, at) {
        (None, None) => return None,
        (Some(_), Some(_)) => ("/expires_at", Err("stands beside `expires_in`: send one of them".to_owned())),
        (Some(within), None) => ("/expires_in", within.read().map(Expires::In)),
        (None, Some(at)) => ("/expires_at", read_time(&at).map(Expires::At)),
    };
    let expires = expires.and_then(|expires| expires.check(now));
    expires.map_err(|message| mistakes.add(pointer, message)).ok()
}

impl ExpiresIn {
    fn read(self) -> Result<Duration, String> {
        match self {
            Self::Text(text) => Span::parse(&text).map(|span| span.0).map_err(|_| {
                "is no duration: write a whole number with ms, s, m or h, such as \"30s\", or a number of seconds"
                    .to_owned()
            }),
            Self::Seconds(seconds) if seconds < 0.0 => Err("must not be below 0".to_owned()),
            Self::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| FAR.to_owned()),
        }
    }
}

fn read_time(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return time.try_into().map_err(|_| FAR.to_owned());
    }
    // The last days of the year 9999, by which many mean that there is no end, are no timestamps.
    let is_time = Pieces::parse(text).is_ok_and(|time| time.time().is_some() && time.offset().is_some());
    Err(if is_time {
        FAR.to_owned()
    } else {
        "is no time of RFC 3339: write it like 2099-12-31T12:00:00Z, with Z or an offset".to_owned()
    })
}
