//! Open files, and the connections that they give.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::finding::Finding;
use crate::files::{self, Plan, Shortage};

const CHECK: &str = "open files";

/// A limit on open files, and on whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// None: no limit.
    soft: Option<u64>,
    hard: Option<u64>,
    /// The running server that has it; none: this command, as a server that is started here would.
    server: Option<u32>,
}

impl Limit {
    /// Of the running server, or of this process.
    pub(super) fn look(server: Option<u32>) -> Self {
        let of = |pid: u32| {
            let (soft, hard) = parse(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)?;
            Some(Self { soft, hard, server })
        };
        server.and_then(of).unwrap_or_else(|| {
            let limit = getrlimit(Resource::Nofile);
            Self { soft: limit.current, hard: limit.maximum, server: None }
        })
    }

    /// How the files are divided: a server raises its limit when it starts.
    pub(super) fn plan(&self, clients: usize, callers: usize) -> Plan {
        let limit = if self.server.is_some() { self.soft } else { self.hard };
        Plan::of(files::or_unlimited(limit), clients, callers)
    }

    /// Whether that is enough.
    pub(super) fn judge(&self, clients: usize, callers: usize) -> Finding {
        let plan = self.plan(clients, callers);
        let whose = match self.server {
            Some(pid) => format!("the running server (process {pid}) may open"),
            None => "a server started here may open".to_owned(),
        };
        let shown =
            |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        let found = format!(
            "{whose} {} (soft limit {}, hard {}): {} connections, {} callers of the HTTP API",
            plan.limit,
            shown(self.soft),
            shown(self.hard),
            plan.clients,
            plan.callers
        );
        match plan.shortage(clients) {
            None => Finding::ok(CHECK, found),
            Some(Shortage::Few) => Finding::warning(CHECK, found, files::REMEDY),
            Some(Shortage::Configured) => {
                let found = format!("{found}; comet.max_connections = {clients} is more");
                Finding::warning(CHECK, found, files::REMEDY)
            }
        }
    }
}

/// Soft and hard limit on open files in `/proc/PID/limits`; inside, none is no limit.
fn parse(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(None),
        word => word.parse().ok().map(Some),
    };
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_limits_of_a_process() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             63703                63703                processes \n\
                    Max open files            1024                 1048576              files     \n";
        assert_eq!(parse(text), Some((Some(1024), Some(1_048_576))));
        assert_eq!(parse("Max open files unlimited unlimited files"), Some((None, None)));
        assert_eq!(parse("Max open files"), None);
        let own = fs::read_to_string("/proc/self/limits").unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(parse(&own), Some((limit.current, limit.maximum)));
    }

    #[test]
    fn judgement() {
        let here = |soft, hard| Limit { soft: Some(soft), hard: Some(hard), server: None };
        for (limit, clients, level, said) in [
            (
                here(1024, 1 << 20),
                0,
                Level::Ok,
                "1048576 (soft limit 1024, hard 1048576): 983040 connections",
            ),
            (here(600, 600), 0, Level::Warning, "88 connections"),
            (here(4096, 4096), 5000, Level::Warning, "comet.max_connections = 5000 is more"),
            (here(4096, 4096), 3584, Level::Ok, "3584 connections"),
            (Limit { soft: None, hard: None, server: None }, 7, Level::Ok, "soft limit unlimited"),
            // What a running server has not raised, it will not.
            (
                Limit { soft: Some(600), hard: Some(4096), server: Some(7) },
                0,
                Level::Warning,
                "the running server (process 7) may open 600",
            ),
        ] {
            let finding = limit.judge(clients, 4096);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(said), "{finding:?}");
        }
    }
}
