//! `anser doctor`, as an operator runs it: before the first start, beside a running server, when something
//! is wrong.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anser_e2e::{Cluster, Ended, Process};
use rustix::process::{Signal, geteuid};
use serde_json::Value;

/// Settings with which a doctor finds no address taken.
const FREE: [&str; 5] = [
    "comet.tcp=127.0.0.1:0",
    "comet.websocket=127.0.0.1:0",
    "http.bind=127.0.0.1:0",
    "cluster.comet_bind=127.0.0.1:0",
    "cluster.logic_bind=127.0.0.1:0",
];

fn arguments<'a>(data: &'a Path, settings: &'a [impl AsRef<str>]) -> Vec<&'a str> {
    let mut arguments = vec!["doctor", "--json", "--data", data.to_str().unwrap()];
    for setting in settings {
        arguments.extend(["--set", setting.as_ref()]);
    }
    arguments
}

/// What a doctor said, and its exit code, which it says as well.
#[track_caller]
fn report(ended: &Ended) -> (Value, i32) {
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let code = ended.code.unwrap();
    assert_eq!((&report["exit"], &*ended.stderr), (&code.into(), ""), "{ended:?}");
    (report, code)
}

/// The findings of one check: level and words.
fn findings<'a>(report: &'a Value, check: &str) -> Vec<(&'a str, &'a str)> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    findings.map(|finding| (finding["level"].as_str().unwrap(), finding["found"].as_str().unwrap())).collect()
}

/// That a check found this.
#[track_caller]
fn found(report: &Value, check: &str, level: &str, said: &str) {
    let findings = findings(report, check);
    let there = findings.iter().any(|(found, words)| *found == level && words.contains(said));
    assert!(there, "no {level} with {said:?} of {check}: {findings:#?}");
}

/// Every finding but an ok one says what to do.
#[track_caller]
fn all_have_remedies(report: &Value) {
    for finding in report["findings"].as_array().unwrap() {
        let remedy = finding["do"].as_str().unwrap_or_default();
        assert_eq!(finding["level"] == "ok", remedy.is_empty(), "{finding}");
    }
}

/// Nothing stands in the way, and the folder is as it was.
#[test]
fn a_good_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let (report, code) = report(&Process::run(&arguments(folder.path(), &FREE)));
    assert_eq!(code, 0, "{report:#}");
    found(&report, "configuration", "ok", "no file; 5 keys are set");
    found(&report, "data folder", "ok", "mode 0700), not in use");
    found(&report, "server", "ok", "none runs here");
    assert_eq!(findings(&report, "ports").len(), 5);
    assert!(findings(&report, "disk")[0].1.starts_with("an append is durable after"), "{report:#}");
    all_have_remedies(&report);
    let promises = report["promises"].as_array().unwrap();
    let reached = promises.iter().find(|promise| promise["promise"] == "reached from").unwrap();
    assert_eq!(reached["answer"], "this machine only");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
}

/// A folder that does not exist yet is not made; other people's eyes are told of.
#[test]
fn no_folder_and_an_open_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (missing, code) = report(&Process::run(&arguments(&data, &FREE)));
    assert_eq!(code, 0, "{missing:#}");
    found(&missing, "data folder", "note", "does not exist, and can be made");
    assert!(!data.exists());
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    fs::write(data.join("push.key"), "secret").unwrap();
    fs::set_permissions(data.join("push.key"), Permissions::from_mode(0o644)).unwrap();
    let (open, code) = report(&Process::run(&arguments(&data, &FREE)));
    assert_eq!(code, 78, "{open:#}");
    found(&open, "data folder", "warning", "other users may look into it");
    found(&open, "push key", "problem", "mode 0644: other users may read it");
    assert!(!open.to_string().contains("secret"));
}

/// Root may write everywhere, so the doctor runs as somebody else then.
#[test]
fn a_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o555)).unwrap();
    let inside = data.join("deeper");
    for (data, said, expected) in
        [(&data, "cannot be written by user", 71), (&inside, "does not exist, and user", 73)]
    {
        let arguments = arguments(data, &FREE);
        let ended = if geteuid().is_root() {
            Process::run_as(65_534, folder.path(), &arguments)
        } else {
            Some(Process::spawn(folder.path(), &arguments).wait())
        };
        let Some(ended) = ended else {
            skipped("a user that is not root cannot run the binary where it lies");
            return;
        };
        let (report, code) = report(&ended);
        assert_eq!(code, expected, "{report:#}");
        found(&report, "data folder", "problem", said);
        all_have_remedies(&report);
    }
}

