//! `anser listen`: a client that prints what it is pushed.

use std::fmt::Write as _;

use anser_sdk::{Address, Cause, Client, ConnectError, Event, Events, Login, RequestError};
use clap::Args;
use serde::Serialize;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::room::RoomName;
use super::runtime;
use crate::exit::Exit;
use crate::failure::{Failure, plain};
use crate::out;

/// The arguments.
#[derive(Debug, Args)]
pub struct Listen {
    /// Where to connect, tcp://host:port or ws://host:port/sub; the next ones are tried when it fails
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:3101")]
    server: Vec<Address>,
    /// The user to be
    #[arg(long, value_name = "ID", value_parser = user)]
    user: Option<i64>,
    /// The key to be reached by; an older connection with the same key is closed [default: a random one]
    #[arg(long)]
    key: Option<String>,
    /// A room to be in; may be given many times, which needs an anser server
    #[arg(long, value_name = "TYPE://ID", default_value = "live://1")]
    room: Vec<RoomName>,
    /// Operations to take from pushes to the key, the user and all; those to rooms are not chosen
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    ops: Vec<i32>,
    /// End after so many pushes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print one JSON object for each push
    #[arg(long)]
    json: bool,
}

fn user(text: &str) -> Result<i64, &'static str> {
    text.parse().ok().filter(|id| *id > 0).ok_or("write a whole number above 0")
}

impl Listen {
    /// Prints each push as it arrives, until there are enough or a signal comes.
    pub fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(self.listen())
    }

    async fn listen(self) -> Result<(), Failure> {
        let config = anser_sdk::Config::new(self.server.clone(), self.login());
        let (client, mut events) = Client::connect(config).await.map_err(|error| unreachable(&error))?;
        let more_rooms = self.room.iter().skip(1).map(ToString::to_string).collect();
        // The first to end decides. Answers come behind pushes, so joining needs the events taken meanwhile.
        let joined = tokio::spawn(join(client.clone(), more_rooms));
        let listened = tokio::select! {
            listened = self.print_all(&mut events) => listened,
            Ok(Err(failure)) = joined => Err(failure),
            Ok(()) = tokio::signal::ctrl_c() => Ok(()),
        };
        client.close().await;
        listened
    }

    /// The first room is in the login, which every server understands.
    fn login(&self) -> Login {
        let mut login =
            Login::new().room(self.room[0].to_string()).accepts(self.ops.iter().copied()).dropped();
        if let Some(user) = self.user {
            login = login.mid(user);
        }
        if let Some(key) = &self.key {
            login = login.key(key);
        }
        login
    }

    async fn print_all(&self, events: &mut Events) -> Result<(), Failure> {
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            match events.next().await {
                Some(Event::Push { op, body }) => {
                    out::write(&self.line(&now(), op, &body))?;
                    left -= 1;
                }
                Some(Event::Disconnected { cause, retry_in: None }) => return Err(lost(&cause)),
                Some(event) => self.note(&event),
                None => {
                    return Err(Failure::new(
                        Exit::Software,
                        "the client ended",
                        "this is a defect in anser",
                    ));
                }
            }
        }
        Ok(())
    }

    /// What happened besides pushes, on stderr.
    fn note(&self, event: &Event) {
        let note = match event {
            Event::Connected { address } => {
                let rooms: Vec<String> = self.room.iter().map(ToString::to_string).collect();
                format!("connected to {address}, in {}", rooms.join(", "))
            }
            Event::Disconnected { cause, retry_in } => {
                format!(
                    "{}; next attempt in {:.1} s",
                    told(cause),
                    retry_in.unwrap_or_default().as_secs_f32()
                )
            }
            Event::Dropped(count) => {
                format!("{count} pushes were dropped: they came faster than they were read")
            }
            Event::Draining(delay) => {
                format!("the server stops; next attempt in {:.1} s", delay.as_secs_f32())
            }
            Event::Refused { error, body } => format!("{}: {error}", String::from_utf8_lossy(body)),
            Event::Behind | Event::Push { .. } => return,
        };
        out::note(&note);
    }

    fn line(&self, time: &str, op: i32, body: &[u8]) -> String {
        let text = std::str::from_utf8(body);
        if self.json {
            let line = Line { time, op, text: text.ok(), hex: text.is_err().then(|| hex(body)) };
            return serde_json::to_string(&line).expect("a struct of texts is JSON") + "\n";
        }
        format!("{time} {op} {}\n", text.map_or_else(|_| format!("0x{}", hex(body)), printable))
    }
}

/// A push as JSON: its body as text if it is one, else in hexadecimal.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    op: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

async fn join(client: Client, rooms: Vec<String>) -> Result<(), Failure> {
    for room in rooms {
        client.join(&room).await.map_err(|error| {
            let remedy = match error {
                RequestError::NeedsAnser(_) => {
                    "a goim server knows one room for a connection; start one for each"
                }
                _ => "see what the server says, and try again",
            };
            Failure::new(Exit::Unavailable, format!("cannot join {room} ({error})"), remedy)
        })?;
    }
    Ok(())
}

