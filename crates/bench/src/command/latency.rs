//! `latency`: from the push API to the client, at a gentle rate.

use super::{cpu, delivery};
use crate::control::Transport;
use crate::lab::{Lab, Members, parties};
use crate::latency::Latency;
use crate::load::{self, Pace, Poster, Target};
use crate::stamp::KEY_STREAM;
use crate::statistics::Pairs;
use crate::usage::Usage;

/// Measures each size on each transport.
pub(crate) fn run(lab: &mut Lab) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        for size in lab.sizes(&[1, 1000]) {
            lab.report.section = match size {
                1 => format!("one client, {transport}"),
                _ => format!("room of {size}, {transport}"),
            };
            measure(lab, transport, size)?;
        }
    }
    Ok(())
}

fn measure(lab: &mut Lab, transport: Transport, size: u64) -> anyhow::Result<()> {
    let members = Members::of_one_room(size);
    let server = lab.server(&[])?;
    let mut fleet = lab.fleet(&server, transport, members)?;
    let mut floor = lab.floor(transport)?;
    let mut fleet_of_floor = lab.fleet_of_floor(&floor, transport, members)?;
    let (time, rate, body) = (lab.seconds(10), lab.rate(100.0), lab.body());
    let (target, stream) = match size {
        1 => (Target::Keys { first: 0, count: 1, step: 1 }, KEY_STREAM),
        _ => (Target::Rooms { count: 1, stream: 0 }, 0),
    };
    let mut poster = Poster::new(target, body);
    let mut floor_seq = 0;
    let floor_parties = parties(&[floor.pid()], [&fleet_of_floor]);
    let server_parties = parties(server.pids(), [&fleet]);

    let (mut median, mut p99, mut cost) = (Pairs::default(), Pairs::default(), Pairs::default());
    let (mut all, mut all_of_floor) = (Latency::default(), Latency::default());
    let mut usage: Option<Usage> = None;
    let mut expected = 0;
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
        let posted = load::run(server.http, &mut [(&mut poster, Pace::Rate(rate))], time)?;
        fleet.drain(posted[0].accepted * size)?;
        let server_usage = before.until_now();
        let haul = fleet.report()?;
        expected += posted[0].accepted * size;
        sum.absorb(&haul);
        let b = haul.into_latency();

        let quantile = |latency: &Latency, q| latency.total().value_at_quantile(q) as f64 / 1e6;
        median.push(quantile(&a, 0.5), quantile(&b, 0.5));
        p99.push(quantile(&a, 0.99), quantile(&b, 0.99));
        if let (Some(a), Some(b)) = (floor_usage.per(sent.messages), server_usage.per(posted[0].accepted)) {
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
    delivery(report, expected, &sum);
    cpu(report, &usage.unwrap_or_default());
    Ok(())
}
