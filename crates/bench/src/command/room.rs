//! `room`: what a delivery costs, when the last member has it, and how much a room takes.

use std::time::Duration;

use anyhow::Context;

use super::{cpu, delivery, posted, worst};
use crate::calls::{Counter, Tool};
use crate::cli::Mode;
use crate::clock;
use crate::control::Transport;
use crate::fleet::{Fleet, Haul};
use crate::floor::Floor;
use crate::http::Client;
use crate::lab::{Lab, Members, parties};
use crate::latency::Latency;
use crate::load::{self, Pace, Posted, Poster, Target};
use crate::server::Server;
use crate::statistics::Pairs;
use crate::usage::{Parties, Usage};

/// Messages before timing starts: buffers grow, caches fill.
const WARM_UP: u64 = 3;

/// Messages while perf counts system calls, each to every member.
const COUNTED: u64 = 20;

/// The same under strace, which is slow.
const TRACED: u64 = 3;

/// Length of the saturated stretch while system calls are counted.
const COUNTED_SATURATION: Duration = Duration::from_secs(3);

/// Measures what `modes` say.
pub(crate) fn run(lab: &mut Lab, modes: &[Mode]) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        if modes.contains(&Mode::Cost) || modes.contains(&Mode::Last) {
            for size in lab.sizes(&[10_000]) {
                lab.report.section = format!("room of {size}, {transport}");
                alone(lab, transport, size, modes)?;
            }
        }
        if modes.contains(&Mode::Saturation) {
            for size in lab.sizes(&[18_000, 1000]) {
                lab.report.section = format!("room of {size}, {transport}, saturated");
                saturation(lab, transport, size)?;
            }
        }
    }
    Ok(())
}

/// Messages sent one at a time.
#[derive(Debug, Default)]
struct Turn {
    /// From the beginning of the send to the last arrival.
    last: Latency,
    usage: Usage,
    haul: Haul,
    messages: u64,
}

/// One message at a time, in pairs with the floor.
fn alone(lab: &mut Lab, transport: Transport, size: u64, modes: &[Mode]) -> anyhow::Result<()> {
    let members = Members::of_one_room(size);
    let server = lab.server(&[])?;
    let mut fleet = lab.fleet(&server, transport, members)?;
    let mut floor = lab.floor(transport)?;
    let mut fleet_of_floor = lab.fleet_of_floor(&floor, transport, members)?;
    let mut room = Room::new(&server, lab.body())?;
    let mut floor_seq = 0;
    let (time, rate, body) = (lab.seconds(10), lab.rate(5.0), lab.body());
    fleet.watch(true)?;
    fleet_of_floor.watch(true)?;
    let floor_parties = parties(&[floor.pid()], [&fleet_of_floor]);
    let server_parties = parties(server.pids(), [&fleet]);

    let (mut cost, mut median, mut p99) = (Pairs::default(), Pairs::default(), Pairs::default());
    let mut all = Turn::default();
    for pair in 0..=lab.pairs(5) {
        // The first one only warms up.
        let limit = if pair == 0 { Limit::Messages(WARM_UP) } else { Limit::Time(time) };
        lab.progress.phase(&format!("room of {size}, {transport}: pair {pair} of {}", lab.pairs(5)));
        let a = turn(&mut fleet_of_floor, &floor_parties, rate, limit, |fleet| {
            floor_message(&mut floor, &mut floor_seq, body, fleet)
        })?;
        let b = turn(&mut fleet, &server_parties, rate, limit, |fleet| room.message(fleet))?;
        if pair == 0 {
            continue;
        }
        if let (Some(a), Some(b)) = (a.cpu(), b.cpu()) {
            cost.push(a, b);
        }
        let quantile = |turn: &Turn, q| turn.last.total().value_at_quantile(q) as f64 / 1e6;
        median.push(quantile(&a, 0.5), quantile(&b, 0.5));
        p99.push(quantile(&a, 0.99), quantile(&b, 0.99));
        all.add(&b);
    }

    let report = &mut lab.report;
    if modes.contains(&Mode::Cost) {
        report.pairs("CPU for a delivery", &cost, "µs", "floor");
    }
    if modes.contains(&Mode::Last) {
        report.pairs("to the last member, p50 of a turn", &median, "ms", "floor");
        report.pairs("to the last member, p99 of a turn", &p99, "ms", "floor");
        report.latency("to the last member, all turns", &all.last.total());
    }
    delivery(report, all.messages * size, &all.haul);
    cpu(report, &all.usage);
    if modes.contains(&Mode::Cost) {
        system_calls(lab, &server, &mut fleet, &mut room)?;
    }
    Ok(())
}

impl Turn {
    /// The server's CPU time for a delivery, in µs.
    fn cpu(&self) -> Option<f64> {
        self.usage.per(self.haul.count.received)
    }

    fn add(&mut self, other: &Self) {
        self.last.merge(&other.last);
        self.usage = if self.messages == 0 { other.usage } else { self.usage.plus(other.usage) };
        self.haul.absorb(&other.haul);
        self.messages += other.messages;
    }
}

/// When a turn ends.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Messages(u64),
    Time(Duration),
}

