//! Which key of the push API a command sends; the same arguments for every command that calls it.

use std::env;
use std::fmt;
use std::path::PathBuf;

use clap::Args;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::push_key::{self, Secret};
use crate::up;

/// The variable with a key. A key never stands among arguments, which everybody on the machine can read.
const VARIABLE: &str = "ANSER_KEY";

/// What to do when a server does not take the key.
pub(super) const REMEDY: &str = "name the data folder of the server with --data, a file with its key with \
                                 --key-file, or give the key in ANSER_KEY";

/// The arguments.
#[derive(Clone, Debug, Args)]
pub(super) struct KeyArguments {
    /// Data folder of the server, whose push.key is sent
    #[arg(long, global = true, value_name = "DIR", env = "ANSER_DATA", default_value = up::DATA)]
    data: PathBuf,
    /// Another file with a key; the variable `ANSER_KEY` may hold the key itself
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// A key, and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) key: Option<Secret>,
    pub(super) place: String,
}

impl KeyArguments {
    /// The key of the file that is named, or of the variable, or of the data folder. There may be none: a
    /// server may want none.
    pub(super) fn find(&self) -> Result<Found, Failure> {
        if let Some(file) = &self.key_file {
            return Ok(Found { key: first(push_key::read(file)?), place: file.display().to_string() });
        }
        if let Some(text) = env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
            let key = Secret::parse(&text.to_string_lossy()).map_err(|what| {
                Failure::new(Exit::Usage, format!("{VARIABLE}: {what}"), "give it a key of push.key")
            })?;
            return Ok(Found { key: Some(key), place: VARIABLE.to_owned() });
        }
        let file = push_key::path(&self.data);
        let place = file.display().to_string();
        // What stands there but cannot be read is told.
        let key = if file.symlink_metadata().is_ok() { first(push_key::read(&file)?) } else { None };
        Ok(Found { key, place })
    }
}

/// A server did not take the key, or wants one.
pub(super) fn unknown(server: impl fmt::Display, found: &Found) -> Failure {
    let what = match found.key {
        Some(_) => format!("{server} does not know the push API key of {}", found.place),
        None => format!("{server} wants a push API key, and there is no {}", found.place),
    };
    Failure::new(Exit::Usage, what, REMEDY)
}

fn first(keys: Vec<Secret>) -> Option<Secret> {
    keys.into_iter().next()
}
