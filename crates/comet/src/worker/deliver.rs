//! Pushes on their way to connections: commands, rounds, queues, overflow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anser_api::comet::{Flow, OnOverflow, Unwritten};
use anser_api::id::Session;
use anser_wire::anser::Dropped;
use anser_wire::operation;
use anser_wire::packet::{Header, PUSH_VERSION};
use prost::Message as _;
use tracing::warn;

use super::room::release;
use super::{Job, Worker};
use crate::directory::Shared as SharedRoom;
use crate::frame::{Batch, Push};
use crate::inbox::Command;
use crate::outbound::{Entry, Flushed, Outbound};
use crate::stats::Lost;
use crate::trace;
use crate::transport::Transport;

/// A turn ends after so many sends, so that a push to one connection waits behind that many at most.
const TURN_SENDS: usize = 256;

/// And after so long, should sends be slow. Reading, and what comes from other threads, have as long each.
pub(super) const TURN_TIME: Duration = Duration::from_millis(2);

/// Members served between two looks at the clock.
const CHUNK: usize = 64;

/// Connections that a push at a speed looks at in one turn, should few of them take it.
const PACED_LOOKS: u32 = 4096;

/// Pushes to everyone that are joined into one round.
const EVERYONE_BATCH: usize = 32;

/// Pushes to everyone on this worker.
#[derive(Debug, Default)]
pub(super) struct Everyone {
    waiting: VecDeque<Arc<Push>>,
    /// What is being written, the next slot, and when it began.
    round: Option<(Batch, u32, u64)>,
    /// In the worker's list of work.
    queued: bool,
}

/// A push to everyone at a limited speed.
#[derive(Debug)]
pub(super) struct Paced {
    push: Arc<Push>,
    next: u32,
    per_second: u32,
    began: Instant,
    sent: u64,
}

impl Paced {
    /// How long until it may send again.
    pub(super) fn wait(&self) -> Duration {
        let due = Duration::from_secs_f64(self.sent as f64 / f64::from(self.per_second));
        due.saturating_sub(self.began.elapsed())
    }

    /// How many it may send by now.
    fn allowed(&self) -> usize {
        let by_now = self.began.elapsed().as_secs_f64() * f64::from(self.per_second);
        (by_now as u64 + 1).saturating_sub(self.sent) as usize
    }
}

impl Worker {
    /// Takes commands until there are none, or a turn's worth of sends has been done.
    pub(super) fn take_commands(&mut self) {
        let mut sends = 0;
        while sends < TURN_SENDS {
            if let Some((keys, at, push)) = self.keyed.take() {
                let upto = keys.len().min(at + TURN_SENDS - sends);
                let expired = push.has_expired();
                self.tally.due += (upto - at) as u64;
                for key in &keys[at..upto] {
                    let Some(slot) = self.find(key) else {
                        self.tally.absent += 1;
                        push.absent(key);
                        self.notes.add(&push, Some(key), Unwritten::Absent);
                        trace::gone(&self.shared.watch, key, None, &push, Unwritten::Absent);
                        continue;
                    };
                    if expired {
                        self.shared.stats.lost(Lost::Expired, 1);
                        self.notes.add(&push, Some(key), Unwritten::Expired);
                        self.trace_unwritten(slot, &push, Unwritten::Expired);
                    } else if self.takes(slot, push.op) {
                        self.offer(slot, &push);
                        self.touch(slot);
                    } else {
                        self.tally.filtered += 1;
                        self.notes.add(&push, Some(key), Unwritten::Filtered);
                        self.trace_unwritten(slot, &push, Unwritten::Filtered);
                    }
                }
                sends += upto - at;
                if upto < keys.len() {
                    self.keyed = Some((keys, upto, push));
                }
                continue;
            }
            let Some(command) = self.inbox.take_command() else { break };
            match command {
                Command::Keys { keys, push } => self.keyed = Some((keys, 0, push)),
                Command::Room { room, push } => self.push_to_room(&room, push),
                Command::All { push, speed: 0 } => {
                    self.everyone.waiting.push_back(push);
                    if !std::mem::replace(&mut self.everyone.queued, true) {
                        self.jobs.push_back(Job::Everyone);
                    }
                }
                Command::All { push, speed } => {
                    let began = Instant::now();
                    self.paced.push_back(Paced { push, next: 0, per_second: speed, began, sent: 0 });
                }
                Command::Switch { session, to } => self.switch(&session, to),
            }
            sends += 1;
        }
    }

