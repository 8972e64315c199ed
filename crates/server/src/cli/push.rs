//! `anser push`, over goim's push API.

use std::fmt;
use std::io::{self, Read as _};

use clap::{Args, Subcommand};
use form_urlencoded::Serializer;
use serde::Deserialize;

use super::http::{Answer, Base};
use super::key::{self, Found, KeyArguments};
use super::room::RoomName;
use super::runtime;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::out;

/// The arguments.
#[derive(Debug, Args)]
pub struct Push {
    #[command(subcommand)]
    target: Target,
    /// Operation number of the message, which clients choose by
    #[arg(long, global = true, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..))]
    op: i32,
    /// The server's HTTP address
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:3111")]
    http: Base,
    #[command(flatten)]
    key: KeyArguments,
}

impl Push {
    /// Sends the message and says so.
    pub fn run(self) -> Result<(), Failure> {
        let (receivers, body) = self.target.split()?;
        let body = read(body)?;
        // Taken, by goim's API, says nothing of who is there to get it.
        let said = format!("accepted {} for {receivers}, operation {}\n", Bytes(body.len()), self.op);
        let found = self.key.find()?;
        let answer =
            runtime()?.block_on(self.http.post(&receivers.path(self.op), found.key.as_ref(), body))?;
        accepted(&self.http, &found, &answer)?;
        out::write(&said)
    }
}

#[derive(Debug, Subcommand)]
enum Target {
    /// To all who are in a room
    Room {
        /// The room, `type://id`
        name: RoomName,
        /// The message; - reads it from stdin
        body: String,
    },
    /// To the connections with these keys: a device has one
    #[command(visible_alias = "device", override_usage = "anser push key [OPTIONS] <KEY>... <BODY>")]
    Key {
        /// The keys, and the message last; - reads it from stdin
        #[arg(required = true, value_name = "KEY... BODY")]
        keys_and_body: Vec<String>,
    },
    /// To all connections of these users
    #[command(override_usage = "anser push user [OPTIONS] <ID>... <BODY>")]
    User {
        /// The users' numbers, and the message last; - reads it from stdin
        #[arg(required = true, value_name = "ID... BODY")]
        ids_and_body: Vec<String>,
    },
    /// To every connection that takes the operation
    All {
        /// The message; - reads it from stdin
        body: String,
    },
}

impl Target {
    /// Takes the message from its receivers. Options may stand anywhere, so clap cannot tell which
    /// word is the last.
    fn split(self) -> Result<(Receivers, String), Failure> {
        match self {
            Self::Room { name, body } => Ok((Receivers::Room(name), body)),
            Self::Key { keys_and_body } => {
                let (keys, body) = split_last(keys_and_body, "key KEY")?;
                Ok((Receivers::Keys(keys), body))
            }
            Self::User { ids_and_body } => {
                let (ids, body) = split_last(ids_and_body, "user ID")?;
                Ok((Receivers::Users(ids.iter().map(|id| user(id)).collect::<Result<_, _>>()?), body))
            }
            Self::All { body } => Ok((Receivers::All, body)),
        }
    }
}

fn split_last(mut words: Vec<String>, form: &str) -> Result<(Vec<String>, String), Failure> {
    let body = words.pop().filter(|_| !words.is_empty());
    let body = body.ok_or_else(|| {
        Failure::new(Exit::Usage, "there is no message", format!("write `anser push {form}... BODY`"))
    })?;
    Ok((words, body))
}

fn user(id: &str) -> Result<i64, Failure> {
    id.parse().ok().filter(|id| *id > 0).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("'{id}' is no user"),
            "write a whole number above 0; the message comes last",
        )
    })
}

/// Who gets the message.
#[derive(Debug)]
enum Receivers {
    Room(RoomName),
    Keys(Vec<String>),
    Users(Vec<i64>),
    All,
}

impl Receivers {
    /// The path of the API, with its query.
    fn path(&self, op: i32) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("operation", &op.to_string());
        let route = match self {
            Self::Room(name) => {
                query.append_pair("type", &name.kind).append_pair("room", &name.id);
                "room"
            }
            Self::Keys(keys) => {
                query.extend_pairs(keys.iter().map(|key| ("keys", key)));
                "keys"
            }
            Self::Users(ids) => {
                query.extend_pairs(ids.iter().map(|id| ("mids", id.to_string())));
                "mids"
            }
            Self::All => "all",
        };
        format!("/goim/push/{route}?{}", query.finish())
    }
}

impl fmt::Display for Receivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(name) => write!(f, "room {name}"),
            Self::Keys(keys) => write!(f, "key {}", keys.join(" ")),
            Self::Users(ids) => {
                f.write_str("user")?;
                ids.iter().try_for_each(|id| write!(f, " {id}"))
            }
            Self::All => f.write_str("all"),
        }
    }
}

/// The message as bytes.
fn read(body: String) -> Result<Vec<u8>, Failure> {
    if body != "-" {
        return Ok(body.into_bytes());
    }
    let mut read = Vec::new();
    match io::stdin().lock().read_to_end(&mut read) {
        Ok(_) => Ok(read),
        Err(error) => Err(Failure::system("stdin cannot be read", &error, "give the message as an argument")),
    }
}

/// A length with its unit.
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// goim's envelope.
#[derive(Deserialize)]
struct Envelope {
    code: i32,
    message: String,
}

