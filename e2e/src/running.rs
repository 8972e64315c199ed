//! A process that said that it is up, and what it said.

use std::net::SocketAddr;

use crate::http::Http;
use crate::metrics::Metrics;
use crate::patience::eventually;
use crate::process::Process;

/// The last line that a server prints once it is up.
const GREETED: &str = "Ctrl-C drains and ends.";

/// A server that is ready, whichever roles it has.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) greeting: String,
    pub(crate) http: SocketAddr,
}

impl Running {
    /// Waits until it is ready, or gives it back when it has ended.
    #[track_caller]
    pub(crate) fn wait(mut process: Process) -> Result<Self, Process> {
        let greeting = eventually("the greeting", || {
            // In this order, or what it said last would be missed.
            let ended = process.try_wait().is_some();
            let said = process.stdout();
            (ended || said.contains(GREETED)).then_some(said)
        });
        if !greeting.contains(GREETED) {
            return Err(process);
        }
        let http = address(&greeting, " http://").expect("every role has an HTTP address");
        let is_ready = || -> Option<bool> {
            let answer = Http::try_connect(http)?.try_request("GET", "/readyz", &[], b"")?;
            Some(answer.status() == 200)
        };
        let ready = eventually("readiness", || match is_ready() {
            None if process.try_wait().is_some() => Some(false),
            ready => (ready == Some(true)).then_some(true),
        });
        if ready { Ok(Self { process, greeting, http }) } else { Err(process) }
    }

    /// The first address that it named with this scheme, such as ` tcp://`.
    pub(crate) fn address(&self, scheme: &str) -> Option<SocketAddr> {
        address(&self.greeting, scheme)
    }

    /// Every metric, now.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = Http::connect(self.http, None).request("GET", "/metrics", &[], b"");
        assert_eq!(answer.status(), 200, "{answer}");
        Metrics::parse(answer.text())
    }
}

fn address(greeting: &str, scheme: &str) -> Option<SocketAddr> {
    let (_, rest) = greeting.split_once(scheme)?;
    let end = rest.find(['/', '\n', ' ']).unwrap_or(rest.len());
    Some(rest[..end].parse().expect("addresses are printed with their ports"))
}
