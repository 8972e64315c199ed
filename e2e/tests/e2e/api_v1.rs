//! Anser's own push API as back ends see it, and the key that it asks for.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anser_e2e::{Answer, Cluster, Http, Process, Transport};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn send(api: &mut Http, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    let headers = [headers, &[JSON]].concat();
    let answer = api.request("POST", "/api/v1/push", &headers, body.to_string().as_bytes());
    (answer.status(), parsed(&answer))
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(answer.text()).unwrap_or_else(|cause| panic!("{cause}: {answer}"))
}

fn push(api: &mut Http, to: &Value, body: &str) -> Value {
    let (status, answer) = send(api, &[], &json!({"to": to, "operation": 1000, "body": body}));
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn every_target_is_reached() {
    let cluster = Cluster::start(&[]);
    let token = r#"{"mid":7,"key":"phone-7","room_id":"live://1","accepts":[1000]}"#;
    let mut client = cluster.login(Transport::Tcp, token);
    let mut api = cluster.api();
    for (to, target) in [
        (json!({"devices": ["phone-7"]}), "devices"),
        (json!({"users": [7]}), "users"),
        (json!({"rooms": ["live://1"]}), "live://1"),
        (json!({"all": {"speed": 5000}}), "all"),
        (json!({"all": {}}), "all"),
    ] {
        let answer = push(&mut api, &to, target);
        let message = &answer["messages"][0];
        assert_eq!((&message["target"], &message["status"]), (&json!(target), &json!(200)));
        assert!(message["id"].as_str().unwrap().parse::<u64>().is_ok(), "{message}");
        assert_eq!(client.push(), (1000, target.to_owned()));
    }
    let bytes = json!({"to": {"users": [7]}, "operation": 1000, "body_base64": "w7w="});
    assert_eq!(send(&mut api, &[], &bytes).0, 200);
    assert_eq!(client.push(), (1000, "ü".to_owned()));
    let answer = push(&mut api, &json!({"rooms": ["live://0", "live://1"]}), "both");
    assert_eq!(answer["messages"].as_array().unwrap().len(), 2);
    assert_eq!(client.push(), (1000, "both".to_owned()));
}

/// Who is there is counted, and each message has a number of its own.
#[test]
fn receivers_are_counted() {
    let cluster = Cluster::start(&[]);
    let _clients = [("a", 7), ("b", 7), ("c", 8)].map(|(key, mid)| {
        cluster.login(Transport::Tcp, &format!(r#"{{"mid":{mid},"key":"{key}","accepts":[1000]}}"#))
    });
    let mut api = cluster.api();
    let mut ids = Vec::new();
    for (to, connections, absent) in [
        (json!({"devices": ["a", "b", "nobody"]}), json!(2), json!(1)),
        (json!({"users": [7, 8, 9]}), json!(3), json!(1)),
        (json!({"users": [9]}), json!(0), json!(1)),
        (json!({"all": {}}), Value::Null, Value::Null),
    ] {
        let answer = push(&mut api, &to, "x");
        let message = &answer["messages"][0];
        assert_eq!((&message["connections"], &message["absent"]), (&connections, &absent), "{to}");
        ids.push(message["id"].as_str().unwrap().parse::<u64>().unwrap());
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

/// A request that is repeated with its key is answered like the first, and pushed once, also by a server
/// that has started again in between.
#[test]
fn a_repeated_request_is_pushed_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::builder().data(folder.path()).start();
    let token = r#"{"key":"phone-7","room_id":"live://1","accepts":[1000]}"#;
    let mut client = cluster.login(Transport::Tcp, token);
    let body = json!({"to": {"rooms": ["live://1", "live://2"]}, "operation": 1000, "body": "once"});
    let key = ("Idempotency-Key", "order-7-paid");
    let (_, first) = send(&mut cluster.api(), &[key], &body);
    let check = |cluster: &Cluster| {
        let (status, again) = send(&mut cluster.api(), &[key], &body);
        assert_eq!(status, 200, "{again}");
        for n in [0, 1] {
            assert_eq!(again["messages"][n]["id"], first["messages"][n]["id"]);
            assert_eq!(
                (&first["messages"][n]["repeated"], &again["messages"][n]["repeated"]),
                (&json!(false), &json!(true))
            );
        }
        let other = json!({"to": {"rooms": ["live://1", "live://2"]}, "operation": 1000, "body": "twice"});
        let (status, conflict) = send(&mut cluster.api(), &[key], &other);
        assert_eq!((status, &conflict["type"]), (422, &json!("/problems/idempotency-conflict")));
    };
    check(&cluster);
    cluster.push_keys(&["phone-7"], 1000, "last");
    assert_eq!(client.push(), (1000, "once".to_owned()));
    assert_eq!(client.push(), (1000, "last".to_owned()));
    drop(client);
    cluster.signal(rustix::process::Signal::KILL);
    cluster.wait();
    let cluster = Cluster::builder().data(folder.path()).start();
    check(&cluster);
}

/// What is over when it would be written is not written.
#[test]
fn an_end_in_the_past_is_refused() {
    let cluster = Cluster::start(&[]);
    let body =
        json!({"to": {"all": {}}, "operation": 1000, "body": "", "expires_at": "2001-01-01T00:00:00Z"});
    let (status, answer) = send(&mut cluster.api(), &[], &body);
    assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/expires_at")), "{answer}");
    assert_eq!(cluster.metrics().get("comet_pushes"), 0);
}

#[test]
fn mistakes_are_told_with_their_places() {
    let cluster = Cluster::start(&["logic.key=10", "comet.room_name=10", "http.receivers=2"]);
    let mut api = cluster.api();
    for (to, pointer) in [
        (json!({"devices": ["12345678901"]}), "/to/devices/0"),
        (json!({"rooms": ["live://1", "live://4567"]}), "/to/rooms/1"),
        (json!({"users": [0]}), "/to/users/0"),
    ] {
        let (status, answer) = send(&mut api, &[], &json!({"to": to, "operation": 1000, "body": ""}));
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!(pointer)), "{answer}");
    }
    push(&mut api, &json!({"rooms": ["live://456"]}), "the longest name");
    let (status, answer) =
        send(&mut api, &[], &json!({"to": {"users": [1, 2, 3]}, "operation": 1000, "body": ""}));
    assert_eq!((status, &answer["type"]), (413, &json!("/problems/too-large")), "{answer}");
    let answer = api.request("POST", "/api/v1/push", &[JSON], b"{");
    assert_eq!((answer.status(), answer.header("content-type")), (400, Some("application/problem+json")));
}

/// A full queue in the words of this API.
#[test]
fn a_full_queue_asks_to_try_again() {
    let cluster = Cluster::start(&["comet.workers=1", "comet.room_queue=1"]);
    let _clients: Vec<_> = (0..5).map(|_| cluster.login(Transport::Tcp, r#"{"accepts":[1000]}"#)).collect();
    let mut api = cluster.api();
    let slow = json!({"to": {"all": {"speed": 2}}, "operation": 1000, "body": "slow"});
    assert_eq!(send(&mut api, &[], &slow).0, 200);
    let answer = api.request("POST", "/api/v1/push", &[JSON], slow.to_string().as_bytes());
    assert_eq!((answer.status(), &parsed(&answer)["type"]), (429, &json!("/problems/busy")), "{answer}");
    let millis = parsed(&answer)["retry_after_ms"].as_u64().unwrap();
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, millis.div_ceil(1000));
}

/// A key is made at the first start, for nobody else's eyes, and is told nowhere.
#[test]
fn a_key_is_made_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut cluster = Cluster::builder().data(&data).set(&["log.filter=trace"]).start();
    let file = data.join("push.key");
    let key = fs::read_to_string(&file).unwrap();
    assert!(key.starts_with("anser_") && key.trim().len() == 49, "{key}");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert!(cluster.greeting().contains(&format!("  push API key        {}\n", file.display())));
    assert_eq!(cluster.api().request("POST", "/goim/push/all?operation=1", &[], b"x").status(), 200);
    let wrong = [("Authorization", "Bearer anser_this-is-no-key-of-this-server")];
    assert_eq!(cluster.stranger().request("POST", "/goim/push/all?operation=1", &wrong, b"x").status(), 401);
    cluster.signal(rustix::process::Signal::TERM);
    let ended = cluster.wait();
    assert_eq!(ended.code, Some(0));
    for said in [&ended.stdout, &ended.stderr] {
        assert!(!said.contains(key.trim()) && !said.contains("this-is-no-key"), "a key is told: {said}");
    }
    let again = Cluster::builder().data(&data).start();
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
    assert_eq!(again.api().request("POST", "/goim/push/all?operation=1", &[], b"x").status(), 200);
}

#[test]
fn strangers_do_not_push() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.login(Transport::Tcp, r#"{"accepts":[1000]}"#);
    let mut stranger = cluster.stranger();
    let answer = stranger.request("POST", "/goim/push/all?operation=1000", &[], b"x");
    assert_eq!((answer.status(), answer.header("www-authenticate")), (401, Some("Bearer")), "{answer}");
    assert!(answer.text().starts_with(r#"{"code":-401,"message":"the push API needs a key"#), "{answer}");
    // A large body that is not read does not take the answer with it.
    let answer = cluster.stranger().request("POST", "/api/v1/push", &[JSON], &vec![b' '; 500_000]);
    assert_eq!((answer.status(), &parsed(&answer)["type"]), (401, &json!("/problems/missing-key")));
    for path in ["/healthz", "/readyz", "/metrics", "/docs/", "/api/v1/openapi.json"] {
        assert_eq!(cluster.stranger().request("GET", path, &[], b"").status(), 200, "{path}");
    }
    cluster.push_all(1000, "from one who may");
    assert_eq!(client.push(), (1000, "from one who may".to_owned()));
    let metrics = cluster.metrics();
    assert_eq!(metrics.labelled("http_refused", "missing_key"), 2);
}

/// Who guesses is not heard for a while, wherever else others come from.
#[test]
fn who_guesses_has_to_wait() {
    let cluster = Cluster::start(&[]);
    let mut guesser = cluster.stranger();
    let wrong = [("Authorization", "Bearer anser_wrong")];
    // Two windows may share the guesses.
    let statuses: Vec<u16> = (0..41)
        .map(|_| guesser.request("POST", "/goim/push/all?operation=1000", &wrong, b"x").status())
        .collect();
    assert!(statuses[..20].iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(statuses[40], 429, "{statuses:?}");
    assert_eq!(cluster.get("/healthz").status(), 200);
}

/// Two keys are good while one takes the place of the other.
#[test]
fn keys_are_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("push.key");
    fs::write(&file, "# until june\nthe-old-key-of-us-all\nthe-new-key-of-us-all\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let cluster = Cluster::builder().data(folder.path()).start();
    let status = |key: &str| {
        let key = format!("Bearer {key}");
        let headers = [("Authorization", &*key)];
        cluster.stranger().request("POST", "/goim/push/all?operation=1", &headers, b"x").status()
    };
    assert_eq!(status("the-old-key-of-us-all"), 200);
    assert_eq!(status("the-new-key-of-us-all"), 200);
    assert_eq!(status("the-other-key-of-us-all"), 401);
}

/// A file that others can read, or without a good key, ends the start with a line that says what to do.
#[test]
fn bad_key_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("push.key");
    for (text, mode, told) in [
        (
            "the-key-of-us-all-and-more",
            0o644,
            "can be read or written by others (its mode is 0644): `chmod 600 ",
        ),
        ("", 0o600, "has no key in it: write one a line, or remove the file, and `anser up` makes one\n"),
        ("too-short", 0o600, "line 1: the key has 9 characters, at least 20 are needed: "),
    ] {
        let _ = fs::remove_file(&file);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let ended = Cluster::builder().data(folder.path()).fail();
        assert_eq!((ended.code, &*ended.stdout), (Some(78), ""), "{}", ended.stderr);
        assert!(ended.stderr.starts_with(&format!("anser: {} {told}", file.display())), "{}", ended.stderr);
    }
    // Without need of a key nobody looks.
    let cluster = Cluster::builder().data(folder.path()).set(&["http.require_key=false"]).start();
    assert_eq!(cluster.stranger().request("POST", "/goim/push/all?operation=1", &[], b"x").status(), 200);
    assert!(!cluster.greeting().contains("Authorization"), "{}", cluster.greeting());
}

/// `anser push` finds the key by itself, or is told where it is, or says how to tell it.
#[test]
fn the_command_finds_the_key() {
    let cluster = Cluster::start(&[]);
    let http = format!("http://{}", cluster.http());
    let data = cluster.data().display().to_string();
    let file = cluster.data().join("push.key").display().to_string();
    let run = |more: &[&str]| Process::run(&[&["push", "all", "hello", "--http", &http], more].concat());
    for more in [&["--data", &data][..], &["--key-file", &file], &["--data", "/nowhere", "--key-file", &file]]
    {
        let ended = run(more);
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{more:?}");
    }
    let ended = run(&[]);
    let told = format!(
        "anser: {http} wants a push API key, and there is no ./anser-data/push.key: name the data folder"
    );
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.starts_with(&told), "{}", ended.stderr);
    let ended = run(&["--key-file", "/nowhere/push.key"]);
    assert_eq!(ended.code, Some(78));
    assert!(
        ended.stderr.contains("/nowhere/push.key cannot be read (No such file or directory)"),
        "{}",
        ended.stderr
    );
}
