//! `slow`: what clients that do not read do to those that do.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{cpu, delivery};
use crate::clock;
use crate::control::{Appetite, Transport};
use crate::fleet::{Fleet, Haul};
use crate::lab::{Lab, Members, parties};
use crate::load::{self, Pace, Posted, Poster, Target};
use crate::procfs;
use crate::server::Server;
use crate::statistics::{Pairs, Spread};

/// The user of all slow connections, through whom their queues are filled.
const SLOW_USER: u64 = 1 << 40;

/// Number of the first slow connection, above all others.
const FIRST_SLOW: u64 = 1 << 24;

/// Pushes to keys, a second.
const KEY_RATE: f64 = 100.0;

/// Memory that grows by less than this part in a second of pushes is full.
const FULL: f64 = 0.005;

/// How long filling may take.
const FILL: Duration = Duration::from_secs(90);

/// How long the server gets to forget the slow ones after they have gone.
const FORGET: Duration = Duration::from_secs(3);

/// Measures each transport.
pub(crate) fn run(lab: &mut Lab, never: u64, byte: u64) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        for size in lab.sizes(&[18_000]) {
            ensure!(
                never + byte < size,
                "of {size} connections {never} + {byte} cannot be slow: none is left"
            );
            lab.report.section = format!("{size} connections, {never} + {byte} slow, {transport}");
            measure(lab, transport, [size - never - byte, never, byte])?;
        }
    }
    Ok(())
}

/// Memory at a moment, in MB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    server: Option<f64>,
    kernel: f64,
}

impl Memory {
    fn now(server: &Server) -> Self {
        Self {
            server: server.memory().map(|memory| memory.resident as f64 / 1e6),
            kernel: procfs::sockets().buffers as f64 / 1e6,
        }
    }

    fn total(self) -> f64 {
        self.server.unwrap_or(0.0) + self.kernel
    }
}

fn measure(lab: &mut Lab, transport: Transport, [rest, never, byte]: [u64; 3]) -> anyhow::Result<()> {
    let server = lab.server(&["comet.user_timeout=\"1h\""])?;
    let mut fleet = lab.fleet(&server, transport, Members::of_one_room(rest))?;
    let mut run = Run {
        room: Poster::new(Target::Rooms { count: 1, stream: 0 }, lab.body()),
        keys: Poster::new(Target::Keys { first: 0, count: rest, step: 1 }, lab.body()),
        rate: lab.rate(10.0),
        time: lab.seconds(10),
        expected: 0,
        sum: Haul::default(),
    };
    let (mut room, mut keys) = (Pairs::default(), Pairs::default());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut alive = Vec::new();
    let mut usage = None;
    for pair in 1..=lab.pairs(5) {
        let name = format!("{}: pair {pair} of {}", lab.report.section, lab.pairs(5));
        lab.progress.phase(&format!("{name}, without the slow ones"));
        let a = run.measure(&server, &mut fleet)?;
        before.push(Memory::now(&server));

        let slow =
            |first, count, appetite| Members { first, count, rooms: 1, user: Some(SLOW_USER), appetite };
        let mut slow_fleets = Vec::new();
        for (first, count, appetite) in
            [(FIRST_SLOW, never, Appetite::Nothing), (FIRST_SLOW + never, byte, Appetite::Byte)]
        {
            if count > 0 {
                slow_fleets.push(lab.fleet(&server, transport, slow(first, count, appetite))?);
            }
        }
        lab.progress.phase(&format!("{name}, filling the queues of the slow ones"));
        fill(&server, lab.body())?;
        lab.progress.phase(&format!("{name}, with the slow ones"));
        let snapshot = parties(server.pids(), [&fleet].into_iter().chain(&slow_fleets)).snapshot();
        let b = run.measure(&server, &mut fleet)?;
        usage = Some(snapshot.until_now());
        after.push(Memory::now(&server));
        let mut closed = 0;
        for slow_fleet in &mut slow_fleets {
            closed += slow_fleet.count()?.closed;
        }
        alive.push((never + byte - closed) as f64);
        drop(slow_fleets);
        clock::sleep(FORGET);
        room.push(a.0, b.0);
        keys.push(a.1, b.1);
    }

    let report = &mut lab.report;
    for (name, pairs) in [("p99 of the room", &room), ("p99 of keys", &keys)] {
        report.pairs(name, pairs, "ms", "without");
    }
    for (name, memory) in [("before", &before), ("with full queues", &after)] {
        let server = Spread::of(memory.iter().filter_map(|memory| memory.server));
        report.spread(&format!("resident memory of the server, {name}"), server, "MB");
        let kernel = Spread::of(memory.iter().map(|memory| memory.kernel));
        report.spread(&format!("socket buffers of the kernel, {name}"), kernel, "MB");
    }
    report
        .spread("slow connections that the server kept", Spread::of(alive), "connections")
        .note(format!("of {}", never + byte));
    delivery(report, run.expected, &run.sum);
    cpu(report, &usage.unwrap_or_default());
    Ok(())
}

/// The load that both halves of a pair get.
#[derive(Debug)]
struct Run {
    room: Poster,
    keys: Poster,
    rate: f64,
    time: Duration,
    expected: u64,
    sum: Haul,
}

impl Run {
    /// The p99 of the room and of keys, in ms.
    fn measure(&mut self, server: &Server, fleet: &mut Fleet) -> anyhow::Result<(f64, f64)> {
        let mut posters = [(&mut self.room, Pace::Rate(self.rate)), (&mut self.keys, Pace::Rate(KEY_RATE))];
        let posted = load::run(server.http, &mut posters, self.time)?;
        let expected = posted[0].accepted * fleet.size + posted[1].accepted;
        fleet.drain(expected)?;
        let haul = fleet.report()?;
        self.expected += expected;
        self.sum.absorb(&haul);
        let p99 = |latency: &crate::latency::Latency| latency.total().value_at_quantile(0.99) as f64 / 1e6;
        Ok((p99(&haul.room), p99(&haul.key)))
    }
}

/// Pushes to the slow ones, until neither the server nor the kernel takes any more memory for them.
fn fill(server: &Server, body: usize) -> anyhow::Result<()> {
    let mut poster = Poster::new(Target::User(SLOW_USER), body);
    let started = Instant::now();
    let mut steady = 0;
    let mut last = Memory::now(server).total();
    while steady < 3 {
        ensure!(
            started.elapsed() < FILL,
            "the queues of the slow clients were not full after {FILL:?}: is a queue without a bound?"
        );
        let posted: Vec<Posted> =
            load::run(server.http, &mut [(&mut poster, Pace::Full)], Duration::from_secs(1))?;
        let now = Memory::now(server).total();
        let grows = now > last * (1.0 + FULL);
        steady = if grows || posted[0].accepted == 0 { 0 } else { steady + 1 };
        last = last.max(now);
    }
    Ok(())
}