    fn push_to_room(&mut self, shared: &Arc<SharedRoom>, push: Arc<Push>) {
        let share = &shared.shares[self.id];
        if share.members.load(Ordering::Relaxed) == 0 {
            release(share, &[push]);
            return;
        }
        let index = share.index.load(Ordering::Relaxed);
        let Some(room) = self.rooms.get_mut(index) else { return };
        if push.has_expired() {
            let members = room.members.len() as u64;
            self.notes.add(&push, None, Unwritten::Expired);
            if self.shared.watch.is_on() {
                for channel in room.members.iter().filter_map(|slot| self.channels.get(*slot)) {
                    trace::unwritten(&self.shared.watch, channel, &push, Unwritten::Expired);
                }
            }
            release(share, &[push]);
            self.tally.due += members;
            self.shared.stats.lost(Lost::Expired, members);
            return;
        }
        let deliveries = room.push(push);
        if !std::mem::replace(&mut room.queued, true) {
            self.jobs.push_back(Job::Room(self.rooms.handle(index)));
        }
        self.backlog(deliveries as i64);
    }

    /// A step of the connection in a slot, if it is traced.
    fn trace_unwritten(&self, slot: u32, push: &Push, why: Unwritten) {
        if let Some(channel) = self.channels.get(slot) {
            trace::unwritten(&self.shared.watch, channel, push, why);
        }
    }

    /// Adds to the count of deliveries that wait here.
    pub(super) fn backlog(&self, change: i64) {
        self.inbox.backlog.fetch_add(change as u64, Ordering::Relaxed);
    }

    /// One turn of the large pushes, each in its turn.
    pub(super) fn work(&mut self) {
        let began = Instant::now();
        let mut sends = 0;
        let delivered = self.tally.delivered;
        while sends < TURN_SENDS
            && let Some(job) = self.jobs.pop_front()
        {
            let more = match job {
                // A room that has lost its last member is gone, and its place may be another's.
                Job::Room(room) => match self.rooms.resolve(room) {
                    Some(index) => self.serve_room(index, &mut sends),
                    None => continue,
                },
                Job::Everyone => self.serve_everyone(&mut sends),
            };
            if more {
                self.jobs.push_back(job);
            } else {
                match job {
                    Job::Everyone => self.everyone.queued = false,
                    Job::Room(room) => {
                        if let Some(room) = self.rooms.resolve(room).and_then(|at| self.rooms.get_mut(at)) {
                            room.queued = false;
                        }
                    }
                }
            }
            if began.elapsed() > TURN_TIME {
                break;
            }
        }
        self.serve_paced(&mut sends);
        let delivered = self.tally.delivered - delivered;
        if let Some(nanos) = (began.elapsed().as_nanos() as u64).checked_div(delivered) {
            let old = self.inbox.delivery_nanos.load(Ordering::Relaxed);
            self.inbox.delivery_nanos.store((old * 7 + nanos) / 8, Ordering::Relaxed);
        }
    }

    /// Serves a chunk of a room's members; whether there is more to do.
    fn serve_room(&mut self, index: u32, sends: &mut usize) -> bool {
        let id = self.id;
        let now = self.shared.micros();
        let Some(room) = self.rooms.get_mut(index) else { return false };
        let Some(round) = room.begin(id, now) else { return false };
        let upto = round.left;
        let from = upto.saturating_sub(CHUNK);
        round.left = from;
        let mut batch = std::mem::take(&mut round.batch);
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        slots.extend(room.members[from..upto].iter().rev());
        self.serve(&slots, &mut batch);
        *sends += slots.len();
        self.slots = slots;
        // The room is gone if its last members were.
        let Some(room) = self.rooms.get_mut(index) else { return false };
        let Some(round) = &mut room.round else { return room.has_work() };
        round.batch = batch;
        if round.left == 0 {
            let counted = room.end(id);
            let more = room.has_work();
            self.backlog(-(counted as i64));
            return more;
        }
        true
    }

