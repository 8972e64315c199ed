//! A process under the shim.

use std::fs::{self, File};
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::patience::eventually;
use crate::process::{Ended, Process};

/// A process until its end. [`Power::cut`](super::Power::cut) or
/// [`Power::survive`](super::Power::survive) takes it.
#[derive(Debug)]
pub struct Life {
    body: Body,
    log: PathBuf,
    up: Option<u64>,
}

#[derive(Debug)]
enum Body {
    /// A server that came up.
    Server(Box<Cluster>),
    /// Anything else: a server that ended before it was up, with its folder, or another program.
    Other { process: Process, _folder: Option<TempDir> },
}

impl Life {
    pub(super) fn server(log: PathBuf, started: Result<Cluster, (Process, TempDir)>) -> Self {
        match started {
            Ok(cluster) => {
                let mut life = Self { body: Body::Server(Box::new(cluster)), log, up: None };
                life.up();
                life
            }
            Err((process, folder)) => {
                Self { body: Body::Other { process, _folder: Some(folder) }, log, up: None }
            }
        }
    }

    pub(super) fn program(log: PathBuf, process: Process) -> Self {
        Self { body: Body::Other { process, _folder: None }, log, up: None }
    }

    /// The server, if it is one and came up. It may have been killed since.
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.body {
            Body::Server(cluster) => Some(cluster),
            Body::Other { .. } => None,
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        match &mut self.body {
            Body::Server(cluster) => cluster.process(),
            Body::Other { process, .. } => process,
        }
    }

    /// Says that the process has started, which matters for [`Lie::NoStartSync`](super::Lie). A server
    /// says so itself.
    pub fn up(&mut self) {
        self.up = Some(fs::metadata(&self.log).map_or(0, |log| log.len()));
    }

    /// Whether a record at this place of the log was written after that.
    pub(super) fn was_up(&self, at: u64) -> bool {
        self.up.is_some_and(|up| at >= up)
    }

    /// Waits until the shim has killed it.
    #[track_caller]
    pub fn wait_killed(&mut self) -> Ended {
        let ended = self.process().wait();
        assert_eq!(ended.code, None, "it ended by itself: {}{}", ended.stdout, ended.stderr);
        ended
    }

    /// Kills it now, between two operations: each that was done is in the log.
    #[track_caller]
    pub fn kill(&mut self) {
        let path = self.log.clone();
        let begun = || fs::metadata(&path).is_ok_and(|log| log.len() > 0);
        let process = self.process();
        let ended = eventually("the shim is there", || match process.try_wait() {
            Some(_) => Some(true),
            None => begun().then_some(false),
        });
        if ended {
            return;
        }
        let log = File::open(&path).expect("it has begun");
        log.lock().expect("the log can be locked");
        process.signal(Signal::KILL);
        process.wait();
    }
}
