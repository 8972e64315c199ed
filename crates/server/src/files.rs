//! Open files: how many this process may have, and how many connections that gives.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything that is no client, at least: listeners, the HTTP API, files.
const SPARE: u64 = 512;

/// Those of them that the HTTP API may not use.
const OWN: u64 = 128;

/// With fewer connections than this a limit was probably forgotten.
const FEW: usize = 1000;

/// What to do about a limit that is too low, wherever it was set.
pub(crate) const REMEDY: &str = "raise LimitNOFILE= (systemd), `--ulimit nofile=` (Docker), /etc/security/limits.conf (a login) or \
     `ulimit -n` (a shell)";

/// Who may have how many of the files that the process may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many files the process may open.
    pub(crate) limit: u64,
    /// The most connections that there are files for.
    pub(crate) most: usize,
    /// The most connections that are allowed: as configured, but no more than there are files for.
    pub(crate) clients: usize,
    /// The most callers of the HTTP API.
    pub(crate) callers: usize,
}

/// What is wrong with a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// `comet.max_connections` is more than there are files for.
    Configured,
    /// There are files for few connections.
    Few,
}

impl Plan {
    /// Divides the files. `clients` and `callers` are as configured; no clients means as many as there are
    /// files for.
    pub(crate) fn of(limit: u64, clients: usize, callers: usize) -> Self {
        let number = |files| usize::try_from(files).unwrap_or(usize::MAX);
        let spare = SPARE.max(limit / 16);
        let most = number(limit.saturating_sub(spare).max(1));
        Self {
            limit,
            most,
            clients: if clients == 0 { most } else { clients.min(most) },
            callers: callers.min(number(spare - OWN)),
        }
    }

    /// Whether the limit is too low for what was configured, or for anything.
    pub(crate) fn shortage(&self, configured: usize) -> Option<Shortage> {
        match configured {
            0 => (self.most < FEW).then_some(Shortage::Few),
            _ => (configured > self.most).then_some(Shortage::Configured),
        }
    }
}

/// How many files this process may have open. Raises its limit as far as it may.
pub(crate) fn raise() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    or_unlimited(limit.current)
}

/// Without a limit there is still one on memory.
pub(crate) fn or_unlimited(limit: Option<u64>) -> u64 {
    limit.unwrap_or(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_divided() {
        for (limit, clients, callers, plan) in [
            (600, 0, 4096, (88, 88, 384)),
            (600, 50, 100, (88, 50, 100)),
            (600, 5000, 4096, (88, 88, 384)),
            (1 << 20, 0, 4096, (983_040, 983_040, 4096)),
            (100, 0, 4096, (1, 1, 384)),
        ] {
            let Plan { most, clients, callers, .. } = Plan::of(limit, clients, callers);
            assert_eq!((most, clients, callers), plan, "{limit}");
        }
    }

    #[test]
    fn shortages() {
        for (limit, configured, shortage) in [
            (1511, 0, Some(Shortage::Few)),
            (1512, 0, None),
            (1512, 1000, None),
            (1512, 1001, Some(Shortage::Configured)),
            (600, 10, None),
        ] {
            assert_eq!(Plan::of(limit, configured, 1).shortage(configured), shortage, "{limit} {configured}");
        }
    }
}
