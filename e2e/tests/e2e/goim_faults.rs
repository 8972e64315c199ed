//! Faults of goim that its users know, by their numbers: what befell clients there must not befall them here.

use anser_e2e::{Apart, Client, Cluster, Dial, Incoming, Packet, Role, Transport, eventually, eventually_eq};
use anser_wire::websocket::Opcode;
use rustix::process::Signal;

const TOKEN: &str = r#"{"mid":7,"key":"phone","room_id":"live://1","accepts":[1000]}"#;

/// A packet whose length says more than its message has.
fn lying(op: i32, body: &[u8], more: i32) -> Vec<u8> {
    let mut bytes = Packet::new(op, 1, body).bytes();
    let len = bytes.len() as i32 + more;
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// W1: a WebSocket packet that claims to be longer than its message made goim read what other clients had
/// sent, or end. Here that connection ends, is told nothing of others, and nobody else notices.
#[test]
fn w1_a_lying_length_ends_its_connection_alone() {
    let cluster = Cluster::start(&["comet.workers=1"]);
    let mut neighbour = cluster.login(Transport::WebSocket, TOKEN);
    // Something to be read that is not the liar's.
    neighbour.request(12, "live://the-secret-room-of-the-neighbour");
    for authenticated in [false, true] {
        // Those whose body would come back: a change of rooms, operations, a login.
        for (op, more) in [(12, 1), (14, 30), (7, 100), (2, 4000), (16, 4096), (4, i32::MAX - 100)] {
            let mut liar = cluster.connect(Transport::WebSocket);
            if authenticated {
                liar.login("{}");
            }
            liar.send_frame(Opcode::Binary, &lying(op, b"live", more));
            let end = liar.incoming();
            let told = matches!(&end, Incoming::Close(_, reason) if !reason.contains("neighbour"));
            assert!(told || end == Incoming::End, "operation {op}, {more} more: {end:?}");
            assert_eq!(neighbour.heartbeat(), 1);
        }
    }
    cluster.push_keys(&["phone"], 1000, "still there");
    assert_eq!(neighbour.push(), (1000, "still there".to_owned()));
    cluster.check_accounts();
}

/// W2: a peer that took nothing held up everybody in its bucket when its key came again, at worst all
/// comets. Here the second login is answered at once, and neighbours get what is theirs.
#[test]
fn w2_a_slow_peer_holds_nobody_up_when_its_key_comes_again() {
    let apart = Apart::start(2, &["comet.workers=1", "comet.send_buffer=4096", "comet.queue=10"]);
    let mut neighbours: Vec<Client> = (0..2)
        .map(|n| apart.login(n, Transport::Tcp, &format!(r#"{{"key":"n{n}","accepts":[1000]}}"#)))
        .collect();
    let mut api = apart.api();
    let mut stuck: Vec<Client> = Vec::new();
    // To the same comet, and to the other one.
    for comet in [0, 0, 1] {
        let mut client = apart.dial(comet, Transport::WebSocket).receive_buffer(4096).connect();
        client.login(TOKEN);
        let lost = || apart.metrics(Role::Comet(comet)).labelled("comet_lost", "overflow");
        let before = lost();
        eventually("its queue is full", || {
            api.push_mids(&[7], 1000, &"x".repeat(4000));
            (lost() > before).then_some(())
        });
        stuck.push(client);
        api.push_keys(&["n0", "n1"], 1000, "not held up");
        for neighbour in &mut neighbours {
            assert_eq!(neighbour.push(), (1000, "not held up".to_owned()));
        }
    }
    let mut last = apart.login(1, Transport::Tcp, TOKEN);
    api.push_mids(&[7], 1000, "reached");
    assert_eq!(last.push(), (1000, "reached".to_owned()));
    drop(stuck);
    eventually_eq("only the last is left", 2, || apart.metrics(Role::Comet(1)).get("comet_sockets_open"));
    apart.check_accounts();
}

/// Pushes to the key and to its user must both come to this connection.
#[track_caller]
fn is_reached(apart: &Apart, client: &mut Client, when: &str) {
    apart.api().push_keys(&["phone"], 1000, when);
    assert_eq!(client.push(), (1000, when.to_owned()));
    apart.api().push_mids(&[7], 1000, when);
    assert_eq!(client.push(), (1000, when.to_owned()));
}

/// W3: the late end of an old connection took the route of the new one with it, and its user was not reached
/// for up to 34 minutes. Here the new one is reached, whether the old one ends by itself or with its comet,
/// on the same comet or another.
#[test]
fn w3_the_late_end_of_an_old_connection_takes_no_route() {
    let mut apart = Apart::start(2, &[]);
    for (old, new) in [(0, 0), (0, 1), (1, 0)] {
        let lingering = apart.login(old, Transport::Tcp, TOKEN);
        let mut newest = apart.login(new, Transport::WebSocket, TOKEN);
        is_reached(&apart, &mut newest, "while the old one lingers");
        drop(lingering);
        let open = i64::from(old == new);
        eventually_eq("the old one is gone", open, || {
            apart.metrics(Role::Comet(old)).get("comet_sockets_open")
        });
        is_reached(&apart, &mut newest, "when the old one is gone");
        drop(newest);
        eventually_eq("both are gone", 0, || apart.metrics(Role::Logic).get("logic_sessions"));
    }

    // Logic hears of the old one's end when the new one is long there.
    let lingering = apart.login(0, Transport::Tcp, TOKEN);
    let mut newest = apart.login(1, Transport::Tcp, TOKEN);
    apart.signal(Role::Logic, Signal::STOP);
    drop(lingering);
    eventually_eq("the old one is gone", 0, || apart.metrics(Role::Comet(0)).get("comet_sockets_open"));
    apart.signal(Role::Logic, Signal::CONT);
    is_reached(&apart, &mut newest, "when logic has heard of it");

    // The comet of the old one dies, and begins anew: its sessions are dropped, and not this one. What it has
    // not reported as written would come again.
    apart.check_accounts();
    let mut old = apart.login(0, Transport::Tcp, TOKEN);
    let mut newest = apart.login(1, Transport::Tcp, TOKEN);
    apart.kill(Role::Comet(0));
    assert_eq!(old.incoming(), Incoming::End);
    is_reached(&apart, &mut newest, "when the comet of the old one is dead");
    apart.run(Role::Comet(0));
    apart.wait_until_joined();
    is_reached(&apart, &mut newest, "when the comet of the old one is back");
    apart.kill(Role::Logic);
    apart.run(Role::Logic);
    apart.wait_until_joined();
    is_reached(&apart, &mut newest, "when logic has learnt it anew");
    apart.check_accounts();
}

/// W6: whoever entered the room that it was in already, and was alone there, was in no room at all, and a
/// failed change took all others' messages. Here it stays, alone on its comet or not.
#[test]
fn w6_entering_the_same_room_again_changes_nothing() {
    let apart = Apart::start(2, &[]);
    for transport in Transport::ALL {
        let mut alone = apart.login(0, transport, r#"{"key":"alone","room_id":"live://1"}"#);
        let mut api = apart.api();
        for n in 0..3 {
            assert_eq!(alone.request(12, "live://1").body, b"live://1");
            eventually_eq("it is in the room", 1, || alone.heartbeat());
            api.push_room("live://1", 7, &n.to_string());
            assert_eq!(alone.push(), (7, n.to_string()));
        }
        // Others come and go between, on both comets.
        let mut others: Vec<Client> =
            (0..4).map(|n| apart.login(n % 2, transport, r#"{"room_id":"live://1"}"#)).collect();
        for client in &mut others {
            client.request(12, "live://1");
        }
        others[0].request(12, "live://2");
        drop(others.pop());
        api.push_room("live://1", 7, "to those who stayed");
        for client in others[1..].iter_mut().chain([&mut alone]) {
            assert_eq!(client.push(), (7, "to those who stayed".to_owned()));
        }
    }
    apart.check_accounts();
}

/// W14 and W13: a push to many keys ended at the first that was full, and the others lost it without a word.
#[test]
fn w14_a_full_queue_costs_only_its_own() {
    let cluster = Cluster::start(&["comet.workers=1", "comet.send_buffer=4096", "comet.queue=2"]);
    let mut full = Dial::new(&cluster, Transport::Tcp).receive_buffer(4096).connect();
    full.login(r#"{"key":"full","accepts":[1000]}"#);
    let mut good = cluster.login(Transport::Tcp, r#"{"key":"good","accepts":[1000]}"#);
    let lost = || cluster.metrics().labelled("comet_lost", "overflow");
    let mut sent = 0;
    eventually("one is full", || {
        cluster.push_keys(&["full", "good"], 1000, &format!("{sent:04000}"));
        assert_eq!(good.push(), (1000, format!("{sent:04000}")));
        sent += 1;
        (lost() > 2).then_some(())
    });
    drop(full);
    cluster.check_accounts();
}
