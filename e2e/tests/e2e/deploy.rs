//! What lies in deploy/ fits the code and the documents: metrics that exist, alerts that are explained, a
//! unit that is as docs/deploy.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anser_e2e::Cluster;
use anser_server::Config;
use serde_json::Value;

const UNIT: &str = "deploy/anser.service";
const DASHBOARD: &str = "deploy/grafana/anser.json";
const ALERTS: &str = "deploy/prometheus/alerts.yml";
const OPERATIONS: &str = "docs/operations.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words that are names of metrics.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    // A name of a crate, such as in log.filter, has two parts.
    words.filter(|word| word.starts_with("anser_") && word.matches('_').count() > 1).collect()
}

/// The names under which a metric is stored.
fn stored_as(name: &str, kind: &str) -> Vec<String> {
    match kind {
        "counter" => vec![format!("{name}_total")],
        "histogram" => ["bucket", "count", "sum"].map(|part| format!("{name}_{part}")).into(),
        _ => vec![name.to_owned()],
    }
}

/// Whoever looks at a metric that does not exist sees an empty panel, or an alert that never fires.
#[test]
fn every_metric_in_deploy_and_its_manual_exists() {
    let scrape = Cluster::start(&[]).metrics();
    let types = scrape.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: BTreeMap<&str, &str> = types.collect();
    let all: BTreeMap<&str, Vec<String>> =
        types.into_iter().map(|(name, kind)| (name, stored_as(name, kind))).collect();
    let stored: BTreeSet<&str> = all.values().flatten().map(String::as_str).collect();
    for file in [DASHBOARD, ALERTS] {
        let text = read(file);
        let wrong: Vec<&str> = metrics_in(&text).into_iter().filter(|name| !stored.contains(name)).collect();
        assert!(wrong.is_empty(), "{file}: these are no metrics (counters end in _total): {wrong:?}");
    }
    // A sentence may speak of a histogram as a whole.
    let manual = read(OPERATIONS);
    let known = |name: &&str| stored.contains(name) || all.contains_key(name);
    let wrong: Vec<&str> = metrics_in(&manual).into_iter().filter(|name| !known(name)).collect();
    assert!(wrong.is_empty(), "{OPERATIONS}: these are no metrics: {wrong:?}");
    // And what there is, can be seen.
    let shown = read(DASHBOARD);
    let shown = metrics_in(&shown);
    let unseen: Vec<&&str> = all
        .iter()
        .filter(|(_, names)| !names.iter().any(|name| shown.contains(&**name)))
        .map(|(name, _)| name)
        .collect();
    assert!(unseen.is_empty(), "{DASHBOARD} shows nothing of {unseen:?}: give them a panel");
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("it is JSON");
    assert_eq!((&dashboard["uid"], &dashboard["title"]), (&"anser".into(), &"Anser".into()));
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "panels share an id");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} leaves the grid");
        for (x, y) in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert((x, y)), "{title} lies over another panel");
        }
        let targets = panel["targets"].as_array();
        assert_eq!(targets.is_none(), panel["type"] == "row", "{title}");
        for target in targets.into_iter().flatten() {
            let expr = target["expr"].as_str().unwrap();
            assert!(expr.contains("{job=\"$job\",instance=~\"$instance\""), "{title} shows all jobs: {expr}");
        }
    }
}

/// One rule of alerts.yml.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    text: String,
}

fn alerts() -> Vec<Alert> {
    let text = read(ALERTS);
    let mut alerts: Vec<Alert> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            alerts.push(Alert { name: name.to_owned(), ..Alert::default() });
        } else if let Some(alert) = alerts.last_mut() {
            alert.text.push_str(line.trim());
            alert.text.push('\n');
        }
    }
    assert!(alerts.len() > 10, "{ALERTS} has no alerts");
    alerts
}

#[test]
fn every_alert_is_whole_and_explained() {
    let manual = read(OPERATIONS);
    let explained: BTreeSet<&str> =
        manual.lines().filter_map(|line| line.strip_prefix("### Anser")).collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|alert| &alert.name["Anser".len()..]).collect();
    assert_eq!(names.len(), alerts.len(), "alerts share a name");
    assert_eq!(explained, names, "the sections ### Anser... of {OPERATIONS} are not the alerts of {ALERTS}");
    for Alert { name, text } in &alerts {
        for part in
            ["expr: ", "for: ", "labels: { severity: ", "annotations:\n", "summary: \"", "description: \""]
        {
            assert_eq!(text.matches(part).count(), 1, "{name}: {part:?} once, please");
        }
        assert!(
            text.contains("severity: page }") || text.contains("severity: ticket }"),
            "{name}: page or ticket?"
        );
        // What is found, a colon, and what to do.
        let summary = text.lines().find_map(|line| line.strip_prefix("summary: ")).unwrap();
        assert!(summary.contains(": "), "{name}: the summary does not say what to do: {summary}");
        let expr = text.split("\nfor: ").next().unwrap();
        for (at, _) in expr.match_indices("anser_") {
            let counter = expr[at..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let rated = expr[..at].ends_with("rate(");
            assert!(rated || !counter.ends_with("_total"), "{name}: {counter} only grows: take its rate");
        }
    }
}

