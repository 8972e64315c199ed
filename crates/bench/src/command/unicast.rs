//! `unicast`: pushes to single keys, alone and beside a busy room.

use std::time::Duration;

use super::room::{room_posters, saturate};
use super::{cpu, delivery, posted};
use crate::control::{Appetite, Transport};
use crate::fleet::Haul;
use crate::lab::{Lab, Members, parties};
use crate::load::{self, Pace, Posted, Poster, Target};

/// Connections of a process of their own, in no room.
const OUTSIDERS: u64 = 100;

/// Members of the room that have a process of their own: what comes to them does not wait until somebody
/// has read the messages of thousands of others first.
const INSIDERS: u64 = 100;

/// Number of the first outsider, above every member of the fleet.
const FIRST_OUTSIDER: u64 = 1 << 24;

/// Number of the first insider, above those.
const FIRST_INSIDER: u64 = 1 << 25;

/// Whose latency is told, in the order of the fleets.
const WHOM: [&str; 3] =
    ["to members of the room", "to members with a process of their own", "to connections in no room"];

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
    let apart = |first, count, rooms| Members { first, count, rooms, user: None, appetite: Appetite::All };
    let crowd = size.saturating_sub(INSIDERS).max(1);
    let mut fleet = lab.fleet(&server, transport, apart(0, crowd, 1))?;
    let mut inside = lab.fleet(&server, transport, apart(FIRST_INSIDER, INSIDERS, 1))?;
    let mut outside = lab.fleet(&server, transport, apart(FIRST_OUTSIDER, OUTSIDERS, 0))?;
    let parties = parties(server.pids(), [&fleet, &inside, &outside]);
    let (time, rate, body) = (lab.seconds(10), lab.rate(100.0), lab.body());

    // Each key belongs to one poster, in this run and the next.
    let posters = lab.options.posters.min(crowd);
    let keys = (0..posters).map(|first| Target::Keys { first, count: crowd - first, step: posters });
    let mut to_keys: Vec<Poster> = keys.map(|target| Poster::new(target, body)).collect();
    let one_by_one = |first, count| Poster::new(Target::Keys { first, count, step: 1 }, body);
    let mut to_insiders = one_by_one(FIRST_INSIDER, INSIDERS);
    let mut to_outsiders = one_by_one(FIRST_OUTSIDER, OUTSIDERS);

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
    let mut fleets = [&mut fleet, &mut inside, &mut outside];
    let paced = [&mut to_keys[0], &mut to_insiders, &mut to_outsiders];
    let mut paced = paced.map(|poster| (poster, Pace::Rate(rate)));
    let alone = load::run(server.http, &mut paced, time)?;
    for ((fleet, posted), whom) in fleets.iter_mut().zip(&alone).zip(WHOM) {
        fleet.drain(posted.accepted)?;
        lab.report.latency(whom, &fleet.report()?.key.total());
    }

    lab.progress.phase(&format!("looking for the saturation of a room of {size}"));
    let mut to_room = room_posters(lab);
    let most = saturate(&server, &mut to_room, SEARCH)?;
    fleets[0].drain(most.accepted * crowd)?;
    fleets[1].drain(most.accepted * INSIDERS)?;
    for fleet in &mut fleets {
        fleet.report()?;
    }
    let room_rate = most.accepted as f64 / most.span * share;

    lab.report.section = format!("unicast at {rate}/s beside a room of {size} at {share}, {transport}");
    lab.progress.phase(&lab.report.section);
    let each = Pace::Rate(room_rate / to_room.len() as f64);
    let one_by_one = [&mut to_keys[0], &mut to_insiders, &mut to_outsiders];
    let mut all: Vec<_> = one_by_one.map(|poster| (poster, Pace::Rate(rate))).into();
    all.extend(to_room.iter_mut().map(|poster| (poster, each)));
    let before = parties.snapshot();
    let busy = load::run(server.http, &mut all, time)?;
    let to_all = Posted::sum(&busy[3..]);
    let expected: Vec<u64> = [crowd, INSIDERS, 0]
        .iter()
        .zip(&busy)
        .map(|(members, keys)| keys.accepted + to_all.accepted * members)
        .collect();
    for (fleet, expected) in fleets.iter_mut().zip(&expected) {
        fleet.drain(*expected)?;
    }
    let usage = before.until_now();
    let report = &mut lab.report;
    report
        .row("the room's share", to_all.accepted as f64 / to_all.span, "pushes/s")
        .note(format!("{share} of {:.1} accepted/s", most.accepted as f64 / most.span));
    let mut all = Haul::default();
    for ((fleet, expected), whom) in fleets.iter_mut().zip(&expected).zip(WHOM) {
        let haul = fleet.report()?;
        report.latency(whom, &haul.key.total());
        let lost = *expected as f64 - haul.count.received as f64;
        report.row("lost of these and of the room there", lost, "messages");
        all.absorb(&haul);
    }
    report.latency("messages of the room", &all.room.total());
    report.row("delivered to the room", room_deliveries(&all), "messages/s");
    delivery(report, expected.iter().sum(), &all);
    cpu(report, &usage);
    Ok(())
}

fn room_deliveries(haul: &Haul) -> f64 {
    (haul.count.received - haul.to_keys) as f64 / haul.span()
}
