//! The push API as back ends see it: every byte of its answers.

use anser_e2e::{Answer, Client, Cluster, Transport};

fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// goim writes its headers before it knows that it will answer with JSON.
fn bad_query(message: &str) -> String {
    let body = format!(r#"{{"code":-400,"message":"{message}"}}"#);
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What a push that is taken is answered: goim's envelope, and beside it the number of its message.
#[track_caller]
fn assert_taken(answer: &Answer, target: &str) {
    let id = answer.header("anser-message-id").unwrap_or_else(|| panic!("{target}: no number in {answer}"));
    assert!(id.parse::<u64>().is_ok(), "{target}: {id} is no number");
    let rest = answer.to_string().replace(&format!("anser-message-id: {id}\r\n"), "");
    assert_eq!(rest, json("200 OK", r#"{"code":0,"message":""}"#), "{target}");
}

fn post(cluster: &Cluster, target: &str, body: &[u8]) -> Answer {
    cluster.api().request("POST", target, &[], body)
}

#[test]
fn pushes_are_taken() {
    let cluster = Cluster::start(&[]);
    for target in [
        "keys?operation=1&keys=a&keys=b",
        "keys?keys=a",
        "mids?operation=1&mids=1&mids=-2",
        "mids?operation=1&mids=",
        "mids?",
        "room?operation=-1&type=live&room=1",
        "room?operation=1&type=li%26ve&room=a%2Fb",
        "all?operation=1",
        "all?operation=1&speed=5",
        "all?operation=1&operation=x&other=1",
    ] {
        assert_taken(&post(&cluster, &format!("/goim/push/{target}"), b"x"), target);
    }
    assert_taken(&post(&cluster, "/goim/push/all?operation=1", b""), "without a body");
}

/// The words of goim's web framework, to the letter.
#[test]
fn queries_that_do_not_bind() {
    let cluster = Cluster::start(&[]);
    let required = |name: &str| {
        format!("Key: '{name}' Error:Field validation for '{name}' failed on the 'required' tag")
    };
    let no_number = |text: &str| format!(r#"strconv.ParseInt: parsing \"{text}\": invalid syntax"#);
    let too_large = |text: &str| format!(r#"strconv.ParseInt: parsing \"{text}\": value out of range"#);
    for (target, message) in [
        ("keys?operation=x&keys=a", no_number("x")),
        ("mids?mids=1,2", no_number("1,2")),
        ("mids?mids=1&mids=x", no_number("x")),
        ("mids?mids=9223372036854775808", too_large("9223372036854775808")),
        ("room?operation=2147483648&type=a&room=b", too_large("2147483648")),
        ("room?operation=%3C%22&type=a&room=b", no_number(r#"\u003c\\\""#)),
        ("room?type=a&room=b", required("Op")),
        ("room?operation=0&type=a&room=b", required("Op")),
        ("room?operation=1", [required("Type"), required("Room")].join("\\n")),
        ("room", [required("Op"), required("Type"), required("Room")].join("\\n")),
        ("all", required("Op")),
        ("all?operation=1&speed=x", no_number("x")),
    ] {
        let answer = post(&cluster, &format!("/goim/push/{target}"), b"x").to_string();
        assert_eq!(answer, bad_query(&message), "{target}");
    }
    // goim asks Redis for no key at all, and tells what comes of it.
    let answer = post(&cluster, "/goim/push/keys?operation=1", b"x").to_string();
    assert_eq!(answer, json("200 OK", r#"{"code":-400,"message":""}"#));
}

#[test]
fn paths_and_methods_that_are_not_there() {
    let cluster = Cluster::start(&[]);
    let missing =
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 18\r\n\r\n404 page not found";
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/goim/push/room?operation=1&type=live&room=1"),
        ("PUT", "/goim/push/all?operation=1"),
        ("POST", "/goim/push"),
        ("POST", "/goim/push/nobody"),
        ("POST", "/goim/push/other/"),
        ("POST", "/metrics"),
    ] {
        let answer = cluster.api().request(method, target, &[], b"").to_string();
        let answer = answer.lines().filter(|line| !line.starts_with("allow: ")).collect::<Vec<_>>();
        assert_eq!(answer, missing.lines().collect::<Vec<_>>(), "{method} {target}");
    }
    for (target, location) in [
        ("/goim/push/room/?operation=1&type=live&room=1", "/goim/push/room?operation=1&type=live&room=1"),
        ("/goim/push/all/", "/goim/push/all"),
    ] {
        let expected =
            format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(post(&cluster, target, b"x").to_string(), expected);
    }
}

#[test]
fn too_much_at_once() {
    let cluster = Cluster::start(&["http.body=100", "http.receivers=2", "comet.push_body=50"]);
    let too_large = |code: i32, message: &str| {
        json("413 Payload Too Large", &format!(r#"{{"code":{code},"message":"{message}"}}"#))
    };
    let answer = post(&cluster, "/goim/push/all?operation=1", &[b'x'; 101]).to_string();
    assert!(
        answer.ends_with(r#"{"code":-400,"message":"the body is larger than 100 bytes: http.body"}"#),
        "{answer}"
    );
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    let answer = post(&cluster, "/goim/push/all?operation=1", &[b'x'; 51]).to_string();
    assert_eq!(answer, too_large(-500, "a push of 51 bytes is larger than 50"));
    let message = "3 receivers in one push are more than 2: send several, or raise http.receivers";
    for target in ["keys?keys=a&keys=b&keys=c", "mids?mids=1&mids=2&mids=3"] {
        let answer = post(&cluster, &format!("/goim/push/{target}"), b"x").to_string();
        assert_eq!(answer, too_large(-400, message));
    }
}

/// What is refused takes nothing with it: the next push is delivered.
#[test]
fn a_push_behind_one_that_is_too_large_is_delivered() {
    let cluster = Cluster::start(&["comet.push_body=50"]);
    let mut client = cluster.login(Transport::Tcp, r#"{"room_id":"live://1"}"#);
    for n in 0..3 {
        let target = "/goim/push/room?operation=1000&type=live&room=1";
        assert_eq!(post(&cluster, target, &[b'x'; 51]).status(), 413);
        cluster.push_room("live://1", 1000, &n.to_string());
        assert_eq!(client.push(), (1000, n.to_string()));
    }
    cluster.check_accounts();
}

/// Back ends put every key into the URL, as goim's documentation tells them, and goim takes 100 KB.
#[test]
fn long_urls() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.login(Transport::Tcp, r#"{"key":"key-4999","accepts":[1000]}"#);
    let keys = |from: usize| {
        let keys: Vec<String> = (from..5000).map(|n| format!("key-{n}")).collect();
        format!("keys?operation=1000&keys={}", keys.join("&keys="))
    };
    cluster.api().push(&keys(1000), b"4000 keys");
    assert_eq!(client.push(), (1000, "4000 keys".to_owned()));
    let body = r#"{"code":-400,"message":"the URL or the headers are too long (a URL may have 65534 bytes): send several pushes with fewer keys or mids in each"}"#;
    let expected = format!(
        "HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(post(&cluster, &format!("/goim/push/{}", keys(0)), b"x").to_string(), expected);
}

/// A queue that is full says so, and when to come back. Here the one place of the queue to everyone at
/// a speed is taken by a push that is slow on purpose; pushes without a speed have a queue of their own.
#[test]
fn a_full_queue_asks_to_try_again() {
    let cluster = Cluster::start(&["comet.workers=1", "comet.room_queue=1"]);
    let mut clients: Vec<Client> =
        (0..5).map(|_| cluster.login(Transport::Tcp, r#"{"accepts":[1000]}"#)).collect();
    let mut api = cluster.api();
    api.push("all?operation=1000&speed=2", b"slow");
    let answer = api.request("POST", "/goim/push/all?operation=1000&speed=2", &[], b"slow too");
    let millis = answer.text().split(' ').rev().nth(1).and_then(|word| word.parse::<u64>().ok());
    let millis = millis.unwrap_or_else(|| panic!("no time to wait in {answer}"));
    assert!((1..=5000).contains(&millis), "{answer}");
    let body = format!(r#"{{"code":-429,"message":"resource exhausted, retry after {millis} ms"}}"#);
    let expected = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json; charset=utf-8\r\n\
         retry-after: {}\r\ncontent-length: {}\r\n\r\n{body}",
        millis.div_ceil(1000),
        body.len()
    );
    assert_eq!(answer.to_string(), expected);
    assert_eq!(cluster.metrics().get("comet_pushes_refused"), 1);
    assert_eq!(post(&cluster, "/goim/push/all?operation=1000", b"at once").status(), 200);
    // The way out is the one that was named.
    api.push("all?operation=1000&speed=2", b"slow too");
    for client in &mut clients {
        let mut got = [(); 3].map(|()| client.push().1);
        assert!(got.iter().position(|body| body == "slow") < got.iter().position(|body| body == "slow too"));
        got.sort_unstable();
        assert_eq!(got, ["at once", "slow", "slow too"]);
    }
}

/// One connection, many requests, in pieces and without waiting for answers.
#[test]
fn connections_are_kept() {
    let cluster = Cluster::start(&[]);
    let mut api = cluster.api();
    let head = format!("POST /goim/push/all?operation=1 HTTP/1.1\r\nHost: x\r\n{}", cluster.authorization());
    let request = format!("{head}Content-Length: 2\r\n\r\nhi");
    let (first, second) = request.split_at(50);
    api.write(first.as_bytes());
    api.write([second, &request, &request, first].concat().as_bytes());
    api.write(second.as_bytes());
    for _ in 0..4 {
        assert_eq!(api.answer().text(), r#"{"code":0,"message":""}"#);
    }
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    api.write(chunked.as_bytes());
    assert_eq!(api.answer().text(), r#"{"code":0,"message":""}"#);
    assert_eq!(cluster.metrics().get("comet_pushes"), 5);
}

#[test]
fn health() {
    let cluster = Cluster::start(&[]);
    let plain = |text: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
    };
    assert_eq!(cluster.get("/healthz").to_string(), plain("ok\n"));
    assert_eq!(cluster.get("/readyz").to_string(), plain("ready\n"));
    let metrics = cluster.get("/metrics");
    let kind = metrics.header("content-type");
    assert_eq!(kind, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(metrics.text().ends_with("# EOF\n"));
}

/// Who does not finish what he began is cut: a head for ever on its way, a body, a connection on which
/// nothing is asked. Nobody else waits for them.
#[test]
fn slow_callers_are_cut() {
    let cluster = Cluster::start(&["http.request_timeout=300ms", "http.max_connections=4"]);
    let mut slow: Vec<_> = (0..3).map(|_| cluster.api()).collect();
    slow[0].write(b"POST /goim/push/all?operation=1 HTT");
    let key = cluster.authorization();
    let half =
        format!("POST /goim/push/all?operation=1 HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 9\r\n\r\nhalf");
    slow[1].write(half.as_bytes());
    let answer = slow[1].answer();
    assert_eq!(answer.status(), 408, "{answer}");
    assert_eq!(answer.text(), r#"{"code":-400,"message":"the request took too long to arrive"}"#);
    for (n, caller) in slow.iter_mut().enumerate() {
        assert!(caller.is_closed(), "caller {n}");
    }
    // More than may talk at once: whoever waits has his turn when the slow ones are gone.
    let _silent: Vec<_> = (0..4).map(|_| cluster.api()).collect();
    assert_eq!(post(&cluster, "/goim/push/all?operation=1", b"x").status(), 200);
}

/// Who asks and never reads the answers is cut as well.
#[test]
fn callers_that_do_not_read_are_cut() {
    let cluster = Cluster::start(&["http.request_timeout=300ms", "http.max_connections=2"]);
    let _deaf: Vec<_> =
        (0..2).map(|_| cluster.api().into_deaf("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    assert_eq!(post(&cluster, "/goim/push/all?operation=1", b"x").status(), 200);
}

/// A user who is named twice gets a push once.
#[test]
fn a_user_is_reached_once() {
    let cluster = Cluster::start(&["logic.push_connections=2"]);
    let login = |name: &str| {
        cluster.login(Transport::Tcp, &format!(r#"{{"mid":7,"key":"{name}","accepts":[1000]}}"#))
    };
    let mut clients = vec![login("a"), login("b")];
    cluster.push_mids(&[7, 7, 8, 7], 1000, "once");
    cluster.push_keys(&["a", "b"], 1000, "last");
    for client in &mut clients {
        assert_eq!(client.push(), (1000, "once".to_owned()));
        assert_eq!(client.push(), (1000, "last".to_owned()));
    }
    clients.push(login("c"));
    let answer = post(&cluster, "/goim/push/mids?operation=1000&mids=7", b"x");
    let body = r#"{"code":-500,"message":"the users of a push have more than 2 connections"}"#;
    assert_eq!((answer.status(), answer.text()), (413, body));
}
