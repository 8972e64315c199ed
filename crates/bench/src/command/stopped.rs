//! `stopped`: what a comet that stands still does to the others.

use std::time::Duration;

use anyhow::ensure;

use super::{cpu, quantile};
use crate::control::{Appetite, Transport};
use crate::fleet::{Fleet, Haul, PER_PROCESS};
use crate::lab::{Lab, Members, parties};
use crate::latency::Latency;
use crate::load::{self, Manner, Pace, Posted, Poster, Target};
use crate::metrics::Scrape;
use crate::server::Server;
use crate::statistics::Pairs;
use crate::usage::Usage;

/// How long pushes go on after the comet goes on.
const AFTER: Duration = Duration::from_secs(10);

/// Numbers of one comet's connections are so far from those of the next.
const APART: u64 = 1 << 24;

/// Measures each size on each transport.
pub(crate) fn run(lab: &mut Lab, comets: usize) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        for size in lab.sizes(&[300]) {
            ensure!(size >= comets as u64, "{size} connections are too few for {comets} comets");
            lab.report.section = format!("one of {comets} comets stopped, {size} connections, {transport}");
            measure(lab, transport, comets, size)?;
        }
    }
    Ok(())
}

/// A cluster under load.
#[derive(Debug)]
struct Run {
    server: Server,
    /// One for each comet; the last comet is the one that is stopped.
    fleets: Vec<Fleet>,
    keys: Vec<Poster>,
    room: Poster,
    rate: f64,
}

/// What one stretch has brought.
#[derive(Debug, Default)]
struct Stretch {
    /// To the keys of each comet, and, as the last, to the room.
    posted: Vec<Posted>,
    others: Haul,
    keys: Latency,
    room: Latency,
    /// Through the comet that is stopped.
    stopped: Haul,
}

/// Before, while a comet stands still, and after.
#[derive(Debug)]
struct Turn {
    before: Stretch,
    during: Stretch,
    after: Stretch,
    /// What the stopped one's clients got when it went on, before anything else was pushed.
    caught_up: Haul,
    /// From when it was stopped to the end.
    metrics: [Scrape; 2],
    /// While it stood still.
    usage: Usage,
}

fn measure(lab: &mut Lab, transport: Transport, comets: usize, size: u64) -> anyhow::Result<()> {
    let mut run = start(lab, transport, comets, size)?;
    let time = lab.seconds(60);
    let (mut keys, mut room, mut api) = (Pairs::default(), Pairs::default(), Pairs::default());
    let mut last = None;
    for pair in 1..=lab.pairs(1) {
        let name = format!("{}: turn {pair} of {}", lab.report.section, lab.pairs(1));
        lab.progress.phase(&format!("{name}, {} s, one of them stopped", 2 * time.as_secs()));
        let turn = run.turn(time)?;
        let (before, during) = (&turn.before, &turn.during);
        keys.push(quantile(&before.keys, 0.99), quantile(&during.keys, 0.99));
        room.push(quantile(&before.room, 0.99), quantile(&during.room, 0.99));
        api.push(quantile(&before.answered(), 0.99), quantile(&during.answered(), 0.99));
        last = Some(turn);
    }
    let report = &mut lab.report;
    report.pairs("p99 of keys of the others, one stopped", &keys, "ms", "before");
    report.pairs("p99 of the room at the others, one stopped", &room, "ms", "before");
    report.pairs("p99 of the API's 200, one stopped", &api, "ms", "before");
    if let Some(turn) = last {
        told(lab, &run, &turn);
        cpu(&mut lab.report, &turn.usage);
    }
    Ok(())
}

fn start(lab: &Lab, transport: Transport, comets: usize, size: u64) -> anyhow::Result<Run> {
    let server = lab.cluster(comets, &[])?;
    let (mut fleets, mut keys) = (Vec::new(), Vec::new());
    for comet in 0..comets {
        let first = comet as u64 * APART;
        let left = comets as u64 - comet as u64;
        let count = (size - fleets.iter().map(|fleet: &Fleet| fleet.size).sum::<u64>()).div_ceil(left);
        let members = Members { first, count, rooms: 1, user: None, appetite: Appetite::All };
        fleets.push(lab.fleet_of_comet(&server, comet, transport, members, PER_PROCESS)?);
        keys.push(Poster::new(Target::Keys { first, count, step: 1 }, lab.body()));
    }
    let mut room = Poster::new(Target::Rooms { count: 1, stream: 0 }, lab.body());
    // A push that is refused because of the stopped comet must not keep the next ones waiting.
    room.manner = Manner::Impatient;
    for poster in &mut keys {
        poster.manner = Manner::Impatient;
    }
    Ok(Run { server, fleets, keys, room, rate: lab.rate(100.0) })
}

