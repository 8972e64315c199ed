//! Disks that fail, fill up and rot; a process that is killed while its disk lives.

use std::fs;
use std::path::Path;

use anser_e2e::{Cluster, Cut, Power, Process, Transport, eventually, eventually_eq};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::disk::{age, change, segments};
use super::look::look;
use super::world::{End, World};

/// What the disk has lost after a failure nobody knows: the process ends, and says so. Nothing that was
/// answered is lost, and nothing is answered that came later.
#[test]
fn a_failed_write_or_sync_ends_the_server() {
    for (place, nth) in
        [("segment.sync", 9), ("segment.write", 9), ("segment.prepare-sync", 3), ("segment.rename", 2)]
    {
        let Some(power) = Power::new(nth) else { return };
        let mut world = World::new(power, nth);
        let report = world.live(&[Cut::at(place, nth).fail()], End::Cut).expect("nothing is lost");
        assert_eq!(report.struck().len(), 1, "{place} did not fail");
        let ended = world.ended.take().expect("it has ended");
        assert_eq!(ended.code, Some(71), "{place}: {}", ended.stderr);
        let told = ended.stderr.lines().find(|line| line.starts_with("anser: ")).expect("it says why");
        assert!(told.starts_with("anser: the disk of the push log has failed ("), "{told}");
        assert!(told.contains("Input/output error"), "{told}");
        assert!(told.ends_with(": look at the disk, then start it again"), "{told}");
        world.come_back().expect("nothing is lost");
    }
}

