//! Comets die, stand still and go, with pushes on their way to them.

use std::thread::{self, JoinHandle};

use anser_e2e::{Apart, Client, Http, Incoming, Role, Transport, eventually, eventually_eq};
use rustix::process::Signal;

const KEYS: usize = 4;

fn token(key: usize) -> String {
    format!(r#"{{"key":"k{key}","room_id":"live://1","accepts":[1000]}}"#)
}

/// One client for each key on a comet, with the transports in turn.
fn log_in(apart: &Apart, comet: usize) -> Vec<Client> {
    (0..KEYS).map(|key| apart.login(comet, Transport::ALL[key % 2], &token(key))).collect()
}

/// Pushes a number to every key. In one push, so that its order is that of each.
fn push(api: &mut Http, number: usize) {
    api.push_keys(&["k0", "k1", "k2", "k3"], 1000, &number.to_string());
}

/// What comes to a key until the connection is over.
fn until_the_end(client: &mut Client) -> Vec<usize> {
    let mut got = Vec::new();
    loop {
        match client.incoming() {
            Incoming::Packet(packet) => {
                // A container has the push behind a header of its own.
                let body = &packet.body[if packet.op == 9 { 16 } else { 0 }..];
                got.push(str::from_utf8(body).unwrap().parse().expect("a number was pushed"));
            }
            Incoming::Close(..) => {}
            Incoming::End => return got,
            other @ Incoming::Pong(_) => panic!("{other:?}"),
        }
    }
}

/// Each of them must get these numbers next.
#[track_caller]
fn expect(clients: &mut [Client], numbers: std::ops::Range<usize>) {
    for client in clients {
        for number in numbers.clone() {
            assert_eq!(client.push(), (1000, number.to_string()));
        }
    }
}

/// What a comet had not written when it died comes to the keys that return, be it to another comet or to its
/// next life, in order and before what comes later. What was for a room there is lost, and counted.
#[test]
fn what_a_dead_comet_had_not_written_comes_to_keys_that_return() {
    let mut apart = Apart::start(2, &[]);
    let mut clients = log_in(&apart, 0);
    let mut witness = apart.login(1, Transport::Tcp, r#"{"key":"witness","room_id":"live://1"}"#);
    let mut api = apart.api();
    (0..20).for_each(|number| push(&mut api, number));
    expect(&mut clients, 0..20);
    apart.check_accounts();

    apart.signal(Role::Comet(0), Signal::STOP);
    // The first goes out at once, and is on its way when the comet dies.
    api.push_room("live://1", 7, "the first");
    eventually_eq("it is there", (7, "the first".to_owned()), || witness.push());
    (20..50).for_each(|number| push(&mut api, number));
    apart.kill(Role::Comet(0));
    for client in &mut clients {
        assert!(until_the_end(client).is_empty());
    }
    // Taken while nobody has a comet.
    (50..60).for_each(|number| push(&mut api, number));
    assert_eq!(apart.metrics(Role::Job).get("job_lane_up"), 1);
    let mut back = Vec::new();
    for key in 0..2 {
        back.push(apart.login(1, Transport::ALL[key % 2], &token(key)));
    }
    expect(&mut back, 20..60);
    apart.run(Role::Comet(0));
    for key in 2..4 {
        back.push(apart.login(0, Transport::ALL[key % 2], &token(key)));
    }
    expect(&mut back[2..], 20..60);
    (60..70).for_each(|number| push(&mut api, number));
    expect(&mut back, 60..70);
    apart.check_accounts();
    let job = apart.metrics(Role::Job);
    assert_eq!(job.labelled("job_done", "lost"), 1, "{:?}", job.labels("job_done"));
    assert_eq!(job.labelled("job_done", "not_back"), 0);
    apart.api().push_room("live://1", 7, "the second");
    assert_eq!(witness.push(), (7, "the second".to_owned()));
}

/// Whoever does not come back in time has lost what waited, and that is counted.
#[test]
fn what_waits_for_a_key_in_vain_is_counted() {
    let mut apart = Apart::start(2, &["job.return_within=1s"]);
    let clients = log_in(&apart, 0);
    apart.signal(Role::Comet(0), Signal::STOP);
    let mut api = apart.api();
    (0..5).for_each(|number| push(&mut api, number));
    apart.kill(Role::Comet(0));
    drop(clients);
    eventually_eq("they did not come back", 5 * KEYS as i64, || {
        apart.metrics(Role::Job).labelled("job_done", "not_back")
    });
    let late = apart.login(1, Transport::Tcp, &token(0));
    push(&mut api, 5);
    expect(&mut [late], 5..6);
    apart.kill(Role::Logic);
    apart.run(Role::Logic);
    apart.run(Role::Comet(0));
    apart.check_accounts();
}

/// Pushes numbers to every key until it is told to end; how many.
fn stream(apart: &Apart, upto: usize) -> JoinHandle<()> {
    let mut api = apart.api();
    thread::spawn(move || (0..upto).for_each(|number| push(&mut api, number)))
}

/// The comet dies in the middle of a stream, wherever that is. Each key gets all of the stream: in order on
/// each connection, on the second from the point at most where the first had come to. What it gets twice, the
/// dead comet had written and not reported.
#[test]
fn a_stream_goes_on_behind_the_death_of_a_comet() {
    const STREAM: usize = 600;
    let mut apart = Apart::start(2, &[]);
    let clients = log_in(&apart, 0);
    let stream = stream(&apart, STREAM);
    eventually("the stream flows", || {
        (apart.metrics(Role::Comet(0)).get("comet_delivered") > 200).then_some(())
    });
    apart.kill(Role::Comet(0));
    let mut twice = 0;
    for (key, mut client) in clients.into_iter().enumerate() {
        let first = until_the_end(&mut client);
        assert_eq!(first, (0..first.len()).collect::<Vec<_>>(), "k{key}");
        let mut second = apart.login(1, Transport::ALL[key % 2], &token(key));
        let (_, from) = second.push();
        let from: usize = from.parse().unwrap();
        assert!(from <= first.len(), "k{key} misses {} to {from}", first.len());
        twice += first.len() - from;
        expect(&mut [second], from + 1..STREAM);
    }
    stream.join().unwrap();
    apart.run(Role::Comet(0));
    apart.check_accounts();
    let job = apart.metrics(Role::Job);
    assert!(job.get("job_resent") >= twice as i64, "{twice} came twice, {} resent", job.get("job_resent"));
}

/// SIGTERM in the middle of a stream: clients are sent away, and find the rest on the other comet.
#[test]
fn a_stream_goes_on_behind_the_drain_of_a_comet() {
    use serde_json::{Value, json};

    const STREAM: usize = 400;
    let mut apart = Apart::start(2, &["comet.drain_spread=0ms"]);
    let clients = log_in(&apart, 0);
    let mut api = apart.api();
    // Whether the push had all keys before it, which is what is promised to arrive.
    let stream = thread::spawn(move || {
        let counted = (0..STREAM).map(|number| {
            let keys = ["k0", "k1", "k2", "k3"];
            let body = json!({"to": {"devices": keys}, "operation": 1000, "body": number.to_string()});
            let json = [("Content-Type", "application/json")];
            let answer = api.request("POST", "/api/v1/push", &json, body.to_string().as_bytes());
            assert_eq!(answer.status(), 200, "{answer}");
            let answer: Value = serde_json::from_str(answer.text()).unwrap();
            answer["messages"][0]["connections"] == json!(KEYS)
        });
        counted.collect::<Vec<bool>>()
    });
    eventually("the stream flows", || {
        (apart.metrics(Role::Comet(0)).get("comet_delivered") > 200).then_some(())
    });
    apart.signal(Role::Comet(0), Signal::TERM);
    let readers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(key, mut client)| {
            let first = until_the_end(&mut client);
            drop(client);
            (first, apart.login(1, Transport::ALL[key % 2], &token(key)))
        })
        .collect();
    apart.ended(Role::Comet(0));
    let named = stream.join().unwrap();
    push(&mut apart.api(), STREAM);
    for (key, (first, mut second)) in readers.into_iter().enumerate() {
        assert!(first.is_sorted_by(|a, b| a < b), "k{key}: {first:?}");
        let mut rest: Vec<usize> = Vec::new();
        while rest.last() != Some(&STREAM) {
            rest.push(second.push().1.parse().unwrap());
        }
        assert!(rest.is_sorted_by(|a, b| a < b), "k{key}: {rest:?}");
        let missing = |number: &usize| named[*number] && !first.contains(number) && !rest.contains(number);
        let missing: Vec<usize> = (0..STREAM).filter(missing).collect();
        assert!(missing.is_empty(), "k{key} misses {missing:?}, and had {:?} first", first.last());
    }
    apart.run(Role::Comet(0));
    apart.check_accounts();
}

/// A comet that stands still holds up no other. What waited too long for it is dropped, and counted; then its
/// clients go on, in order.
#[test]
fn a_comet_that_stands_still_holds_up_no_other() {
    let apart = Apart::start(2, &["job.patience=2s", "logic.comet_silence=60s"]);
    let mut stuck = log_in(&apart, 0);
    let mut free = apart.login(1, Transport::Tcp, r#"{"key":"free","room_id":"live://1","accepts":[1000]}"#);
    let mut api = apart.api();
    apart.signal(Role::Comet(0), Signal::STOP);
    let mut sent = 0;
    let dropped = eventually("what waited too long is dropped", || {
        api.push_room("live://1", 7, &sent.to_string());
        assert_eq!(free.push(), (7, sent.to_string()), "at once, whatever the other comet does");
        api.push_keys(&["free"], 1000, "free");
        assert_eq!(free.push(), (1000, "free".to_owned()));
        sent += 1;
        let dropped = apart.metrics(Role::Job).labelled("job_done", "away");
        (dropped > 0).then_some(dropped as usize)
    });
    apart.signal(Role::Comet(0), Signal::CONT);
    eventually_eq("the comet is back", 2, || apart.metrics(Role::Job).get("job_lane_up"));
    push(&mut api, 0);
    api.push_room("live://1", 7, "on it goes");
    for client in &mut stuck {
        let (mut room, mut key) = (Vec::new(), false);
        while !key || room.last().is_none_or(|last| last != "on it goes") {
            let (op, body) = client.push();
            if op == 7 { room.push(body) } else { key = true }
        }
        room.pop();
        let numbers: Vec<usize> = room.iter().map(|body| body.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert!(numbers.len() < sent && numbers.len() >= sent - dropped, "{} of {sent}", numbers.len());
    }
    apart.check_accounts();
}
