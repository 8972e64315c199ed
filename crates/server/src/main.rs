//! `anser`: an instant-messaging and push server, and the commands around it.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use anser_server::cli::{self, Command};
use anser_server::roles::Roles;
use anser_server::{Exit, Failure, log};

fn main() -> ExitCode {
    log::tell_panics();
    let exit = match cli::parse() {
        Ok(command) => panic::catch_unwind(AssertUnwindSafe(|| run(command))),
        Err(exit) => Ok(exit),
    };
    exit.unwrap_or(Exit::Software).into()
}

fn run(command: Command) -> Exit {
    let done = match command {
        Command::Up(up) => up.run(Roles::All),
        Command::Comet(up) => up.run(Roles::Comet),
        Command::Logic(up) => up.run(Roles::Logic),
        Command::Job(up) => up.run(Roles::Job),
        Command::Push(push) => push.run(),
        Command::Listen(listen) => listen.run(),
        Command::Why(why) => why.run(),
        Command::Trace(trace) => trace.run(),
        Command::Config(config) => config.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Log(log) => log.run(),
        Command::Completions(completions) => completions.run(),
    };
    match done {
        Ok(()) => Exit::Ok,
        Err(failure) => Failure::report(&failure),
    }
}
