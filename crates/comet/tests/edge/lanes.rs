//! Lanes from push logs: what is taken is taken once, and what becomes of it is told.

use std::time::{Duration, SystemTime};

use anser_api::comet::{
    Batch, Comet as _, Form, OnOverflow, Outcome, Parcel, Push, PushError, Report, Taken, Target,
};
use anser_api::id::{LogId, Position};
use bytes::Bytes;
use tokio::time::timeout;

use super::fixture::{EVERYONE, Edge, Kind, Login, PATIENCE, becomes, key, keys, now, room};

const LOG: LogId = LogId(7);

fn parcel(position: u64, target: Target, body: &str) -> Parcel {
    let push = Push {
        target,
        op: 1000,
        form: Form::Message,
        body: Bytes::copy_from_slice(body.as_bytes()),
        on_overflow: OnOverflow::Drop,
        expires: None,
    };
    Parcel { position: Position(position), late: false, push }
}

fn late(parcel: Parcel) -> Parcel {
    Parcel { late: true, ..parcel }
}

fn batch(parcels: Vec<Parcel>) -> Batch {
    Batch { log: LOG, done: Position(0), held: vec![], parcels }
}

fn take(edge: &Edge, parcels: Vec<Parcel>) -> Taken {
    now(edge.comet().take(batch(parcels))).unwrap()
}

/// The first report after `seen` that is as wanted.
#[track_caller]
fn report(edge: &Edge, seen: u64, wanted: impl Fn(&Report) -> bool) -> Report {
    let reports = async {
        let mut seen = seen;
        loop {
            let report = edge.comet().report(LOG, seen).await.unwrap();
            seen = report.number;
            if wanted(&report) {
                return report;
            }
        }
    };
    edge.runtime.block_on(async { timeout(PATIENCE, reports).await }).expect("a report as wanted")
}

#[test]
fn nothing_is_delivered_twice_and_what_is_written_is_reported() {
    let edge = Edge::start(|_| {});
    let mut client = edge.log_in(Kind::Tcp, &Login::new("one").room("live://1"));
    assert_eq!(now(edge.comet().open_lane(LOG)).unwrap().seen, None);
    let first = || {
        vec![
            parcel(10, keys(&["one"]), "key"),
            parcel(20, room("live://1"), "room"),
            parcel(30, EVERYONE, "everyone"),
            parcel(40, room("live://nobody"), "nobody"),
        ]
    };
    let taken = take(&edge, first());
    let queued = Outcome::Queued;
    assert_eq!(taken.outcomes, [queued.clone(), queued.clone(), queued.clone(), Outcome::Absent]);
    for body in ["key", "room", "everyone"] {
        client.expect_push(1000, body.as_bytes());
    }
    let done = report(&edge, 0, |report| report.count >= taken.count && report.open.is_empty());
    assert_eq!((done.absent, done.end), (vec![], None));
    // The same call again, as after a lost answer.
    assert!(take(&edge, first()).outcomes.iter().all(|outcome| *outcome == queued));
    assert_eq!(take(&edge, vec![parcel(50, keys(&["one"]), "last")]).outcomes, [queued]);
    client.expect_push(1000, b"last");
    let welcome = now(edge.comet().open_lane(LOG)).unwrap();
    assert_eq!((welcome.seen, welcome.missing), (Some(Position(50)), vec![]));
}

#[test]
fn absent_keys_are_told_until_they_are_done_with_and_late_ones_are_known_one_by_one() {
    let edge = Edge::start(|_| {});
    let mut client = edge.log_in(Kind::Tcp, &Login::new("one"));
    now(edge.comet().open_lane(LOG)).unwrap();
    take(&edge, vec![parcel(10, keys(&["one", "two"]), "both"), parcel(20, keys(&["three"]), "none")]);
    client.expect_push(1000, b"both");
    let told = [(Position(10), key("two")), (Position(20), key("three"))];
    let first = report(&edge, 0, |report| !report.absent.is_empty());
    let rest = if first.absent.len() == 2 {
        vec![]
    } else {
        report(&edge, first.number, |r| !r.absent.is_empty()).absent
    };
    let mut all = [first.absent, rest].concat();
    all.sort();
    assert_eq!(all, told);
    // A job that has started anew is told again.
    let mut again = report(&edge, 0, |report| !report.absent.is_empty()).absent;
    again.sort();
    assert_eq!(again, told);
    let mut second = edge.log_in(Kind::Tcp, &Login::new("two"));
    for _ in 0..2 {
        take(&edge, vec![late(parcel(10, keys(&["two"]), "both"))]);
    }
    take(&edge, vec![parcel(30, keys(&["two"]), "next")]);
    second.expect_push(1000, b"both");
    second.expect_push(1000, b"next");
    // Once all below is done with, nothing of it is told any more.
    let done = Batch { done: Position(30), ..batch(vec![]) };
    now(edge.comet().take(done)).unwrap();
    take(&edge, vec![parcel(40, keys(&["four"]), "none")]);
    let last = report(&edge, 0, |report| report.absent.iter().any(|(position, _)| *position == Position(40)));
    assert_eq!(last.absent, [(Position(40), key("four"))]);
}

