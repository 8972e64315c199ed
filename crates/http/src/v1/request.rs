//! The body of `POST /api/v1/push`: what it may hold, and what is wrong with it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anser_api::id::{Key, Room, UserId};
use anser_api::logic::Audience;
use anser_api::settings::Span;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_path_to_error::Segment;
use utoipa::ToSchema;

use super::Limits;
use crate::problem::{self, Mistake, Problem};

/// The standard alphabet, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Longest time until a push expires. A push that is to live for longer needs no end.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// A push.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PushRequest {
    to: To,
    /// By which clients tell kinds of messages apart. Use 1000 and above: 0 to 17 and 100 to 199 are the
    /// protocol's own, and are refused.
    #[schema(examples(1000))]
    operation: i32,
    /// The message as text. Either this or `body_base64`.
    #[schema(examples("hello"))]
    body: Option<String>,
    /// The message as bytes, in standard base64. Either this or `body`.
    #[schema(examples("aGVsbG8="))]
    body_base64: Option<String>,
    expires_in: Option<ExpiresIn>,
    /// When the message is of no use any more, in RFC 3339. At most 366 days from now. Not with
    /// `expires_in`.
    #[schema(format = DateTime, examples("2030-01-31T12:00:00Z"))]
    expires_at: Option<String>,
}

/// Who gets it; one of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "Targets", untagged)]
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
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct All {
    /// Connections per second over the whole server; 0 for as fast as possible.
    #[schema(default = 0, examples(5000))]
    speed: u32,
}

/// When the message is of no use any more: a duration such as `"30s"` (`ms`, `s`, `m`, `h`), or seconds as
/// a number. At most 366 days. Not with `expires_at`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be a duration such as \"30s\", or seconds as a number")]
#[schema(examples("30s", 30))]
pub(super) enum ExpiresIn {
    /// As people write it.
    Text(String),
    /// Seconds.
    Seconds(f64),
}

/// The same as [`To`], as it comes: serde would tell of two targets in words that nobody understands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Targets {
    devices: Option<Vec<String>>,
    users: Option<Vec<i64>>,
    rooms: Option<Vec<String>>,
    all: Option<All>,
}

impl TryFrom<Targets> for To {
    type Error = &'static str;

    fn try_from(targets: Targets) -> Result<Self, Self::Error> {
        match targets {
            Targets { devices: Some(devices), users: None, rooms: None, all: None } => {
                Ok(Self::Devices { devices })
            }
            Targets { devices: None, users: Some(users), rooms: None, all: None } => {
                Ok(Self::Users { users })
            }
            Targets { devices: None, users: None, rooms: Some(rooms), all: None } => {
                Ok(Self::Rooms { rooms })
            }
            Targets { devices: None, users: None, rooms: None, all: Some(all) } => Ok(Self::All { all }),
            _ => Err("must have exactly one of `devices`, `users`, `rooms`, `all`"),
        }
    }
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
    /// The moment itself.
    pub(super) fn at(self, now: SystemTime) -> SystemTime {
        match self {
            Self::In(time) => now + time,
            Self::At(time) => time,
        }
    }
}

/// Reads a body, and says all that is wrong with it.
pub(super) fn parse(body: &[u8], limits: &Limits, now: SystemTime) -> Result<Checked, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request: PushRequest = serde_path_to_error::deserialize(&mut json).map_err(not_read)?;
    json.end().map_err(|cause| Problem::new(&problem::MALFORMED, format!("the body is no JSON: {cause}")))?;
    request.check(limits, now)
}

