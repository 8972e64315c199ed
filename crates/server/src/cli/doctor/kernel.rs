//! Settings of the kernel that bound connections.

use std::fs;

use super::finding::Finding;
use super::units::size;

const CHECK: &str = "kernel";

/// How many fresh connections each of our listeners asks the kernel to keep.
const BACKLOG: u64 = 4096;

/// What the kernel is set to; none where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    somaxconn: Option<u64>,
    /// First and last port of outgoing connections.
    local_ports: Option<(u64, u64)>,
    /// Most memory of all TCP buffers, in bytes.
    tcp_memory: Option<u64>,
    /// Most connections that a firewall on this machine keeps in mind, where there is one.
    conntrack: Option<u64>,
    /// Most descriptors that one user may watch by epoll.
    watches: Option<u64>,
}

/// What is to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Connections that are allowed.
    pub(super) clients: u64,
    /// Whether somebody set that number, and so counts on it.
    pub(super) meant: bool,
    /// `comet.send_buffer`, which the kernel doubles.
    pub(super) send_buffer: u64,
}

impl Kernel {
    pub(super) fn look() -> Self {
        let read = |name: &str| {
            let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
            text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>().ok()
        };
        let one = |name| read(name)?.first().copied();
        Self {
            somaxconn: one("net/core/somaxconn"),
            local_ports: read("net/ipv4/ip_local_port_range")
                .and_then(|ports| Some((*ports.first()?, *ports.get(1)?))),
            tcp_memory: read("net/ipv4/tcp_mem")
                .and_then(|pages| Some(pages.get(2)?.saturating_mul(rustix::param::page_size() as u64))),
            conntrack: one("net/netfilter/nf_conntrack_max"),
            watches: one("fs/epoll/max_user_watches"),
        }
    }

    pub(super) fn judge(&self, load: Load) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(somaxconn) = self.somaxconn.filter(|most| *most < BACKLOG) {
            findings.push(Finding::warning(
                CHECK,
                format!(
                    "net.core.somaxconn = {somaxconn}: when many clients come at once, those above it wait a second \
                     or more"
                ),
                format!("`sysctl -w net.core.somaxconn={BACKLOG}`, and the same in /etc/sysctl.d"),
            ));
        }
        findings.extend(self.conntrack.and_then(|most| {
            let remedy =
                "raise it with sysctl, or exempt the ports (`notrack`): above it the firewall drops packets";
            bound(most, load, "net.netfilter.nf_conntrack_max", remedy)
        }));
        findings.extend(self.watches.and_then(|most| {
            let remedy = "raise it with sysctl: above it connections cannot be watched, and are closed";
            bound(most, load, "fs.epoll.max_user_watches", remedy)
        }));
        findings.extend(self.judge_tcp_memory(load));
        findings.extend(self.judge_local_ports(load));
        if !findings.iter().any(|finding| finding.level > super::finding::Level::Note) {
            findings.insert(0, Finding::ok(CHECK, "no setting is too low for what is configured"));
        }
        findings
    }

    /// Idle connections have no buffers. A tenth may have full ones before it is odd.
    fn judge_tcp_memory(&self, load: Load) -> Option<Finding> {
        let memory = self.tcp_memory?;
        let full = memory / (2 * load.send_buffer).max(1);
        (load.meant && full < load.clients / 10).then(|| {
            Finding::warning(
                CHECK,
                format!(
                    "net.ipv4.tcp_mem allows {} of buffers: {full} of {} connections with full ones",
                    size(memory),
                    load.clients
                ),
                "raise its third number with sysctl, or lower comet.send_buffer",
            )
        })
    }

    /// A proxy on one address connects to one address of ours from so many ports.
    fn judge_local_ports(&self, load: Load) -> Option<Finding> {
        let (first, last) = self.local_ports?;
        let ports = (last + 1).saturating_sub(first);
        (ports < load.clients).then(|| {
            Finding::note(
                CHECK,
                format!(
                    "net.ipv4.ip_local_port_range has {ports} ports: a proxy on this machine reaches one address of \
                     ours with no more connections than that"
                ),
                "if there is a proxy: give it several addresses to connect from or to, or widen the range",
            )
        })
    }
}

/// A setting that holds fewer connections than are allowed. Whoever set no number may not need as many.
fn bound(most: u64, load: Load, name: &str, remedy: &str) -> Option<Finding> {
    let found = format!("{name} = {most}, and {} connections are allowed", load.clients);
    if most >= load.clients {
        return None;
    }
    Some(if load.meant {
        Finding::warning(CHECK, found, remedy)
    } else {
        Finding::note(CHECK, found, format!("if you need as many: {remedy}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::Level::{Note, Ok, Warning};
    use super::*;

    const GOOD: Kernel = Kernel {
        somaxconn: Some(4096),
        local_ports: Some((1024, 65535)),
        tcp_memory: Some(1 << 30),
        conntrack: None,
        watches: Some(1 << 20),
    };

    type Case = (Kernel, Load, &'static [(Level, &'static str)]);

    #[test]
    fn judgement() {
        let meant = Load { clients: 50_000, meant: true, send_buffer: 16 << 10 };
        let unmeant = Load { meant: false, ..meant };
        let cases: [Case; 8] = [
            (GOOD, meant, &[(Ok, "no setting is too low")]),
            (Kernel::default(), meant, &[(Ok, "no setting")]),
            (Kernel { somaxconn: Some(128), ..GOOD }, meant, &[(Warning, "net.core.somaxconn = 128")]),
            (
                Kernel { conntrack: Some(40_000), ..GOOD },
                meant,
                &[(Warning, "nf_conntrack_max = 40000, and 50000")],
            ),
            (Kernel { conntrack: Some(40_000), ..GOOD }, unmeant, &[(Ok, ""), (Note, "nf_conntrack_max")]),
            (Kernel { watches: Some(9), ..GOOD }, meant, &[(Warning, "fs.epoll.max_user_watches = 9")]),
            (
                Kernel { tcp_memory: Some(100 << 20), ..GOOD },
                meant,
                &[(Warning, "3200 of 50000 connections")],
            ),
            (
                Kernel { local_ports: Some((32768, 60999)), ..GOOD },
                meant,
                &[(Ok, ""), (Note, "has 28232 ports")],
            ),
        ];
        for (kernel, load, expected) in cases {
            let findings = kernel.judge(load);
            assert_eq!(findings.len(), expected.len(), "{findings:?}");
            for (finding, (level, said)) in findings.iter().zip(expected) {
                assert_eq!(finding.level, *level, "{finding:?}");
                assert!(finding.found.contains(said), "{finding:?}");
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_is_asked() {
        let kernel = Kernel::look();
        assert!(
            kernel.somaxconn.is_some() && kernel.local_ports.is_some() && kernel.watches.is_some(),
            "{kernel:?}"
        );
    }
}
