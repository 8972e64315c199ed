//! What clients say, and what they are answered.

use std::sync::atomic::Ordering;
use std::time::Instant;

use anser_api::id::Room as RoomName;
use anser_api::logic::{Connect, Received};
use anser_wire::anser::Error;
use anser_wire::input::Input;
use anser_wire::operation::{self, Dialect};
use anser_wire::packet::Header;
use anser_wire::server::Event;
use bytes::Bytes;
use prost::Message as _;
use tracing::warn;

use super::Worker;
use super::deliver::TURN_TIME;
use super::lifecycle::Login;
use super::room::Room;
use crate::channel::{Channel, Membership};
use crate::outbound::{Entry, Outbound};
use crate::slab::Handle;
use crate::trace;
use crate::transport::Transport;

/// Reads from one socket in a turn; then others have their turn.
const READS: usize = 4;

/// News for other roles that wait, above which clients may not add to them.
const NEWS: usize = 1024;

/// Bytes of replies that may wait for a connection before its requests are no longer read. A client
/// that asks and does not listen is slowed down by its own TCP.
const REPLY_BYTES: usize = 16 << 10;

impl Worker {
    pub(super) fn socket_event(&mut self, handle: Handle, readable: bool, writable: bool, hangup: bool) {
        let Some(slot) = self.channels.resolve(handle) else { return };
        if writable && self.channels.get(slot).is_some_and(|channel| channel.blocked) {
            self.flush(slot);
        }
        if hangup && let Some(channel) = self.channels.get_mut(slot) {
            channel.hung_up = true;
        }
        if readable || hangup {
            self.mark_readable(slot);
        }
    }

    /// Reads from the connections that have something, each once, for a bounded time. The rest has its
    /// turn in the next one, before whoever comes then.
    pub(super) fn read_some(&mut self) {
        let began = Instant::now();
        for _ in 0..self.readable.len() {
            let Some(slot) = self.readable.pop_front() else { break };
            if let Some(channel) = self.channels.get_mut(slot)
                && std::mem::take(&mut channel.readable)
            {
                self.read(slot);
                self.pushes_first();
                if began.elapsed() > TURN_TIME {
                    break;
                }
            }
        }
    }

    pub(super) fn mark_readable(&mut self, slot: u32) {
        if let Some(channel) = self.channels.get_mut(slot)
            && !channel.readable
        {
            channel.readable = true;
            self.readable.push_back(slot);
        }
    }

    fn read(&mut self, slot: u32) {
        let handle = self.channels.handle(slot);
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..READS {
            let Some(channel) = self.channels.resolve(handle).and_then(|slot| self.channels.get_mut(slot))
            else {
                break;
            };
            if channel.paused || channel.asking {
                // Whoever ends that reads on.
                break;
            }
            match channel.transport.read(&mut buffer) {
                Ok(0) => {
                    self.remove(slot, "peer");
                    break;
                }
                Ok(n) => {
                    // A stream socket gives all that it has: less than fits is the end, without asking
                    // again for `WouldBlock`; what comes later is a new event.
                    let more = n == buffer.len() || channel.hung_up;
                    self.input(slot, &mut buffer[..n]);
                    if !more {
                        break;
                    }
                    self.mark_readable(slot);
                }
                Err(cause) => match cause.kind() {
                    std::io::ErrorKind::WouldBlock => break,
                    std::io::ErrorKind::Interrupted => {}
                    _ => {
                        self.remove(slot, "peer");
                        break;
                    }
                },
            }
        }
        self.buffer = buffer;
    }

    /// Bytes that a client sent.
    pub(super) fn input(&mut self, slot: u32, bytes: &mut [u8]) {
        let shared = self.shared.clone();
        let mut input = Input::new(bytes);
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        while let Some(channel) = self.channels.get_mut(slot) {
            match channel.wire.poll(self.now, &mut input, &shared.limits, &mut out) {
                Ok(None) => {
                    self.reply(slot, &out);
                    break;
                }
                Ok(Some(Event::Nothing)) => {}
                Ok(Some(Event::Packet(packet))) => {
                    let header = packet.header;
                    self.body.clear();
                    self.body.extend_from_slice(packet.body);
                    self.tally.packets += 1;
                    self.packet(slot, header, &mut out);
                }
                Ok(Some(Event::Authenticate { packet, cookie })) => {
                    let request = Connect {
                        comet: shared.name.clone(),
                        token: Bytes::copy_from_slice(packet.body),
                        cookie: cookie.map(Into::into),
                        remote: channel.remote,
                    };
                    let auth = packet.header;
                    let handle = self.channels.handle(slot);
                    self.reply(slot, &out);
                    out.clear();
                    if self.channels.resolve(handle).is_none() {
                        // It could not be answered: it is gone, and another may get its slot.
                        break;
                    }
                    if self.log_in(slot, auth, request, input.rest()) == Login::Elsewhere {
                        break;
                    }
                }
                Err(close) => {
                    self.protocol_end(slot, close, &out);
                    break;
                }
            }
            let split = self.channels.get(slot).is_some_and(|channel| channel.one_write_per_packet);
            if split || out.len() > REPLY_BYTES {
                self.reply(slot, &out);
                out.clear();
            }
        }
        self.out = out;
    }