/// Settings whose values the rules repeat.
#[test]
fn alerts_know_the_defaults() {
    let (text, comet) = (read(ALERTS), Config::default().comet);
    assert!(
        text.contains(&format!("> 0.8 * {}", comet.outbound_budget)),
        "comet.outbound_budget has changed"
    );
    assert!(
        text.contains(&format!("backlog_deliveries > {}", comet.backlog / 2)),
        "comet.backlog has changed"
    );
}

/// The options of the unit, in the order of the file.
fn options(unit: &str) -> Vec<(&str, &str)> {
    let lines = unit.lines().filter(|line| !line.starts_with(['#', '[']));
    lines.filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn the_unit_is_as_the_documents_say() {
    let (unit, document) = (read(UNIT), read("docs/deploy.md"));
    let options = options(&unit);
    let value = |name: &str| options.iter().find(|(option, _)| *option == name).map(|(_, value)| *value);
    let (_, section) =
        document.split_once("\n## systemd\n").expect("docs/deploy.md has a section on systemd");
    let section = section.split("\n## ").next().unwrap();
    let said = section.split('`').skip(1).step_by(2).filter_map(|code| code.split_once('='));
    let said: Vec<(&str, &str)> = said.filter(|(name, _)| name.starts_with(char::is_uppercase)).collect();
    for (name, said) in said.iter().filter(|(name, _)| !name.starts_with("ANSER_")) {
        assert!(
            options.contains(&(*name, *said)),
            "docs/deploy.md says {name}={said}, {UNIT} {:?}",
            value(name)
        );
    }
    for name in ["LimitNOFILE", "TimeoutStopSec", "DynamicUser", "RestartPreventExitStatus"] {
        assert!(said.iter().any(|(known, _)| *known == name), "docs/deploy.md does not explain {name}");
    }
    // A drain and the end of the API have the time they need, and a second to spare.
    let stop = Duration::from_secs(value("TimeoutStopSec").unwrap().parse().unwrap());
    assert!(
        stop > Config::default().comet.drain_limit.0 + Duration::from_secs(3),
        "TimeoutStopSec is too short"
    );
    assert_eq!(value("ExecStart"), Some("/usr/local/bin/anser up --data %S/anser"));
    let exits = anser_server::exit::TABLE.iter().map(|(exit, _)| (*exit as u8).to_string());
    let exits: Vec<String> = exits.collect();
    for code in value("RestartPreventExitStatus").unwrap().split(' ') {
        assert!(exits.iter().any(|exit| exit == code), "anser never ends with {code}");
    }
}

/// What a tool says of a file, if the machine has the tool: whether it succeeds, and its words.
fn tool(name: &str, arguments: &[&str], file: &Path) -> Option<(bool, String)> {
    let output = Command::new(name).args(arguments).arg(file).stdin(Stdio::null()).output();
    let Ok(output) = output else {
        skipped(&format!("{name} is not on this machine"));
        return None;
    };
    let words = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&words).into_owned()))
}

#[expect(clippy::print_stderr, reason = "what a machine cannot run is told")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

#[test]
fn systemd_takes_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anser.service");
    // The binary has to exist for it; any does.
    let program = std::env::current_exe().unwrap();
    let unit = read(UNIT).replace("/usr/local/bin/anser", program.to_str().unwrap());
    fs::write(&path, unit).unwrap();
    if let Some((taken, words)) = tool("systemd-analyze", &["verify"], &path) {
        // Other units of the machine may have faults of their own.
        let ours: Vec<&str> = words.lines().filter(|line| line.contains("anser")).collect();
        assert!(taken && ours.is_empty(), "{words}");
    }
}

#[test]
fn prometheus_takes_the_rules() {
    for (what, file) in [("rules", ALERTS), ("config", "deploy/prometheus/prometheus.yml")] {
        if let Some((taken, words)) = tool("promtool", &["check", what], &root().join(file)) {
            assert!(taken, "{words}");
        }
    }
}
