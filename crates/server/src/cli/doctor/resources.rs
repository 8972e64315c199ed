//! Memory and processors, as the machine or the container has them, against what is configured.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use super::finding::Finding;
use super::units::size;

/// What one command may weigh: 16 KiB of a push count as one (`comet.commands`).
const COMMAND: u64 = 16 << 10;

/// What an idle connection needs of ours, rounded up; docs/benchmarks.md has the figure.
const CONNECTION: u64 = 512;

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Resources {
    /// Memory that can be had without swapping, in bytes.
    available: Option<u64>,
    /// What the control group allows, in bytes.
    limit: Option<u64>,
    /// Processors that this process may use.
    processors: usize,
    /// How many of them at a time the control group pays for.
    quota: Option<f64>,
}

/// What is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) outbound_budget: usize,
    pub(super) commands: usize,
    /// 0: as many as there are files for, which nobody counts on.
    pub(super) max_connections: usize,
    pub(super) workers: usize,
}

impl Resources {
    /// Those of the running server, or of this process.
    pub(super) fn look(server: Option<u32>) -> Self {
        let process = server.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        let memory = ["memory.max", "memory.limit_in_bytes"]
            .into_iter()
            .flat_map(|file| read(&groups, "memory", file))
            .filter_map(|text| memory_limit(&text));
        let cpu = read(&groups, "cpu", "cpu.max").into_iter().filter_map(|text| quota(&text));
        let old = read(&groups, "cpu", "cpu.cfs_quota_us").into_iter().zip(read(
            &groups,
            "cpu",
            "cpu.cfs_period_us",
        ));
        let old = old.filter_map(|(quota_us, period_us)| quota(&format!("{quota_us} {period_us}")));
        Self {
            available: fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)),
            limit: memory.min(),
            processors: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            quota: cpu.chain(old).min_by(f64::total_cmp),
        }
    }

    pub(super) fn judge(&self, needs: Needs) -> Vec<Finding> {
        self.judge_memory(needs).into_iter().chain([self.judge_processors(needs)]).collect()
    }

    fn judge_memory(&self, needs: Needs) -> Option<Finding> {
        const CHECK: &str = "memory";
        let room = [self.available, self.limit].into_iter().flatten().min()?;
        let whose = match self.limit {
            Some(limit) if limit == room => "allowed by the control group",
            _ => "available",
        };
        let queues = needs.commands as u64 * COMMAND;
        let connections = needs.max_connections as u64 * CONNECTION;
        let total = (needs.outbound_budget as u64).saturating_add(queues).saturating_add(connections);
        let found = format!(
            "{} {whose}; at worst {} may wait in queues (comet.outbound_budget {}, comet.commands {}){}",
            size(room),
            size(total),
            size(needs.outbound_budget as u64),
            size(queues),
            if connections > 0 {
                format!(", connections {} of that", size(connections))
            } else {
                String::new()
            },
        );
        Some(if total > room {
            let remedy = "lower comet.outbound_budget and comet.commands, or give it more memory: when it runs \
                          out, the kernel kills it";
            Finding::warning(CHECK, found, remedy)
        } else {
            Finding::ok(CHECK, found)
        })
    }

    fn judge_processors(&self, needs: Needs) -> Finding {
        const CHECK: &str = "processors";
        let Self { processors, quota, .. } = *self;
        let paid = quota
            .map(|quota| format!(", of which the control group pays for {quota:.1}"))
            .unwrap_or_default();
        let found = format!("{processors} to use{paid}, for {} workers", needs.workers);
        if needs.workers > processors {
            let remedy = "set comet.workers = 0: more workers than processors wait for each other";
            Finding::warning(CHECK, found, remedy)
        } else if quota.is_some_and(|quota| quota < 1.0) {
            let remedy =
                "give it a whole processor: with less it is stopped for tens of milliseconds in a burst";
            Finding::warning(CHECK, found, remedy)
        } else {
            Finding::ok(CHECK, found)
        }
    }
}

/// The words of a file in each control group of the process, from its own to the root. All of them count.
fn read(groups: &str, controller: &str, file: &str) -> Vec<String> {
    let texts = folders(groups, controller).into_iter().map(|folder| fs::read_to_string(folder.join(file)));
    texts.flatten().map(|text| text.trim().to_owned()).collect()
}

/// Where the groups of `/proc/PID/cgroup` have a controller's files: in the one tree of version 2, or in
/// the controller's own of version 1. In a container the path may be the host's; the root is there.
fn folders(groups: &str, controller: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let rows = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let of_row = |(controllers, path): (&str, &str)| {
        let tree = match controllers {
            "" => root.to_owned(),
            _ if controllers.split(',').any(|one| one == controller) => root.join(controllers),
            _ => return Vec::new(),
        };
        let group = Path::new(path.trim_start_matches('/'));
        group.ancestors().map(|group| tree.join(group)).collect()
    };
    rows.flat_map(of_row).collect()
}

/// Version 1 says "no limit" by a number that no machine has.
fn memory_limit(text: &str) -> Option<u64> {
    text.parse().ok().filter(|limit| *limit < 1 << 60)
}

/// `QUOTA PERIOD`, in microseconds; no quota is `max`, or -1 in version 1.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(["max", "9223372036854771712", "1048576"].map(memory_limit), [None, None, Some(1 << 20)]);
        assert_eq!(["max 100000", "-1 100000", "150000 100000"].map(quota), [None, None, Some(1.5)]);
    }

    #[test]
    fn control_groups() {
        let paths = |groups, controller| -> Vec<String> {
            folders(groups, controller).iter().map(|folder| folder.display().to_string()).collect()
        };
        assert_eq!(
            paths("0::/system.slice/anser.service\n", "memory"),
            ["/sys/fs/cgroup/system.slice/anser.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/"]
        );
        assert_eq!(
            paths("4:memory:/a\n1:cpu,cpuacct:/\n", "memory"),
            ["/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory/"]
        );
        assert_eq!(paths("4:memory:/a\n1:cpu,cpuacct:/\n", "cpu"), ["/sys/fs/cgroup/cpu,cpuacct/"]);
    }

    #[test]
    fn judgement() {
        const GB: u64 = 1 << 30;
        let needs = Needs { outbound_budget: 256 << 20, commands: 16 << 10, max_connections: 0, workers: 2 };
        let good = Resources { available: Some(8 * GB), limit: None, processors: 2, quota: None };
        let check = |resources: Resources, needs, expected: [(Level, &str); 2]| {
            let findings = resources.judge(needs);
            for (finding, (level, said)) in findings.iter().zip(expected) {
                assert_eq!(finding.level, level, "{finding:?}");
                assert!(finding.found.contains(said), "{finding:?}");
            }
        };
        let memory = (Level::Ok, "8.0 GiB available; at worst 512.0 MiB may wait");
        let processors = (Level::Ok, "2 to use, for 2 workers");
        check(good, needs, [memory, processors]);
        let small = Resources { limit: Some(400 << 20), ..good };
        let few = (Level::Warning, "400.0 MiB allowed by the control group");
        check(small, needs, [few, processors]);
        let many = Needs { max_connections: 1 << 20, ..needs };
        check(good, many, [(Level::Ok, "1.0 GiB may wait"), processors]);
        check(good, Needs { workers: 3, ..needs }, [memory, (Level::Warning, "for 3 workers")]);
        let paid = Resources { quota: Some(0.5), ..good };
        check(paid, needs, [memory, (Level::Warning, "pays for 0.5")]);
    }
}