    /// One packet of an authenticated client; its body lies in `self.body`.
    fn packet(&mut self, slot: u32, header: Header, out: &mut Vec<u8>) {
        let Some(channel) = self.channels.get(slot) else { return };
        let anser = channel.wire.dialect() == Dialect::Anser;
        let said = format_args!("packet of operation {} received, {} bytes", header.op, self.body.len());
        trace::step(&self.shared.watch, channel, None, said);
        match header.op {
            operation::HEARTBEAT | operation::HEARTBEAT_REPLY => {
                let online = self.online(channel);
                let header = header.reply(operation::HEARTBEAT_REPLY);
                channel.wire.write(header, &online.to_be_bytes(), out);
            }
            operation::CHANGE_ROOM => {
                let result = self.room_of_body(anser).and_then(|room| self.change_room(slot, room.as_ref()));
                self.answer_room(slot, header, operation::CHANGE_ROOM_REPLY, anser, result, out);
            }
            operation::SUBSCRIBE => {
                let result = self.subscribe(slot, true);
                self.answer_room(slot, header, operation::SUBSCRIBE_REPLY, anser, result, out);
            }
            operation::UNSUBSCRIBE => {
                let result = self.subscribe(slot, false);
                self.answer_room(slot, header, operation::UNSUBSCRIBE_REPLY, anser, result, out);
            }
            operation::JOIN if anser => {
                let result = self.room_of_body(anser).and_then(|room| match room {
                    Some(room) => self.try_enter(slot, &room),
                    None => Err(("room_name", "name the room in the body, type://id".into())),
                });
                self.answer_room(slot, header, operation::JOIN_REPLY, true, result, out);
            }
            operation::LEAVE if anser => {
                let result = self.room_of_body(anser).map(|room| {
                    if let Some(room) = room {
                        self.leave_named(slot, &room);
                    }
                });
                self.answer_room(slot, header, operation::LEAVE_REPLY, true, result, out);
            }
            operation::LIVE if anser => self.live(slot, header, out),
            // A container is no request. TCP clients get no answer, WebSocket clients an empty one.
            operation::RAW if !channel.wire.is_websocket() => {}
            op => {
                // A container is nobody's, and a second token is a secret.
                if op != operation::RAW && op != operation::AUTH {
                    self.receive(slot, header);
                }
                if let Some(channel) = self.channels.get(slot) {
                    channel.wire.write(header, b"", out);
                }
            }
        }
    }

    /// Hands a packet on to the application. What there is no place for is lost, and answered all the same:
    /// clients know no other answer. Logins come before it in the lane.
    fn receive(&mut self, slot: u32, header: Header) {
        let lane = &self.shared.lane;
        if self.news.len() >= NEWS || lane.capacity() < lane.max_capacity() / 2 {
            self.shared.stats.receive_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some(channel) = self.channels.get(slot) else { return };
        let Some(session) = channel.session.clone() else { return };
        let body = Bytes::copy_from_slice(&self.body);
        let packet = Received { session, user: channel.user, op: header.op, seq: header.seq, body };
        let news = self.shared.logic.receive(packet);
        self.tell(news);
    }

    fn online(&self, channel: &Channel) -> i32 {
        let room = channel.rooms.first().and_then(|membership| self.rooms.get(membership.room));
        room.map_or(0, |room| room.shared.online() as i32)
    }

    /// The room that `self.body` names, if it is not empty. goim's clients may name what they like.
    fn room_of_body(&self, anser: bool) -> Result<Option<RoomName>, Complaint> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let name = str::from_utf8(&self.body)
            .map_err(|_| ("room_name", "the name of a room must be UTF-8".to_owned()))?;
        let room = RoomName::parse(name, self.shared.config.room_name)
            .map_err(|cause| ("room_name", cause.to_string()))?;
        if anser && !room.is_pushable() {
            return Err(("room_name", "no push could reach it: write type://id, such as live://1".into()));
        }
        Ok(Some(room))
    }