    /// Serves a chunk of all connections; whether there is more to do.
    fn serve_everyone(&mut self, sends: &mut usize) -> bool {
        let now = self.shared.micros();
        let share = &self.shared.everyone[self.id];
        let everyone = &mut self.everyone;
        let (mut batch, from, began) = if let Some(round) = everyone.round.take() {
            round
        } else {
            // One batch has one operation, so that whether a connection takes it is one question.
            let Some(op) = everyone.waiting.front().map(|push| push.op) else { return false };
            let same = everyone.waiting.iter().take(EVERYONE_BATCH).take_while(|push| push.op == op);
            let count = same.count();
            let pushes: Vec<_> = everyone.waiting.drain(..count).collect();
            release(share, &pushes);
            let expected = u64::from(share.round_micros.load(Ordering::Relaxed));
            share.round_ends.store(now + expected, Ordering::Relaxed);
            (Batch::new(pushes), 0, now)
        };
        let end = self.channels.end();
        let upto = end.min(from + CHUNK as u32);
        let op = batch.pushes[0].op;
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        for slot in from..upto {
            if self.takes(slot, op) {
                slots.push(slot);
            } else if self.is_online(slot) {
                self.tally.due += batch.pushes.len() as u64;
                self.tally.filtered += batch.pushes.len() as u64;
                for push in &batch.pushes {
                    self.trace_unwritten(slot, push, Unwritten::Filtered);
                }
            }
        }
        self.serve(&slots, &mut batch);
        *sends += slots.len().max(CHUNK / 16);
        self.slots = slots;
        if upto < end {
            self.everyone.round = Some((batch, upto, began));
            return true;
        }
        let took = self.shared.micros() - began;
        self.shared.everyone[self.id].round_micros.store(took as u32, Ordering::Relaxed);
        !self.everyone.waiting.is_empty()
    }

    fn is_online(&self, slot: u32) -> bool {
        self.channels.get(slot).is_some_and(|channel| channel.session.is_some())
    }

    fn takes(&self, slot: u32, op: i32) -> bool {
        self.channels.get(slot).is_some_and(|channel| channel.session.is_some() && channel.accepts(op))
    }

    /// Serves the pushes to everyone that have a speed limit, each a chunk, as far as it allows by now.
    /// While the worker drains there is no later, and no limit.
    fn serve_paced(&mut self, sends: &mut usize) {
        for _ in 0..self.paced.len() {
            if *sends >= TURN_SENDS {
                break;
            }
            let Some(mut paced) = self.paced.pop_front() else { break };
            let allowed = if self.drain.is_some() { CHUNK } else { paced.allowed().min(CHUNK) };
            let end = self.channels.end().min(paced.next + PACED_LOOKS);
            let mut slots = std::mem::take(&mut self.slots);
            slots.clear();
            let from = paced.next;
            while slots.len() < allowed && paced.next < end {
                if self.takes(paced.next, paced.push.op) {
                    slots.push(paced.next);
                } else if self.is_online(paced.next) {
                    self.tally.due += 1;
                    self.tally.filtered += 1;
                    self.trace_unwritten(paced.next, &paced.push, Unwritten::Filtered);
                }
                paced.next += 1;
            }
            paced.sent += slots.len() as u64;
            *sends += slots.len() + (paced.next - from) as usize / CHUNK;
            self.serve(&slots, &mut Batch::new(vec![paced.push.clone()]));
            self.slots = slots;
            if paced.next < self.channels.end() {
                self.paced.push_back(paced);
            } else {
                release(&self.shared.paced[self.id], &[paced.push]);
            }
        }
        let micros = |paced: &Paced| {
            let left = u64::from(self.channels.end() - paced.next.min(self.channels.end()));
            left * 1_000_000 / u64::from(paced.per_second)
        };
        if let Some(micros) = self.paced.iter().map(micros).min() {
            self.shared.paced[self.id].round_ends.store(self.shared.micros() + micros, Ordering::Relaxed);
        }
    }

