//! Roles in processes of their own: they find each other in whatever order they start, and together do what
//! one process does.

mod comets;
mod goim_grpc;
mod kills;
mod storm;

use anser_e2e::{
    Answer, Apart, Client, Cluster, Incoming, Packet, Role, Transport, eventually, eventually_eq,
};

/// What the push API says of a push to this key.
fn try_push(apart: &Apart, key: &str, body: &str) -> Answer {
    let target = format!("/goim/push/keys?operation=1000&keys={key}");
    apart.api().request("POST", &target, &[], body.as_bytes())
}

/// Pushes to a key as soon as logic has found the job again.
fn push_at_last(apart: &Apart, key: &str, body: &str) {
    eventually("a push is taken", || (try_push(apart, key, body).status() == 200).then_some(()));
}

fn becomes(apart: &Apart, target: &str, expected: &str) {
    eventually_eq(target, format!(r#"{{"code":0,"message":"","data":{expected}}}"#), || {
        apart.get(target).text().to_owned()
    });
}

/// A client in the room, for each transport on each comet.
fn everywhere(apart: &Apart) -> Vec<Client> {
    let places = (0..apart.comets()).flat_map(|comet| Transport::ALL.map(|transport| (comet, transport)));
    let clients = places.enumerate().map(|(n, (comet, transport))| {
        let token = format!(r#"{{"mid":{},"key":"k{n}","room_id":"live://1","accepts":[1000]}}"#, n / 3 + 1);
        apart.login(comet, transport, &token)
    });
    clients.collect()
}

/// Pushes of each kind come to the clients of both comets, who are counted over both.
#[test]
fn two_comets_are_as_one() {
    let apart = Apart::start(2, &[]);
    let mut clients = everywhere(&apart);
    let mut api = apart.api();
    api.push_keys(&["k0", "k1", "k2", "k3", "nobody"], 1000, "keys");
    api.push_keys(&["k0", "k3"], 1001, "keys, not taken");
    // The first user is on both comets.
    api.push_mids(&[1, 2, 77], 1000, "users");
    api.push_room("live://1", 7, "room");
    api.push_room("live://2", 7, "nobody is there");
    for client in &mut clients {
        let mut pushes = [client.push(), client.push(), client.push()].map(|(_, body)| body);
        // A key and a room have an order each, and none between them.
        pushes.sort();
        assert_eq!(pushes, ["keys", "room", "users"]);
    }
    api.push_all(1000, "all");
    for client in &mut clients {
        assert_eq!(client.push(), (1000, "all".to_owned()));
    }
    becomes(&apart, "/goim/online/total", r#"{"conn_count":4,"ip_count":2}"#);
    becomes(&apart, "/goim/online/room?type=live&rooms=1", r#"{"1":4}"#);
    for client in &mut clients {
        eventually_eq("members on both comets", 4, || client.heartbeat());
    }
    drop(clients.pop());
    eventually_eq("three are left", 3, || clients[0].heartbeat());
    becomes(&apart, "/goim/online/total", r#"{"conn_count":3,"ip_count":2}"#);
    apart.check_accounts();
    let job = apart.metrics(Role::Job);
    assert_eq!(job.get("job_accepted"), 6);
    let counts = [0, 1].map(|comet| {
        let comet = apart.metrics(Role::Comet(comet));
        (comet.get("comet_delivered"), comet.get("comet_filtered"), comet.get("comet_lost"))
    });
    assert_eq!(counts, [(8, 1, 0), (8, 1, 0)]);
}

/// The same accounts hold in one process.
#[test]
fn one_process_has_the_same_accounts() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.login(Transport::Tcp, r#"{"key":"k","room_id":"live://1","accepts":[1000]}"#);
    let mut api = cluster.api();
    for n in 0..50 {
        api.push_keys(&["k", "nobody"], 1000 + n % 2, &n.to_string());
        api.push_room("live://1", 7, &n.to_string());
    }
    for _ in 0..75 {
        client.push();
    }
    cluster.check_accounts();
    let metrics = cluster.metrics();
    assert_eq!((metrics.get("comet_delivered"), metrics.get("comet_filtered")), (75, 25));
    assert_eq!(metrics.labels("job_done"), [("reported", 100)]);
}

/// Each starts alone, says that it is there, and works as soon as the others are.
#[test]
fn they_start_in_any_order() {
    let mut apart = Apart::plan(2, &["comet.handshake_timeout=20s", "logic.settle=1s"]);
    apart.run(Role::Comet(0));
    let mut early = apart.dial(0, Transport::WebSocket).connect();
    early.send(&Packet::new(7, 1, r#"{"key":"early","room_id":"live://1","accepts":[1000]}"#));
    eventually("the comet says what it waits for", || {
        let said = apart.stderr(Role::Comet(0));
        said.contains("cannot tell logic how this comet is; trying again").then_some(())
    });
    apart.run(Role::Logic);
    assert_eq!(early.packet(), Packet::new(8, 1, ""), "as soon as logic is there");

    let refused = try_push(&apart, "early", "too early");
    assert_eq!(refused.status(), 503, "{refused}");
    assert!(
        refused.text().contains("try again in") && refused.text().contains("cannot be reached"),
        "{refused}"
    );
    apart.run(Role::Job);
    // The other comet is not there yet, and a push for this one does not wait for it.
    push_at_last(&apart, "early", "not too early");
    assert_eq!(early.push(), (1000, "not too early".to_owned()));
    apart.api().push_room("live://1", 7, "to all comets");
    assert_eq!(early.push(), (7, "to all comets".to_owned()));
    assert_eq!(apart.metrics(Role::Job).get("job_lane_up"), 1);

    apart.run(Role::Comet(1));
    apart.wait_until_joined();
    let mut late = apart.login(1, Transport::Tcp, r#"{"key":"late","accepts":[1000]}"#);
    apart.api().push_keys(&["early", "late"], 1000, "both");
    for client in [&mut early, &mut late] {
        assert_eq!(client.push(), (1000, "both".to_owned()));
    }
    apart.check_accounts();
}

/// A logic that does not answer keeps those waiting who want in, and they are told to come again; those who
/// are in go on.
#[test]
fn a_hanging_logic_costs_nobody_his_place() {
    use rustix::process::Signal;

    let apart = Apart::start(2, &["comet.handshake_timeout=1s"]);
    let mut inside = apart.login(0, Transport::Tcp, r#"{"key":"in","room_id":"live://1"}"#);
    apart.signal(Role::Logic, Signal::STOP);
    let mut outside = Transport::ALL.map(|transport| {
        let mut client = apart.dial(0, transport).connect();
        client.send(&Packet::new(7, 1, "{}"));
        client
    });
    assert_eq!(inside.heartbeat(), 1);
    let [tcp, websocket] = &mut outside;
    assert_eq!(tcp.incoming(), Incoming::End);
    assert_eq!(websocket.closed(), Some((1013, "authentication is unavailable".to_owned())));
    assert_eq!(inside.request(12, "live://2").body, b"live://2");
    apart.signal(Role::Logic, Signal::CONT);
    eventually("logic lets clients in again", || {
        let mut client = apart.dial(0, Transport::Tcp).connect();
        client.send(&Packet::new(7, 1, "{}"));
        matches!(client.incoming(), Incoming::Packet(_)).then_some(())
    });
    apart.api().push_room("live://2", 7, "still there");
    assert_eq!(inside.push(), (7, "still there".to_owned()));
    // Those who were sent away have left nothing.
    becomes(&apart, "/goim/online/total", r#"{"conn_count":1,"ip_count":1}"#);
    apart.check_accounts();
}

/// Whoever has another secret is told so, in its own log, and gets nothing done. With the right one it does.
#[test]
fn a_wrong_secret_is_refused_and_told() {
    let mut apart = Apart::plan(1, &[]);
    let other = apart.other_secret("this is not the one that the others have");
    apart.run(Role::Logic);
    for role in [Role::Comet(0), Role::Job] {
        apart.run_with(role, &[&other]);
    }
    let told = |apart: &Apart, role: Role, address: Role| {
        let line = format!("{}: ", apart.grpc(address));
        eventually("the log tells of the secret", || {
            let said = apart.stderr(role);
            let mut lines = said.lines().filter(|said| said.contains(&line));
            lines.find(|line| line.contains("secret")).map(str::to_owned)
        })
    };
    let of_comet = told(&apart, Role::Comet(0), Role::Logic);
    assert!(of_comet.contains("cannot tell logic how this comet is"), "{of_comet}");
    let refused = try_push(&apart, "k", "x");
    assert_eq!(refused.status(), 503, "{refused}");
    // Each has the same wrong one: they can speak to each other, and not to logic.
    eventually_eq("the lane is open", 1, || apart.metrics(Role::Job).get("job_lane_up"));

    apart.kill(Role::Comet(0));
    apart.run(Role::Comet(0));
    let of_job = told(&apart, Role::Job, Role::Comet(0));
    assert!(of_job.contains("WARN") && of_job.contains("comet-0"), "{of_job}");
    let mut client = apart.login(0, Transport::Tcp, r#"{"key":"k","accepts":[1000]}"#);
    assert_eq!(try_push(&apart, "k", "x").status(), 503);

    apart.kill(Role::Job);
    apart.run(Role::Job);
    apart.wait_until_joined();
    push_at_last(&apart, "k", "right");
    assert_eq!(client.push(), (1000, "right".to_owned()));
    for role in apart.roles() {
        let said = apart.stderr(role);
        assert!(!said.contains("that-all-of-them") && !said.contains("this-is-not"), "{said}");
    }
    apart.check_accounts();
}

/// What cannot work is refused at the start, with what to do.
#[test]
fn what_cannot_work_does_not_start() {
    let apart = Apart::start(1, &[]);
    for role in [Role::Logic, Role::Job, Role::Comet(0)] {
        let ended = apart.fail(role, &[]);
        assert_eq!(ended.code, Some(69), "{}: {}", role.name(), ended.stderr);
        let said = format!("another anser uses the data folder {}", apart.data(role).display());
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    }
    let mut none = Apart::plan(1, &["cluster.comets=[]"]);
    let ended = none.fail(Role::Job, &[]);
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    let said = "cluster.comets names no comet, so the job would bring pushes nowhere: write them as \
                [\"name=grpc://host:port\"]";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    none.run(Role::Logic);
    assert!(none.stderr(Role::Logic).contains("cluster.comets names no comet"));
}
