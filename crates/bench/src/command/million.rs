//! `million`: a million connections on many comets.

use std::time::Duration;

use anyhow::{bail, ensure};

use super::cpu;
use crate::clock;
use crate::control::{Appetite, Transport};
use crate::fleet::{Fleet, Haul};
use crate::http::Client;
use crate::lab::{Lab, Members, parties};
use crate::load::{Posted, Poster, Target};
use crate::placement;
use crate::procfs::{self, Machine, Sockets};
use crate::server::{self, Server};

/// Connections of one comet.
const EACH: u64 = 18_600;

/// Files that a client process has beside its connections.
const OWN_FILES: u64 = 64;

/// Files of the whole machine that are no connection of this run.
const MORE_FILES: u64 = 20_000;

/// How long the push may take to everyone, and for each 10 000 connections more.
const LIMIT: Duration = Duration::from_secs(30);
const LIMIT_EACH: Duration = Duration::from_secs(2);

/// How long logic may take to know of a connection that is authenticated.
const KNOWN: Duration = Duration::from_secs(30);

/// Time for the server to put away what it has used, before memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures each size on each transport.
pub(crate) fn run(lab: &mut Lab, comets: usize, reserve: u64) -> anyhow::Result<()> {
    for transport in lab.options.transport.clone() {
        for each in lab.sizes(&[EACH]) {
            check_files(each, comets as u64)?;
            lab.report.section =
                format!("{} connections on {comets} comets, {transport}", each * comets as u64);
            measure(lab, transport, comets, each, reserve)?;
        }
    }
    Ok(())
}

/// Whether one comet, one process of clients, and the whole machine may open so many files.
fn check_files(each: u64, comets: u64) -> anyhow::Result<()> {
    let need = 2 * each * comets + MORE_FILES;
    if let Some(most) = procfs::most_files() {
        ensure!(
            need <= most,
            "the machine may have {most} files open, and this run needs {need}: raise fs.file-max, or lower --comets"
        );
    }
    let Some(limit) = placement::file_limit() else { return Ok(()) };
    let most = most_connections(limit);
    ensure!(
        each <= most,
        "a process may open {limit} files here, of which a comet keeps some for itself and takes {most} \
         connections: lower --connections, and raise --comets for as many in all"
    );
    Ok(())
}

/// The connections for which a comet has files, as it reckons itself: a sixteenth is for everything else.
fn most_connections(limit: u64) -> u64 {
    limit.saturating_sub((limit / 16).max(512))
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    comets: u64,
    logic: u64,
    job: u64,
    clients: u64,
    sockets: Sockets,
    machine: Machine,
}

impl Reading {
    fn now(server: &Server, fleets: &[Fleet]) -> Self {
        let roles = server.pids_by_role();
        let of = |role: &str| {
            let pids = roles.get(role).map(Vec::as_slice).unwrap_or_default();
            server::memory(pids).map_or(0, |memory| memory.resident)
        };
        let clients: Vec<u32> = fleets.iter().flat_map(Fleet::pids).collect();
        Self {
            comets: of("comet"),
            logic: of("logic"),
            job: of("job"),
            clients: server::memory(&clients).map_or(0, |memory| memory.resident),
            sockets: procfs::sockets(),
            machine: procfs::machine().unwrap_or_default(),
        }
    }
}

fn measure(
    lab: &mut Lab,
    transport: Transport,
    comets: usize,
    each: u64,
    reserve: u64,
) -> anyhow::Result<()> {
    // With more comets than processors one worker each is enough, and many would only take turns.
    let server = lab.cluster(comets, &["comet.workers=1"])?;
    let before = Reading::now(&server, &[]);
    let mut fleets = Vec::new();
    let from = clock::now();
    let snapshot = parties(server.pids(), []).snapshot();
    let connected = connect(lab, &server, &mut fleets, [comets as u64, each], transport, before, reserve);
    let seconds = (clock::now() - from) as f64 / 1e9;
    let usage = snapshot.until_now();
    let count: u64 = fleets.iter().map(|fleet| fleet.size).sum();
    let report = &mut lab.report;
    report.row("authenticated, as the clients count", count as f64, "connections");
    report.row("time to connect", seconds, "s").note("one comet after the other");
    report.row("authenticated", count as f64 / seconds, "connections/s");
    let failed: u64 = fleets.iter().flat_map(|fleet| fleet.errors.values()).sum();
    report.row("attempts that failed, and were repeated", failed as f64, "connections");
    report.row("CPU of the server, for a connection", usage.per(count), "µs");
    if count > 0 {
        known(lab, &server, count)?;
        clock::sleep(SETTLE);
        memory(lab, before, Reading::now(&server, &fleets), count);
    }
    connected?;
    everyone(lab, &server, &mut fleets, count)
}

/// Connects to one comet after the other, as long as there is memory.
fn connect(
    lab: &Lab,
    server: &Server,
    fleets: &mut Vec<Fleet>,
    [comets, each]: [u64; 2],
    transport: Transport,
    before: Reading,
    reserve: u64,
) -> anyhow::Result<()> {
    for comet in 0..comets {
        let available = procfs::machine().unwrap_or_default().available;
        let used = before.machine.available.saturating_sub(available);
        // The first comet tells what the next ones will take.
        let next = used.checked_div(comet).unwrap_or(0);
        if available < reserve + next {
            bail!(
                "{} of {} connections took {} MB, {} MB are left and {} MB have to stay free (--reserve): give the \
                 machine more memory, or lower --comets",
                comet * each,
                comets * each,
                used >> 20,
                available >> 20,
                reserve >> 20
            );
        }
        let first = comet * each;
        let members = Members { first, count: each, rooms: 0, user: None, appetite: Appetite::All };
        let per_process = placement::file_limit().map_or(each, |limit| limit.saturating_sub(OWN_FILES));
        fleets.push(lab.fleet_of_comet(server, comet as usize, transport, members, per_process)?);
    }
    Ok(())
}