    /// Answers with the request's body. An Anser client learns what went wrong; a goim client gets the
    /// same answer either way, as it knows no other.
    fn answer_room(
        &self,
        slot: u32,
        header: Header,
        reply: i32,
        anser: bool,
        result: Result<(), Complaint>,
        out: &mut Vec<u8>,
    ) {
        let Some(channel) = self.channels.get(slot) else { return };
        match result {
            Err((code, message)) if anser => refuse(channel, header, code, false, &message, out),
            _ => channel.wire.write(header.reply(reply), &self.body, out),
        }
    }

    fn try_enter(&mut self, slot: u32, room: &RoomName) -> Result<(), Complaint> {
        let max = self.shared.config.rooms_per_connection;
        if self.channels.get(slot).is_some_and(|channel| channel.rooms.len() >= max)
            && !self.is_member(slot, room)
        {
            let message = format!("a connection may be in {max} rooms at once: leave one first");
            return Err(("room_limit", message));
        }
        if self.enter(slot, room) {
            return Ok(());
        }
        Err(("room_limit", "as many rooms exist as comet.max_rooms allows: try again later".into()))
    }

    pub(super) fn is_member(&self, slot: u32, name: &RoomName) -> bool {
        self.channels.get(slot).is_some_and(|channel| {
            let mut rooms = channel.rooms.iter().filter_map(|membership| self.rooms.get(membership.room));
            rooms.any(|room| room.shared.name == *name)
        })
    }

    /// Puts a connection into a room, once. False when that would be a room too many.
    pub(super) fn enter(&mut self, slot: u32, name: &RoomName) -> bool {
        if self.is_member(slot, name) {
            return true;
        }
        let Some((shared, first)) = self.shared.directory.enter(name, self.id) else {
            if let Some(unsaid) = self.quiet.rooms.may_speak(Instant::now()) {
                warn!(%name, unsaid, "no place for a room: comet.max_rooms is reached");
            }
            return false;
        };
        let share = &shared.shares[self.id];
        if first {
            let room = self.rooms.insert(Room::new(shared.clone())).slot;
            share.index.store(room, Ordering::Relaxed);
        }
        let room = share.index.load(Ordering::Relaxed);
        if let (Some(members), Some(channel)) = (self.rooms.get_mut(room), self.channels.get_mut(slot)) {
            let at = members.enter(slot);
            channel.rooms.push(Membership { room, at });
        }
        self.trace(slot, format_args!("joined room {name}"));
        true
    }

    /// Leaves every room but this one, and enters it. Who is in it already stays in it throughout: no push
    /// passes it by.
    fn change_room(&mut self, slot: u32, room: Option<&RoomName>) -> Result<(), Complaint> {
        let stays = |worker: &Self, at: usize| {
            let membership = worker.channels.get(slot).and_then(|channel| channel.rooms.get(at));
            let own = membership.and_then(|membership| worker.rooms.get(membership.room));
            own.is_some_and(|own| room == Some(&own.shared.name))
        };
        let rooms = self.channels.get(slot).map_or(0, |channel| channel.rooms.len());
        for at in (0..rooms).rev() {
            if !stays(self, at) {
                self.leave(slot, at);
            }
        }
        room.map_or(Ok(()), |room| self.try_enter(slot, room))
    }

    fn leave_named(&mut self, slot: u32, name: &RoomName) {
        let Some(channel) = self.channels.get(slot) else { return };
        let named =
            |membership: &Membership| self.rooms.get(membership.room).is_some_and(|r| r.shared.name == *name);
        if let Some(at) = channel.rooms.iter().position(named) {
            self.leave(slot, at);
        }
    }

    pub(super) fn leave_all(&mut self, slot: u32) {
        while self.channels.get(slot).is_some_and(|channel| !channel.rooms.is_empty()) {
            self.leave(slot, 0);
        }
    }

