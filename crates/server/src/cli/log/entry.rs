//! One push of the log, for people and for programs.

use std::fmt::Write as _;
use std::time::SystemTime;

use anser_api::id::Key;
use anser_api::job::{Destination, Push};
use anser_job::Logged;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What lies at a position.
pub(super) struct Entry {
    pub(super) position: u64,
    /// Bytes of the record.
    pub(super) size: usize,
    /// None for a record that no version has written.
    pub(super) logged: Option<Logged>,
}

/// A time as a text, to the millisecond.
pub(super) fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "-".to_owned(), |time| format!("{time:.3}"))
}

impl Entry {
    /// One line, without its end.
    pub(super) fn line(&self, body: bool) -> String {
        let Some(Logged { accepted, push }) = &self.logged else {
            return format!("{:>14}  is no push, {} bytes", self.position, self.size);
        };
        let mut line = format!(
            "{:>14}  {}  op {}  {} bytes  {}",
            self.position,
            time(*accepted),
            push.op,
            push.body.len(),
            receivers(&push.to)
        );
        if let Some(expires) = push.expires {
            let _ = write!(line, "  until {}", time(expires));
        }
        if let Some(request) = &push.idempotency {
            let _ = write!(line, "  idempotency {}", request.key.escape_debug());
        }
        if body {
            let _ = match str::from_utf8(&push.body) {
                // Nothing that a terminal would obey.
                Ok(text) => write!(line, "  \"{}\"", text.escape_debug()),
                Err(_) => write!(line, "  base64 {}", STANDARD.encode(&push.body)),
            };
        }
        line
    }

    /// One JSON object, without the end of the line. Positions are texts, as in the push API: they are
    /// larger than some readers of JSON can count.
    pub(super) fn json(&self, body: bool) -> String {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("id", self.position.to_string().into());
        match &self.logged {
            None => {
                set("unknown", true.into());
                set("size", self.size.into());
            }
            Some(Logged { accepted, push }) => {
                let Push { to, op, body: bytes, expires, idempotency } = push;
                set("accepted_at", time(*accepted).into());
                set("to", json_receivers(to));
                set("operation", (*op).into());
                set("size", bytes.len().into());
                if let Some(expires) = expires {
                    set("expires_at", time(*expires).into());
                }
                if let Some(request) = idempotency {
                    set("idempotency_key", request.key.clone().into());
                }
                match str::from_utf8(bytes) {
                    Ok(text) if body => set("body", text.into()),
                    Err(_) if body => set("body_base64", STANDARD.encode(bytes).into()),
                    _ => None,
                };
            }
        }
        Value::Object(fields).to_string()
    }
}

/// For whom a push is, as one writes it.
fn receivers(to: &Destination) -> String {
    match to {
        Destination::Room(room) => format!("room {}", room.as_str().escape_debug()),
        Destination::All { speed: 0 } => "all".to_owned(),
        Destination::All { speed } => format!("all, {speed} a second"),
        Destination::Keys { routes, absent, users } => {
            let mut text = if users.is_empty() { "keys".to_owned() } else { "users".to_owned() };
            for user in users {
                let _ = write!(text, " {}", user.0);
            }
            if !users.is_empty() && !routes.is_empty() {
                text.push_str(" with keys");
            }
            for route in routes {
                let (key, comet) = (route.key.as_str().escape_debug(), route.comet.as_str().escape_debug());
                let _ = write!(text, " {key}@{comet}");
            }
            if !absent.is_empty() {
                text.push_str(", absent");
                for key in absent {
                    let _ = write!(text, " {}", key.as_str().escape_debug());
                }
            }
            text
        }
    }
}

fn json_receivers(to: &Destination) -> Value {
    match to {
        Destination::Room(room) => json!({"room": room.as_str()}),
        Destination::All { speed } => json!({"all": {"speed": speed}}),
        Destination::Keys { routes, absent, users } => {
            let routes = routes.iter();
            let routes: Vec<_> = routes
                .map(|route| json!({"key": route.key.as_str(), "comet": route.comet.as_str()}))
                .collect();
            let absent: Vec<_> = absent.iter().map(Key::as_str).collect();
            let users: Vec<_> = users.iter().map(|user| user.0).collect();
            json!({"devices": routes, "absent": absent, "users": users})
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anser_api::id::{CometName, Room, UserId};
    use anser_api::job::{Idempotency, Route};

    use super::*;

    fn entry(push: Push) -> Entry {
        let accepted = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        Entry { position: 64, size: 9, logged: Some(Logged { accepted, push }) }
    }

    fn push(to: Destination, body: &'static [u8]) -> Push {
        Push { to, op: 1000, body: body.into(), expires: None, idempotency: None }
    }

    #[test]
    fn lines_and_objects() {
        let key = |key| Key::parse(key, 64).unwrap();
        let comet = CometName::parse("here", 64).unwrap();
        let keys = Destination::Keys {
            routes: vec![Route { key: key("a"), comet }],
            absent: vec![key("b\n")],
            users: vec![UserId(7)],
        };
        let whole = Push {
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
            idempotency: Some(Idempotency { key: "k".into(), digest: [1; 32] }),
            ..push(Destination::Room(Room::parse("live://1", 64).unwrap()), b"hi\x1b[2J\n")
        };
        let head = "            64  2023-11-14T22:13:20.123Z  op 1000  ";
        let json = r#"{"accepted_at":"2023-11-14T22:13:20.123Z","#;
        for (push, body, line, object) in [
            (
                push(keys, b"hello"),
                false,
                "5 bytes  users 7 with keys a@here, absent b\\n",
                r#""id":"64","operation":1000,"size":5,"to":{"absent":["b\n"],"devices":[{"comet":"here","key":"a"}],"users":[7]}}"#,
            ),
            (
                whole,
                true,
                "7 bytes  room live://1  until 1970-01-01T00:00:01.000Z  idempotency k  \"hi\\u{1b}[2J\\n\"",
                r#""body":"hi\u001b[2J\n","expires_at":"1970-01-01T00:00:01.000Z","id":"64","idempotency_key":"k","operation":1000,"size":7,"to":{"room":"live://1"}}"#,
            ),
            (
                push(Destination::All { speed: 5 }, b"\xff\x00"),
                true,
                "2 bytes  all, 5 a second  base64 /wA=",
                r#""body_base64":"/wA=","id":"64","operation":1000,"size":2,"to":{"all":{"speed":5}}}"#,
            ),
        ] {
            let entry = entry(push);
            assert_eq!(entry.line(body), format!("{head}{line}"));
            assert_eq!(entry.json(body), format!("{json}{object}"));
        }
        let unknown = Entry { position: 64, size: 9, logged: None };
        assert_eq!(unknown.line(true), "            64  is no push, 9 bytes");
        assert_eq!(unknown.json(true), r#"{"id":"64","size":9,"unknown":true}"#);
    }
}
