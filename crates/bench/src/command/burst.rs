//! `burst`: ten times more than the server bears.

use std::time::Duration;

use anyhow::ensure;

use super::{cpu, delivery, quantile};
use crate::callers;
use crate::cli::To;
use crate::clock;
use crate::control::{Appetite, Transport};
use crate::fleet::{Fleet, Haul};
use crate::lab::{Lab, Members, parties};
use crate::load::{Manner, Pace, Posted, Poster};
use crate::metrics::Scrape;
use crate::sampler::{Peak, Sampler};
use crate::server::Server;
use crate::usage::Usage;

/// Length of the run that finds what the server bears.
const SEARCH: Duration = Duration::from_secs(10);

/// How long it may take until nothing waits any more.
const EMPTY: Duration = Duration::from_secs(120);

/// Time between two looks at what waits.
const LOOK: Duration = Duration::from_millis(50);

/// Measures each size on each transport.
pub(crate) fn run(lab: &mut Lab, callers: [u64; 2], to: To, times: f64) -> anyhow::Result<()> {
    let [callers, crowd] = callers;
    let most = crowd.max(callers);
    for transport in lab.options.transport.clone() {
        for size in lab.sizes(&[2000]) {
            ensure!(
                to == To::Room || size >= most,
                "each of {most} callers needs a key of its own: --connections {most} at least, or a smaller --crowd"
            );
            let roles = lab.roles();
            lab.report.section =
                format!("{times} times too much to {}, {size} connections, {transport}{roles}", to.name());
            measure(lab, transport, to, size, [callers, most], times)?;
        }
    }
    Ok(())
}

/// What the burst has done.
#[derive(Debug)]
struct Burst {
    posted: Posted,
    /// Seconds until nothing waited any more; `None` when that took too long.
    empty_after: Option<f64>,
    usage: Usage,
    haul: Haul,
    /// Before anything was pushed, at most, and when all was over.
    memory: [u64; 3],
    metrics: [Scrape; 2],
}

fn measure(
    lab: &mut Lab,
    transport: Transport,
    to: To,
    size: u64,
    [callers, most]: [u64; 2],
    times: f64,
) -> anyhow::Result<()> {
    let mut server = lab.server(&[])?;
    let rooms = u64::from(to == To::Room);
    let members = Members { first: 0, count: size, rooms, user: None, appetite: Appetite::All };
    let mut fleet = lab.fleet(&server, transport, members)?;
    let receivers = if to == To::Room { size } else { 1 };
    let mut posters = Poster::for_callers(to, most, size, lab.body());
    let before = Peak::now(server.pids()).resident;

    lab.progress.phase(&format!("{}: looking for what the server bears", lab.report.section));
    let from = clock::now();
    let borne = callers::run(server.http, &mut posters[..callers as usize], Pace::Full, SEARCH)?;
    fleet.drain(borne.accepted * receivers)?;
    empty(&server)?;
    let haul = fleet.report()?;
    let span = borne.span.max(haul.last_at.saturating_sub(from) as f64 / 1e9);
    let bears = borne.accepted as f64 / span;
    let report = &mut lab.report;
    report.row("what the server bears", bears, "pushes/s").note(format!(
        "{callers} callers for {} s, {} refusals, p99 of the 200 {:.2} ms",
        SEARCH.as_secs(),
        borne.refused,
        quantile(&borne.answered, 0.99)
    ));
    let lost = (borne.accepted * receivers) as f64 - (haul.count.received - haul.order.again) as f64;
    report.row("lost of these", lost, "messages");
    ensure!(borne.accepted > 0, "the server accepted nothing: {:?}", borne.failure);

    for poster in &mut posters {
        poster.manner = Manner::Impatient;
    }
    let rate = bears * times;
    let time = lab.seconds(30);
    lab.progress.phase(&format!("{}: {rate:.0} pushes/s for {} s", lab.report.section, time.as_secs()));
    let burst = burst(&mut server, &mut fleet, &mut posters, rate, time, receivers, before)?;
    told(lab, &burst, rate, receivers);
    Ok(())
}

