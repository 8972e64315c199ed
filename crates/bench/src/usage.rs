//! CPU time of the three parties of a run: server, fleets, generator.

use std::process;
use std::time::Duration;

use crate::server::Server;
use crate::{clock, procfs};

/// CPU time of each party up to a moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    at: u64,
    server: Option<Duration>,
    fleets: Duration,
    generator: Duration,
    parties: Parties,
}

/// The processes of each party.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parties {
    /// Every process of the server, or the floor; none when they are not known.
    pub(crate) server: Vec<u32>,
    /// Every process of the fleets.
    pub(crate) fleets: Vec<u32>,
}

/// CPU time used between two moments, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) wall: f64,
    /// `None` when the server's processes are not known, or one of them has ended.
    pub(crate) server: Option<f64>,
    pub(crate) fleets: f64,
    pub(crate) generator: f64,
}

impl Parties {
    /// The times now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let sum = |pids: &[u32]| pids.iter().map(|pid| procfs::cpu(*pid)).sum::<Option<Duration>>();
        Snapshot {
            at: clock::now(),
            server: sum(&self.server).filter(|_| !self.server.is_empty()),
            fleets: sum(&self.fleets).unwrap_or_default(),
            generator: procfs::cpu(process::id()).unwrap_or_default(),
            parties: self.clone(),
        }
    }
}

impl Snapshot {
    /// What was used since.
    pub(crate) fn until_now(&self) -> Usage {
        let now = self.parties.snapshot();
        let seconds = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64();
        Usage {
            wall: (now.at - self.at) as f64 / 1e9,
            server: self.server.zip(now.server).map(|(before, after)| seconds(before, after)),
            fleets: seconds(self.fleets, now.fleets),
            generator: seconds(self.generator, now.generator),
        }
    }
}

impl Usage {
    /// The server's CPU time for each of `count`, in µs.
    pub(crate) fn per(&self, count: u64) -> Option<f64> {
        self.server.filter(|_| count > 0).map(|seconds| seconds * 1e6 / count as f64)
    }

    /// Two stretches as one.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            server: self.server.zip(other.server).map(|(a, b)| a + b),
            fleets: self.fleets + other.fleets,
            generator: self.generator + other.generator,
        }
    }
}

/// CPU time of each kind of process up to a moment, for servers whose roles are apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByRole(Vec<(String, Vec<u32>, Duration)>);

impl ByRole {
    /// The times now. Nothing when there is one kind only: that is the whole server.
    pub(crate) fn now(server: &Server) -> Self {
        let roles = server.pids_by_role();
        if roles.len() < 2 {
            return Self::default();
        }
        let time = |pids: &[u32]| pids.iter().filter_map(|pid| procfs::cpu(*pid)).sum();
        let rows = roles.into_iter().map(|(role, pids)| (role.to_owned(), pids.clone(), time(&pids)));
        Self(rows.collect())
    }

    /// Seconds that each has used since.
    pub(crate) fn until_now(&self) -> Vec<(String, f64)> {
        let used = self.0.iter().map(|(role, pids, before)| {
            let now: Duration = pids.iter().filter_map(|pid| procfs::cpu(*pid)).sum();
            (role.clone(), now.saturating_sub(*before).as_secs_f64())
        });
        used.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_known_costs_nothing_that_is_known() {
        let usage = Parties::default().snapshot().until_now();
        assert_eq!(usage.server, None);
        assert_eq!(usage.per(10), None);
        let myself = Parties { server: vec![process::id()], fleets: vec![] };
        assert!(myself.snapshot().until_now().server.is_some());
    }

    #[test]
    fn shares() {
        let half = Usage { wall: 2.0, server: Some(1.0), fleets: 0.5, generator: 0.25 };
        assert_eq!(half.per(1000), Some(1000.0));
        assert_eq!(half.per(0), None);
        assert_eq!(half.plus(half).server, Some(2.0));
    }
}
