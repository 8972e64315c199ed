//! `anser why`: what became of a message for somebody, in sentences.

mod story;

use clap::{Args, Subcommand};
use form_urlencoded::Serializer;
use hyper::Method;
use serde_json::Value;

use super::api::ApiArguments;
use super::room::RoomName;
use crate::failure::Failure;
use crate::out;
use story::Answer;

/// The arguments.
#[derive(Debug, Args)]
pub struct Why {
    #[command(subcommand)]
    subject: Subject,
    /// Print what the server says as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    api: ApiArguments,
}

#[derive(Clone, Debug, Subcommand)]
enum Subject {
    /// For the device with this key
    #[command(visible_alias = "device")]
    Key {
        /// The key
        key: String,
        /// The message's number, as the answer to its push has it
        message: u64,
    },
    /// For all connections of this user
    User {
        /// The user's number
        #[arg(value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
        user: i64,
        /// The message's number, as the answer to its push has it
        message: u64,
    },
    /// For the members of this room
    Room {
        /// The room, `type://id`
        name: RoomName,
        /// The message's number, as the answer to its push has it
        message: u64,
    },
}

impl Why {
    /// Asks the server and tells what it knows.
    pub fn run(self) -> Result<(), Failure> {
        let path = self.subject.path();
        if self.json {
            let answer: Value = self.api.ask(Method::GET, &path, Vec::new())?;
            return out::write(&format!("{answer}\n"));
        }
        let answer: Answer = self.api.ask(Method::GET, &path, Vec::new())?;
        out::write(&answer.tell(&self.subject.name()))
    }
}

impl Subject {
    /// Where the API tells it.
    fn path(&self) -> String {
        let (name, value, message) = match self {
            Self::Key { key, message } => ("device", key.clone(), message),
            Self::User { user, message } => ("user", user.to_string(), message),
            Self::Room { name, message } => ("room", name.to_string(), message),
        };
        let query = Serializer::new(String::new()).append_pair(name, &value).finish();
        format!("/api/v1/messages/{message}?{query}")
    }

    /// What it is called in a sentence.
    fn name(&self) -> String {
        match self {
            Self::Key { key, .. } => key.clone(),
            Self::User { user, .. } => format!("user {user}"),
            Self::Room { name, .. } => format!("room {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_it_is_about() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            why: Why,
        }
        for (line, path, name) in [
            ("why key phone-7 12", "/api/v1/messages/12?device=phone-7", "phone-7"),
            ("why device a&b 12", "/api/v1/messages/12?device=a%26b", "a&b"),
            ("why user 7 12", "/api/v1/messages/12?user=7", "user 7"),
            ("why room live://1 12 --json", "/api/v1/messages/12?room=live%3A%2F%2F1", "room live://1"),
        ] {
            let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((line.why.subject.path().as_str(), line.why.subject.name().as_str()), (path, name));
        }
        for line in ["why key phone-7", "why key phone-7 x", "why user 0 12", "why room live 12"] {
            assert!(<Line as clap::Parser>::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
