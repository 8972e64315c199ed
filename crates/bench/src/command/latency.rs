//! `latency`: from the push API to the client, at a gentle rate.

use super::{cpu, cpu_by_role, delivery, quantile};
use crate::cli::To;
use crate::control::Transport;
use crate::lab::{Lab, Members, parties};
use crate::latency::Latency;
use crate::load::{self, Pace, Posted, Poster};
use crate::stamp::KEY_STREAM;
use crate::statistics::Pairs;
use crate::usage::{ByRole, Usage};

/// Pushes a second of one poster, above which there are several: each waits for the answer to one before it
/// goes on to the next, and an answer may take as long as the disk.
const EACH: f64 = 400.0;

/// Most posters.
const POSTERS: u64 = 64;

/// Measures each size on each transport.
pub(crate) fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let rate = lab.rate(100.0);
    let posters = if rate > EACH { ((rate / EACH * 4.0) as u64).min(POSTERS) } else { 1 };
    for transport in lab.options.transport.clone() {
        for size in lab.sizes(&[1, 1000]) {
            let whom = match (size, posters) {
                (1, 1) => "one client".to_owned(),
                (1, _) => format!("{posters} clients"),
                _ => format!("room of {size}"),
            };
            lab.report.section = format!("{whom} at {rate}/s, {transport}{}", lab.roles());
            measure(lab, transport, size, posters)?;
        }
    }
    Ok(())
}

fn measure(lab: &mut Lab, transport: Transport, size: u64, posters: u64) -> anyhow::Result<()> {
    let members = Members::of_one_room(size);
    // Each poster has a key of its own, for an order of its own; the floor sends all to one socket.
    let (to, stream) = if size == 1 { (To::Keys, KEY_STREAM) } else { (To::Room, 0) };
    let connections = if to == To::Keys { posters } else { size };
    let server = lab.server(&[])?;
    let mut fleet = lab.fleet(&server, transport, Members::of_one_room(connections))?;
    let mut floor = lab.floor(transport)?;
    let mut fleet_of_floor = lab.fleet_of_floor(&floor, transport, members)?;
    let (time, rate, body) = (lab.seconds(10), lab.rate(100.0), lab.body());
    let mut all_posters = Poster::for_callers(to, posters, connections, body);
    let each = Pace::Rate(rate / posters as f64);
    let by_role = ByRole::now(&server);
    let mut floor_seq = 0;
    let floor_parties = parties(&[floor.pid()], [&fleet_of_floor]);
    let server_parties = parties(server.pids(), [&fleet]);

    let (mut median, mut p99, mut cost) = (Pairs::default(), Pairs::default(), Pairs::default());
    let (mut all, mut all_of_floor) = (Latency::default(), Latency::default());
    let mut usage: Option<Usage> = None;
    let (mut pushes, mut refused, mut posted_for) = (0, 0, 0.0);
    let mut sum = crate::fleet::Haul::default();
    for pair in 1..=lab.pairs(5) {
        lab.progress.phase(&format!("{}: pair {pair} of {}", lab.report.section, lab.pairs(5)));
        let before = floor_parties.snapshot();
        let sent = floor.pace(body, stream, floor_seq, rate, time)?;
        floor_seq += sent.messages;
        fleet_of_floor.drain(sent.messages * size)?;
        let floor_usage = before.until_now();
        let a = fleet_of_floor.report()?.into_latency();

        let before = server_parties.snapshot();
        let mut paced: Vec<_> = all_posters.iter_mut().map(|poster| (poster, each)).collect();
        let posted = Posted::sum(&load::run(server.http, &mut paced, time)?);
        fleet.drain(posted.accepted * size)?;
        let server_usage = before.until_now();
        let haul = fleet.report()?;
        pushes += posted.accepted;
        posted_for += posted.span;
        refused += posted.refused + posted.failed;
        sum.absorb(&haul);
        let b = haul.into_latency();

        median.push(quantile(&a, 0.5), quantile(&b, 0.5));
        p99.push(quantile(&a, 0.99), quantile(&b, 0.99));
        if let (Some(a), Some(b)) = (floor_usage.per(sent.messages), server_usage.per(posted.accepted)) {
            cost.push(a, b);
        }
        usage = Some(usage.map_or(server_usage, |usage| usage.plus(server_usage)));
        all.merge(&b);
        all_of_floor.merge(&a);
    }

    let report = &mut lab.report;
    report.pairs("p50 of a turn", &median, "ms", "floor");
    report.pairs("p99 of a turn", &p99, "ms", "floor");
    report.latency("all turns", &all.total());
    report.latency("all turns, floor", &all_of_floor.total());
    report.pairs("CPU for a push", &cost, "µs", "floor");
    cpu_by_role(report, &by_role.until_now(), pushes);
    let usage = usage.unwrap_or_default();
    report.row("accepted", pushes as f64 / posted_for, "pushes/s");
    report.row("refused or failed, and tried again", refused as f64, "answers");
    delivery(report, pushes * size, &sum);
    cpu(report, &usage);
    Ok(())
}