fn burst(
    server: &mut Server,
    fleet: &mut Fleet,
    posters: &mut [Poster],
    rate: f64,
    time: Duration,
    receivers: u64,
    before: u64,
) -> anyhow::Result<Burst> {
    let snapshot = parties(server.pids(), [&*fleet]).snapshot();
    let metrics_before = server.scrape()?;
    let sampler = Sampler::start(server.pids());
    let posted = callers::run(server.http, posters, Pace::Rate(rate), time)?;
    let empty_after = empty(server)?;
    fleet.drain(posted.accepted * receivers)?;
    let usage = snapshot.until_now();
    let peak = sampler.finish()?;
    server.check()?;
    let after = Peak::now(server.pids()).resident;
    let metrics = [metrics_before, server.scrape()?];
    let haul = fleet.report()?;
    let memory = [before, peak.resident, after];
    Ok(Burst { posted, empty_after, usage, haul, memory, metrics })
}

/// Waits until neither a lane nor a connection has anything that waits; gives the seconds that it took. `None`
/// for a server that does not tell, or when it takes too long.
fn empty(server: &Server) -> anyhow::Result<Option<f64>> {
    let from = clock::now();
    loop {
        let scrape = server.scrape()?;
        let waiting = scrape.sum("anser_job_open").zip(scrape.sum("anser_comet_waiting"));
        let Some((open, waiting)) = waiting else { return Ok(None) };
        let spent = clock::now() - from;
        if open + waiting <= 0.0 {
            return Ok(Some(spent as f64 / 1e9));
        }
        if spent > clock::nanos(EMPTY) {
            return Ok(None);
        }
        clock::sleep(LOOK);
    }
}

fn told(lab: &mut Lab, burst: &Burst, rate: f64, receivers: u64) {
    let report = &mut lab.report;
    let (posted, span) = (&burst.posted, burst.posted.span);
    report.row("offered", posted.offered() as f64 / span, "pushes/s").note(format!(
        "of {rate:.0} that should have been: each caller waits for its answer, and all share the processors"
    ));
    report.row("accepted", posted.accepted as f64 / span, "pushes/s");
    report.row("refused", posted.refused as f64 / span, "pushes/s");
    let words = posted.failure.clone().unwrap_or_default();
    report.row("failed", posted.failed as f64, "pushes").note(words);
    report.latency("the API's 200", &posted.answered.total());
    report.row("delivered", burst.haul.count.received as f64 / burst.haul.span(), "messages/s");
    delivery(report, posted.accepted * receivers, &burst.haul);
    let [before, after] = &burst.metrics;
    let dropped = [
        after.grown(before, "anser_comet_lost_total"),
        after.grown(before, "anser_comet_pulled_total"),
        not_reported(&after.grown(before, "anser_job_done_total")),
    ];
    let dropped: Vec<&str> = dropped.iter().map(String::as_str).filter(|words| !words.is_empty()).collect();
    report
        .row("lost, as the server counts", after.since(before, "anser_comet_lost_total"), "messages")
        .note(if dropped.is_empty() { String::new() } else { format!("by reason: {}", dropped.join(", ")) });
    let mut latency = burst.haul.room.clone();
    latency.merge(&burst.haul.key);
    report.latency("from the sending to a member", &latency.total());
    report
        .row("until nothing waits any more", burst.empty_after, "s")
        .note("after the last answer, by anser_job_open and anser_comet_waiting");
    let moments = ["before", "at most", "when all was over"];
    for (moment, bytes) in moments.into_iter().zip(burst.memory) {
        report.row(&format!("resident memory of the server, {moment}"), bytes as f64 / 1e6, "MB");
    }
    cpu(report, &burst.usage);
}

/// Without the parcels that the comet has reported: those are what should be.
fn not_reported(words: &str) -> String {
    words.split(", ").filter(|word| !word.ends_with(" reported")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_went_wrong_is_told() {
        assert_eq!(not_reported("3 full, 100 reported"), "3 full");
        assert_eq!(not_reported("100 reported"), "");
    }
}