#[test]
fn what_was_held_back_is_taken_later_but_for_whom_it_came_late() {
    let edge = Edge::start(|_| {});
    let mut client = edge.log_in(Kind::Tcp, &Login::new("one"));
    let mut other = edge.log_in(Kind::Tcp, &Login::new("two"));
    now(edge.comet().open_lane(LOG)).unwrap();
    let held = vec![Position(10), Position(20)];
    now(edge.comet().take(Batch { held, ..batch(vec![parcel(30, keys(&["one"]), "30")]) })).unwrap();
    assert_eq!(now(edge.comet().open_lane(LOG)).unwrap().missing, [Position(10), Position(20)]);
    take(&edge, vec![late(parcel(20, keys(&["one"]), "20"))]);
    take(&edge, vec![parcel(10, keys(&["one"]), "10"), parcel(20, keys(&["one", "two"]), "20")]);
    for body in ["30", "20", "10"] {
        client.expect_push(1000, body.as_bytes());
    }
    other.expect_push(1000, b"20");
    take(&edge, vec![parcel(40, keys(&["one"]), "40")]);
    client.expect_push(1000, b"40");
    assert_eq!(now(edge.comet().open_lane(LOG)).unwrap().missing, []);
}

#[test]
fn a_slow_client_keeps_its_pushes_open_and_a_full_room_those_behind() {
    let edge = Edge::start(|config| {
        config.send_buffer = 4096;
        config.room_queue = 1;
    });
    let mut slow = edge.log_in_narrow(Kind::Tcp, &Login::new("slow"));
    now(edge.comet().open_lane(LOG)).unwrap();
    let large = "x".repeat(100_000);
    take(&edge, vec![parcel(10, keys(&["slow"]), &large), parcel(20, keys(&["nobody"]), "none")]);
    report(&edge, 0, |report| report.open == [Position(10)]);
    slow.expect_push(1000, large.as_bytes());
    report(&edge, 0, |report| report.open.is_empty());

    let mut member = edge.log_in(Kind::Tcp, &Login::new("member").room("live://1"));
    let worker = (0..2).map(|worker| edge.block(worker)).collect::<Vec<_>>();
    let parcels = || (3..8).map(|n| parcel(n * 10, room("live://1"), &n.to_string())).collect::<Vec<_>>();
    let outcomes = take(&edge, parcels()).outcomes;
    let taken = outcomes.iter().take_while(|outcome| **outcome == Outcome::Queued).count();
    assert!((1..4).contains(&taken), "{outcomes:?}");
    assert!(outcomes[taken..].iter().all(|outcome| matches!(outcome, Outcome::Full { .. })), "{outcomes:?}");
    drop(worker);
    for n in 0..taken {
        member.expect_push(1000, (n + 3).to_string().as_bytes());
    }
    becomes(&true, || take(&edge, parcels()).outcomes.iter().all(|outcome| *outcome == Outcome::Queued));
    for n in taken..5 {
        member.expect_push(1000, (n + 3).to_string().as_bytes());
    }
}

#[test]
fn what_is_refused_or_too_late_is_said_and_counted() {
    let edge = Edge::start(|config| config.push_body = 1000);
    let mut client = edge.log_in(Kind::WebSocket, &Login::new("one"));
    now(edge.comet().open_lane(LOG)).unwrap();
    let large = parcel(10, keys(&["one"]), &"x".repeat(1001));
    let mut old = parcel(20, keys(&["one"]), "old");
    old.push.expires = Some(SystemTime::now() - Duration::from_secs(1));
    let outcomes = take(&edge, vec![large, old, parcel(30, keys(&["one"]), "new")]).outcomes;
    let refused = Outcome::Refused(PushError::TooLarge { len: 1001, max: 1000 });
    assert_eq!(outcomes, [refused, Outcome::Queued, Outcome::Queued]);
    client.expect_push(1000, b"new");
    // What was refused was not taken: in one process its position goes to the next push.
    take(&edge, vec![parcel(10, keys(&["one"]), "small")]);
    client.expect_push(1000, b"small");
    becomes(&1, || edge.lost("expired"));
    let made = ["delivered_total", "filtered_total", "absent_total"];
    becomes(&(2, 3), || (made.iter().map(|name| edge.metric(name)).sum(), edge.metric("due_total")));
    edge.drain();
    let outcomes = take(&edge, vec![parcel(40, keys(&["one"]), "never")]).outcomes;
    assert_eq!(outcomes, [Outcome::Draining]);
}