    /// Counts as lost whatever has not had its turn, and forgets it.
    pub(super) fn give_up(&mut self) {
        let mut lost = 0;
        let mut keyed = self.keyed.take();
        loop {
            if let Some((keys, at, push)) = keyed.take() {
                for key in &keys[at..] {
                    if let Some(slot) = self.find(key).filter(|slot| self.takes(*slot, push.op)) {
                        lost += 1;
                        self.notes.add(&push, Some(key), Unwritten::Draining);
                        self.trace_unwritten(slot, &push, Unwritten::Draining);
                    }
                }
            }
            let Some(command) = self.inbox.take_command() else { break };
            match command {
                Command::Keys { keys, push } => keyed = Some((keys, 0, push)),
                Command::Room { room, push } => {
                    let share = &room.shares[self.id];
                    lost += u64::from(share.members.load(Ordering::Relaxed));
                    self.notes.add(&push, None, Unwritten::Draining);
                    release(share, &[push]);
                }
                Command::All { push, speed } => {
                    lost += self.receivers_from(0, push.op);
                    self.notes.add(&push, None, Unwritten::Draining);
                    let queues = if speed == 0 { &self.shared.everyone } else { &self.shared.paced };
                    release(&queues[self.id], &[push]);
                }
                Command::Switch { .. } => {}
            }
        }
        lost += self.rooms.occupied().map(|(_, room)| room.undelivered()).sum::<u64>();
        if let Some((batch, next, _)) = self.everyone.round.take() {
            lost += self.receivers_from(next, batch.pushes[0].op) * batch.pushes.len() as u64;
        }
        for push in std::mem::take(&mut self.everyone.waiting) {
            lost += self.receivers_from(0, push.op);
            release(&self.shared.everyone[self.id], &[push]);
        }
        for paced in std::mem::take(&mut self.paced) {
            lost += self.receivers_from(paced.next, paced.push.op);
            release(&self.shared.paced[self.id], &[paced.push]);
        }
        self.jobs.clear();
        self.tally.due += lost;
        self.shared.stats.lost(Lost::Draining, lost);
    }

    /// Connections from this slot on that take an operation.
    fn receivers_from(&self, slot: u32, op: i32) -> u64 {
        (slot..self.channels.end()).filter(|slot| self.takes(*slot, op)).count() as u64
    }

    /// Writes a batch to each of `slots`.
    fn serve(&mut self, slots: &[u32], batch: &mut Batch) {
        let mut whole = 0;
        self.tally.due += (slots.len() * batch.pushes.len()) as u64;
        for slot in slots {
            whole += u64::from(self.serve_one(*slot, batch));
        }
        if whole > 0 {
            let now = Instant::now();
            for push in &batch.pushes {
                self.shared.stats.latency.record(now.saturating_duration_since(push.accepted), whole);
            }
            self.tally.delivered += whole * batch.pushes.len() as u64;
        }
    }

