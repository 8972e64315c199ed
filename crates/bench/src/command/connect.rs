//! `connect`: new connections a second, and what they do to pushes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{cpu, delivery};
use crate::control::{Appetite, Churn, Churned, Transport};
use crate::fleet::{Fleet, Haul};
use crate::lab::{Lab, Members, parties};
use crate::latency::Latency;
use crate::load::{self, Pace, Poster, Target};
use crate::procfs;
use crate::server::Server;
use crate::statistics::{Pairs, Spread};
use crate::usage::Usage;

/// Number of the first newcomer, above every steady connection.
const FIRST_VISITOR: u64 = 1 << 32;

/// Most silent ones at once: they stay for the server's deadline, and a process may open 20 000 files.
const SILENT: usize = 15_000;

/// Who comes and goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomers {
    /// Percent that say nothing.
    pub(crate) silent: u64,
    /// How many are on their way at once.
    pub(crate) visitors: usize,
    /// Most that begin in a second.
    pub(crate) arrivals: Option<f64>,
    /// Whether they close with RST.
    pub(crate) reset: bool,
}

/// Measures each transport.
pub(crate) fn run(lab: &mut Lab, newcomers: Newcomers) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        for size in lab.sizes(&[100]) {
            lab.report.section = format!("newcomers beside {size} connections, {transport}");
            measure(lab, transport, size, newcomers)?;
        }
    }
    Ok(())
}

/// What all turns with newcomers have done.
#[derive(Debug, Default)]
struct Sum {
    rates: Vec<f64>,
    completed: u64,
    silent: u64,
    silent_cut: u64,
    silent_skipped: u64,
    time_wait: u64,
    errors: BTreeMap<String, u64>,
    handshake: Latency,
    cut_after: Latency,
    usage: Option<Usage>,
}

fn measure(lab: &mut Lab, transport: Transport, size: u64, newcomers: Newcomers) -> anyhow::Result<()> {
    let Newcomers { silent, visitors, arrivals, reset } = newcomers;
    let server = lab.server(&[])?;
    let steady = Members { first: 0, count: size, rooms: 0, user: None, appetite: Appetite::All };
    let mut fleet = lab.fleet(&server, transport, steady)?;
    let mut poster = Poster::new(Target::Keys { first: 0, count: size, step: 1 }, lab.body());
    let (time, rate) = (lab.seconds(60), lab.rate(100.0));
    let mut plan = Churn {
        address: server.address(transport)?,
        transport,
        first: FIRST_VISITOR,
        window: visitors,
        rate: arrivals,
        silent_every: 100_u64.checked_div(silent).unwrap_or(0),
        silent_limit: SILENT,
        millis: time.as_millis() as u64,
        reset,
    };
    let (mut p99, mut sum) = (Pairs::default(), Sum::default());
    let (mut expected, mut hauls) = (0, Haul::default());
    for pair in 1..=lab.pairs(1) {
        let name = format!("{}: pair {pair} of {}", lab.report.section, lab.pairs(1));
        lab.progress.phase(&format!("{name}, pushes alone for {} s", time.as_secs()));
        let mut push = |fleet: &mut Fleet| -> anyhow::Result<f64> {
            let posted = load::run(server.http, &mut [(&mut poster, Pace::Rate(rate))], time)?;
            fleet.drain(posted[0].accepted)?;
            let haul = fleet.report()?;
            expected += posted[0].accepted;
            hauls.absorb(&haul);
            Ok(haul.key.total().value_at_quantile(0.99) as f64 / 1e6)
        };
        let alone = push(&mut fleet)?;
        lab.progress.phase(&format!("{name}, with newcomers for {} s", time.as_secs()));
        let mut crowd = lab.visitors()?;
        let snapshot = parties(server.pids(), [&fleet, &crowd]).snapshot();
        crowd.churn(&plan)?;
        let beside = push(&mut fleet)?;
        let churned = crowd.churned(Duration::from_secs(30))?;
        let usage = snapshot.until_now();
        sum.usage = Some(sum.usage.map_or(usage, |sum| sum.plus(usage)));
        sum.add(churned);
        p99.push(alone, beside);
        // Numbers, and so keys, are never used again.
        plan.first += 1 << 33;
    }
    tell(lab, &server, &sum, &p99);
    delivery(&mut lab.report, expected, &hauls);
    Ok(())
}

impl Sum {
    fn add(&mut self, churned: Vec<Churned>) {
        let mut rate = 0.0;
        for process in churned {
            rate += process.completed as f64 * 1000.0 / process.millis as f64;
            self.completed += process.completed;
            self.silent += process.silent;
            self.silent_cut += process.silent_cut;
            self.silent_skipped += process.silent_skipped;
            self.handshake.add(&process.handshake);
            self.cut_after.add(&process.cut_after);
            for (reason, count) in process.errors {
                *self.errors.entry(reason).or_default() += count;
            }
        }
        self.rates.push(rate);
        self.time_wait = self.time_wait.max(procfs::sockets().time_wait);
    }
}

fn tell(lab: &mut Lab, server: &Server, sum: &Sum, p99: &Pairs) {
    let report = &mut lab.report;
    report.spread("authenticated", Spread::of(sum.rates.iter().copied()), "connections/s");
    let reasons: Vec<String> = sum.errors.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    report
        .row("refused or failed", sum.errors.values().sum::<u64>() as f64, "connections")
        .note(reasons.join(", "));
    report.latency("connect to reply", &sum.handshake.total());
    let silent =
        format!("of {} that had ended, {} not opened: too many at once", sum.silent, sum.silent_skipped);
    report.row("silent ones cut by the server", sum.silent_cut as f64, "connections").note(silent);
    let cut = sum.cut_after.total();
    report.row("silent ones cut after, p50", seconds(&cut, 0.5), "s");
    report.row("silent ones cut after, max", seconds(&cut, 1.0), "s");
    let usage = sum.usage.unwrap_or_default();
    report.row("CPU for a connection", usage.per(sum.completed), "µs");
    report.row("sockets in TIME_WAIT at the end", sum.time_wait as f64, "sockets");
    report.pairs("p99 of pushes beside them", p99, "ms", "without");
    let memory = server.memory().map(|memory| memory.resident as f64 / 1e6);
    report.row("resident memory of the server at the end", memory, "MB");
    cpu(report, &usage);
}

fn seconds(histogram: &hdrhistogram::Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e9)
}