#[expect(clippy::print_stderr, reason = "what a machine cannot run is told")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// A port that somebody else holds is a problem that names the process.
#[test]
fn a_taken_port() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("comet.tcp={}", holder.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let settings = [&taken, FREE[1], FREE[2], FREE[3], FREE[4]];
    let (told, code) = report(&Process::run(&arguments(folder.path(), &settings)));
    assert_eq!(code, 69, "{told:#}");
    found(&told, "ports", "problem", "(Address already in use)");
    found(&told, "ports", "problem", &format!("process {}, holds it", std::process::id()));
    // The same for the API, where a server is looked for.
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("http.bind={}", api.local_addr().unwrap());
    let settings = [FREE[0], FREE[1], &taken, FREE[3], FREE[4]];
    let (told, code) = report(&Process::run(&arguments(folder.path(), &settings)));
    assert_eq!(code, 69, "{told:#}");
    found(&told, "ports", "problem", &taken.replace('=', " = "));
    assert_eq!(findings(&told, "server"), []);
}

#[test]
fn a_low_file_limit() {
    let folder = tempfile::tempdir().unwrap();
    let ended = Process::spawn_with_files(600, folder.path(), &arguments(folder.path(), &FREE)).wait();
    let (report, code) = report(&ended);
    assert_eq!(code, 0, "{report:#}");
    found(&report, "open files", "warning", "may open 600 (soft limit 600, hard 600): 88 connections");
    all_have_remedies(&report);
}

/// All that is wrong with a configuration, and what does not depend on it.
#[test]
fn a_wrong_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("anser.toml"), "[comet]\nqueue = 0\n[comets]\n").unwrap();
    let (report, code) = report(&Process::run(&arguments(folder.path(), &[""; 0])));
    assert_eq!(code, 78, "{report:#}");
    found(&report, "configuration", "problem", "anser.toml:2: comet.queue = 0 is too small");
    found(&report, "configuration", "problem", "anser.toml:3: unknown section [comets]");
    assert_eq!(findings(&report, "disk").len(), 1);
    assert_eq!(findings(&report, "ports"), []);
    assert_eq!(report["promises"].as_array().unwrap().len(), 0);
    all_have_remedies(&report);
}

/// Beside a server that runs, and beside one that was started with other settings.
#[test]
fn a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut cluster = Cluster::builder().data(&data).files(3000).start();
    let settings = [
        format!("comet.tcp={}", cluster.tcp()),
        format!("comet.websocket={}", cluster.websocket()),
        format!("http.bind={}", cluster.http()),
        FREE[3].to_owned(),
        FREE[4].to_owned(),
    ];
    let _client = cluster.login(anser_e2e::Transport::Tcp, "{}");
    let (told, code) = report(&Process::run(&arguments(&data, &settings)));
    assert_eq!(code, 0, "{told:#}");
    let pid = cluster.process().id();
    let version = env!("CARGO_PKG_VERSION");
    let runs = format!("anser {version} runs at {}, healthy and ready; clients connected: 1", cluster.http());
    found(&told, "server", "ok", &runs);
    found(&told, "data folder", "ok", &format!("in use by process {pid}"));
    found(&told, "open files", "ok", &format!("(process {pid}) may open 3000"));
    assert_eq!(findings(&told, "ports").iter().filter(|(level, _)| *level == "ok").count(), 5, "{told:#}");
    all_have_remedies(&told);

    let (elsewhere, code) = report(&Process::run(&arguments(&data, &FREE)));
    assert_eq!(code, 0, "{elsewhere:#}");
    found(&elsewhere, "server", "warning", "uses the data folder, but nothing listens on http.bind");
    let (other, _) = report(&Process::run(&arguments(&folder.path().join("other"), &settings)));
    found(&other, "server", "warning", "does not use this data folder");

    // It stands still, and so does what it would answer.
    cluster.signal(Signal::STOP);
    let (stopped, code) = report(&Process::run(&arguments(&data, &settings)));
    cluster.signal(Signal::CONT);
    assert_eq!(code, 69, "{stopped:#}");
    found(&stopped, "server", "problem", &format!("process {pid} uses the data folder and does not answer"));
}

/// What people see, with the exit code and no word on stderr.
#[test]
fn for_people() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let ended = Process::run(&["doctor", "--data", data, "--set", "http.bind=127.0.0.1:0"]);
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.starts_with("ok       configuration  no file; 1 key is set"), "{}", ended.stdout);
    assert!(ended.stdout.contains("\nWhat these settings promise:\n"), "{}", ended.stdout);
}