/// Whether the server took the message. Code 0 says no more than that: it may have reached nobody.
fn accepted(base: &Base, found: &Found, answer: &Answer) -> Result<(), Failure> {
    const BAD_REQUEST: i32 = -400;
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&answer.body) else {
        return Err(Failure::new(
            Exit::Unavailable,
            format!("{base} answered HTTP {} and is no push API", answer.status),
            "--http must name the address of http.bind",
        ));
    };
    if envelope.code == 0 {
        return Ok(());
    }
    if answer.status == 401 {
        return Err(key::unknown(base, found));
    }
    let reason = match envelope.message.trim() {
        "" => format!("code {}", envelope.code),
        message => message.replace('\n', ", "),
    };
    let what = format!("the server refused the push ({reason})");
    Err(match (answer.status, &answer.retry_after) {
        (_, Some(seconds)) => Failure::new(Exit::Unavailable, what, format!("try again in {seconds} s")),
        (413, None) => {
            Failure::new(Exit::Usage, what, "send less, or raise the limit in the server's configuration")
        }
        (503, None) => Failure::new(Exit::Unavailable, what, "try again when it is back"),
        _ if envelope.code == BAD_REQUEST => Failure::new(Exit::Usage, what, "correct it and push again"),
        _ => Failure::new(Exit::Unavailable, what, "the server's log says more"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push_key::Secret;

    fn split(words: &str) -> Result<(Receivers, String), Failure> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            push: Push,
        }
        <Line as clap::Parser>::try_parse_from(words.split(' ')).unwrap().push.target.split()
    }

    #[test]
    fn receivers() {
        for (words, path, shown) in [
            ("push room live://1 x", "/goim/push/room?operation=7&type=live&room=1", "room live://1"),
            (
                "push room a&b://ü/= x",
                "/goim/push/room?operation=7&type=a%26b&room=%C3%BC%2F%3D",
                "room a&b://ü/=",
            ),
            ("push key one two x", "/goim/push/keys?operation=7&keys=one&keys=two", "key one two"),
            ("push key one --op 9 two x", "/goim/push/keys?operation=7&keys=one&keys=two", "key one two"),
            ("push user 1 2 --op 9 x", "/goim/push/mids?operation=7&mids=1&mids=2", "user 1 2"),
            ("push all x", "/goim/push/all?operation=7", "all"),
        ] {
            let (receivers, body) = split(words).unwrap();
            assert_eq!(receivers.path(7), path);
            assert_eq!(receivers.to_string(), shown);
            assert_eq!(body, "x");
        }
        for (words, told) in [
            ("push key one", "there is no message: write `anser push key KEY... BODY`"),
            ("push user 1", "there is no message: write `anser push user ID... BODY`"),
            ("push user ann x", "'ann' is no user: write a whole number above 0; the message comes last"),
            ("push user 0 x", "'0' is no user: write a whole number above 0; the message comes last"),
        ] {
            let failure = split(words).unwrap_err();
            assert_eq!((failure.exit, failure.to_string().as_str()), (Exit::Usage, told), "{words}");
        }
    }

    #[test]
    fn answers() {
        let base: Base = "http://127.0.0.1:3111".parse().unwrap();
        let found = |key: Option<&str>| Found {
            key: key.map(|key| Secret::parse(key).unwrap()),
            place: "data/push.key".to_owned(),
        };
        let refused = |status, retry_after: Option<&str>, body: &'static str| {
            let answer = Answer { status, retry_after: retry_after.map(str::to_owned), body: body.into() };
            accepted(&base, &found(None), &answer).map_err(|failure| (failure.exit, failure.to_string()))
        };
        assert_eq!(refused(200, None, r#"{"code":0,"message":""}"#), Ok(()));
        for (key, told) in [
            (None, "http://127.0.0.1:3111 wants a push API key, and there is no data/push.key: "),
            (
                Some("a-key-of-22-characters"),
                "http://127.0.0.1:3111 does not know the push API key of data/push.key: ",
            ),
        ] {
            let answer =
                Answer { status: 401, retry_after: None, body: r#"{"code":-401,"message":"x"}"#.into() };
            let failure = accepted(&base, &found(key), &answer).unwrap_err();
            assert_eq!((failure.exit, failure.to_string()), (Exit::Usage, format!("{told}{}", key::REMEDY)));
        }
        for (status, retry_after, body, exit, told) in [
            (
                400,
                None,
                r#"{"code":-400,"message":"Key: 'Op'\nKey: 'Room'"}"#,
                Exit::Usage,
                "the server refused the push (Key: 'Op', Key: 'Room'): correct it and push again",
            ),
            (
                200,
                None,
                r#"{"code":-500,"message":""}"#,
                Exit::Unavailable,
                "the server refused the push (code -500): the server's log says more",
            ),
            (
                429,
                Some("2"),
                r#"{"code":-429,"message":"busy"}"#,
                Exit::Unavailable,
                "the server refused the push (busy): try again in 2 s",
            ),
            (
                413,
                None,
                r#"{"code":-500,"message":"9 bytes are too many"}"#,
                Exit::Usage,
                "the server refused the push (9 bytes are too many): send less, or raise the limit in the \
                 server's configuration",
            ),
            (
                503,
                None,
                r#"{"code":-500,"message":"shutting down"}"#,
                Exit::Unavailable,
                "the server refused the push (shutting down): try again when it is back",
            ),
            (
                404,
                None,
                "404 page not found",
                Exit::Unavailable,
                "http://127.0.0.1:3111 answered HTTP 404 and is no push API: --http must name the address \
                 of http.bind",
            ),
        ] {
            assert_eq!(refused(status, retry_after, body), Err((exit, told.to_owned())));
        }
    }
}
