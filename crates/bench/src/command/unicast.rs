//! `unicast`: pushes to single keys, alone and beside a busy room.

use std::time::Duration;

use super::room::{room_posters, saturate};
use super::{cpu, delivery, posted};
use crate::control::{Appetite, Transport};
use crate::lab::{Lab, Members, parties};
use crate::load::{self, Pace, Posted, Poster, Target};

/// Connections of the separate process, in no room.
const OUTSIDERS: u64 = 100;

/// Number of the first of these, above every member.
const FIRST_OUTSIDER: u64 = 1 << 24;

/// Length of the run that finds the room's saturation.
const SEARCH: Duration = Duration::from_secs(10);

/// Measures each size on each transport.
pub(crate) fn run(lab: &mut Lab, share: f64) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        for size in lab.sizes(&[18_000]) {
            measure(lab, transport, size, share)?;
        }
    }
    Ok(())
}

fn measure(lab: &mut Lab, transport: Transport, size: u64, share: f64) -> anyhow::Result<()> {
    let server = lab.server(&[])?;
    let mut fleet = lab.fleet(&server, transport, Members::of_one_room(size))?;
    let outsiders =
        Members { first: FIRST_OUTSIDER, count: OUTSIDERS, rooms: 0, user: None, appetite: Appetite::All };
    let mut outside = lab.fleet(&server, transport, outsiders)?;
    let parties = parties(server.pids(), [&fleet, &outside]);
    let (time, rate, body) = (lab.seconds(10), lab.rate(100.0), lab.body());

    // Each key belongs to one poster, in this run and the next.
    let posters = lab.options.posters.min(size);
    let keys = (0..posters).map(|first| Target::Keys { first, count: size - first, step: posters });
    let mut to_keys: Vec<Poster> = keys.map(|target| Poster::new(target, body)).collect();
    let mut to_outsiders =
        Poster::new(Target::Keys { first: FIRST_OUTSIDER, count: OUTSIDERS, step: 1 }, body);

    lab.report.section = format!("unicast, {size} connections, {transport}");
    lab.progress.phase(&format!("{}: as fast as accepted", lab.report.section));
    let before = parties.snapshot();
    let sum = saturate(&server, &mut to_keys, time)?;
    fleet.drain(sum.accepted)?;
    let usage = before.until_now();
    let haul = fleet.report()?;
    posted(&mut lab.report, &sum);
    delivery(&mut lab.report, sum.accepted, &haul);
    lab.report.latency("saturated, latency", &haul.key.total());
    lab.report.row("CPU for a push", usage.per(sum.accepted), "µs");
    cpu(&mut lab.report, &usage);

    lab.report.section = format!("unicast at {rate}/s, {size} idle connections, {transport}");
    lab.progress.phase(&lab.report.section);
    let mut paced = [(&mut to_keys[0], Pace::Rate(rate)), (&mut to_outsiders, Pace::Rate(rate))];
    let alone = load::run(server.http, &mut paced, time)?;
    fleet.drain(alone[0].accepted)?;
    outside.drain(alone[1].accepted)?;
    let (members, others) = (fleet.report()?, outside.report()?);
    lab.report.latency("to members of the room", &members.key.total());
    lab.report.latency("to connections in no room", &others.key.total());

    lab.progress.phase(&format!("looking for the saturation of a room of {size}"));
    let mut to_room = room_posters(lab);
    let most = saturate(&server, &mut to_room, SEARCH)?;
    fleet.drain(most.accepted * size)?;
    fleet.report()?;
    let room_rate = most.accepted as f64 / most.span * share;

    lab.report.section = format!("unicast at {rate}/s beside a room of {size} at {share}, {transport}");
    lab.progress.phase(&lab.report.section);
    let each = Pace::Rate(room_rate / to_room.len() as f64);
    let mut all = vec![(&mut to_keys[0], Pace::Rate(rate)), (&mut to_outsiders, Pace::Rate(rate))];
    all.extend(to_room.iter_mut().map(|poster| (poster, each)));
    let before = parties.snapshot();
    let busy = load::run(server.http, &mut all, time)?;
    let to_all = Posted::sum(&busy[2..]);
    let expected = busy[0].accepted + to_all.accepted * size;
    fleet.drain(expected)?;
    outside.drain(busy[1].accepted)?;
    let usage = before.until_now();
    let (members, others) = (fleet.report()?, outside.report()?);
    let report = &mut lab.report;
    report
        .row("the room's share", to_all.accepted as f64 / to_all.span, "pushes/s")
        .note(format!("{share} of {:.1} accepted/s", most.accepted as f64 / most.span));
    report.row("delivered to the room", room_deliveries(&members), "messages/s");
    report.latency("to members of the room", &members.key.total());
    report.latency("to connections in no room", &others.key.total());
    report.latency("messages of the room", &members.room.total());
    delivery(report, expected, &members);
    report.row(
        "lost on the way to connections in no room",
        busy[1].accepted as f64 - others.to_keys as f64,
        "messages",
    );
    cpu(report, &usage);
    Ok(())
}

fn room_deliveries(haul: &crate::fleet::Haul) -> f64 {
    (haul.count.received - haul.to_keys) as f64 / haul.span()
}
