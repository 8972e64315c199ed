//! Clients that do not read: what they cost is bounded, what they lose is counted and told, and nobody
//! else notices.

use std::io::Write;
use std::time::{Duration, Instant};

use anser_wire::anser::{self, Dropped};
use anser_wire::operation::{CHANGE_ROOM, DROPPED, ERROR};
use anser_wire::packet::Header;
use prost::Message as _;

use super::fixture::{
    Client, EVERYONE, Edge, Item, Kind, Login, PATIENCE, becomes, keys, number, numbered, room,
};

const DROPPED_NOTICE: Header = Header { ver: 1, op: DROPPED, seq: 0 };

/// Few bytes wait for a connection, in the kernel and here.
fn narrow() -> Edge {
    bounded(32, 40_000)
}

fn bounded(queue: usize, queue_bytes: usize) -> Edge {
    Edge::start(|config| {
        config.send_buffer = 4096;
        config.queue = queue;
        config.queue_bytes = queue_bytes;
    })
}

/// Sends numbered pushes of 1 KB to both, and waits for each to come to the one that reads.
#[track_caller]
fn feed(edge: &Edge, slow: &str, reader: &mut Client, pushes: std::ops::Range<u64>) {
    let name = reader.session().key.to_string();
    for n in pushes {
        edge.push(keys(&[slow, &name]), 1000, &numbered(n, 1000));
        reader.expect_push(1000, &numbered(n, 1000));
    }
}

/// Two keys of one worker, so that what the second got the first was offered before.
fn two_keys(edge: &Edge) -> [String; 2] {
    [edge.key_on(0), edge.key_on(0)]
}

/// What was read and what was told add up to what was sent; the others have got everything. What waits
/// is bounded in pushes and in bytes.
#[test]
fn what_a_slow_client_loses_is_told_exactly() {
    // A push of 1000 bytes is 1036 on WebSocket.
    let bounds = [(32, 1 << 20, 32 * 1036), (10_000, 20_000, 20_000)];
    for ((queue, queue_bytes, most), kind) in
        bounds.into_iter().flat_map(|row| Kind::ALL.map(|kind| (row, kind)))
    {
        let edge = bounded(queue, queue_bytes);
        let [slow_key, reader_key] = two_keys(&edge);
        let mut slow = edge.log_in_narrow(kind, &Login::new(&slow_key).anser().told());
        let mut reader = edge.log_in(kind, &Login::new(&reader_key).anser().told());
        let mut sent = 0;
        let (mut seen, mut told_in_all) = (0, 0);
        for _ in 0..3 {
            feed(&edge, &slow_key, &mut reader, sent..sent + 400);
            let waiting = edge.metric("outbound_bytes");
            assert!(waiting <= most, "{waiting} bytes wait for {slow:?}");
            // It reads what fitted, without a gap, and then how many did not.
            let mut next = sent;
            let told = loop {
                let packet = slow.next();
                if packet.header == DROPPED_NOTICE {
                    break Dropped::decode(&*packet.body).unwrap().count;
                }
                assert_eq!(number(&packet.body), next, "to {slow:?}");
                next += 1;
            };
            seen += next - sent;
            told_in_all += told;
            sent += 400;
            assert!(told > 0 && seen > 0);
            assert_eq!(seen + told_in_all, sent, "over {kind:?}");
            assert_eq!(edge.lost("overflow"), told_in_all);
        }
        becomes(&(sent + seen), || edge.snapshot().delivered);
        assert_eq!(slow.heartbeat() + reader.heartbeat(), 0, "nothing more was told to either");
    }
}

/// The sum is exact also when the client reads now and then, whatever is written when.
#[test]
fn what_a_client_that_stutters_loses_is_told_exactly() {
    const PUSHES: u64 = 2000;
    for kind in Kind::ALL {
        let edge = narrow();
        let [slow_key, reader_key] = two_keys(&edge);
        let mut slow = edge.log_in_narrow(kind, &Login::new(&slow_key).anser().told());
        let mut reader = edge.log_in(kind, &Login::new(&reader_key));
        let (mut seen, mut told, mut newest) = (0, 0, None);
        let mut read = |slow: &mut Client| {
            let packet = slow.next();
            if packet.header == DROPPED_NOTICE {
                told += Dropped::decode(&*packet.body).unwrap().count;
            } else {
                let n = number(&packet.body);
                assert!(newest.is_none_or(|newest| newest < n), "{n} after {newest:?}");
                newest = Some(n);
                seen += 1;
            }
            (seen, told)
        };
        for from in (0..PUSHES).step_by(100) {
            feed(&edge, &slow_key, &mut reader, from..from + 100);
            // At least the last of these was lost, or waits: there is something to read.
            for _ in 0..20 {
                read(&mut slow);
            }
        }
        let (mut seen, mut told) = read(&mut slow);
        while seen + told < PUSHES {
            (seen, told) = read(&mut slow);
        }
        assert_eq!(seen + told, PUSHES, "over {kind:?}");
        assert!(told > 0, "it lost some over {kind:?}");
        assert_eq!(edge.lost("overflow"), told);
    }
}

