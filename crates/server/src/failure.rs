//! An error as the person at the terminal meets it: what is wrong, what to do, and an exit code.

use std::fmt;
use std::io;
use std::path::Path;

use crate::config::problem::Problems;
use crate::exit::Exit;

/// The end of a command that did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// Each is told by itself. None: the reader of our output went away, and there is nobody to tell.
    pub messages: Vec<String>,
}

impl Failure {
    /// One message, `what: remedy`.
    pub fn new(exit: Exit, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { exit, messages: vec![format!("{what}: {remedy}")] }
    }

    /// A listener that cannot listen.
    pub fn bind(address: impl fmt::Display, error: &io::Error) -> Self {
        let (exit, remedy) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                Exit::Unavailable,
                "stop the process that holds it (`ss -ltnp` names it), or set another address",
            ),
            io::ErrorKind::AddrNotAvailable => (Exit::Unavailable, "set an address that this machine has"),
            io::ErrorKind::PermissionDenied => (
                Exit::System,
                "ports below 1024 need the right CAP_NET_BIND_SERVICE; give it, or set a higher port",
            ),
            _ => (Exit::System, "set another address"),
        };
        Self::new(exit, format!("cannot listen on {address} ({})", plain(error)), remedy)
    }

    /// A file or folder that cannot be made.
    pub fn create(path: &Path, error: &io::Error) -> Self {
        let what = format!("cannot create {} ({})", path.display(), plain(error));
        let remedy = match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                "name a folder: there is a file there"
            }
            _ => "name a place where this user may write",
        };
        Self::new(Exit::CannotCreate, what, remedy)
    }

    /// Something that the system does not let us do.
    pub fn system(what: impl fmt::Display, error: &io::Error, remedy: impl fmt::Display) -> Self {
        Self::new(Exit::System, format!("{what} ({})", plain(error)), remedy)
    }

    /// Our output cannot be written. A closed pipe is no failure: `anser config | head` has what it wants.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Ok, messages: Vec::new() },
            _ => Self::system("the output cannot be written", error, "look at where it goes"),
        }
    }

    /// Tells it on stderr.
    pub fn report(&self) -> Exit {
        for message in &self.messages {
            crate::out::note(&format!("anser: {message}"));
        }
        self.exit
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("\n"))
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self { exit: Exit::Config, messages: problems.0.iter().map(ToString::to_string).collect() }
    }
}

/// What a role could not explain itself. An error of the system is told as such, all else is our defect.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(failure) => return failure,
            Err(error) => error,
        };
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        let what = causes.join(": ");
        match error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind) {
            Some(io::ErrorKind::AddrInUse) => {
                Self::new(Exit::Unavailable, what, "stop the process that holds it, or set another address")
            }
            Some(_) => Self::new(Exit::System, what, "mend what the system names, then start again"),
            None => Self::new(Exit::Software, what, "this is a defect in anser, please report it"),
        }
    }
}

/// The system's words without Rust's number: `No such file or directory`.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
