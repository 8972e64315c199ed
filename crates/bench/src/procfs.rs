//! What the kernel knows of processes: CPU time, memory, sockets.

use std::fs;
use std::time::Duration;

/// Clock ticks in a second, as /proc counts CPU time: 100 on every Linux that Rust runs on
/// (`USER_HZ` is part of the kernel's ABI).
const TICKS: u64 = 100;

/// User and system time of a process so far. `None` when it is gone, or not ours to see.
///
/// `/proc/PID/stat` counts all threads that ever were, in ticks of 10 ms; the `schedstat` of the
/// threads counts the living ones, in ns. The greater is nearer to the truth.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let ticks = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let schedstat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        nanos += schedstat.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    }
    Some(Duration::from_millis(ticks * (1000 / TICKS)).max(Duration::from_nanos(nanos)))
}

/// User plus system time in ticks. The name, in parentheses, may hold anything.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident in all.
    pub(crate) resident: u64,
    /// Resident and belonging to no file: heap and stacks.
    pub(crate) anonymous: u64,
}

/// Memory of a process. From `smaps_rollup`, which counts pages; `status` reads counters that may be
/// off by some hundred kB, and serves where the former may not be read.
pub(crate) fn memory(pid: u32) -> Option<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    rollup.as_deref().and_then(|text| parse_memory(text, "Rss:", "Anonymous:")).or_else(|| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        parse_memory(&status, "VmRSS:", "RssAnon:")
    })
}

fn parse_memory(text: &str, resident: &str, anonymous: &str) -> Option<Memory> {
    let field = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes << 10)
    };
    Some(Memory { resident: field(resident)?, anonymous: field(anonymous)? })
}

/// What is read of a process often, and so cheaply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Resident memory, in bytes; may be off by some hundred kB.
    pub(crate) resident: u64,
    pub(crate) threads: u64,
}

/// `/proc/PID/status`. `None` when the process is gone, or not ours to see.
pub(crate) fn status(pid: u32) -> Option<Status> {
    parse_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_status(text: &str) -> Option<Status> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let resident: u64 = field("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(Status { resident: resident << 10, threads: field("Threads:")?.parse().ok()? })
}

/// Memory of the whole machine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// What can be had without taking it from somebody.
    pub(crate) available: u64,
    /// The kernel's own objects that nobody can take from it, sockets among them.
    pub(crate) unreclaimable: u64,
}

/// `/proc/meminfo`. `None` where it cannot be read.
pub(crate) fn machine() -> Option<Machine> {
    parse_machine(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_machine(text: &str) -> Option<Machine> {
    let field = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes << 10)
    };
    Some(Machine { available: field("MemAvailable:")?, unreclaimable: field("SUnreclaim:")? })
}

/// The kernel's share, of all processes in this network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// TCP sockets in use, both ends of each loopback connection.
    pub(crate) in_use: u64,
    /// Sockets in `TIME_WAIT`.
    pub(crate) time_wait: u64,
    /// Bytes in the buffers of TCP sockets (the kernel counts pages, and charges ahead).
    pub(crate) buffers: u64,
}

/// `/proc/net/sockstat`.
pub(crate) fn sockets() -> Sockets {
    parse_sockets(&fs::read_to_string("/proc/net/sockstat").unwrap_or_default())
}

fn parse_sockets(text: &str) -> Sockets {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    let field = |name| {
        let (_, value) = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).find(|pair| pair.0 == name)?;
        value.parse::<u64>().ok()
    };
    Sockets {
        in_use: field("inuse").unwrap_or(0),
        time_wait: field("tw").unwrap_or(0),
        buffers: field("mem").unwrap_or(0) * rustix::param::page_size() as u64,
    }
}

/// Whether every thread of a process is traced, that is, whether strace has attached.
pub(crate) fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
    })
}

/// How many threads a process has.
pub(crate) fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// How many events of perf a process has open.
pub(crate) fn perf_events(pid: u32) -> usize {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("perf_event")).count()
}

/// How many files all processes together may have open.
pub(crate) fn most_files() -> Option<u64> {
    fs::read_to_string("/proc/sys/fs/file-max").ok()?.trim().parse().ok()
}

/// The kernel's version.
pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".into(), |v| v.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_of_a_process_with_a_wild_name() {
        let stat = "4242 (an) (ser) ) S 1 2 3 4 5 6 7 8 9 10 123 45 6 7 20 0 3 0 999";
        assert_eq!(parse_stat(stat), Some(168));
        assert_eq!(parse_stat("4242 (x) S 1"), None);
        assert!(cpu(std::process::id()).is_some());
    }

    #[test]
    fn memory_from_either_file() {
        let rollup =
            "55d0-7ffc ---p 00000000 00:00 0  [rollup]\nRss:    2048 kB\nPss:  1 kB\nAnonymous:   512 kB\n";
        let expected = Memory { resident: 2 << 20, anonymous: 512 << 10 };
        assert_eq!(parse_memory(rollup, "Rss:", "Anonymous:"), Some(expected));
        let status = "Name:\tanser\nVmRSS:\t    2048 kB\nRssAnon:\t     512 kB\n";
        assert_eq!(parse_memory(status, "VmRSS:", "RssAnon:"), Some(expected));
        assert_eq!(parse_memory("", "VmRSS:", "RssAnon:"), None);
        assert!(memory(std::process::id()).unwrap().resident > 0);
    }

    #[test]
    fn status_and_machine() {
        let status = "Name:\tanser\nVmHWM:\t 4096 kB\nVmRSS:\t 2048 kB\nThreads:\t7\n";
        assert_eq!(parse_status(status), Some(Status { resident: 2 << 20, threads: 7 }));
        assert_eq!(parse_status(""), None);
        assert!(self::status(std::process::id()).is_some_and(|status| status.threads > 0));
        let text = "MemTotal: 9 kB\nMemAvailable:  2048 kB\nSUnreclaim: 3 kB\n";
        assert_eq!(parse_machine(text), Some(Machine { available: 2 << 20, unreclaimable: 3 << 10 }));
        assert!(machine().is_some());
    }

    #[test]
    fn sockets_of_tcp_only() {
        let text = "sockets: used 9\nTCP: inuse 21 orphan 0 tw 4 alloc 23 mem 2\nUDP: inuse 1 mem 9\nTCP6: inuse 7\n";
        let page = rustix::param::page_size() as u64;
        assert_eq!(parse_sockets(text), Sockets { in_use: 21, time_wait: 4, buffers: 2 * page });
        assert_eq!(parse_sockets(""), Sockets::default());
    }

    #[test]
    fn nobody_traces_us() {
        assert!(!is_traced(std::process::id()));
    }
}