/// Whoever did not ask is told nothing, and goim clients cannot ask.
#[test]
fn nobody_is_told_who_did_not_ask() {
    for kind in Kind::ALL {
        for login in [
            |name: &str| Login::new(name),
            |name: &str| Login::new(name).told(),
            |name: &str| Login::new(name).anser(),
        ] {
            let edge = narrow();
            let [slow_key, reader_key] = two_keys(&edge);
            let mut slow = edge.log_in_narrow(kind, &login(&slow_key));
            let mut reader = edge.log_in(kind, &login(&reader_key));
            feed(&edge, &slow_key, &mut reader, 0..300);
            let lost = edge.lost("overflow");
            assert!(lost > 0);
            for n in 0..300 - lost {
                slow.expect_push(1000, &numbered(n, 1000));
            }
            edge.push(keys(&[&slow_key]), 1000, b"the next");
            slow.expect_push(1000, b"the next");
            assert_eq!(slow.heartbeat(), 0);
        }
    }
}

/// A burst is no overflow: a client whose socket takes it gets all of it, however short its queue.
#[test]
fn a_burst_longer_than_the_queue_is_lost_only_to_a_full_socket() {
    for kind in Kind::ALL {
        let edge = Edge::start(|config| {
            config.workers = 1;
            config.queue = 4;
        });
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
        let blocked = edge.block(0);
        for n in 0..20 {
            for target in [keys(&["one"]), room("live://1"), EVERYONE] {
                edge.push(target, 1000, &numbered(n, 20));
            }
        }
        blocked.release();
        for _ in 0..60 {
            client.push();
        }
        assert_eq!(edge.snapshot().lost, 0, "over {kind:?}");
    }
}

/// Nor is a push that alone is more than the queue takes.
#[test]
fn one_push_is_taken_however_large_it_is() {
    for kind in Kind::ALL {
        let edge = Edge::start(|config| {
            config.workers = 1;
            config.queue_bytes = 1000;
        });
        let mut client = edge.log_in(kind, &Login::new("one").room("live://1"));
        for target in [keys(&["one"]), room("live://1"), EVERYONE] {
            for len in [2000, 900_000] {
                edge.push(target.clone(), 1000, &numbered(1, len));
                client.expect_push(1000, &numbered(1, len));
            }
        }
        assert_eq!(edge.snapshot().lost, 0);
    }
}

/// In a room, and among everyone, slow members cost the others nothing.
#[test]
fn neighbours_of_slow_members_get_everything() {
    let edge = narrow();
    let login = |n: usize| Login::new(&format!("device {n}")).room("live://1");
    let slow: Vec<Client> = (0..9).map(|n| edge.log_in_narrow(Kind::ALL[n % 3], &login(n))).collect();
    let mut readers: Vec<Client> = (9..18).map(|n| edge.log_in(Kind::ALL[n % 3], &login(n))).collect();
    for n in 0..200 {
        for target in [room("live://1"), EVERYONE] {
            edge.push(target, 1000, &numbered(n, 1000));
            for reader in &mut readers {
                reader.expect_push(1000, &numbered(n, 1000));
            }
        }
    }
    let waiting = edge.metric("outbound_bytes");
    assert!(waiting <= 9 * 40_000, "{waiting} bytes wait for 9 clients");
    assert!(edge.lost("overflow") > 9 * 200, "{:?}", edge.snapshot());
    drop(slow);
    becomes(&9, || edge.snapshot().connections);
    becomes(&0, || edge.metric("outbound_bytes"));
    // What was sent is delivered or lost, and so is what was half sent when the client went.
    becomes(&(400 * 18), || edge.snapshot().delivered + edge.snapshot().lost);
}

