//! `idle`: what a connection costs that does nothing.

use std::time::Duration;

use anyhow::{Context, bail};

use super::cpu;
use crate::clock;
use crate::control::{Appetite, Transport};
use crate::fleet::Fleet;
use crate::http::Client;
use crate::lab::{Lab, Members, parties};
use crate::load::{Posted, Poster, Target};
use crate::procfs;
use crate::server::Server;
use crate::statistics::Spread;

/// How often the server is started for the time that it takes.
const STARTS: usize = 5;

/// What each connection has got when memory is read first.
const PUSHES: u64 = 100;
const HEARTBEATS: u32 = 3;

/// Over how long a round of heartbeats is spread.
const ROUND: Duration = Duration::from_secs(2);

/// What each connection gets in the burst.
const BURST: u64 = 1000;

/// Time for the server to put away what it has used, before memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures the empty server, then each transport.
pub(crate) fn run(lab: &mut Lab, rooms: u64, quiet: u64) -> anyhow::Result<()> {
    let [small, large] = lab.sizes(&[2000, 18_000])[..] else {
        bail!("a slope needs two sizes: --connections 2000,18000");
    };
    if lab.options.target.is_none() {
        empty(lab)?;
    }
    for transport in lab.options.transport.clone() {
        let low = measure(lab, transport, small, rooms, quiet, false)?;
        let high = measure(lab, transport, large, rooms, quiet, true)?;
        lab.report.section = transport.to_string();
        slopes(lab, large.saturating_sub(small), &low, &high);
    }
    Ok(())
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    resident: u64,
    anonymous: u64,
    kernel: u64,
}

impl Reading {
    fn now(server: &Server) -> anyhow::Result<Self> {
        let memory = server.memory().context(
            "the server's memory cannot be read: name its processes with --target ...,pid=PID, and run as \
             its user",
        )?;
        let kernel = procfs::sockets().buffers;
        Ok(Self { resident: memory.resident, anonymous: memory.anonymous, kernel })
    }
}

/// The server alone.
fn empty(lab: &mut Lab) -> anyhow::Result<()> {
    let (mut ready, mut resident, mut anonymous) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let server = lab.server(&[])?;
        ready.extend(server.ready_in.map(|time| time.as_secs_f64() * 1e3));
        clock::sleep(Duration::from_secs(1));
        let memory = Reading::now(&server)?;
        resident.push(memory.resident as f64 / 1e6);
        anonymous.push(memory.anonymous as f64 / 1e6);
    }
    lab.report.section = "no connection".into();
    lab.report.spread("from exec to ready", Spread::of(ready), "ms");
    lab.report.spread("resident memory", Spread::of(resident), "MB");
    lab.report.spread("of it heap and stacks", Spread::of(anonymous), "MB");
    Ok(())
}

/// Memory of a server with `size` connections: after some use, and after a burst and quiet. With
/// `busy` also the CPU of heartbeats.
fn measure(
    lab: &mut Lab,
    transport: Transport,
    size: u64,
    rooms: u64,
    quiet: u64,
    busy: bool,
) -> anyhow::Result<[Reading; 2]> {
    lab.report.section = format!("{size} connections, {transport}");
    let server = lab.server(&[])?;
    let members = Members { first: 0, count: size, rooms, user: None, appetite: Appetite::All };
    let mut fleet = lab.fleet(&server, transport, members)?;
    let mut api = Client::connect(server.http)?;
    let mut poster = Poster::new(Target::Rooms { count: rooms, stream: 0 }, lab.body());

    lab.progress
        .phase(&format!("{}: {PUSHES} pushes and {HEARTBEATS} heartbeats for each", lab.report.section));
    push(&mut poster, &mut api, &mut fleet, PUSHES, rooms)?;
    for _ in 0..HEARTBEATS {
        fleet.beat(ROUND)?;
    }
    clock::sleep(SETTLE);
    let used = Reading::now(&server)?;
    lab.report.row("resident memory", used.resident as f64 / 1e6, "MB");

    lab.progress.phase(&format!("{}: a burst of {BURST} pushes for each, and quiet", lab.report.section));
    push(&mut poster, &mut api, &mut fleet, BURST, rooms)?;
    lab.report.row(
        "resident memory right after the burst",
        Reading::now(&server)?.resident as f64 / 1e6,
        "MB",
    );
    clock::sleep(Duration::from_secs(quiet));
    let rested = Reading::now(&server)?;
    lab.report.row("resident memory after the burst and quiet", rested.resident as f64 / 1e6, "MB");

    if busy {
        let time = lab.seconds(60);
        lab.progress.phase(&format!("{}: heartbeats for {} s", lab.report.section, time.as_secs()));
        fleet.report()?;
        let before = parties(server.pids(), [&fleet]).snapshot();
        clock::sleep(time);
        let usage = before.until_now();
        let answered = fleet.count()?.heartbeats;
        cpu(&mut lab.report, &usage);
        lab.report.row("heartbeats answered", answered as f64 / usage.wall, "/s");
        lab.report
            .row("CPU for a heartbeat", usage.per(answered), "µs")
            .note("all that the server does, idle included");
    }
    Ok([used, rested])
}

/// `messages` to each room, one after the other as they are accepted; waits until all have arrived.
fn push(
    poster: &mut Poster,
    api: &mut Client,
    fleet: &mut Fleet,
    messages: u64,
    rooms: u64,
) -> anyhow::Result<()> {
    fleet.report()?;
    for _ in 0..messages * rooms {
        poster.post(api, clock::now(), &mut Posted::default())?;
    }
    let expected = messages * fleet.size;
    fleet.drain(expected)?;
    let received = fleet.count()?.received;
    if received < expected {
        bail!(
            "{} of {expected} messages were lost: memory would be that of another load",
            expected - received
        );
    }
    Ok(())
}

/// The rows that count.
fn slopes(lab: &mut Lab, more: u64, low: &[Reading; 2], high: &[Reading; 2]) {
    let moments = ["after 100 pushes and 3 heartbeats for each", "after a burst of 1 000 for each and quiet"];
    for ((moment, low), high) in moments.into_iter().zip(low).zip(high) {
        let slope = |of: fn(&Reading) -> u64| (of(high) as f64 - of(low) as f64) / more as f64;
        let report = &mut lab.report;
        let name = format!("memory for a connection, {moment}");
        let row = report.row(&name, slope(|reading| reading.resident), "B");
        if lab.options.target.is_some() {
            row.note("the same server at both sizes: a lower bound");
        }
        let report = &mut lab.report;
        report.row(&format!("{name}, heap and stacks only"), slope(|reading| reading.anonymous), "B");
        report
            .row(&format!("{name}, buffers in the kernel"), slope(|reading| reading.kernel), "B")
            .note("both ends, /proc/net/sockstat");
    }
}
