//! Where processes run, and how many files they may open.

use std::process::{Child, Command};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which processors the two sides of a run get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pin {
    /// All of them, for everyone: the scheduler decides.
    #[default]
    None,
    /// The first half for the server and the floor, the second for fleets and generator.
    Split,
}

/// The processors of each side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    server: Option<CpuSet>,
    clients: Option<CpuSet>,
}

/// A side of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// What is measured: the server, or the floor in its place.
    Server,
    /// What measures.
    Client,
}

impl Placement {
    /// Divides the processors that this process may use, and moves it to its own side.
    pub(crate) fn new(pin: Pin) -> anyhow::Result<Self> {
        if pin == Pin::None {
            return Ok(Self::default());
        }
        let allowed = sched_getaffinity(None)?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        ensure!(allowed.len() >= 2, "--pin split needs two processors, and there is one: leave it away");
        let (server, clients) = allowed.split_at(allowed.len() / 2);
        let placement = Self { server: Some(set(server)), clients: Some(set(clients)) };
        placement.enter(Side::Client)?;
        Ok(placement)
    }

    fn enter(&self, side: Side) -> anyhow::Result<()> {
        let cpus = match side {
            Side::Server => &self.server,
            Side::Client => &self.clients,
        };
        if let Some(cpus) = cpus {
            sched_setaffinity(None, cpus).context("cannot choose processors")?;
        }
        Ok(())
    }

    /// Starts a process on its side. It inherits the calling thread's processors, and so do all of its
    /// threads.
    pub(crate) fn spawn(&self, side: Side, command: &mut Command) -> anyhow::Result<Child> {
        self.enter(side)?;
        let child = command.spawn();
        self.enter(Side::Client)?;
        child.with_context(|| format!("cannot start {}", command.get_program().display()))
    }
}

fn set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    set
}

/// How many files a process may open here; `None` when there is no limit.
pub(crate) fn file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Lets this process and those that it starts open as many files as the system allows, and fails when
/// that is less than `need`.
pub(crate) fn open_files(need: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if let Some(hard) = limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) })
            .context("cannot raise the limit of open files")?;
        ensure!(
            hard >= need,
            "a process may open {hard} files here, and this run needs {need} in one: raise the hard limit \
             (`ulimit -Hn {need}` as root), or lower --connections"
        );
    }
    Ok(())
}