    /// Writes a batch to one connection: in one system call when nothing waits for it. Whether that was
    /// all; what was not is in its queue, or lost and counted.
    fn serve_one(&mut self, slot: u32, batch: &mut Batch) -> bool {
        let Some(channel) = self.channels.get_mut(slot).filter(|channel| !channel.wire.is_closing()) else {
            // It went while others were being served.
            self.shared.stats.lost(Lost::Closed, batch.pushes.len() as u64);
            return false;
        };
        let split = channel.one_write_per_packet && batch.pushes.len() > 1;
        let simple = channel.outbound.is_none() && !batch.is_pullable() && !split;
        if !simple || matches!(channel.transport, Transport::Foreign(_)) {
            for push in &batch.pushes {
                self.offer(slot, push);
            }
            self.flush_unless_blocked(slot);
            return false;
        }
        let websocket = channel.wire.is_websocket();
        let bytes = batch.bytes(websocket);
        self.tally.writes += 1;
        let sent = match channel.transport.write(bytes) {
            Ok(sent) => sent,
            Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.shared.stats.lost(Lost::Closed, batch.pushes.len() as u64);
                self.notes.add_all(&batch.pushes, channel.name(), Unwritten::Closed);
                for push in &batch.pushes {
                    trace::unwritten(&self.shared.watch, channel, push, Unwritten::Closed);
                }
                self.remove(slot, "peer");
                return false;
            }
        };
        self.tally.bytes += sent as u64;
        let whole = sent == bytes.len();
        if channel.traced {
            let upto = if whole { batch.pushes.len() } else { batch.rest(websocket, sent).0.start };
            for push in &batch.pushes[..upto] {
                trace::written(&self.shared.watch, channel, push, websocket);
            }
        }
        if whole {
            return true;
        }
        // A partial write of a stream socket is as good as `WouldBlock`: the kernel tells when there is room.
        channel.blocked = true;
        let (rest, sent) = batch.rest(websocket, sent);
        self.tally.delivered += rest.start as u64;
        for at in rest {
            self.offer(slot, &batch.pushes[at]);
            if sent > 0
                && let Some(outbound) = self.channels.get_mut(slot).and_then(|c| c.outbound.as_mut())
                && outbound.is_first()
            {
                outbound.set_sent(sent);
            }
        }
        false
    }

    /// Puts a push into a connection's queue, within its bounds.
    pub(super) fn offer(&mut self, slot: u32, push: &Arc<Push>) {
        let shared = &self.shared;
        let config = &shared.config;
        let Some(channel) = self.channels.get_mut(slot).filter(|channel| !channel.wire.is_closing()) else {
            // It went while it was being served.
            shared.stats.lost(Lost::Closed, 1);
            return;
        };
        let websocket = channel.wire.is_websocket();
        let pull = push.on_overflow == OnOverflow::Pull;
        if pull && channel.flow == Flow::Behind {
            self.tally.pulled += 1;
            self.notes.add(push, channel.name(), Unwritten::Pulled);
            trace::unwritten(&shared.watch, channel, push, Unwritten::Pulled);
            return;
        }
        let len = push.bytes(websocket).len();
        let held = pull && channel.flow == Flow::Held;
        let full = |outbound: &Outbound| !outbound.has_room(len, config.queue, config.queue_bytes);
        if !held && !channel.blocked && channel.outbound.as_deref().is_some_and(full) {
            // Only when the socket takes no more is the receiver too slow; a burst is no reason.
            self.flush(slot);
            return self.offer(slot, push);
        }
        let outbound = channel.outbound.get_or_insert_with(Box::<Outbound>::default);
        let taken = if held {
            outbound.hold(push.clone(), len, config.held, config.held_bytes)
        } else if outbound.has_room(len, config.queue, config.queue_bytes) {
            outbound.push(Entry::Push(push.clone()), websocket);
            true
        } else {
            false
        };
        if taken {
            self.tally.outbound += len as isize;
            self.tally.waiting += 1;
            self.largest = self.largest.max(outbound.bytes());
            if channel.traced {
                let waits = channel.outbound.as_ref().map_or(0, |outbound| outbound.waiting().count());
                let said = format_args!("push of operation {} queued as number {waits}", push.op);
                trace::step(&shared.watch, channel, Some(push), said);
            }
        } else if pull {
            self.tally.pulled += 1;
            self.notes.add(push, channel.name(), Unwritten::Pulled);
            trace::unwritten(&shared.watch, channel, push, Unwritten::Pulled);
            self.fall_behind(slot);
        } else {
            channel.dropped = channel.dropped.saturating_add(1);
            shared.stats.lost(Lost::Overflow, 1);
            self.notes.add(push, channel.name(), Unwritten::Overflow);
            trace::unwritten(&shared.watch, channel, push, Unwritten::Overflow);
            if let Some(unsaid) = self.quiet.slow.may_speak(Instant::now()) {
                let (remote, key, dropped) = (channel.from(), channel.key(), channel.dropped);
                warn!(%remote, key, dropped, unsaid, "dropped a push to a client that reads too slowly");
            }
        }
    }

    /// Too slow for pushes that can be pulled: they go, and the client is told once.
    fn fall_behind(&mut self, slot: u32) {
        let Some(channel) = self.channels.get_mut(slot) else { return };
        channel.flow = Flow::Behind;
        self.shared.stats.behind.fetch_add(1, Ordering::Relaxed);
        let websocket = channel.wire.is_websocket();
        if let Some(outbound) = &mut channel.outbound {
            let before = outbound.bytes();
            let gone = outbound.discard_pullable(websocket);
            self.tally.outbound += outbound.bytes() as isize - before as isize;
            self.tally.waiting -= gone.len() as isize;
            self.tally.pulled += gone.len() as u64;
            let key = channel.session.as_ref().map(|session| &session.key);
            self.notes.add_all(&gone, key, Unwritten::Pulled);
            trace::all_gone(&self.shared.watch, key, channel.user, &gone, Unwritten::Pulled);
        }
        self.notice(slot, operation::BEHIND, b"");
    }

    /// Tells an Anser client something of the connection itself.
    fn notice(&mut self, slot: u32, op: i32, body: &[u8]) {
        let Some(channel) = self.channels.get(slot) else { return };
        if channel.wire.dialect() == operation::Dialect::Anser {
            let mut out = Vec::new();
            channel.wire.write(Header { ver: PUSH_VERSION, op, seq: 0 }, body, &mut out);
            self.reply(slot, &out);
        }
    }

    /// The owner of the data says how pullable pushes go on.
    fn switch(&mut self, session: &Session, to: Flow) {
        let Some(slot) = self.find(&session.key) else { return };
        let Some(channel) = self.channels.get_mut(slot) else { return };
        if channel.session.as_ref().is_none_or(|own| own.generation != session.generation) {
            return;
        }
        let websocket = channel.wire.is_websocket();
        if to == Flow::Behind {
            if channel.flow != Flow::Behind {
                self.fall_behind(slot);
            }
            return;
        }
        channel.flow = to;
        if to == Flow::Live
            && let Some(outbound) = &mut channel.outbound
        {
            outbound.release(websocket);
            self.touch(slot);
        }
    }

    /// Has the connection flushed at the end of this turn.
    fn touch(&mut self, slot: u32) {
        if let Some(channel) = self.channels.get_mut(slot)
            && !std::mem::replace(&mut channel.touched, true)
        {
            self.touched.push(slot);
        }
    }

    pub(super) fn flush_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            if let Some(channel) = self.channels.get_mut(slot)
                && std::mem::take(&mut channel.touched)
            {
                self.flush_unless_blocked(slot);
            }
        }
        self.touched = touched;
    }

    fn flush_unless_blocked(&mut self, slot: u32) {
        if self.channels.get(slot).is_some_and(|channel| !channel.blocked) {
            self.flush(slot);
        }
    }

    /// Writes what waits for a connection, as far as it takes it.
    pub(super) fn flush(&mut self, slot: u32) {
        let Some(channel) = self.channels.get_mut(slot) else { return };
        let Some(outbound) = &mut channel.outbound else {
            channel.blocked = false;
            return;
        };
        let websocket = channel.wire.is_websocket();
        let split = channel.one_write_per_packet;
        let before = outbound.bytes();
        let expired = outbound.discard_expired(websocket);
        if !expired.is_empty() {
            self.tally.waiting -= expired.len() as isize;
            self.shared.stats.lost(Lost::Expired, expired.len() as u64);
            let key = channel.session.as_ref().map(|session| &session.key);
            self.notes.add_all(&expired, key, Unwritten::Expired);
            trace::all_gone(&self.shared.watch, key, channel.user, &expired, Unwritten::Expired);
        }
        let mut flushed = Flushed::default();
        let accepted = &mut self.tally.accepted;
        let traced: Vec<Arc<Push>> =
            if channel.traced { outbound.waiting().cloned().collect() } else { Vec::new() };
        let result = outbound.flush(&mut channel.transport, websocket, split, accepted, &mut flushed);
        self.tally.outbound += outbound.bytes() as isize - before as isize;
        self.tally.delivered += flushed.pushes;
        self.tally.waiting -= flushed.pushes as isize;
        self.tally.bytes += flushed.bytes as u64;
        self.tally.writes += flushed.writes;
        let empty = outbound.is_empty();
        for push in traced.iter().take(flushed.pushes as usize) {
            trace::written(&self.shared.watch, channel, push, websocket);
        }
        if result.is_err() {
            self.remove(slot, "peer");
            return;
        }
        channel.blocked = flushed.blocked;
        if flushed.blocked {
            return;
        }
        if empty {
            channel.outbound = None;
        }
        if channel.wire.is_closing() {
            self.finish(slot);
            return;
        }
        if std::mem::take(&mut channel.paused) {
            channel.transport.pause(false);
            self.mark_readable(slot);
        }
        let Some(channel) = self.channels.get_mut(slot) else { return };
        if channel.tell_dropped && channel.dropped > 0 {
            let count = u64::from(std::mem::take(&mut channel.dropped));
            self.notice(slot, operation::DROPPED, &Dropped { count }.encode_to_vec());
        }
    }

    /// Looks again at a task whose queue was full, should its word have been lost.
    pub(super) fn retry_foreign(&mut self, slot: u32) {
        let foreign = self
            .channels
            .get(slot)
            .is_some_and(|channel| channel.blocked && matches!(channel.transport, Transport::Foreign(_)));
        if foreign {
            self.flush(slot);
        }
    }
}