/// Why there is no connection, in one line.
fn told(cause: &Cause) -> String {
    match cause {
        Cause::Lost { address, failure } => told_of(address, failure),
        Cause::Replaced => "another connection has this key now".to_owned(),
        Cause::Unreachable(error) => told_of_all(error),
    }
}

fn told_of_all(error: &ConnectError) -> String {
    let all: Vec<String> =
        error.failures.iter().map(|(address, failure)| told_of(address, failure)).collect();
    all.join("; ")
}

fn told_of(address: &Address, failure: &anser_sdk::Failure) -> String {
    match failure {
        anser_sdk::Failure::Connect(error) => format!("no server at {address} ({})", plain(error)),
        other => format!("{address}: {other}"),
    }
}

fn unreachable(error: &ConnectError) -> Failure {
    let down = |failure: &anser_sdk::Failure| matches!(failure, anser_sdk::Failure::Connect(_));
    let remedy = match error.failures.first() {
        Some((_, failure)) if !down(failure) => failure.remedy(),
        _ => "`anser up` starts one, --server names another",
    };
    let exit = if error.is_refused() { Exit::Usage } else { Exit::Unavailable };
    Failure::new(exit, told_of_all(error), remedy)
}

/// The end, after which the client does not try again.
fn lost(cause: &Cause) -> Failure {
    match cause {
        Cause::Unreachable(error) => unreachable(error),
        Cause::Replaced => Failure::new(Exit::Unavailable, told(cause), "give each listener its own --key"),
        Cause::Lost { failure, .. } => Failure::new(Exit::Unavailable, told(cause), failure.remedy()),
    }
}

/// UTC, as the log writes it.
fn now() -> String {
    let mut time = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

/// A text stays on its line, and cannot command the terminal.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use clap::Parser as _;

    use super::*;

    fn listen(arguments: &[&str]) -> Listen {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            listen: Listen,
        }
        Line::parse_from([&["listen"], arguments].concat()).listen
    }

    #[test]
    fn lines() {
        let (plain, json) = (listen(&[]), listen(&["--json"]));
        for (body, as_text, as_json) in [
            (&b"hello"[..], "now 1000 hello\n", "{\"time\":\"now\",\"op\":1000,\"text\":\"hello\"}\n"),
            (b"", "now 1000 \n", "{\"time\":\"now\",\"op\":1000,\"text\":\"\"}\n"),
            (
                "zwei\n\u{1b}[2J\u{fc}".as_bytes(),
                "now 1000 zwei\\n\\u{1b}[2Jü\n",
                "{\"time\":\"now\",\"op\":1000,\"text\":\"zwei\\n\\u001b[2Jü\"}\n",
            ),
            (b"\xff\x00\x0a", "now 1000 0xff000a\n", "{\"time\":\"now\",\"op\":1000,\"hex\":\"ff000a\"}\n"),
        ] {
            assert_eq!(plain.line("now", 1000, body), as_text);
            assert_eq!(json.line("now", 1000, body), as_json);
        }
    }

    #[test]
    fn time_is_that_of_the_log() {
        let time = now();
        assert!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    }

    #[test]
    fn logins() {
        let login = |arguments: &[&str]| anser_sdk::Token::from(listen(arguments).login()).bytes().clone();
        assert_eq!(login(&[]), r#"{"room_id":"live://1","accepts":[1000],"proto":"anser/1","dropped":true}"#);
        assert_eq!(
            login(&["--user", "7", "--key", "k", "--room", "a://1", "--room", "a://2", "--ops", "1,2"]),
            r#"{"mid":7,"key":"k","room_id":"a://1","accepts":[1,2],"proto":"anser/1","dropped":true}"#
        );
    }

    #[test]
    fn without_a_server() {
        let refused = io::Error::from_raw_os_error(111);
        let down = anser_sdk::Failure::Connect(Arc::new(refused));
        let failures = vec![("tcp://127.0.0.1:3101".parse().unwrap(), down)];
        let failure = unreachable(&ConnectError { failures });
        assert_eq!(failure.exit, Exit::Unavailable);
        assert_eq!(
            failure.to_string(),
            "no server at tcp://127.0.0.1:3101 (Connection refused): `anser up` starts one, --server \
             names another"
        );
        let address = "ws://127.0.0.1:3102/sub".parse().unwrap();
        let failure = unreachable(&ConnectError {
            failures: vec![(address, anser_sdk::Failure::Refused { reason: "key too long".to_owned() })],
        });
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.to_string(),
            "ws://127.0.0.1:3102/sub: authentication refused: key too long: check the \
             token, and the server's log for the reason"
        );
    }
}
