//! What operators ask of a running server: what became of a message, and the steps of somebody.

use std::fs;
use std::path::Path;

use anser_e2e::{Cluster, Dial, Ended, Process, Transport, eventually, eventually_eq};
use anser_wire::operation::{CHANGE_ROOM, HEARTBEAT, HEARTBEAT_REPLY};
use serde_json::{Value, json};

const TOKEN: &str = r#"{"mid":7,"key":"phone-7","room_id":"live://1","accepts":[1000]}"#;

/// Pushes over the API; the message's number.
fn push(cluster: &Cluster, to: &Value, operation: i32, more: &Value) -> String {
    let mut body = json!({"to": to, "operation": operation, "body": "secret-body"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let headers = [("Content-Type", "application/json")];
    let answer = cluster.api().request("POST", "/api/v1/push", &headers, body.to_string().as_bytes());
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    answer["messages"][0]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn ask(cluster: &Cluster, arguments: &[&str]) -> Ended {
    let http = format!("http://{}", cluster.http());
    let data = cluster.data().display().to_string();
    let arguments = [arguments, &["--http", &http, "--data", &data]].concat();
    Process::run(&arguments)
}

fn why(cluster: &Cluster, subject: [&str; 2], id: &str) -> String {
    let ended = ask(cluster, &["why", subject[0], subject[1], id]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{}", ended.stdout);
    ended.stdout
}

/// Waits until it says so: comets report what they wrote a tenth of a second later.
#[track_caller]
fn becomes(cluster: &Cluster, subject: [&str; 2], id: &str, expected: &str) -> String {
    eventually(expected, || {
        let said = why(cluster, subject, id);
        said.contains(expected).then_some(said)
    })
}

#[test]
fn each_outcome() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.login(Transport::Tcp, TOKEN);
    let phone = ["key", "phone-7"];
    let devices = json!({"devices": ["phone-7", "phone-8"]});

    let id = push(&cluster, &devices, 1000, &json!({}));
    client.push();
    let said = becomes(&cluster, phone, &id, "it was written to the connection");
    let first = said.lines().next().unwrap();
    assert!(first.contains("operation 1000, 11 bytes, to 2 devices, of which 1 connected."), "{said}");
    assert!(said.contains("phone-7 is connected to comet "), "{said}");
    assert!(!said.contains("secret-body"), "{said}");
    let said = becomes(&cluster, ["user", "7"], &id, "it was written to the connection");
    assert!(said.contains("phone-7 on comet "), "{said}");
    becomes(&cluster, ["key", "phone-8"], &id, "phone-8 was not connected when it was accepted");
    becomes(&cluster, ["key", "phone-9"], &id, "It was not for phone-9.");
    becomes(&cluster, ["room", "live://1"], &id, "It was not for room live://1.");

    let id = push(&cluster, &devices, 7000, &json!({}));
    let filtered = "as the connection did not take operation 7000; it does not now either.";
    becomes(&cluster, phone, &id, filtered);

    let id = push(&cluster, &json!({"rooms": ["live://1"]}), 7000, &json!({}));
    client.push();
    becomes(&cluster, phone, &id, "who that was is not noted, and phone-7 is one now.");
    becomes(
        &cluster,
        ["room", "live://1"],
        &id,
        "it was written to every member that the room had there then.",
    );
    let id = push(&cluster, &json!({"all": {}}), 1000, &json!({}));
    client.push();
    becomes(
        &cluster,
        phone,
        &id,
        "that took operation 1000 then; who that was is not noted, and phone-7 takes it",
    );

    let next: u64 = id.parse().unwrap();
    let said = why(&cluster, phone, &(next + 1_000_000).to_string());
    assert!(said.contains("was never given: the next message has number"), "{said}");
    let said = why(&cluster, phone, &(next + 1).to_string());
    assert!(said.contains("is not in the log: no message has this number, or it has been removed"), "{said}");

    let json = ask(&cluster, &["why", "key", "phone-7", &id, "--json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["message"]["deliveries"][0]["outcome"], "written_to_takers");
}

/// One who reads nothing: what finds no place in its queue is dropped, what waits there goes with it.
#[test]
fn a_slow_reader() {
    let cluster = Cluster::start(&["comet.send_buffer=4096", "comet.queue=2", "comet.queue_bytes=2000000"]);
    let mut client = Dial::new(&cluster, Transport::Tcp).receive_buffer(4096).connect();
    client.login(TOKEN);
    let phone = ["key", "phone-7"];
    let to = json!({"devices": ["phone-7"]});
    let first = push(&cluster, &to, 1000, &json!({"body": "x".repeat(900_000)}));
    becomes(
        &cluster,
        phone,
        &first,
        "waits behind the socket, which takes no more: the client reads too slowly.",
    );
    let second = push(&cluster, &to, 1000, &json!({}));
    becomes(&cluster, phone, &second, "waits behind the socket");
    let third = push(&cluster, &to, 1000, &json!({}));
    becomes(&cluster, phone, &third, "as the connection's queue was full: the client read too slowly");
    drop(client);
    for id in [first, second] {
        let said = becomes(&cluster, phone, &id, "as the connection ended before its turn");
        assert!(said.contains("phone-7 is not connected now."), "{said}");
    }
}

/// One that is over when the worker comes to it, which is a matter of luck.
#[test]
fn a_push_that_expires() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.login(Transport::Tcp, TOKEN);
    let said = eventually("a push that expires", || {
        let id = push(&cluster, &json!({"devices": ["phone-7"]}), 1000, &json!({"expires_in": 0.000_01}));
        let said = why(&cluster, ["key", "phone-7"], &id);
        said.contains("as it had expired").then_some(said)
    });
    assert!(said.lines().next().unwrap().contains("; it expires at "), "{said}");
    assert_eq!(client.request(HEARTBEAT, "").op, HEARTBEAT_REPLY);
}

#[test]
fn questions_that_cannot_be_answered() {
    let cluster = Cluster::start(&[]);
    let http = format!("http://{}", cluster.http());
    let ended = Process::run(&["why", "key", "a", "5", "--http", &http]);
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.contains("wants a push API key"), "{}", ended.stderr);
    let long = "x".repeat(300);
    let ended = ask(&cluster, &["why", "key", &long, "5"]);
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.contains("a key of 300 bytes is longer than 256"), "{}", ended.stderr);
    let ended = Process::run(&["why", "key", "a", "5", "--http", "http://127.0.0.1:9"]);
    assert_eq!(ended.code, Some(69));
}

/// Lines of the log about somebody who is traced.
fn traced(log: &Path, key: &str) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    let own = text.lines().filter(|line| line.contains("anser::trace") && line.contains(key));
    own.map(str::to_owned).collect()
}

/// Does what a client can do, until its end.
fn steps(cluster: &Cluster, log: &Path, ends: usize) {
    let mut client = cluster.login(Transport::Tcp, TOKEN);
    client.request(CHANGE_ROOM, "live://2");
    client.heartbeat();
    let to = json!({"devices": ["phone-7"]});
    push(cluster, &to, 1000, &json!({}));
    client.push();
    push(cluster, &to, 7000, &json!({}));
    push(cluster, &json!({"rooms": ["live://2"]}), 1000, &json!({}));
    client.push();
    drop(client);
    eventually_eq("one is left", 1, || cluster.metrics().get("comet_connections"));
    eventually_eq("its end", ends, || {
        traced(log, "phone-7").iter().filter(|line| line.contains("closed: ")).count()
    });
}

#[test]
fn a_trace_tells_each_step_until_it_ends() {
    for (subject, name) in [("key", "phone-7"), ("user", "7")] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let cluster = Cluster::builder().stderr(&log).start();
        let _other = cluster.login(Transport::Tcp, r#"{"mid":8,"key":"phone-8","accepts":[1000]}"#);
        let there = cluster.login(Transport::Tcp, TOKEN);
        let on = ask(&cluster, &["trace", subject, name, "--for", "5m"]);
        assert_eq!(on.code, Some(0), "{}", on.stderr);
        assert!(on.stdout.contains("is traced until"), "{}", on.stdout);
        // One who is there already is traced from now on, one who comes from its login on.
        drop(there);
        eventually("its end", || {
            traced(&log, "phone-7").iter().any(|line| line.contains("closed: ")).then_some(())
        });
        steps(&cluster, &log, 2);
        let lines = traced(&log, "phone-7");
        for said in [
            "logged in from 127.0.0.1:",
            "joined room live://1",
            "left room live://1",
            "joined room live://2",
            "packet of operation 12 received, 8 bytes",
            "packet of operation 2 received, 0 bytes",
            "push of operation 1000 queued as number 1",
            "push of operation 1000 written, ",
            "push of operation 7000 dropped: the connection does not take this operation",
        ] {
            assert!(lines.iter().any(|line| line.contains(said)), "{said} is not in {lines:#?}");
        }
        let written = lines.iter().filter(|line| line.contains("push of operation 1000 written")).count();
        assert_eq!(written, 2, "to the key and to the room");
        assert!(lines.iter().filter(|line| line.contains("push of")).all(|line| line.contains("position")));
        let text = fs::read_to_string(&log).unwrap();
        assert!(!text.contains("secret-body") && traced(&log, "phone-8").is_empty(), "{text}");
        let accepted = text.contains("push of operation 1000 accepted, 11 bytes, for comet ");
        assert_eq!(accepted, subject == "key", "{text}");
        let off = ask(&cluster, &["trace", subject, name, "--off"]);
        assert_eq!((off.code, &*off.stdout), (Some(0), "Nobody is traced.\n"), "{}", off.stderr);
        steps(&cluster, &log, 2);
        // What is said later is behind it in the log.
        ask(&cluster, &["trace", "key", "phone-8", "--for", "1m"]);
        cluster.push_keys(&["phone-8"], 1000, "x");
        eventually("a line of another", || (!traced(&log, "phone-8").is_empty()).then_some(()));
        assert_eq!(traced(&log, "phone-7").len(), lines.len());
    }
}
