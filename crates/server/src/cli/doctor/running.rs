//! The server, if one runs where the configuration says.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::super::http::{Answer, Base};
use super::finding::{Finding, parts};
use super::folder::Lock;
use crate::exit::Exit;
use crate::failure::plain;
use crate::greeting::here;

const CHECK: &str = "server";

/// How long a connection on this machine may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What answers at `http.bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Running {
    /// Nobody. Any free port, 0, is nowhere.
    No,
    /// Somebody who does not answer as an anser does, and how that shows.
    Other(String),
    /// An anser.
    Yes(Health),
}

/// What an anser says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    /// The status and the words of `/healthz`.
    healthz: (u16, String),
    /// Those of `/readyz`.
    readyz: (u16, String),
    /// None: it is too old to tell.
    version: Option<String>,
    connections: Option<u64>,
}

impl Running {
    /// Asks.
    pub(super) async fn look(address: SocketAddr) -> Self {
        let address = here(address);
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Self::Other(format!("{address} takes no connections ({})", plain(&error)));
            }
            Err(_) => return Self::No,
            Ok(_) => {}
        }
        let base = Base::from(address);
        let metrics = match base.get("/metrics").await {
            Ok(metrics) => text(&metrics),
            Err(failure) => return Self::Other(parts(&failure).0),
        };
        if !metrics.contains("anser_comet_") {
            return Self::Other(format!("{base} answers, but its /metrics are not those of an anser"));
        }
        let ask = async |path| match base.get(path).await {
            Ok(answer) => (answer.status, text(&answer).trim().to_owned()),
            Err(failure) => (0, parts(&failure).0),
        };
        Self::Yes(Health {
            healthz: ask("/healthz").await,
            readyz: ask("/readyz").await,
            version: version(&metrics),
            connections: connections(&metrics),
        })
    }

    /// Whether it does what it should. `lock` is that of the data folder.
    pub(super) fn judge(&self, address: SocketAddr, lock: &Lock) -> Vec<Finding> {
        match (self, lock) {
            (Self::No, Lock::Held(holder)) => vec![Finding::warning(
                CHECK,
                format!(
                    "{} uses the data folder, but nothing listens on http.bind = {address}",
                    holder.name()
                ),
                "give this command the same --config, --set and ANSER_ variables as the server; if it has \
                 them, the server is starting or ending: look at its log",
            )],
            (Self::No, _) => vec![Finding::ok(CHECK, "none runs here")],
            (Self::Other(how), Lock::Held(holder)) => vec![Finding::problem(
                CHECK,
                Exit::Unavailable,
                format!("{} uses the data folder and does not answer: {how}", holder.name()),
                "look at its log; if it hangs, `kill -ABRT` it (its core says where) and start it again",
            )],
            // The check of ports says who it is.
            (Self::Other(_), _) => Vec::new(),
            (Self::Yes(health), lock) => health.judge(address, lock),
        }
    }
}

