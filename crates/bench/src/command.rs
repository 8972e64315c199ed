//! One module for each command, and what several of them say in the same words.

pub(crate) mod accept;
pub(crate) mod burst;
pub(crate) mod connect;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod lone;
pub(crate) mod million;
pub(crate) mod room;
pub(crate) mod slow;
pub(crate) mod stopped;
pub(crate) mod threads;
pub(crate) mod unicast;

use crate::fleet::Haul;
use crate::latency::{Latency, WINDOW};
use crate::load::Posted;
use crate::report::Report;
use crate::usage::Usage;

/// Rows on what each party used, in cores.
fn cpu(report: &mut Report, usage: &Usage) {
    let share = |seconds: f64| seconds / usage.wall;
    report.row("CPU of the server", usage.server.map(share), "cores").note(if usage.server.is_none() {
        "not known: name its processes with pid="
    } else {
        ""
    });
    report.row("CPU of the fleet", share(usage.fleets), "cores");
    report.row("CPU of the generator", share(usage.generator), "cores");
}

/// A quantile in ms.
fn quantile(latency: &Latency, q: f64) -> f64 {
    latency.total().value_at_quantile(q) as f64 / 1e6
}

/// A row on how often something happened for each push, and how often in all.
fn per_push(report: &mut Report, name: &str, count: Option<f64>, pushes: u64) {
    let row = report.row(name, count.map(|count| count / pushes as f64), "");
    match count {
        Some(count) => row.note(format!("{count} for {pushes} pushes")),
        None => row.note("the server has no such metric"),
    };
}

/// Rows on the CPU of each kind of process, where there are several.
fn cpu_by_role(report: &mut Report, by_role: &[(String, f64)], pushes: u64) {
    for (role, seconds) in by_role {
        report.row(&format!("CPU for a push, {role}"), seconds * 1e6 / pushes as f64, "µs");
    }
}

/// Rows on what was lost, and on order. `expected` is what the server had accepted, for each receiver.
fn delivery(report: &mut Report, expected: u64, haul: &Haul) {
    let order = haul.order;
    let distinct = haul.count.received - order.again;
    report
        .row("lost", expected as f64 - distinct as f64, "messages")
        .note(format!("of {expected} that were accepted, counted for each receiver"));
    let errors = order.late + order.again + haul.dissenters();
    let row = report.row("errors of order", errors as f64, "messages");
    if errors > 0 {
        row.note(format!(
            "{} late, {} twice, {} members saw another order than most",
            order.late,
            order.again,
            haul.dissenters()
        ));
    }
    if haul.count.closed > 0 {
        report.row("closed by the server", haul.count.closed as f64, "connections");
    }
}

/// Rows on the worst ten seconds.
fn worst(report: &mut Report, latency: &Latency) {
    let worst = latency.worst();
    let short = if worst.is_none() { "the run is too short: 12 s at least" } else { "" };
    let p99 = worst.map(|worst| worst.p99 as f64 / 1e6);
    report.row("worst 10 s, p99", p99, "ms").note(short);
    let rate = worst.map(|worst| worst.count as f64 / WINDOW as f64);
    report.row("worst 10 s, deliveries", rate, "/s").note(short);
}

/// Rows on what the server did with pushes.
fn posted(report: &mut Report, posted: &Posted) {
    report.row("accepted", posted.accepted as f64 / posted.span, "pushes/s");
    report.row("refused, to come back later", posted.refused as f64 / posted.span, "answers/s");
    if posted.failed > 0 {
        let words = posted.failure.clone().unwrap_or_default();
        report.row("failed, and tried again", posted.failed as f64, "answers").note(words);
    }
}
