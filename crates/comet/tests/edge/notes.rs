//! What becomes of pushes from a log, as operators ask: what was not written is noted, with its reason.

use std::time::{Duration, SystemTime};

use anser_api::comet::{
    Batch, Comet as _, Form, Inquiry, OnOverflow, Outcome, Parcel, Push, Target, Testimony, Unwritten,
};
use anser_api::id::{LogId, Position, Room};
use bytes::Bytes;

use super::fixture::{Edge, Kind, Login, becomes, key, keys, now, numbered, room};

const LOG: LogId = LogId(7);

impl Edge {
    /// Takes a push from the log.
    #[track_caller]
    fn take(&self, position: u64, target: Target, body: &[u8], expires: Option<SystemTime>) -> Outcome {
        let push = Push {
            target,
            op: 1000,
            form: Form::Message,
            body: Bytes::copy_from_slice(body),
            on_overflow: OnOverflow::Drop,
            expires,
        };
        let parcel = Parcel { position: Position(position), late: false, push };
        let batch = Batch { log: LOG, done: Position(0), held: vec![], parcels: vec![parcel] };
        now(self.comet().take(batch)).unwrap().outcomes.remove(0)
    }

    fn explain(&self, position: u64, room: Option<&str>, names: &[&str]) -> Testimony {
        let room = room.map(|name| Room::parse(name, 64).unwrap());
        let keys = names.iter().map(|name| key(name)).collect();
        let inquiry = Inquiry { log: LOG, position: Position(position), op: 1000, room, keys };
        self.runtime.block_on(self.comet().explain(inquiry)).unwrap()
    }

    fn why(&self, position: u64, name: &str) -> Vec<Unwritten> {
        self.explain(position, None, &[name]).notes.iter().map(|note| note.why).collect()
    }
}

#[test]
fn what_is_not_written_is_noted_and_what_is_written_is_not() {
    for kind in Kind::ALL {
        let edge = Edge::start(|_| {});
        let mut good = edge.log_in(kind, &Login::new("good").room("live://1"));
        let _deaf = edge.log_in(kind, &Login::new("deaf").accepts(&[7]));
        now(edge.comet().open_lane(LOG)).unwrap();
        let before = SystemTime::now();
        assert_eq!(edge.take(1, keys(&["good", "deaf", "nobody"]), b"one", None), Outcome::Queued);
        good.expect_push(1000, b"one");
        for (name, why) in
            [("good", vec![]), ("deaf", vec![Unwritten::Filtered]), ("nobody", vec![Unwritten::Absent])]
        {
            becomes(&why, || edge.why(1, name));
        }
        let both = edge.explain(1, Some("live://1"), &["good", "deaf", "nobody"]);
        assert_eq!(both.notes.len(), 2);
        assert!(both.notes.iter().all(|note| note.at >= before) && both.since.unwrap() <= before);
        let present: Vec<_> =
            both.present.iter().map(|it| (it.key.as_str(), it.takes, it.member, it.waits)).collect();
        let mut sorted = present.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [("deaf", false, false, false), ("good", true, true, false)]);
        assert_eq!(edge.explain(1, None, &[]).notes.len(), 2, "all that is noted");
        assert_eq!(edge.explain(2, None, &[]).notes, []);
        // What has expired, for a key and for a whole room.
        let over = Some(SystemTime::now() - Duration::from_secs(1));
        edge.take(2, keys(&["good"]), b"late", over);
        edge.take(3, room("live://1"), b"late", over);
        becomes(&vec![Unwritten::Expired], || edge.why(2, "good"));
        becomes(&vec![Unwritten::Expired], || edge.why(3, "good"));
        assert_eq!(edge.explain(3, None, &["good"]).notes[0].key, None);
        // A push of no log is noted nowhere.
        edge.push(keys(&["nobody"]), 1000, b"");
        becomes(&2, || edge.metric("absent_total"));
        assert_eq!(edge.why(0, "nobody"), []);
    }
}

#[test]
fn a_slow_reader_is_noted_with_what_it_lost() {
    let edge = Edge::start(|config| {
        config.send_buffer = 4096;
        config.queue = 4;
    });
    let slow = edge.log_in_narrow(Kind::Tcp, &Login::new("slow").room("live://1"));
    now(edge.comet().open_lane(LOG)).unwrap();
    let mut position = 0;
    while edge.lost("overflow") == 0 {
        position += 1;
        edge.take(position, keys(&["slow"]), &numbered(position, 1000), None);
        becomes(&true, || edge.explain(position, None, &["slow"]).present.len() == 1);
        becomes(&position, || edge.metric("due_total"));
    }
    assert_eq!(edge.why(position, "slow"), [Unwritten::Overflow]);
    // The one before is in the queue, and is lost with the connection.
    assert_eq!(edge.why(position - 1, "slow"), []);
    assert!(edge.explain(position - 1, None, &["slow"]).present[0].waits);
    slow.reset();
    becomes(&vec![Unwritten::Closed], || edge.why(position - 1, "slow"));
    assert_eq!(edge.explain(position, None, &["slow"]).present, []);
}

#[test]
fn notes_are_bounded_and_may_be_none() {
    for (notes, kept) in [(2, 1), (0, 0)] {
        // One for each worker.
        let edge = Edge::start(|config| config.notes = notes);
        let name = edge.key_on(0);
        now(edge.comet().open_lane(LOG)).unwrap();
        for position in 1..=3 {
            edge.take(position, keys(&[&name]), b"", None);
        }
        becomes(&3, || edge.metric("absent_total"));
        let noted: usize = (1..=3).map(|position| edge.why(position, &name).len()).sum();
        assert_eq!(noted, kept);
        assert_eq!(edge.explain(1, None, &[&name]).since.is_some(), notes > 0);
    }
}