/// A position that cannot be noted, or an old segment that cannot be removed, is no reason to end.
#[test]
fn other_failures_are_told_and_it_goes_on() {
    for place in ["position.write", "segment.trim"] {
        let Some(mut power) = Power::new(5) else { return };
        let cut = Cut::at(place, if place == "segment.trim" { 1 } else { 3 }).fail();
        let settings = ["store.segment_bytes=65536", "store.retention=0ms"];
        let mut life = power.start(Cluster::builder().set(&settings), &[cut]);
        let cluster = life.cluster().expect("it starts");
        let mut client = cluster.login(Transport::Tcp, r#"{"key":"one","accepts":[1000]}"#);
        let mut api = cluster.api();
        let body = "x".repeat(20_000);
        let told = match place {
            "position.write" => "cannot note how far the push log is done",
            _ => "cannot remove an old segment",
        };
        eventually(told, || {
            api.push_keys(&["one"], 1000, &body);
            assert_eq!(client.push().1, body);
            life.process().stderr().contains(told).then_some(())
        });
        api.push_keys(&["one"], 1000, "on");
        assert_eq!(client.push().1, "on");
        let report = power.cut(life);
        assert_eq!(report.struck().len(), 1, "{place} did not fail");
    }
}

#[test]
fn a_log_that_cannot_be_read_is_told_at_the_start() {
    let Some(power) = Power::new(3) else { return };
    let mut world = World::new(power, 0);
    world.live(&[], End::Kill).expect("nothing goes wrong");
    let count = segments(&world.power.home()).len() as u64;
    // The first head, the whole of the last segment, what is read back; the positions.
    for (place, nth, told) in [
        ("segment.read", 1, "cannot open the push log: "),
        ("segment.read", count + 1, "cannot open the push log: "),
        ("segment.read", count + 2, "cannot read the push log ("),
        ("position.read", 1, "cannot open the push log: the positions of consumers in "),
    ] {
        let mut life = world.power.start(Cluster::builder(), &[Cut::at(place, nth).fail()]);
        assert!(life.cluster().is_none(), "{place}:{nth}: it starts all the same");
        let ended = life.process().wait();
        let line = ended.stderr.lines().last().unwrap_or_default();
        assert_eq!(ended.code, Some(71), "{place}:{nth}: {}", ended.stderr);
        assert!(line.starts_with(&format!("anser: {told}")), "{place}:{nth}: {line}");
        assert!(line.contains("Input/output error"), "{place}:{nth}: {line}");
        world.power.survive(life);
    }
    world.come_back().expect("nothing is lost");
}

/// A push that found no room is refused, in words; what was accepted is delivered and kept; it goes on by
/// itself when there is room.
#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let Some(mut power) = Power::new(4) else { return };
    let life = power.start(Cluster::builder().set(&["store.segment_bytes=65536"]), &[]);
    let cluster = life.cluster().expect("it starts");
    let mut client = cluster.login(Transport::Tcp, r#"{"key":"one","accepts":[1000]}"#);
    let mut api = cluster.api();
    let mut accepted = Vec::new();
    let mut push = |body: String| {
        let answer = api.request("POST", "/goim/push/keys?operation=1000&keys=one", &[], body.as_bytes());
        if answer.status() == 200 {
            accepted.push(body);
        }
        answer
    };
    assert_eq!(push("first".to_owned()).status(), 200);
    power.fill();
    let mut count = 0;
    let refused = eventually("a full disk", || {
        count += 1;
        let answer = push(format!("{count}:{}", "x".repeat(1000)));
        (answer.status() != 200).then_some(answer)
    });
    assert!(count > 60, "the segments that are there are used: {count}");
    assert_eq!(refused.status(), 503, "{refused}");
    let told: Value = serde_json::from_str(refused.text()).expect("it is goim's envelope");
    assert_eq!(told["code"], -500);
    assert!(
        told["message"].as_str().is_some_and(|told| told.contains("the disk of the log has no room left"))
    );
    assert!(refused.header("retry-after").is_some(), "{refused}");
    let body = json!({"to": {"devices": ["one"]}, "operation": 1000, "body": "x".repeat(1000)}).to_string();
    let problem = cluster.api().request(
        "POST",
        "/api/v1/push",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    );
    assert_eq!(problem.status(), 503, "{problem}");
    assert!(problem.text().contains("the disk of the log has no room left"), "{problem}");
    power.free();
    eventually("room", || {
        count += 1;
        (push(format!("{count}: again")).status() == 200).then_some(())
    });
    for body in &accepted {
        assert_eq!(client.push().1, *body);
    }
    let mut life = life;
    life.kill();
    assert!(life.process().stderr().contains("no room for the next segment of the push log"));
    power.cut(life);
    let kept: Vec<String> =
        look(&power.home()).expect("it is whole").into_iter().map(|record| record.body).collect();
    assert_eq!(kept, accepted);
}

/// What was accepted and not reported as written goes to keys that come back in time, in order, and not to
/// those that come later.
#[test]
fn after_a_kill_keys_that_come_back_get_what_they_missed() {
    let Some(power) = Power::new(6) else { return };
    let mut world = World::new(power, 0);
    world.live(&[], End::Kill).expect("nothing goes wrong");
    assert!(!world.promises.pending(super::DEAF).is_empty(), "all was written before");
    world.come_back().expect("it gets all");
}

#[test]
fn after_a_kill_keys_that_come_late_get_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let settings = ["job.return_within=1s", "comet.workers=1", "comet.send_buffer=4096"];
    let start = || Cluster::builder().data(folder.path()).set(&settings).start();
    let mut cluster = start();
    let token = r#"{"key":"one","accepts":[1000]}"#;
    let client = anser_e2e::Dial::new(&cluster, Transport::Tcp).receive_buffer(4096).connect();
    let mut client = client;
    client.login(token);
    let body = "x".repeat(2000);
    for _ in 0..60 {
        cluster.push_keys(&["one"], 1000, &body);
    }
    cluster.signal(Signal::KILL);
    cluster.wait();
    let cluster = start();
    let replayed = cluster.metrics().get("job_replayed");
    assert!(replayed > 0, "all was written before");
    eventually_eq("they are given up", replayed, || cluster.metrics().labelled("job_done", "not_back"));
    let mut client = cluster.login(Transport::Tcp, token);
    cluster.push_keys(&["one"], 1000, "new");
    assert_eq!(client.push(), (1000, "new".to_owned()));
}

/// A server that was killed with these pushes to a room in its log.
fn killed(data: &Path, bodies: &[&str]) {
    let mut cluster = Cluster::builder().data(data).start();
    for body in bodies {
        let key = format!("key-{body}");
        assert_eq!(repeat(&cluster, &key, body)["repeated"], false);
    }
    cluster.signal(Signal::KILL);
    cluster.wait();
}