/// A client that asks and does not listen is no longer read: its answers do not pile up.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    for kind in Kind::SOCKETS {
        let edge = Edge::start(|config| config.send_buffer = 4096);
        let mut client = edge.log_in_narrow(kind, &Login::new("one"));
        let mut writer = client.writer();
        let request = client.encode(Header { ver: 1, op: CHANGE_ROOM, seq: 7 }, &[b'x'; 200]);
        let bytes = request.repeat(20_000);
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&bytes).unwrap());
            // It is no longer read when its answers fill the sockets and what the server keeps.
            let began = Instant::now();
            let mut packets = 0;
            let mut still = 0;
            while still < 100 {
                assert!(began.elapsed() < PATIENCE, "it is read on and on");
                let now = edge.metric("packets_total");
                still = if now == packets && now > 0 { still + 1 } else { 0 };
                packets = now;
                std::thread::park_timeout(Duration::from_millis(1));
            }
            assert!(packets < 20_000, "all was read");
            let waiting = edge.metric("outbound_bytes");
            assert!(waiting < 200_000, "{waiting} bytes of answers wait");
            // It listens, and everything is answered.
            for _ in 0..20_000 {
                assert_eq!(client.next().header.seq, 7);
            }
        });
    }
}

/// Above the budget of all connections together, those with the most go, on whatever worker they are.
#[test]
fn the_budget_closes_the_worst_and_not_the_good() {
    for (worst_on, good_on) in [(0, 0), (0, 1), (1, 0)] {
        for kind in Kind::ALL {
            let edge = Edge::start(|config| {
                config.send_buffer = 4096;
                config.queue = 10_000;
                config.queue_bytes = 300_000;
                config.outbound_budget = 400_000;
            });
            let (worst_key, good_key, reader_key) =
                (edge.key_on(worst_on), edge.key_on(good_on), edge.key_on(good_on));
            let mut worst = edge.log_in_narrow(kind, &Login::new(&worst_key));
            let mut good = edge.log_in_narrow(kind, &Login::new(&good_key));
            let mut reader = edge.log_in(kind, &Login::new(&reader_key));
            for n in 0..250 {
                edge.push(keys(&[&worst_key]), 1000, &numbered(n, 1000));
            }
            becomes(&0, || edge.metric(&format!("queue_depth{{worker=\"{worst_on}\"}}")));
            // The good one, which only pauses, is it for whom there is no room.
            let mut n = 0;
            while edge.closed("budget") == 0 {
                edge.push(keys(&[&good_key, &reader_key]), 1000, &numbered(n, 1000));
                reader.expect_push(1000, &numbered(n, 1000));
                n += 1;
                assert!(n < 1000, "nobody was closed");
            }
            assert!(n < 250, "the good one waits for {n}");
            becomes(&2, || edge.snapshot().connections);
            for n in 0..n {
                good.expect_push(1000, &numbered(n, 1000));
            }
            assert_eq!(edge.closed("budget"), 1);
            becomes(&0, || edge.metric("outbound_bytes"));
            // What was in the kernel is cut off.
            while let Item::Packet(_) = worst.item() {}
            assert_eq!(edge.snapshot().lost, edge.lost("budget"));
            becomes(&(250 + 2 * n), || edge.snapshot().delivered + edge.lost("budget"));
        }
    }
}

/// A client that is replaced while its socket is full hears of it behind what it has got: what waits is
/// lost, the last word is not.
#[test]
fn the_last_word_waits_for_a_full_socket() {
    for kind in Kind::ALL {
        let edge = narrow();
        let [slow_key, reader_key] = two_keys(&edge);
        let mut slow = edge.log_in_narrow(kind, &Login::new(&slow_key).anser());
        let mut reader = edge.log_in(kind, &Login::new(&reader_key));
        feed(&edge, &slow_key, &mut reader, 0..400);
        assert!(edge.lost("overflow") > 0);
        let _new = edge.log_in(kind, &Login::new(&slow_key).anser());
        let mut next = 0;
        let last = loop {
            let packet = slow.next();
            if packet.header.op == ERROR {
                break packet;
            }
            assert_eq!(number(&packet.body), next, "to {slow:?}");
            next += 1;
        };
        assert_eq!(anser::Error::decode(&*last.body).unwrap().code, "replaced");
        let code = slow.end().map(|(code, _)| code);
        assert_eq!(code, (kind == Kind::WebSocket).then_some(1008), "to {slow:?}");
    }
}

/// But not for ever, if it never reads.
#[test]
fn the_last_word_does_not_wait_for_ever() {
    for kind in Kind::ALL {
        let edge = narrow();
        let [slow_key, reader_key] = two_keys(&edge);
        let _slow = edge.log_in_narrow(kind, &Login::new(&slow_key).anser());
        let mut reader = edge.log_in(kind, &Login::new(&reader_key));
        feed(&edge, &slow_key, &mut reader, 0..400);
        let _new = edge.log_in(kind, &Login::new(&slow_key).anser());
        assert_eq!(edge.snapshot().open, 3);
        becomes(&2, || edge.snapshot().open);
        assert_eq!(edge.metric("outbound_bytes"), 0);
    }
}
