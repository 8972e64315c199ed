//! `lone`: what durability costs a caller that is alone.

use super::accept::BODY;
use super::{cpu, cpu_by_role, delivery, per_push, quantile};
use crate::control::{Appetite, Transport};
use crate::disk::DiskFloor;
use crate::fleet::Haul;
use crate::lab::{Lab, Members, parties};
use crate::latency::Latency;
use crate::load::{self, Pace, Poster, Target};
use crate::statistics::Pairs;
use crate::usage::{ByRole, Usage};

/// Measures each transport.
pub(crate) fn run(lab: &mut Lab) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        lab.report.section = format!("one caller at {}/s, {transport}{}", lab.rate(20.0), lab.roles());
        measure(lab, transport)?;
    }
    Ok(())
}

fn measure(lab: &mut Lab, transport: Transport) -> anyhow::Result<()> {
    let server = lab.server(&[])?;
    let members = Members { first: 0, count: 1, rooms: 0, user: None, appetite: Appetite::All };
    let mut fleet = lab.fleet(&server, transport, members)?;
    let (time, rate, body) = (lab.seconds(10), lab.rate(20.0), lab.body_or(BODY));
    let mut poster = Poster::new(Target::Keys { first: 0, count: 1, step: 1 }, body);
    let mut floor = DiskFloor::new(&lab.folder(), body)?;
    let parties = parties(server.pids(), [&fleet]);
    let by_role = ByRole::now(&server);

    let (mut p50, mut p99) = (Pairs::default(), Pairs::default());
    let (mut all, mut all_of_floor) = (Latency::default(), Latency::default());
    let (mut haul, mut accepted, mut syncs) = (Haul::default(), 0, None);
    let (mut refused, mut failed) = (0, 0);
    let mut usage: Option<Usage> = None;
    for pair in 1..=lab.pairs(5) {
        lab.progress.phase(&format!("{}: pair {pair} of {}", lab.report.section, lab.pairs(5)));
        let synced = floor.pace(rate, time)?;
        let before = parties.snapshot();
        let syncs_before = server.scrape()?;
        let posted = load::run(server.http, &mut [(&mut poster, Pace::Rate(rate))], time)?.remove(0);
        let more = server.scrape()?.since(&syncs_before, "anser_store_sync_seconds_count");
        syncs = more.map(|more| syncs.unwrap_or(0.0) + more);
        fleet.drain(posted.accepted)?;
        let turn = before.until_now();
        usage = Some(usage.map_or(turn, |usage| usage.plus(turn)));
        for (pairs, q) in [(&mut p50, 0.5), (&mut p99, 0.99)] {
            pairs.push(quantile(&synced.took, q), quantile(&posted.answered, q));
        }
        all.merge(&posted.answered);
        all_of_floor.merge(&synced.took);
        accepted += posted.accepted;
        refused += posted.refused;
        failed += posted.failed;
        haul.absorb(&fleet.report()?);
    }

    let report = &mut lab.report;
    for (name, pairs) in [("p50 of the API's 200", &p50), ("p99 of the API's 200", &p99)] {
        report.pairs(name, pairs, "ms", "fdatasync");
        report.spread(&format!("{name}, less the floor's"), pairs.difference(), "ms");
    }
    report.latency("the API's 200, all turns", &all.total());
    report.latency("fdatasync, all turns", &all_of_floor.total());
    per_push(report, "fdatasync for a push", syncs, accepted);
    report.row("refused or failed, and tried again", (refused + failed) as f64, "answers");
    let usage = usage.unwrap_or_default();
    report.row("CPU for a push", usage.per(accepted), "µs");
    cpu_by_role(report, &by_role.until_now(), accepted);
    delivery(report, accepted, &haul);
    cpu(report, &usage);
    Ok(())
}