/// Sends a message at each tick, and waits until the last member has it; ticks that pass meanwhile are
/// left out. `message` gives when it began and when the last one had it.
fn turn(
    fleet: &mut Fleet,
    parties: &Parties,
    rate: f64,
    limit: Limit,
    mut message: impl FnMut(&mut Fleet) -> anyhow::Result<(u64, u64)>,
) -> anyhow::Result<Turn> {
    let interval = (1e9 / rate) as u64;
    let mut turn = Turn::default();
    let before = parties.snapshot();
    let start = clock::now();
    let mut tick = start;
    loop {
        let over = match limit {
            Limit::Messages(messages) => turn.messages == messages,
            Limit::Time(time) => tick >= start + clock::nanos(time),
        };
        if over {
            break;
        }
        clock::sleep_until(tick);
        let (from, last) = message(fleet)?;
        turn.last.record(last.saturating_sub(from));
        turn.messages += 1;
        let passed = (clock::now() - start) / interval;
        tick = start + (passed + 1) * interval;
    }
    turn.usage = before.until_now();
    turn.haul = fleet.report()?;
    Ok(turn)
}

/// A room on the server, and who posts to it.
#[derive(Debug)]
struct Room {
    api: Client,
    poster: Poster,
}

impl Room {
    fn new(server: &Server, body: usize) -> anyhow::Result<Self> {
        let poster = Poster::new(Target::Rooms { count: 1, stream: 0 }, body);
        Ok(Self { api: Client::connect(server.http)?, poster })
    }

    /// Posts one message and waits until all have it.
    fn message(&mut self, fleet: &mut Fleet) -> anyhow::Result<(u64, u64)> {
        let from = clock::now();
        let seq = self.poster.next_seq();
        self.poster.post(&mut self.api, from, &mut Posted::default())?;
        Ok((from, fleet.completed(seq)?))
    }
}

/// Has the floor send one message and waits until all have it.
fn floor_message(
    floor: &mut Floor,
    seq: &mut u64,
    body: usize,
    fleet: &mut Fleet,
) -> anyhow::Result<(u64, u64)> {
    let sent = floor.send(body, 0, *seq)?;
    let last = fleet.completed(*seq)?;
    *seq += 1;
    Ok((sent.from, last))
}

/// A row on the system calls of a delivery, one message at a time.
fn system_calls(lab: &mut Lab, server: &Server, fleet: &mut Fleet, room: &mut Room) -> anyhow::Result<()> {
    count_calls(lab, server, fleet, |tool, fleet| {
        let messages = if tool == Tool::Perf { COUNTED } else { TRACED };
        for _ in 0..messages {
            let said = || format!("while {} counts; the server said:\n{}", tool.name(), server.said());
            room.message(fleet).with_context(said)?;
        }
        Ok(())
    })
}

/// A row on the system calls of a delivery while `load` runs.
fn count_calls(
    lab: &mut Lab,
    server: &Server,
    fleet: &mut Fleet,
    load: impl FnOnce(Tool, &mut Fleet) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    const NAME: &str = "system calls for a delivery";
    lab.progress.phase("counting system calls");
    let counter = match Counter::attach(server.pids(), &lab.folder()) {
        Ok(counter) => counter,
        Err(error) => {
            lab.report.row(NAME, None, "calls").note(format!("skipped: {error:#}"));
            return Ok(());
        }
    };
    let tool = counter.tool;
    load(tool, fleet)?;
    let calls = counter.finish()?;
    let deliveries = fleet.report()?.count.received;
    lab.report.row(NAME, calls.total as f64 / deliveries as f64, "calls").note(format!(
        "of all threads, by {}, {deliveries} deliveries: {}",
        tool.name(),
        calls.most_frequent()
    ));
    Ok(())
}

/// As fast as accepted.
fn saturation(lab: &mut Lab, transport: Transport, size: u64) -> anyhow::Result<()> {
    let server = lab.server(&[])?;
    let mut fleet = lab.fleet(&server, transport, Members::of_one_room(size))?;
    let mut posters = room_posters(lab);
    let time = lab.seconds(60);
    lab.progress.phase(&format!("room of {size}, {transport}: saturated for {} s", time.as_secs()));
    let before = parties(server.pids(), [&fleet]).snapshot();
    let sum = saturate(&server, &mut posters, time)?;
    let expected = sum.accepted * size;
    fleet.drain(expected)?;
    let usage = before.until_now();
    let haul = fleet.report()?;

    let report = &mut lab.report;
    posted(report, &sum);
    report.row("delivered", haul.count.received as f64 / haul.span(), "messages/s");
    delivery(report, expected, &haul);
    report.latency("from the first attempt to a member", &haul.room.total());
    worst(report, &haul.room);
    report.row("CPU for a delivery", usage.per(haul.count.received), "µs");
    let merged = haul.count.received as f64 / haul.reads as f64;
    report.row("messages for a recv of a client", merged, "messages");
    cpu(report, &usage);
    count_calls(lab, &server, &mut fleet, |_, fleet| {
        let sum = saturate(&server, &mut posters, COUNTED_SATURATION)?;
        fleet.drain(sum.accepted * size)
    })
}

/// Posters of one room, each with its own stream.
pub(super) fn room_posters(lab: &Lab) -> Vec<Poster> {
    let streams = 0..lab.options.posters as u16;
    streams.map(|stream| Poster::new(Target::Rooms { count: 1, stream }, lab.body())).collect()
}

/// All posters as fast as they are accepted.
pub(super) fn saturate(server: &Server, posters: &mut [Poster], time: Duration) -> anyhow::Result<Posted> {
    let mut posters: Vec<_> = posters.iter_mut().map(|poster| (poster, Pace::Full)).collect();
    Ok(Posted::sum(&load::run(server.http, &mut posters, time)?))
}
