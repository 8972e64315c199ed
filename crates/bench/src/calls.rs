//! System calls of the server over a short stretch, counted by `perf stat`, or, where that is not allowed,
//! by `strace -c`. perf hardly slows the server down; strace does many times over, so that a turn of the
//! server ends after fewer sends by its limit of time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{clock, helper, procfs};

/// The event that counts every call.
const ALL: &str = "raw_syscalls:sys_enter";

/// Calls that perf counts by name as well.
const NAMED: [&str; 7] = ["sendto", "sendmsg", "writev", "recvfrom", "epoll_wait", "sched_yield", "futex"];

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `perf stat`.
    Perf,
    /// `strace -c`.
    Strace,
}

/// A tool on every thread of some processes.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) tool: Tool,
    child: Child,
    output: tempfile::NamedTempFile,
}

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) total: u64,
    by_name: BTreeMap<String, u64>,
}

impl Counter {
    /// Attaches the better tool that works here. An error says why none does.
    pub(crate) fn attach(pids: &[u32], folder: &Path) -> anyhow::Result<Self> {
        if pids.is_empty() {
            bail!("the server's processes are not known");
        }
        let perf = match Self::start(Tool::Perf, pids, folder) {
            Ok(perf) => return Ok(perf),
            Err(error) => error,
        };
        Self::start(Tool::Strace, pids, folder).map_err(|strace| strace.context(format!("{perf:#}")))
    }

    fn start(tool: Tool, pids: &[u32], folder: &Path) -> anyhow::Result<Self> {
        let output = tempfile::NamedTempFile::new_in(folder)?;
        let mut command = Command::new(tool.name());
        let pids_text = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        match tool {
            Tool::Perf => {
                let named = NAMED.iter().map(|name| format!("syscalls:sys_enter_{name}"));
                let events = [ALL.to_owned()].into_iter().chain(named).collect::<Vec<_>>().join(",");
                command.args(["stat", "-x", ",", "-e", &events, "-p", &pids_text]);
            }
            Tool::Strace => {
                command.args(["-c", "-f", "-p", &pids_text]);
            }
        }
        let child = command
            .arg("-o")
            .arg(output.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} is not installed", tool.name()))?;
        let mut counter = Self { tool, child, output };
        let started = Instant::now();
        while !counter.is_attached(pids) {
            if counter.child.try_wait()?.is_some() || started.elapsed() > Duration::from_secs(5) {
                bail!("{} may not attach to the server: run as its user, or as root", tool.name());
            }
            clock::sleep(Duration::from_millis(20));
        }
        // perf opens its events first and lets them count then.
        clock::sleep(Duration::from_millis(100));
        Ok(counter)
    }

    fn is_attached(&self, pids: &[u32]) -> bool {
        match self.tool {
            Tool::Strace => pids.iter().all(|pid| procfs::is_traced(*pid)),
            Tool::Perf => {
                let threads: usize = pids.iter().map(|pid| procfs::threads(*pid)).sum();
                procfs::perf_events(self.child.id()) >= threads * (1 + NAMED.len())
            }
        }
    }

    /// Detaches, and gives what was counted.
    pub(crate) fn finish(mut self) -> anyhow::Result<Calls> {
        self.stop()?;
        let text = fs::read_to_string(self.output.path())?;
        Ok(match self.tool {
            Tool::Perf => Calls::of_perf(&text),
            Tool::Strace => Calls::of_strace(&text),
        })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::INT)?;
        }
        helper::reap(&mut self.child, Duration::from_secs(10));
        Ok(())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // Left attached it would slow down everything that follows. After `finish` it is gone already.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.stop();
        }
    }
}

impl Tool {
    /// The program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Strace => "strace",
        }
    }
}

impl Calls {
    /// Rows of `count,unit,event,...`.
    fn of_perf(table: &str) -> Self {
        let mut calls = Self::default();
        for line in table.lines() {
            let mut fields = line.split(',');
            let (Some(count), Some(event)) = (fields.next().and_then(|n| n.parse().ok()), fields.nth(1))
            else {
                continue;
            };
            match event.strip_prefix("syscalls:sys_enter_") {
                Some(name) if count > 0 => {
                    calls.by_name.insert(name.to_owned(), count);
                }
                None if event == ALL => calls.total = count,
                _ => {}
            }
        }
        calls
    }

    /// Rows of `% time, seconds, usecs/call, calls, [errors,] syscall`.
    fn of_strace(table: &str) -> Self {
        let rows = table.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = words.last()?;
            let calls = words.get(3)?.parse().ok()?;
            (words.len() >= 5 && *name != "total").then(|| ((*name).to_owned(), calls))
        });
        let by_name: BTreeMap<String, u64> = rows.collect();
        Self { total: by_name.values().sum(), by_name }
    }

    /// The most frequent ones in words.
    pub(crate) fn most_frequent(&self) -> String {
        let mut calls: Vec<(&String, &u64)> = self.by_name.iter().collect();
        calls.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words: Vec<String> =
            calls.iter().take(4).map(|(name, count)| format!("{name} {count}")).collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_strace() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.10    0.500000          50     10000           sendto
  0.50    0.001000          10       100        20 epoll_wait
  0.40    0.000100           1       100           futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.501100          49     10200        20 total
";
        let calls = Calls::of_strace(table);
        assert_eq!((calls.total, calls.by_name.len()), (10_200, 3));
        assert!(calls.most_frequent().starts_with("sendto 10000, "));
        assert_eq!(Calls::of_strace(""), Calls::default());
    }

    #[test]
    fn a_table_of_perf() {
        let table = "\
# started on Tue Nov 24 10:00:00 2026

10200,,raw_syscalls:sys_enter,2000000000,100.00,,
10000,,syscalls:sys_enter_sendto,2000000000,100.00,,
<not counted>,,syscalls:sys_enter_futex,0,0.00,,
0,,syscalls:sys_enter_writev,2000000000,100.00,,
100,,syscalls:sys_enter_epoll_wait,2000000000,100.00,,
";
        let calls = Calls::of_perf(table);
        assert_eq!(calls.total, 10_200);
        assert_eq!(calls.most_frequent(), "sendto 10000, epoll_wait 100");
        assert_eq!(Calls::of_perf(""), Calls::default());
    }
}