impl Run {
    /// All go on, one is stopped, all go on.
    fn turn(&mut self, time: Duration) -> anyhow::Result<Turn> {
        let comets = self.fleets.len();
        let stopped = comets - 1;
        let before = self.stretch(time, comets)?;

        let metrics = self.server.scrape()?;
        let snapshot = parties(self.server.pids(), &self.fleets).snapshot();
        self.server.stop_comet(stopped, true)?;
        let during = self.stretch(time, stopped);
        let usage = snapshot.until_now();
        self.server.stop_comet(stopped, false)?;
        let during = during?;

        let expected = self.expected(&during, stopped);
        self.fleets[stopped].drain(expected)?;
        let caught_up = self.fleets[stopped].report()?;
        let after = self.stretch(AFTER, comets)?;
        let metrics = [metrics, self.server.scrape()?];
        self.server.check()?;
        Ok(Turn { before, during, after, caught_up, metrics, usage })
    }

    /// Pushes for a time, and waits until what was accepted is at the first `comets` comets.
    fn stretch(&mut self, time: Duration, comets: usize) -> anyhow::Result<Stretch> {
        let pace = Pace::Rate(self.rate);
        let mut posters: Vec<_> = self.keys.iter_mut().map(|poster| (poster, pace)).collect();
        posters.push((&mut self.room, pace));
        let posted = load::run(self.server.http, &mut posters, time)?;
        let mut stretch = Stretch { posted, ..Stretch::default() };
        for comet in 0..comets {
            let expected = self.expected(&stretch, comet);
            self.fleets[comet].drain(expected)?;
        }
        let last = self.fleets.len() - 1;
        for (comet, fleet) in self.fleets.iter_mut().enumerate() {
            let haul = fleet.report()?;
            if comet == last {
                stretch.stopped = haul;
                continue;
            }
            stretch.keys.merge(&haul.key);
            stretch.room.merge(&haul.room);
            stretch.others.absorb(&haul);
        }
        Ok(stretch)
    }

    /// Messages for the connections of one comet.
    fn expected(&self, stretch: &Stretch, comet: usize) -> u64 {
        let room = stretch.posted.last().map_or(0, |posted| posted.accepted);
        stretch.posted[comet].accepted + room * self.fleets[comet].size
    }
}

impl Stretch {
    fn answered(&self) -> Latency {
        Posted::sum(&self.posted).answered
    }
}

/// What each stretch of the last turn has brought.
fn told(lab: &mut Lab, run: &Run, turn: &Turn) {
    let Turn { before, during, after, caught_up, metrics, .. } = turn;
    let last = run.fleets.len() - 1;
    let names = ["before", "one stopped", "after it goes on"];
    let report = &mut lab.report;
    for (name, stretch) in names.into_iter().zip([before, during, after]) {
        report.latency(&format!("keys of the others, {name}"), &stretch.keys.total());
        report.latency(&format!("room at the others, {name}"), &stretch.room.total());
        let sum = Posted::sum(&stretch.posted);
        let words = sum.failure.clone().unwrap_or_default();
        let row = format!("refused or failed, {name}");
        report.row(&row, (sum.refused + sum.failed) as f64, "pushes").note(words);
        let expected: u64 = (0..last).map(|comet| run.expected(stretch, comet)).sum();
        let lost = expected as f64 - (stretch.others.count.received - stretch.others.order.again) as f64;
        report
            .row(&format!("lost at the others, {name}"), lost, "messages")
            .note(format!("of {expected} that were accepted, counted for each receiver"));
    }
    for (name, stretch, got) in [
        ("before", before, &before.stopped),
        ("while it stood", during, caught_up),
        ("after", after, &after.stopped),
    ] {
        let expected = run.expected(stretch, last);
        let while_it_stood = if name == "while it stood" { during.stopped.count.received } else { 0 };
        let received = got.count.received + while_it_stood;
        let note = format!(
            "of {expected} that were accepted for them, {} twice, {} connections closed",
            got.order.again, got.count.closed
        );
        report
            .row(
                &format!("what the stopped one's clients got of what was pushed {name}"),
                received as f64,
                "messages",
            )
            .note(note);
    }
    let [earlier, later] = metrics;
    for (name, metric) in [
        ("what became of parcels", "anser_job_done_total"),
        ("lost at comets", "anser_comet_lost_total"),
        ("sent again", "anser_job_resent_total"),
    ] {
        report
            .row(&format!("{name}, since it was stopped"), later.since(earlier, metric), "")
            .note(later.grown(earlier, metric));
    }
}
