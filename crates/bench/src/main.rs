//! The load generator: programs that print the tables of docs/benchmarks.md.
//!
//! One parent process orchestrates (and pushes); the receiving fleet and the floor are helper
//! processes, which are this program again under a hidden command. In reading order: [`cli`], [`lab`],
//! the modules in [`command`]; then what they use: [`server`], [`fleet`] and [`receiver`] (the parent's
//! end and the helper's), [`floor`] and [`disk`], [`load`], [`callers`] and [`http`], and [`report`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints a table")]

mod calibrate;
mod callers;
mod calls;
mod cli;
mod clock;
mod command;
mod control;
mod disk;
mod fleet;
mod floor;
mod helper;
mod http;
mod lab;
mod latency;
mod load;
mod metrics;
mod placement;
mod procfs;
mod progress;
mod receiver;
mod report;
mod sampler;
mod sequence;
mod server;
mod stamp;
mod statistics;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, Options};
use crate::command::connect::Newcomers;
use crate::lab::Lab;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anser-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Idle { options, rooms, quiet } => {
            measure(options, |lab| command::idle::run(lab, rooms, quiet))
        }
        Command::Room { options, mode } => measure(options, |lab| command::room::run(lab, &mode)),
        Command::Unicast { options, share } => measure(options, |lab| command::unicast::run(lab, share)),
        Command::Connect { options, silent, visitors, arrivals, reset } => {
            let newcomers = Newcomers { silent, visitors: visitors as usize, arrivals, reset };
            measure(options, |lab| command::connect::run(lab, newcomers))
        }
        Command::Latency { options } => measure(options, command::latency::run),
        Command::Slow { options, never, byte } => {
            measure(options, |lab| command::slow::run(lab, never, byte))
        }
        Command::Accept { options, callers, to } => {
            measure(options, |lab| command::accept::run(lab, callers, to))
        }
        Command::Lone { options } => measure(options, command::lone::run),
        Command::Burst { options, callers, crowd, to, times } => {
            measure(options, |lab| command::burst::run(lab, [callers, crowd], to, times))
        }
        Command::Stopped { options, comets } => {
            measure(options, |lab| command::stopped::run(lab, comets as usize))
        }
        Command::Threads { options, callers, rates } => {
            measure(options, |lab| command::threads::run(lab, callers, &rates))
        }
        Command::Million { options, comets, reserve } => {
            measure(options, |lab| command::million::run(lab, comets as usize, reserve << 20))
        }
        Command::Fleet => receiver::run(),
        Command::Exec { command } => server::exec(&command),
        Command::Floor { transport } => floor::process::run(transport),
    }
}

/// Runs one command and shows its table. What was measured before an error is shown, too.
fn measure(options: Options, run: impl FnOnce(&mut Lab) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut lab = Lab::new(options)?;
    clock::wake_on_time();
    let result = run(&mut lab);
    lab.progress.finish();
    if !lab.report.rows.is_empty() {
        println!("{}", lab.report);
    }
    if let Some(path) = &lab.options.json {
        lab.report.save(path)?;
    }
    result
}