impl Health {
    fn judge(&self, address: SocketAddr, lock: &Lock) -> Vec<Finding> {
        let version = self.version.as_deref().unwrap_or("of an unknown version");
        let connections = self.connections.map(|n| format!("; clients connected: {n}")).unwrap_or_default();
        let mut findings = vec![match (&self.healthz, &self.readyz) {
            ((200, _), (200, _)) => Finding::ok(
                CHECK,
                format!("anser {version} runs at {address}, healthy and ready{connections}"),
            ),
            ((200, _), (_, words)) => Finding::warning(
                CHECK,
                format!("anser {version} runs at {address}, but takes no clients: {words}"),
                "wait until it has started or drained; if it stays, look at its log",
            ),
            ((_, words), _) => Finding::problem(
                CHECK,
                Exit::Unavailable,
                format!("anser {version} runs at {address}, but is not healthy: {words}"),
                "look at its log and at the load of the machine; restart it if it stays so",
            ),
        }];
        if self.version.as_deref().is_some_and(|version| version != env!("CARGO_PKG_VERSION")) {
            findings.push(Finding::note(
                CHECK,
                format!("it is {version}, this command is {}", env!("CARGO_PKG_VERSION")),
                "restart the server to run what is installed, or use the command that belongs to it",
            ));
        }
        if !matches!(lock, Lock::Held(_)) {
            findings.push(Finding::warning(
                CHECK,
                "the server that runs does not use this data folder",
                "name its folder with --data or ANSER_DATA; what is said below of the folder is not about it",
            ));
        }
        findings
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn version(metrics: &str) -> Option<String> {
    let rest = metrics.lines().find_map(|line| line.strip_prefix("anser_build_info{version=\""))?;
    rest.split('"').next().map(str::to_owned)
}

/// The sum over all transports.
fn connections(metrics: &str) -> Option<u64> {
    let rows = metrics.lines().filter(|line| line.starts_with("anser_comet_connections{"));
    let mut counts = rows.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).peekable();
    counts.peek().is_some().then(|| counts.sum())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::finding::Level;
    use super::super::folder::Holder;
    use super::*;

    /// One with which all is well.
    pub(in super::super) fn healthy() -> Health {
        let ok = || (200, String::new());
        Health { healthz: ok(), readyz: ok(), version: None, connections: None }
    }

    const HELD: Lock = Lock::Held(Holder(Some(7)));

    fn health(healthz: u16, readyz: u16, version: &str) -> Running {
        Running::Yes(Health {
            healthz: (healthz, "words of healthz".into()),
            readyz: (readyz, "words of readyz".into()),
            version: Some(version.into()),
            connections: Some(3),
        })
    }

    #[test]
    fn metrics_are_read() {
        let metrics = "anser_build_info{version=\"1.2.3\"} 1\nanser_comet_connections{transport=\"tcp\"} 4\n\
                       anser_comet_connections{transport=\"websocket\"} 38\n";
        assert_eq!(version(metrics).as_deref(), Some("1.2.3"));
        assert_eq!(connections(metrics), Some(42));
        assert_eq!((version(""), connections("")), (None, None));
    }

    type Case = (Running, Lock, &'static [(Level, &'static str)]);

    #[test]
    fn judgement() {
        let address = ([127, 0, 0, 1], 3111).into();
        let this = env!("CARGO_PKG_VERSION");
        let cases: [Case; 9] = [
            (Running::No, Lock::Free, &[(Level::Ok, "none runs here")]),
            (Running::No, HELD, &[(Level::Warning, "process 7 uses the data folder, but nothing listens")]),
            (Running::Other("hm".into()), Lock::Free, &[]),
            (
                Running::Other("hm".into()),
                HELD,
                &[(Level::Problem, "process 7 uses the data folder and does not answer: hm")],
            ),
            (health(200, 200, this), HELD, &[(Level::Ok, "healthy and ready; clients connected: 3")]),
            (health(200, 503, this), HELD, &[(Level::Warning, "takes no clients: words of readyz")]),
            (health(503, 200, this), HELD, &[(Level::Problem, "is not healthy: words of healthz")]),
            (
                health(200, 200, "0.0.1"),
                HELD,
                &[(Level::Ok, "anser 0.0.1 runs"), (Level::Note, "it is 0.0.1, this command is")],
            ),
            (
                health(200, 200, this),
                Lock::Free,
                &[(Level::Ok, "runs at"), (Level::Warning, "does not use this data folder")],
            ),
        ];
        for (running, lock, expected) in cases {
            let findings = running.judge(address, &lock);
            assert_eq!(findings.len(), expected.len(), "{findings:?}");
            for (finding, (level, said)) in findings.iter().zip(expected) {
                assert_eq!(finding.level, *level, "{finding:?}");
                assert!(finding.found.contains(said), "{finding:?}");
            }
        }
    }
}