    /// Takes a connection out of the room at `at` in its own list; the room goes with its last member.
    fn leave(&mut self, slot: u32, at: usize) {
        let Some(channel) = self.channels.get_mut(slot) else { return };
        let Membership { room, at } = channel.rooms.remove(at);
        let Some(members) = self.rooms.get_mut(room) else { return };
        let channels = &mut self.channels;
        members.leave(at, |slot, at| {
            let rooms = channels.get_mut(slot).map(|channel| channel.rooms.iter_mut());
            if let Some(membership) = rooms.and_then(|mut rooms| rooms.find(|own| own.room == room)) {
                membership.at = at;
            }
        });
        let shared = members.shared.clone();
        if let Some(channel) = channels.get(slot) {
            trace::step(&self.shared.watch, channel, None, format_args!("left room {}", shared.name));
        }
        if members.members.is_empty() {
            let counted = members.abandon(self.id);
            self.backlog(-(counted as i64));
            self.rooms.remove(room);
        }
        self.shared.directory.leave(&shared, self.id);
    }

    /// Adds the operations in `self.body` to those that the connection takes, or takes them away. One
    /// that is no number, and none is changed.
    fn subscribe(&mut self, slot: u32, add: bool) -> Result<(), Complaint> {
        if self.body.is_empty() {
            return Ok(());
        }
        let text = str::from_utf8(&self.body).unwrap_or("?");
        let ops: Vec<i32> = text.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| {
            (
                "operations",
                "write operations as decimal numbers joined by commas, such as 1000,1001".to_owned(),
            )
        })?;
        let max = self.shared.config.operations_per_connection;
        let Some(channel) = self.channels.get_mut(slot) else { return Ok(()) };
        if !add {
            channel.accepts.retain(|op| !ops.contains(op));
            return Ok(());
        }
        let mut accepts = channel.accepts.clone();
        accepts.extend(ops);
        accepts.sort_unstable();
        accepts.dedup();
        if accepts.len() > max {
            return Err(("operation_limit", format!("a connection may take {max} operations at once")));
        }
        accepts.shrink_to_fit();
        channel.accepts = accepts;
        Ok(())
    }

    /// The client has caught up. Only the owner of the data can say so.
    fn live(&mut self, slot: u32, header: Header, out: &mut Vec<u8>) {
        let Some(channel) = self.channels.get(slot) else { return };
        match (self.shared.owner.get(), &channel.session) {
            (Some(_), _) if self.news.len() >= NEWS => {
                refuse(
                    channel,
                    header,
                    "busy",
                    true,
                    "the owner of the data does not answer: try again",
                    out,
                );
            }
            (Some(owner), Some(session)) => {
                let news = owner.live(session.clone(), Bytes::copy_from_slice(&self.body));
                self.tell(news);
            }
            _ => refuse(channel, header, "no_owner", false, "nothing here can be pulled", out),
        }
    }

    /// Writes replies and notices, at once when nothing waits before them.
    pub(super) fn reply(&mut self, slot: u32, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Some(channel) = self.channels.get_mut(slot) else { return };
        let websocket = channel.wire.is_websocket();
        let mut sent = 0;
        if channel.outbound.is_none() && matches!(channel.transport, Transport::Local(_)) {
            self.tally.writes += 1;
            match channel.transport.write(bytes) {
                Ok(written) => sent = written,
                Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.remove(slot, "peer");
                    return;
                }
            }
            self.tally.bytes += sent as u64;
            if sent == bytes.len() {
                return;
            }
            channel.blocked = true;
        }
        let outbound = channel.outbound.get_or_insert_with(Box::<Outbound>::default);
        let rest = Bytes::copy_from_slice(&bytes[sent..]);
        self.tally.outbound += rest.len() as isize;
        outbound.push(Entry::Own(rest), websocket);
        self.largest = self.largest.max(outbound.bytes());
        if outbound.own_bytes() > REPLY_BYTES {
            channel.paused = true;
            channel.transport.pause(true);
        }
        if !channel.blocked {
            self.flush(slot);
        }
    }
}

/// A code that programs know, and what a person should do.
type Complaint = (&'static str, String);

/// Tells an Anser client that a request was refused. Other clients know no such packet.
pub(super) fn refuse(
    channel: &Channel,
    request: Header,
    code: &str,
    retry: bool,
    message: &str,
    out: &mut Vec<u8>,
) {
    if channel.wire.dialect() == Dialect::Anser {
        let body =
            Error { op: request.op, code: code.into(), retry, retry_after_ms: 0, message: message.into() };
        channel.wire.write(request.reply(operation::ERROR), &body.encode_to_vec(), out);
    }
}