/// Waits until logic has the sessions of all.
fn known(lab: &mut Lab, server: &Server, count: u64) -> anyhow::Result<()> {
    let ends = clock::now() + clock::nanos(KNOWN);
    loop {
        let scrape = server.scrape()?;
        let sessions = scrape.sum("anser_logic_sessions");
        if sessions >= Some(count as f64) || clock::now() > ends {
            let report = &mut lab.report;
            report.row("authenticated, as logic counts", sessions, "sessions");
            let connections = scrape.sum("anser_comet_connections");
            report.row("authenticated, as the comets count", connections, "connections");
            return Ok(());
        }
        clock::sleep(Duration::from_millis(100));
    }
}

fn memory(lab: &mut Lab, before: Reading, after: Reading, count: u64) {
    let report = &mut lab.report;
    let per = |before: u64, after: u64| (after as f64 - before as f64) / count as f64;
    let all = |reading: Reading| reading.comets + reading.logic + reading.job;
    report.row("memory of Anser for a connection", per(all(before), all(after)), "B");
    for (role, before, after) in [
        ("the comets'", before.comets, after.comets),
        ("logic's", before.logic, after.logic),
        ("the job's", before.job, after.job),
    ] {
        report.row(&format!("of it {role} part"), per(before, after), "B");
    }
    report.row("memory of Anser in all", all(after) as f64 / 1e6, "MB");
    report.row("memory of Anser without a connection", all(before) as f64 / 1e6, "MB");
    let objects = per(before.machine.unreclaimable, after.machine.unreclaimable);
    report
        .row("the kernel's objects for a connection", objects, "B")
        .note("both ends, SUnreclaim of /proc/meminfo");
    let buffers = per(before.sockets.buffers, after.sockets.buffers);
    report.row("the kernel's buffers for a connection", buffers, "B").note("both ends, /proc/net/sockstat");
    report
        .row("sockets of TCP in use", after.sockets.in_use as f64, "sockets")
        .note(format!("{} before", before.sockets.in_use));
    report.row("memory of the clients for a connection", per(before.clients, after.clients), "B");
    let used = before.machine.available.saturating_sub(after.machine.available);
    report
        .row("memory of the machine in all", used as f64 / 1e6, "MB")
        .note(format!("{} MB are left", after.machine.available / 1_000_000));
    report.row("memory of the machine for a connection", used as f64 / count as f64, "B");
}

/// One push to everyone.
fn everyone(lab: &mut Lab, server: &Server, fleets: &mut [Fleet], count: u64) -> anyhow::Result<()> {
    lab.progress.phase(&format!("{}: one push to everyone", lab.report.section));
    for fleet in &mut *fleets {
        fleet.watch(true)?;
    }
    let snapshot = parties(server.pids(), &*fleets).snapshot();
    let mut poster = Poster::new(Target::Everyone, lab.body());
    let mut posted = Posted::default();
    let at = clock::now();
    poster.post(&mut Client::connect(server.http)?, at, &mut posted)?;
    let limit = LIMIT + LIMIT_EACH * (count / 10_000) as u32;
    let ends = at + clock::nanos(limit);
    let mut last = Some(at);
    for fleet in &mut *fleets {
        let left = Duration::from_nanos(ends.saturating_sub(clock::now()));
        // What is missing is told below.
        let arrived = fleet.completed_within(0, left.max(Duration::from_millis(100))).ok();
        last = last.zip(arrived).map(|(a, b)| a.max(b));
    }
    let usage = snapshot.until_now();
    let mut haul = Haul::default();
    let (mut first_at, mut latency) = (u64::MAX, crate::latency::Latency::default());
    for fleet in fleets {
        let part = fleet.report()?;
        if part.first_at > 0 {
            first_at = first_at.min(part.first_at);
        }
        latency.merge(&part.room);
        haul.absorb(&part);
    }
    let report = &mut lab.report;
    let ms = |until: u64| until.saturating_sub(at) as f64 / 1e6;
    report.latency("one push to everyone, the API's 200", &posted.answered.total());
    report.row("until the first got it", (first_at < u64::MAX).then(|| ms(first_at)), "ms");
    report.latency("until a client got it", &latency.total());
    let words = if last.is_none() { format!("not everyone within {limit:?}") } else { String::new() };
    report.row("until the last got it", last.map(ms), "ms").note(words);
    let got = haul.count.received - haul.order.again;
    report.row("clients that did not get it", count as f64 - got as f64, "clients");
    report.row("got it twice", haul.order.again as f64, "clients");
    report.row("closed by the server", haul.count.closed as f64, "connections");
    report.row("CPU for a delivery", usage.per(got), "µs");
    cpu(report, &usage);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comet_keeps_files_for_itself() {
        assert_eq!(most_connections(20_000), 18_750);
        assert_eq!(most_connections(1000), 488);
        assert!(EACH <= most_connections(20_000));
    }
}