/// Pushes to a room under an idempotency key.
fn repeat(cluster: &Cluster, key: &str, body: &str) -> Value {
    let request = json!({"to": {"rooms": ["live://1"]}, "operation": 1000, "body": body}).to_string();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    let answer = cluster.api().request("POST", "/api/v1/push", &headers, request.as_bytes());
    assert_eq!(answer.status(), 200, "{answer}");
    let answer: Value = serde_json::from_str(answer.text()).expect("the API answers JSON");
    answer["messages"][0].clone()
}

#[test]
fn a_folder_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    killed(folder.path(), &["one"]);
    let newest = segments(folder.path()).pop().expect("there is a segment");
    age(&newest);
    let before = fs::read(&newest).expect("it is there");
    let ended = Cluster::builder().data(folder.path()).fail();
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    let told = ended.stderr.lines().last().unwrap_or_default();
    assert!(told.starts_with("anser: the push log was written by a newer anser ("), "{told}");
    assert!(told.contains("has format 2; this version knows up to 1"), "{told}");
    assert!(told.ends_with("): run that version, or name another folder with --data"), "{told}");
    assert_eq!(fs::read(&newest).expect("it is there"), before, "it is left alone");
    let looked = Process::run(&["log", "--data", &folder.path().display().to_string()]);
    assert_eq!((looked.code, looked.stderr), (Some(78), format!("{told}\n")));
}

/// A flipped bit costs one push, which is told and counted.
#[test]
fn a_flipped_bit_is_told_and_costs_one_push() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let bodies = ["one", "two", "three", "four", "five"];
    killed(folder.path(), &bodies);
    let newest = segments(folder.path()).pop().expect("there is a segment");
    change(&newest, |bytes| {
        let at = bytes.windows(5).position(|window| window == b"three").expect("it is there");
        bytes[at] ^= 1;
    });
    let data = folder.path().display().to_string();
    let looked = Process::run(&["log", "verify", "--data", &data]);
    assert_eq!(looked.code, Some(65), "{}", looked.stderr);
    assert!(looked.stdout.contains("pushes    4, ") && looked.stdout.contains("damage    1\n"), "{looked:?}");
    let looked = Process::run(&["log", "--json", "--body", "--data", &data]);
    assert_eq!((looked.code, looked.stdout.lines().count()), (Some(65), 4), "{looked:?}");

    let mut cluster = Cluster::builder().data(folder.path()).start();
    for body in bodies {
        assert_eq!(repeat(&cluster, &format!("key-{body}"), body)["repeated"], body != "three", "{body}");
    }
    let said = cluster.process().stderr();
    assert!(said.contains("the log is damaged here"), "{said}");
    assert!(said.contains("pushes in the log cannot be read, and are lost damaged=1"), "{said}");
}

#[test]
fn a_folder_has_one_process() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let cluster = Cluster::builder().data(folder.path()).start();
    let ended = Cluster::builder().data(folder.path()).fail();
    let data = folder.path().display().to_string();
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("another anser uses the data folder {data}: stop it")));
    for words in [&["log"][..], &["log", "verify"]] {
        let looked = Process::run(&[words, &["--data", &data]].concat());
        assert_eq!(looked.code, Some(69), "{}", looked.stderr);
        assert!(looked.stderr.contains(&format!("a server uses the data folder {data}: stop it first")));
    }
    drop(cluster);
    assert_eq!(Process::run(&["log", "verify", "--data", &data]).code, Some(0));
}

/// A start was killed when it had just named a secret; the next one uses what it finds. Then the power goes.
#[test]
fn a_secret_of_a_killed_start_stays_the_same() {
    for (place, file) in [("key.rename", "push.key"), ("other.rename", "cluster.secret")] {
        for seed in 0..6 {
            let Some(mut power) = Power::new(seed) else { return };
            let mut life = power.start(Cluster::builder(), &[Cut::at(place, 1)]);
            life.wait_killed();
            power.survive(life);
            let path = power.home().join(file);
            let life = power.start(Cluster::builder(), &[]);
            assert!(life.cluster().is_some(), "it does not start");
            let used = fs::read_to_string(&path).expect("it is there");
            power.cut(life);
            assert_eq!(fs::read_to_string(&path).unwrap_or_default(), used, "{file} with seed {seed}");
        }
    }
}