/// What serde says of a body, with the place that it means.
fn not_read(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let mut pointer = String::new();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => {
                let _ = write!(pointer, "/{index}");
            }
            Segment::Map { key } => {
                let _ = write!(pointer, "/{}", escape(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let cause = error.into_inner();
    if !cause.is_data() {
        return Problem::new(&problem::MALFORMED, format!("the body is no JSON: {cause}"));
    }
    let told = cause.to_string();
    let message = told.split(" at line ").next().unwrap_or(&told).to_owned();
    Problem::invalid(vec![Mistake { pointer, message }])
}

/// A name inside a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

impl PushRequest {
    fn check(self, limits: &Limits, now: SystemTime) -> Result<Checked, Problem> {
        let mut mistakes = Mistakes(Vec::new());
        let pushes = self.to.check(limits, &mut mistakes)?;
        if matches!(self.operation, 0..=17 | 100..=199) {
            mistakes.add("/operation", "belongs to the protocol (0 to 17, 100 to 199): use 1000 or above");
        }
        let body = mistakes.body(self.body, self.body_base64);
        let expires = mistakes.expires(self.expires_in, self.expires_at, now);
        if !mistakes.0.is_empty() {
            return Err(Problem::invalid(mistakes.0));
        }
        Ok(Checked { pushes, op: self.operation, body, expires })
    }
}

impl To {
    fn check(self, limits: &Limits, mistakes: &mut Mistakes) -> Result<Vec<(String, Audience)>, Problem> {
        let one = |name: &str, audience| Ok(vec![(name.to_owned(), audience)]);
        match self {
            Self::Devices { devices: keys } => {
                let keys = mistakes.list("/to/devices", keys, limits, |key| match key.len() {
                    0 => Err("is empty".to_owned()),
                    _ => {
                        Key::parse(&key, limits.key).map_err(|long| too_long(long.len, "logic.key", long.max))
                    }
                })?;
                one("devices", Audience::Keys(keys))
            }
            Self::Users { users } => {
                let users = mistakes.list("/to/users", users, limits, |user| {
                    UserId::parse(user)
                        .ok_or_else(|| "is no user: users are whole numbers above 0".to_owned())
                })?;
                one("users", Audience::Users(users))
            }
            Self::Rooms { rooms } => {
                let rooms = mistakes.list("/to/rooms", rooms, limits, |room| {
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

struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add(&mut self, pointer: &str, message: impl Into<String>) {
        self.0.push(Mistake { pointer: pointer.to_owned(), message: message.into() });
    }

    /// The receivers of a list, each once, in the order in which they are first named.
    fn list<T, U: Ord + Clone>(
        &mut self,
        pointer: &str,
        items: Vec<T>,
        limits: &Limits,
        check: impl Fn(T) -> Result<U, String>,
    ) -> Result<Vec<U>, Problem> {
        let (count, max) = (items.len(), limits.receivers);
        if count > max {
            let told = format!(
                "{pointer} names {count}, http.receivers allows {max}: send several pushes, or raise it"
            );
            return Err(Problem::new(&problem::TOO_LARGE, told));
        }
        if count == 0 {
            self.add(pointer, "names nobody: name at least one");
        }
        let (mut seen, mut list) = (BTreeSet::new(), Vec::with_capacity(count));
        for (n, item) in items.into_iter().enumerate() {
            match check(item) {
                Ok(item) if seen.insert(item.clone()) => list.push(item),
                Ok(_) => {}
                Err(message) => self.add(&format!("{pointer}/{n}"), message),
            }
        }
        Ok(list)
    }

    fn body(&mut self, text: Option<String>, base64: Option<String>) -> Bytes {
        match (text, base64) {
            (Some(text), None) => text.into(),
            (None, Some(text)) => BASE64.decode(text).map_or_else(
                |cause| {
                    self.add("/body_base64", format!("is no standard base64: {cause}"));
                    Bytes::new()
                },
                Bytes::from,
            ),
            (Some(_), Some(_)) => {
                self.add("/body_base64", "stands beside `body`: send one of them");
                Bytes::new()
            }
            (None, None) => {
                self.add("/body", "is missing: send `body`, which may be empty, or `body_base64`");
                Bytes::new()
            }
        }
    }

    fn expires(&mut self, within: Option<ExpiresIn>, at: Option<String>, now: SystemTime) -> Option<Expires> {
        let (pointer, expires) = match (within, at) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                ("/expires_at", Err("stands beside `expires_in`: send one of them".to_owned()))
            }
            (Some(within), None) => ("/expires_in", within.read().map(Expires::In)),
            (None, Some(at)) => ("/expires_at", read_time(&at).map(Expires::At)),
        };
        let expires = expires.and_then(|expires| match expires.at(now).duration_since(now) {
            Ok(left) if left > YEAR => {
                Err("is more than 366 days away: leave it out, or set less".to_owned())
            }
            Ok(left) if !left.is_zero() => Ok(expires),
            _ => Err("is over already: nobody could get the message".to_owned()),
        });
        expires.map_err(|message| self.add(pointer, message)).ok()
    }
}

impl ExpiresIn {
    fn read(self) -> Result<Duration, String> {
        const LONG: &str = "is more than 366 days away: leave it out, or set less";
        let time = match self {
            Self::Text(text) => Span::parse(&text).map_err(|_| {
                "is no duration: write a whole number with ms, s, m or h, such as \"30s\", or a number of seconds"
                    .to_owned()
            })?.0,
            Self::Seconds(seconds) if seconds < 0.0 => return Err("must not be below 0".to_owned()),
            Self::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| LONG.to_owned())?,
        };
        if time > YEAR { Err(LONG.to_owned()) } else { Ok(time) }
    }
}

fn read_time(text: &str) -> Result<SystemTime, String> {
    let time = text.parse::<Timestamp>().ok().and_then(|time| time.try_into().ok());
    time.ok_or_else(|| {
        "is no time of RFC 3339: write it like 2030-01-31T12:00:00Z, with Z or an offset".to_owned()
    })
}
