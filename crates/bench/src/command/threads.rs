//! `threads`: how many threads the server has, whatever is pushed.

use super::{cpu, delivery};
use crate::callers;
use crate::cli::To;
use crate::control::{Appetite, Transport};
use crate::lab::{Lab, Members, parties};
use crate::load::{Manner, Pace, Poster};
use crate::sampler::{Peak, Sampler};

/// Measures each size on each transport.
pub(crate) fn run(lab: &mut Lab, callers: u64, rates: &[f64]) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        for size in lab.sizes(&[512]) {
            measure(lab, transport, size, callers.min(size), rates)?;
        }
    }
    Ok(())
}

fn measure(
    lab: &mut Lab,
    transport: Transport,
    size: u64,
    callers: u64,
    rates: &[f64],
) -> anyhow::Result<()> {
    let server = lab.server(&[])?;
    let members = Members { first: 0, count: size, rooms: 0, user: None, appetite: Appetite::All };
    let mut fleet = lab.fleet(&server, transport, members)?;
    let mut posters = Poster::for_callers(To::Keys, callers, size, lab.body());
    for poster in &mut posters {
        poster.manner = Manner::Impatient;
    }
    let time = lab.seconds(10);
    let head = format!("threads, {size} connections, {callers} callers, {transport}{}", lab.roles());
    lab.report.section.clone_from(&head);
    let rest = Peak::now(server.pids()).threads;
    lab.report
        .row("threads of the server, nothing pushed", rest as f64, "threads")
        .note("of all its processes; how many tasks its runtimes have no metric tells");
    for rate in rates {
        lab.report.section = format!("{head}, {rate}/s offered");
        lab.progress.phase(&lab.report.section);
        let before = parties(server.pids(), [&fleet]).snapshot();
        let sampler = Sampler::start(server.pids());
        let posted = callers::run(server.http, &mut posters, Pace::Rate(*rate), time)?;
        let peak = sampler.finish()?;
        fleet.drain(posted.accepted)?;
        let usage = before.until_now();
        let haul = fleet.report()?;
        let report = &mut lab.report;
        let roles = server.pids_by_role();
        let each = roles.iter().map(|(role, pids)| format!("{} {role}", Peak::now(pids).threads));
        report
            .row("threads of the server, at most", peak.threads as f64, "threads")
            .note(format!("at the end: {}", each.collect::<Vec<_>>().join(", ")));
        report
            .row("offered", posted.offered() as f64 / posted.span, "pushes/s")
            .note(format!("of {rate}, as many as the machine could"));
        report.row("accepted", posted.accepted as f64 / posted.span, "pushes/s");
        report.row("refused", posted.refused as f64 / posted.span, "pushes/s");
        let words = posted.failure.clone().unwrap_or_default();
        report.row("failed", posted.failed as f64, "pushes").note(words);
        delivery(report, posted.accepted, &haul);
        cpu(report, &usage);
    }
    Ok(())
}
