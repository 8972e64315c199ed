//! What a process of a fleet counts, message by message.

use std::collections::BTreeMap;

use anser_wire::operation::HEARTBEAT_REPLY;
use anser_wire::packet::Packet;

use crate::control::{Count, Received};
use crate::latency::Recorder;
use crate::sequence::{Order, Track};
use crate::stamp::{FEW_STREAMS, KEY_STREAM, Stamp};

/// What is kept for each connection.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    tracks: [Track; FEW_STREAMS],
    /// Of the streams above those: only runs with many posters to one room have them.
    more: Vec<Track>,
    /// A hash of the room's messages in the order of their arrival. Members of one room that saw the
    /// same order have the same hash, whoever posted.
    order: u64,
}

impl Ledger {
    fn track(&mut self, stream: u16) -> &mut Track {
        let stream = usize::from(stream);
        let Some(beyond) = stream.checked_sub(FEW_STREAMS) else { return &mut self.tracks[stream] };
        if beyond >= self.more.len() {
            self.more.resize(beyond + 1, Track::default());
        }
        &mut self.more[beyond]
    }
}

/// A message that is watched until the last connection has it.
#[derive(Clone, Copy, Debug)]
struct Watch {
    seq: u64,
    missing: u64,
    members: u64,
}

/// The counters of a process.
#[derive(Debug)]
pub(crate) struct Tally {
    count: Count,
    to_keys: u64,
    reads: u64,
    order: Order,
    first_at: u64,
    last_at: u64,
    room: Recorder,
    key: Recorder,
    watch: Option<Watch>,
}

impl Tally {
    /// All zero.
    pub(crate) fn new() -> Self {
        Self {
            count: Count::default(),
            to_keys: 0,
            reads: 0,
            order: Order::default(),
            first_at: 0,
            last_at: 0,
            room: Recorder::new(),
            key: Recorder::new(),
            watch: None,
        }
    }

    /// From now on tells when all of `members` connections have a message, which has to be the only
    /// one on its way; 0 ends it.
    pub(crate) fn watch(&mut self, members: u64) {
        self.watch = (members > 0).then_some(Watch { seq: u64::MAX, missing: 0, members });
    }

    /// A call of recv brought something.
    pub(crate) fn read(&mut self) {
        self.reads += 1;
    }

    /// The server has closed a connection.
    pub(crate) fn closed(&mut self) {
        self.count.closed += 1;
    }

    /// Counts a packet that arrived at `now`. Gives the number of a watched message when this was the
    /// last connection that it missed.
    pub(crate) fn packet(&mut self, ledger: &mut Ledger, packet: Packet<'_>, now: u64) -> Option<u64> {
        if packet.header.op == HEARTBEAT_REPLY {
            self.count.heartbeats += 1;
            return None;
        }
        let stamp = Stamp::read(packet.body)?;
        self.count.received += 1;
        if self.first_at == 0 {
            self.first_at = now;
        }
        self.last_at = now;
        self.order.count(ledger.track(stamp.stream).take(stamp.seq));
        if stamp.stream == KEY_STREAM {
            self.to_keys += 1;
            self.key.record(now, stamp.at);
            return None;
        }
        self.room.record(now, stamp.at);
        let message = u64::from(stamp.stream) << 48 | stamp.seq;
        // A step of FNV-1a on words: each message, and its place, changes all that follows.
        ledger.order = (ledger.order ^ (message + 1)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        let watch = self.watch.as_mut()?;
        if watch.seq != stamp.seq {
            (watch.seq, watch.missing) = (stamp.seq, watch.members);
        }
        watch.missing = watch.missing.checked_sub(1)?;
        (watch.missing == 0).then_some(stamp.seq)
    }

    /// The counters that a wait looks at.
    pub(crate) fn count(&self) -> Count {
        self.count
    }

    /// Everything since the last report; starts again from zero. `ledgers` come with their rooms.
    pub(crate) fn report<'a>(&mut self, ledgers: impl Iterator<Item = (u64, &'a mut Ledger)>) -> Received {
        let mut orders = BTreeMap::<(u64, u64), u64>::new();
        for (room, ledger) in ledgers {
            *orders.entry((room, ledger.order)).or_default() += 1;
            ledger.order = 0;
        }
        let received = Received {
            count: self.count,
            reads: self.reads,
            to_keys: self.to_keys,
            order: self.order,
            orders: orders.into_iter().map(|((room, hash), members)| (room, hash, members)).collect(),
            first_at: self.first_at,
            last_at: self.last_at,
            room: self.room.take(),
            key: self.key.take(),
        };
        let watch = self.watch.map_or(0, |watch| watch.members);
        *self = Self::new();
        self.watch(watch);
        received
    }
}

