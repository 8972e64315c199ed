//! System calls of the server, counted by `strace -c` over a short stretch. It slows the server down
//! many times over, so no time is taken meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{clock, helper, procfs};

/// strace on every thread of some processes.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    output: tempfile::NamedTempFile,
}

impl Strace {
    /// Attaches. An error says why that is not possible here.
    pub(crate) fn attach(pids: &[u32], folder: &Path) -> anyhow::Result<Self> {
        if pids.is_empty() {
            bail!("the server's processes are not known");
        }
        let output = tempfile::NamedTempFile::new_in(folder)?;
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-o"]).arg(output.path());
        for pid in pids {
            command.arg("-p").arg(pid.to_string());
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace is not installed")?;
        let mut strace = Self { child, output };
        let started = Instant::now();
        while !pids.iter().all(|pid| procfs::is_traced(*pid)) {
            if strace.child.try_wait()?.is_some() || started.elapsed() > Duration::from_secs(5) {
                bail!("strace may not attach to the server: run as its user, or as root");
            }
            clock::sleep(Duration::from_millis(20));
        }
        Ok(strace)
    }

    /// Detaches, and gives the calls by name.
    pub(crate) fn finish(mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::INT)?;
        }
        helper::reap(&mut self.child, Duration::from_secs(10));
        Ok(parse(&fs::read_to_string(self.output.path())?))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Left attached it would slow down everything that follows. After `finish` it is gone already.
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), Pid::from_raw(self.child.id() as i32)) {
            let _ = kill_process(pid, Signal::INT);
            helper::reap(&mut self.child, Duration::from_secs(10));
        }
    }
}

/// Rows of `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn parse(table: &str) -> BTreeMap<String, u64> {
    let rows = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.last()?;
        let calls = words.get(3)?.parse().ok()?;
        (words.len() >= 5 && *name != "total").then(|| ((*name).to_owned(), calls))
    });
    rows.collect()
}

/// The most frequent calls in words.
pub(crate) fn most_frequent(calls: &BTreeMap<String, u64>) -> String {
    let mut calls: Vec<(&String, &u64)> = calls.iter().collect();
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words: Vec<String> = calls.iter().take(4).map(|(name, count)| format!("{name} {count}")).collect();
    words.join(", ")
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
        let calls = parse(table);
        assert_eq!(calls.len(), 3);
        assert_eq!(calls["sendto"], 10_000);
        assert_eq!(calls["epoll_wait"], 100);
        assert!(most_frequent(&calls).starts_with("sendto 10000, "));
        assert!(parse("").is_empty());
    }
}
