//! `accept`: how many durable pushes the API accepts.

use anyhow::ensure;

use super::{cpu, cpu_by_role, delivery, per_push, quantile};
use crate::callers;
use crate::cli::To;
use crate::control::{Appetite, Transport};
use crate::disk::DiskFloor;
use crate::fleet::Haul;
use crate::lab::{Lab, Members, parties};
use crate::load::{Pace, Posted, Poster};
use crate::statistics::Pairs;
use crate::usage::{ByRole, Usage};

/// Bytes of a body.
pub(super) const BODY: u64 = 200;

/// Members of the room, when all pushes go to one: every one of them gets each.
const MEMBERS: u64 = 8;

/// Measures each size on each transport.
pub(crate) fn run(lab: &mut Lab, callers: u64, to: To) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        let default = if to == To::Keys { callers } else { MEMBERS };
        for size in lab.sizes(&[default]) {
            ensure!(
                to == To::Room || size >= callers,
                "each of {callers} callers needs a key of its own: --connections {callers} at least"
            );
            let roles = lab.roles();
            lab.report.section =
                format!("{callers} callers to {}, {size} connections, {transport}{roles}", to.name());
            measure(lab, transport, callers, to, size)?;
        }
    }
    Ok(())
}

/// What all turns of the server have done.
#[derive(Debug, Default)]
struct Sum {
    posted: Posted,
    syncs: Option<f64>,
    usage: Option<Usage>,
    haul: Haul,
    by_role: Vec<(String, f64)>,
}

fn measure(lab: &mut Lab, transport: Transport, callers: u64, to: To, size: u64) -> anyhow::Result<()> {
    let server = lab.server(&[])?;
    let rooms = u64::from(to == To::Room);
    let members = Members { first: 0, count: size, rooms, user: None, appetite: Appetite::All };
    let receivers = if to == To::Room { size } else { 1 };
    let mut fleet = lab.fleet(&server, transport, members)?;
    let body = lab.body_or(BODY);
    let mut posters = Poster::for_callers(to, callers, size, body);
    let mut floor = DiskFloor::new(&lab.folder(), body)?;
    let parties = parties(server.pids(), [&fleet]);
    let by_role = ByRole::now(&server);
    let time = lab.seconds(10);

    let (mut singly, mut grouped) = (Pairs::default(), Pairs::default());
    let (mut p50, mut p99) = (Pairs::default(), Pairs::default());
    let mut sum = Sum::default();
    for pair in 1..=lab.pairs(5) {
        let name = format!("{}: pair {pair} of {}", lab.report.section, lab.pairs(5));
        lab.progress.phase(&format!("{name}, fdatasync for each record"));
        let one = floor.full(1, time)?;
        lab.progress.phase(&format!("{name}, fdatasync for {callers} records"));
        let group = floor.full(callers as usize, time)?;
        lab.progress.phase(&format!("{name}, the server"));
        let before = parties.snapshot();
        let syncs_before = server.scrape()?;
        let posted = callers::run(server.http, &mut posters, Pace::Full, time)?;
        let syncs = server.scrape()?.since(&syncs_before, "anser_store_sync_seconds_count");
        fleet.drain(posted.accepted * receivers)?;
        let usage = before.until_now();

        let rate = posted.accepted as f64 / posted.span;
        singly.push(one.records as f64 / one.span, rate);
        grouped.push(group.records as f64 / group.span, rate);
        for (pairs, q) in [(&mut p50, 0.5), (&mut p99, 0.99)] {
            pairs.push(quantile(&group.took, q), quantile(&posted.answered, q));
        }
        sum.usage = Some(sum.usage.map_or(usage, |sum| sum.plus(usage)));
        sum.syncs = syncs.map(|syncs| sum.syncs.unwrap_or(0.0) + syncs);
        sum.posted = Posted::sum([&sum.posted, &posted]);
        sum.haul.absorb(&fleet.report()?);
    }
    sum.by_role = by_role.until_now();

    let report = &mut lab.report;
    report.pairs("accepted", &grouped, "pushes/s", "as many records a sync");
    report.pairs("accepted", &singly, "pushes/s", "one record a sync");
    report.pairs("p50 of the API's 200", &p50, "ms", "as many records a sync");
    report.pairs("p99 of the API's 200", &p99, "ms", "as many records a sync");
    told(lab, &sum, receivers);
    Ok(())
}

fn told(lab: &mut Lab, sum: &Sum, receivers: u64) {
    let report = &mut lab.report;
    let posted = &sum.posted;
    report.latency("the API's 200, all turns", &posted.answered.total());
    let usage = sum.usage.unwrap_or_default();
    per_push(report, "fdatasync for a push", sum.syncs, posted.accepted);
    report.row("fdatasync of the server", sum.syncs.map(|syncs| syncs / usage.wall), "/s");
    report.row("refused, to come back later", posted.refused as f64, "answers");
    if posted.failed > 0 {
        let words = posted.failure.clone().unwrap_or_default();
        report.row("failed, and tried again", posted.failed as f64, "answers").note(words);
    }
    report.row("CPU for a push", usage.per(posted.accepted), "µs");
    cpu_by_role(report, &sum.by_role, posted.accepted);
    delivery(report, posted.accepted * receivers, &sum.haul);
    cpu(report, &usage);
}