#[cfg(test)]
mod tests {
    use anser_wire::packet::Header;

    use super::*;

    fn take(tally: &mut Tally, ledger: &mut Ledger, stream: u16, seq: u64) -> Option<u64> {
        let mut body = [0; 44];
        Stamp { stream, seq, at: 1_000_000 }.write(&mut body);
        tally.packet(ledger, Packet { header: Header { ver: 1, op: 1000, seq: 0 }, body: &body }, 1_500_000)
    }

    #[test]
    fn members_that_see_another_order_have_another_hash() {
        let mut tally = Tally::new();
        let mut ledgers = [Ledger::default(), Ledger::default(), Ledger::default()];
        for (ledger, streams) in ledgers.iter_mut().zip([[0, 1, 0], [0, 1, 0], [1, 0, 0]]) {
            let mut next = [0, 0];
            for stream in streams {
                take(&mut tally, ledger, stream, next[usize::from(stream)]);
                next[usize::from(stream)] += 1;
            }
        }
        let received = tally.report(ledgers.iter_mut().map(|ledger| (1, ledger)));
        assert_eq!(received.count.received, 9);
        assert_eq!(received.order, Order::default());
        let mut members: Vec<u64> = received.orders.iter().map(|(_, _, members)| *members).collect();
        members.sort_unstable();
        assert_eq!(members, [1, 2]);
    }

    #[test]
    fn many_posters_of_one_room_are_told_apart() {
        let (mut tally, mut ledger) = (Tally::new(), Ledger::default());
        for (stream, seq) in [(0, 0), (500, 0), (8, 0), (500, 1), (8, 2)] {
            take(&mut tally, &mut ledger, stream, seq);
        }
        let received = tally.report([(1, &mut ledger)].into_iter());
        assert_eq!(received.order, Order { gaps: 1, missing: 1, late: 0, again: 0 });
    }

    #[test]
    fn a_watched_message_is_told_once_when_all_have_it() {
        let mut tally = Tally::new();
        let mut ledgers = [Ledger::default(), Ledger::default()];
        tally.watch(2);
        for seq in 0..3 {
            assert_eq!(take(&mut tally, &mut ledgers[0], 0, seq), None);
            assert_eq!(take(&mut tally, &mut ledgers[1], 0, seq), Some(seq));
            assert_eq!(take(&mut tally, &mut ledgers[1], 0, seq), None);
        }
        let received = tally.report(ledgers.iter_mut().map(|ledger| (1, ledger)));
        assert_eq!(received.order.again, 3);
    }

    #[test]
    fn a_report_starts_again_but_remembers_what_comes_next() {
        let mut tally = Tally::new();
        let mut ledgers = [Ledger::default()];
        take(&mut tally, &mut ledgers[0], KEY_STREAM, 0);
        let first = tally.report(ledgers.iter_mut().map(|ledger| (1, ledger)));
        assert_eq!((first.count.received, first.to_keys), (1, 1));
        take(&mut tally, &mut ledgers[0], KEY_STREAM, 2);
        let second = tally.report(ledgers.iter_mut().map(|ledger| (1, ledger)));
        assert_eq!(second.order, Order { gaps: 1, missing: 1, late: 0, again: 0 });
    }
}
