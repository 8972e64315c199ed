//! The command line: the arguments as a tree of plain structs, each command in a module of its own.

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::out;

mod api;
mod completions;
mod config;
mod doctor;
mod http;
mod key;
mod listen;
mod log;
mod place;
mod push;
mod room;
mod trace;
mod up;
mod why;

pub use completions::Completions;
pub use config::Config;
pub use doctor::Doctor;
pub use listen::Listen;
pub use log::Log;
pub use push::Push;
pub use trace::Trace;
pub use up::Up;
pub use why::Why;

/// An instant-messaging and push server that speaks goim.
#[derive(Debug, Parser)]
#[command(name = "anser", version, after_help = exit::footer(), max_term_width = 100)]
#[command(disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What the process is asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server, every role in this process
    Up(Up),
    /// Run the edge alone: it holds clients' connections; see docs/cluster.md
    Comet(Up),
    /// Run logic alone: authentication, sessions, the push API
    Logic(Up),
    /// Run the job alone: the push log, and its lanes to comets
    Job(Up),
    /// Push a message to a room, to keys, to users or to everyone
    Push(Push),
    /// Connect as a client and print what is pushed
    Listen(Listen),
    /// Say what became of a message, for a device, a user or a room
    Why(Why),
    /// Show each step of a device or a user in the server's log, for a while
    Trace(Trace),
    /// Print a configuration file with every default, or look at one
    Config(Config),
    /// Say whether a server would run here, what stands in its way, and what it would promise
    Doctor(Doctor),
    /// Print what the push log holds, or say whether it is whole
    Log(Log),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// Reads the arguments of the process. Help, the version and what is wrong with the arguments are told
/// here; then only the exit code is left.
pub fn parse() -> Result<Command, Exit> {
    Arguments::try_parse().map(|arguments| arguments.command).map_err(|error| tell(&error))
}

/// The runtime of a client: this thread alone.
fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::system("cannot wait for the network", &error, "raise the limit of open files")
    })
}

fn tell(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            Exit::Ok
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => {
            out::note(&format!("anser: {}", one_line(&error.render().to_string())));
            Exit::Usage
        }
    }
}

/// clap tells an error in paragraphs: the error, tips, usage. The first line says what is wrong, the tip,
/// if there is one, what to do.
fn one_line(rendered: &str) -> String {
    let mut paragraphs = rendered.split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ")
    });
    let what = paragraphs.next().unwrap_or_default();
    let what = what.trim_start_matches("error: ").trim_end_matches('.');
    let tip = paragraphs.find_map(|paragraph| paragraph.strip_prefix("tip: ").map(str::to_owned));
    format!("{what}: {}", tip.as_deref().unwrap_or("add --help to see how it is used"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_is_documented() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "`{}` has no description", command.get_name());
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(argument.get_help().is_some(), "`{}`: {id} has no description", command.get_name());
            }
            command.get_subcommands().for_each(visit);
        }
        let mut command = Arguments::command();
        command.build();
        visit(&command);
    }

    #[test]
    fn the_first_minute_of_the_readme() {
        for line in [
            "anser up",
            "anser listen",
            "anser push room live://1 hello",
            "anser listen --user 7 --key phone-7",
            "anser push device phone-7 hello",
            "anser push user 7 hello",
        ] {
            Arguments::try_parse_from(line.split(' ')).unwrap();
        }
    }

    #[test]
    fn usage_errors_are_one_line() {
        for (line, told) in [
            ("anser pusj", "unrecognized subcommand 'pusj': a similar subcommand exists: 'push'"),
            (
                "anser up --set comet.queue",
                "invalid value 'comet.queue' for '--set <SECTION.KEY=VALUE>': write section.key=VALUE, such \
                 as comet.queue=512: add --help to see how it is used",
            ),
            (
                "anser push room live hello",
                "invalid value 'live' for '<NAME>': write type://id, such as live://1: add --help to see \
                 how it is used",
            ),
            (
                "anser push room live://1",
                "the following required arguments were not provided: <BODY>: add --help to see how it is \
                 used",
            ),
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(one_line(&error.render().to_string()), told, "{line}");
        }
    }
}
