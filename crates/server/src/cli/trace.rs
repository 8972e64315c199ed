//! `anser trace`: the steps of a device or of a user, in the log of the server.

use std::fmt::Write as _;
use std::time::Duration;

use anser_api::settings::Span;
use anser_api::trace::LONGEST;
use clap::{Args, Subcommand};
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::api::ApiArguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::out;

/// The arguments.
#[derive(Debug, Args)]
pub struct Trace {
    #[command(subcommand)]
    subject: Subject,
    /// For how long, at most 1h
    #[arg(long = "for", global = true, value_name = "TIME", default_value = "10m", value_parser = span)]
    time: Duration,
    /// End it now
    #[arg(long, global = true, conflicts_with = "time")]
    off: bool,
    #[command(flatten)]
    api: ApiArguments,
}

#[derive(Clone, Debug, Subcommand)]
enum Subject {
    /// The device with this key, connected or not
    #[command(visible_alias = "device")]
    Key {
        /// The key
        key: String,
    },
    /// All connections of this user
    User {
        /// The user's number
        #[arg(value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
        user: i64,
    },
}

fn span(text: &str) -> Result<Duration, String> {
    let time =
        Span::parse(text).map_err(|_| "write a whole number with s, m or h, such as 10m".to_owned())?.0;
    let good = time >= Duration::from_secs(1) && time <= LONGEST;
    good.then_some(time).ok_or_else(|| "write a time from 1s to 1h".to_owned())
}

/// The answer of `PUT /api/v1/traces`.
#[derive(Debug, Deserialize)]
struct Answer {
    traces: Vec<Told>,
    missing: Vec<String>,
    away: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Told {
    device: Option<String>,
    user: Option<i64>,
    until: String,
}

impl Trace {
    /// Switches it on or off, and says who is traced.
    pub fn run(self) -> Result<(), Failure> {
        let seconds = if self.off { 0 } else { self.time.as_secs() };
        let body = match &self.subject {
            Subject::Key { key } => json!({"device": key, "seconds": seconds}),
            Subject::User { user } => json!({"user": user, "seconds": seconds}),
        };
        let answer: Answer = self.api.ask(Method::PUT, "/api/v1/traces", body.to_string().into_bytes())?;
        out::write(&answer.tell())?;
        match answer.warn() {
            Some(what) => Err(Failure::new(
                Exit::Unavailable,
                what,
                "comets hear of it with their next renewal, within comet.renew",
            )),
            None => Ok(()),
        }
    }
}

impl Answer {
    fn tell(&self) -> String {
        if self.traces.is_empty() {
            return "Nobody is traced.\n".to_owned();
        }
        let mut text = String::new();
        for Told { device, user, until } in &self.traces {
            let who = match (device, user) {
                (Some(device), _) => device.clone(),
                (None, user) => format!("user {}", user.unwrap_or_default()),
            };
            let _ = writeln!(text, "{who} is traced until {until}.");
        }
        text.push_str("The lines have the target anser::trace, in the log of each comet and of the job.\n");
        text
    }

    /// Who has not heard of it.
    fn warn(&self) -> Option<String> {
        match (&self.away, &self.missing[..]) {
            (Some(away), _) => Some(format!("no comet could be told ({away})")),
            (None, []) => None,
            (None, missing) => Some(format!("some comets could not be told ({})", missing.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        trace: Trace,
    }

    #[test]
    fn arguments() {
        let parse =
            |line: &str| <Line as clap::Parser>::try_parse_from(line.split(' ')).map(|line| line.trace);
        let seconds = |line: &str| parse(line).unwrap().time.as_secs();
        assert_eq!(seconds("trace key phone-7"), 600);
        assert_eq!(seconds("trace user 7 --for 1h"), 3600);
        assert!(parse("trace device phone-7 --off").unwrap().off);
        for line in [
            "trace key",
            "trace user 0",
            "trace key a --for 2h",
            "trace key a --for 10ms",
            "trace key a --for x",
            "trace key a --for 1m --off",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn answers() {
        let answer = |json: serde_json::Value| serde_json::from_value::<Answer>(json).unwrap();
        let none = answer(json!({"traces": [], "missing": []}));
        assert_eq!((none.tell().as_str(), none.warn()), ("Nobody is traced.\n", None));
        let two = answer(json!({
            "traces": [{"device": "a", "until": "T"}, {"user": 7, "until": "U"}], "missing": ["c", "d"],
        }));
        assert!(two.tell().starts_with("a is traced until T.\nuser 7 is traced until U.\nThe lines"));
        assert_eq!(two.warn().unwrap(), "some comets could not be told (c, d)");
        let away = answer(json!({"traces": [], "missing": [], "away": "gone"}));
        assert_eq!(away.warn().unwrap(), "no comet could be told (gone)");
    }
}
