//! How connections come to a worker, and how they leave it.
//!
//! ```text
//! accept ─ log_in ─ place ─┬─ adopt                       (its key is at home here)
//!               └ logged_in┘ └─ adopt_from_elsewhere      (on the worker of its key)
//! attach ──────────────────── adopt                       (a task's)
//!
//! we end it:          end, end_with, replace, time_out ─┐
//! its bytes are wrong:                    protocol_end ─┴─ close ── last word ── finish ── linger ── remove
//! the server ends:         say_goodbye ─ close_after_flush ───────────────────┘
//! its socket is dead, or its time to linger is over:                                             remove
//! ```
//!
//! `close` and `close_after_flush` take the connection out of all lists at once; `finish` is due when the
//! last word has been written, and is called by them or by the flush that writes it. Calling it twice is
//! harmless: the second entry among the lingering finds nobody.

use std::collections::hash_map::Entry as MapEntry;
use std::sync::atomic::Ordering;

use anser_api::Answer;
use anser_api::comet::{Inquiry, Present, Unwritten};
use anser_api::id::{Key, Session};
use anser_api::logic::{Connect, Connected, Refused};
use anser_wire::operation::Dialect;
use anser_wire::packet::Header;
use anser_wire::server::{Close, Connection};
use anser_wire::websocket::close_code;
use hashbrown::hash_table::Entry;
use mio::Interest;
use smallvec::SmallVec;
use tracing::{debug, info};

use super::Worker;
use crate::acceptor::Accepted;
use crate::channel::Channel;
use crate::foreign::Attached;
use crate::inbox::{Adoption, Control};
use crate::login::{Question, try_now};
use crate::outbound::Outbound;
use crate::renewal::{self, PAGE, Page};
use crate::slab::Handle;
use crate::stats::Lost;
use crate::trace;
use crate::transport::Transport;

/// Slots that are looked at for a page of sessions, most of which may be free.
const SLOTS: u32 = 16_384;

/// Where a client went that asked to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// It is in, on this worker: go on with what it sent.
    Here,
    /// It is on its way to another worker, or waits for an answer, or is gone.
    Elsewhere,
}

impl Worker {
    pub(super) fn accept(&mut self, accepted: Accepted) {
        let Accepted { socket, remote, kind } = accepted;
        let limits = &self.shared.limits;
        let wire = if kind.websocket {
            Connection::websocket(self.now, limits)
        } else {
            Connection::tcp(self.now, limits)
        };
        let deadline = wire.deadline();
        let mut channel = Channel::new(wire, Transport::Local(socket), remote.ip());
        channel.port = remote.port();
        channel.one_write_per_packet = kind.one_write_per_packet;
        if let Some(handle) = self.install(channel) {
            self.handshakes.push(handle, deadline);
            if self.drain.is_some() {
                self.remove(handle.slot, "draining");
            }
        }
    }

    /// Gives a channel a slot and, if it has a socket, a place in the poll.
    fn install(&mut self, channel: Channel) -> Option<Handle> {
        let handle = self.channels.insert(channel);
        let registry = self.poll.registry();
        if let Some(Channel { transport: Transport::Local(socket), .. }) = self.channels.get_mut(handle.slot)
            && let Err(cause) =
                registry.register(socket, handle.token(), Interest::READABLE | Interest::WRITABLE)
        {
            debug!(error = %cause, "cannot watch a socket");
            self.remove(handle.slot, "register");
            return None;
        }
        Some(handle)
    }

    /// Asks whether a client may come in. `rest` is what it sent behind its authentication packet.
    pub(super) fn log_in(&mut self, slot: u32, auth: Header, request: Connect, rest: &[u8]) -> Login {
        let mut answer = renewal::connect(&self.shared, request);
        if let Some(answer) = try_now(&mut answer) {
            return self.place(slot, auth, answer, rest);
        }
        let handle = self.channels.handle(slot);
        let question = Question::Login { answer, shared: self.shared.clone(), worker: self.id, handle, auth };
        if self.shared.lane.try_send(question).is_err() {
            self.end(slot, close_code::TRY_AGAIN, "too many are logging in", "login_queue");
            return Login::Elsewhere;
        }
        if let Some(channel) = self.channels.get_mut(slot) {
            channel.asking = true;
            self.early.insert(slot, rest.to_vec());
        }
        Login::Elsewhere
    }

    /// An answer that took its time.
    pub(super) fn logged_in(&mut self, handle: Handle, auth: Header, answer: Result<Connected, Refused>) {
        let asking = self.channels.resolve(handle).and_then(|slot| self.channels.get_mut(slot));
        let Some(channel) = asking.filter(|channel| channel.wire.is_authenticating()) else {
            // The client left meanwhile, or was ended; its session must not stay.
            if let Ok(connected) = answer {
                self.forget(connected.session);
            }
            return;
        };
        channel.asking = false;
        let slot = handle.slot;
        let mut rest = self.early.remove(&slot).unwrap_or_default();
        if self.place(slot, auth, answer, &rest) == Login::Here {
            self.input(slot, &mut rest);
            self.mark_readable(slot);
        }
    }

    /// Takes a client in, here or on the worker of its key, or turns it away.
    fn place(&mut self, slot: u32, auth: Header, answer: Result<Connected, Refused>, rest: &[u8]) -> Login {
        let connected = match answer {
            Ok(connected) => connected,
            Err(refused) => {
                self.shared.stats.logins_refused.fetch_add(1, Ordering::Relaxed);
                if let Some(channel) = self.channels.get(slot)
                    && let Some(unsaid) = self.quiet.refused.may_speak(std::time::Instant::now())
                {
                    info!(remote = %channel.from(), cause = %refused, unsaid, "authentication refused");
                }
                // A client may know what is wrong with its own token, but not what is wrong in here.
                let (code, reason) = match refused {
                    Refused::Unavailable(_) => {
                        (close_code::TRY_AGAIN, "authentication is unavailable".to_owned())
                    }
                    refused => (close_code::POLICY, refused.to_string()),
                };
                self.end(slot, code, &reason, "login_refused");
                return Login::Elsewhere;
            }
        };
        let home = self.shared.worker_of(&connected.session.key);
        // The other worker may have ended.
        if home == self.id || self.shared.is_draining() {
            self.adopt(slot, connected, auth);
            return Login::Here;
        }
        let Some(mut channel) = self.channels.remove(slot) else {
            self.forget(connected.session);
            return Login::Elsewhere;
        };
        if let Transport::Local(socket) = &mut channel.transport
            && let Err(cause) = self.poll.registry().deregister(socket)
        {
            debug!(error = %cause, "cannot move a socket");
        }
        (channel.blocked, channel.touched, channel.readable) = (false, false, false);
        let early = rest.to_vec();
        self.hand_over(home, Control::Adopt(Box::new(Adoption { channel, connected, auth, early })));
        Login::Elsewhere
    }

    fn hand_over(&mut self, worker: usize, control: Control) {
        if let Err(control) = self.shared.inboxes[worker].control(control) {
            self.deferred.push_back((worker, control));
        }
    }

    pub(super) fn adopt_from_elsewhere(&mut self, adoption: Adoption) {
        let Adoption { channel, connected, auth, mut early } = adoption;
        let session = connected.session.clone();
        let Some(handle) = self.install(channel) else {
            self.forget(session);
            return;
        };
        self.adopt(handle.slot, connected, auth);
        self.input(handle.slot, &mut early);
    }

    pub(super) fn attach(&mut self, attached: Attached) {
        let Attached { connected, remote, auth, link, handle: tell } = attached;
        let wire = Connection::tcp(self.now, &self.shared.limits);
        let Some(handle) = self.install(Channel::new(wire, Transport::Foreign(link), remote)) else { return };
        self.adopt(handle.slot, connected, auth);
        if tell.send(handle).is_err() {
            self.remove(handle.slot, "peer");
        }
    }

    /// Makes the connection in `slot` the one of its key, puts it into its room, and only then tells it
    /// that it is in: no push after that answer misses it.
    fn adopt(&mut self, slot: u32, connected: Connected, auth: Header) {
        if self.shared.is_draining() {
            self.end(slot, close_code::GOING_AWAY, "the server is going away", "draining");
            self.forget(connected.session);
            return;
        }
        let key = connected.session.key.clone();
        if let Some(old) = self.find(&key) {
            let newer = self.channels.get(old).and_then(|old| old.session.as_ref());
            if newer.is_some_and(|old| old.generation > connected.session.generation) {
                self.trace_refusal(&key, connected.user, "a newer connection has its key");
                self.end(slot, close_code::POLICY, "replaced by a newer connection", "replaced");
                self.forget(connected.session);
                return;
            }
            self.replace(old);
        }
        let mut accepts = connected.accepts;
        accepts.sort_unstable();
        accepts.dedup();
        if accepts.len() > self.shared.config.operations_per_connection {
            let reason = "the token names more operations than comet.operations_per_connection";
            self.trace_refusal(&key, connected.user, reason);
            self.end(slot, close_code::POLICY, reason, "operation_limit");
            self.forget(connected.session);
            return;
        }
        let handle = self.channels.handle(slot);
        let hash = self.shared.hash(&key);
        let shared = self.shared.clone();
        let Some(channel) = self.channels.get_mut(slot) else {
            self.forget(connected.session);
            return;
        };
        let dialect = if connected.anser { Dialect::Anser } else { Dialect::Goim };
        channel.session = Some(connected.session);
        channel.user = connected.user;
        channel.accepts = SmallVec::from_slice(&accepts);
        channel.tell_dropped = connected.tell_dropped;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        channel.wire.authenticated(self.now, auth, connected.idle, dialect, &mut out);
        self.wheel.arm(handle, channel.wire.deadline());
        shared.stats.online[kind(channel)].fetch_add(1, Ordering::Relaxed);

        let (channels, hasher) = (&self.channels, &shared);
        let key_of = |slot: u32| channels.get(slot).and_then(|c| c.session.as_ref()).map(|s| &s.key);
        let entry = self.keys.entry(
            hash,
            |slot| key_of(*slot) == Some(&key),
            |slot| key_of(*slot).map_or(0, |key| hasher.hash(key)),
        );
        match entry {
            Entry::Occupied(mut entry) => *entry.get_mut() = slot,
            Entry::Vacant(entry) => {
                entry.insert(slot);
            }
        }
        self.trace_login(slot);
        if let Some(room) = &connected.room
            && !self.enter(slot, room)
        {
            self.out = out;
            self.end(
                slot,
                close_code::TRY_AGAIN,
                "as many rooms exist as comet.max_rooms allows",
                "max_rooms",
            );
            return;
        }
        self.reply(slot, &out);
        self.out = out;
    }

    /// The slot of a key.
    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        let same = |slot: &u32| {
            let session = self.channels.get(*slot).and_then(|channel| channel.session.as_ref());
            session.is_some_and(|session| session.key == *key)
        };
        self.keys.find(self.shared.hash(key), same).copied()
    }

    /// A connection, if it is here, for whoever asks what became of a push.
    pub(crate) fn present(&self, key: &Key, inquiry: &Inquiry) -> Option<Present> {
        let slot = self.find(key)?;
        let channel = self.channels.get(slot)?;
        let origin = Some((inquiry.log, inquiry.position));
        let is_it = |outbound: &Outbound| outbound.waiting().any(|push| push.origin() == origin);
        Some(Present {
            key: key.clone(),
            takes: channel.accepts(inquiry.op),
            member: inquiry.room.as_ref().is_some_and(|room| self.is_member(slot, room)),
            waits: channel.outbound.as_deref().is_some_and(is_it),
        })
    }

    /// Sessions from a slot on, as many as one turn may look at.
    pub(super) fn sessions_from(&self, from: u32) -> Page {
        let mut page = Page::default();
        let end = self.channels.end().min(from.saturating_add(SLOTS));
        for slot in from..end {
            if page.sessions.len() == PAGE {
                page.next = Some(slot);
                return page;
            }
            if let Some(channel) = self.channels.get(slot)
                && let Some(session) = &channel.session
            {
                page.sessions.push((session.clone(), channel.user));
            }
        }
        page.next = (end < self.channels.end()).then_some(end);
        page
    }

    /// Another connection has come with the same key.
    fn replace(&mut self, slot: u32) {
        let mut notice = Vec::new();
        if let Some(channel) = self.channels.get(slot) {
            super::clients::refuse(
                channel,
                Header::default(),
                anser_wire::anser::REPLACED,
                false,
                "another connection has this key now: give each device its own",
                &mut notice,
            );
        }
        self.end_with(slot, notice, close_code::POLICY, "replaced by a newer connection", "replaced");
    }

    /// Ends a connection from our side.
    pub(super) fn end(&mut self, slot: u32, code: u16, reason: &str, why: &'static str) {
        self.end_with(slot, Vec::new(), code, reason, why);
    }

    /// Ends a connection from our side, after a last packet.
    fn end_with(&mut self, slot: u32, mut out: Vec<u8>, code: u16, reason: &str, why: &'static str) {
        let Some(channel) = self.channels.get_mut(slot) else { return };
        channel.wire.end(self.now, code, reason, &self.shared.limits, &mut out);
        self.close(slot, &out, why);
    }

    /// The protocol says that the connection is over.
    pub(super) fn protocol_end(&mut self, slot: u32, close: Close, out: &[u8]) {
        if let Some(channel) = self.channels.get(slot) {
            debug!(remote = %channel.from(), key = channel.key(), reason = close.name(), detail = %close, "closing");
        }
        self.close(slot, out, close.name());
    }

    /// Nothing more goes to the connection but `last`. Closes it, at once or when the peer has.
    fn close(&mut self, slot: u32, last: &[u8], why: &'static str) {
        self.count_end(slot, why);
        let key = self.unregister(slot);
        let Some(channel) = self.channels.get_mut(slot) else { return };
        if let Some(outbound) = &mut channel.outbound {
            let before = outbound.bytes();
            let lost = outbound.discard_all(channel.wire.is_websocket());
            self.tally.outbound += outbound.bytes() as isize - before as isize;
            self.tally.waiting -= lost.len() as isize;
            self.shared.stats.lost(Lost::Closed, lost.len() as u64);
            self.notes.add_all(&lost, key.as_ref(), Unwritten::Closed);
            trace::all_gone(&self.shared.watch, key.as_ref(), channel.user, &lost, Unwritten::Closed);
        }
        if !last.is_empty() {
            self.reply(slot, last);
        }
        let Some(channel) = self.channels.get(slot) else { return };
        let closed = channel.wire.is_closed();
        if channel.is_pending() && (!closed || !last.is_empty()) {
            // A full socket takes the last word later, or never.
            self.lingering.push(self.channels.handle(slot), self.now + self.shared.limits.linger);
        } else if closed {
            self.remove(slot, why);
        } else {
            self.finish(slot);
        }
    }

    /// Counts the end of a connection, once, with the first reason.
    fn count_end(&mut self, slot: u32, why: &'static str) {
        if let Some(channel) = self.channels.get_mut(slot)
            && !std::mem::replace(&mut channel.ended, true)
        {
            debug!(remote = %channel.from(), key = channel.key(), reason = why, "connection closed");
            trace::step(&self.shared.watch, channel, None, format_args!("closed: {why}"));
            self.shared.stats.closed(why);
        }
    }

    pub(super) fn time_out(&mut self, slot: u32) {
        let mut out = Vec::new();
        let Some(channel) = self.channels.get_mut(slot) else { return };
        if let Some(close) = channel.wire.handle_timeout(self.now, &mut out) {
            if close == Close::Linger {
                self.remove(slot, close.name());
            } else {
                self.protocol_end(slot, close, &out);
            }
        }
    }

    /// A client is not in at its deadline. One that waits for our own answer has done what it could, and is
    /// to come again.
    pub(super) fn late(&mut self, slot: u32) {
        let asks = |channel: &Channel| channel.asking && channel.wire.is_authenticating();
        if self.channels.get(slot).is_some_and(asks) {
            let reason = "authentication is unavailable";
            self.end(slot, close_code::TRY_AGAIN, reason, Close::HandshakeTimeout.name());
        } else {
            self.time_out(slot);
        }
    }

    /// Takes a connection out of everything by which others find it; its key, if it had one until now.
    fn unregister(&mut self, slot: u32) -> Option<Key> {
        let channel = self.channels.get_mut(slot)?;
        let session = channel.session.take()?;
        self.shared.stats.online[kind(channel)].fetch_sub(1, Ordering::Relaxed);
        if let Ok(entry) = self.keys.find_entry(self.shared.hash(&session.key), |other| *other == slot) {
            entry.remove();
        }
        self.leave_all(slot);
        let key = session.key.clone();
        self.forget(session);
        Some(key)
    }

    /// Tells logic that a session is over.
    fn forget(&mut self, session: Session) {
        let news = self.shared.logic.disconnect(session);
        self.tell(news);
    }

    /// Tells another role something, now or as soon as it can be told.
    pub(super) fn tell(&mut self, mut news: Answer<'static, ()>) {
        if try_now(&mut news).is_none() {
            self.news.push_back(news);
        }
    }

    /// Drops a connection, with whatever waits for it.
    pub(super) fn remove(&mut self, slot: u32, why: &'static str) {
        self.remove_for(slot, why, Lost::Closed);
    }

    pub(super) fn remove_for(&mut self, slot: u32, why: &'static str, lost: Lost) {
        self.count_end(slot, why);
        let key = self.unregister(slot);
        let Some(channel) = self.channels.remove(slot) else { return };
        if let MapEntry::Occupied(early) = self.early.entry(slot) {
            early.remove();
        }
        if let Some(outbound) = &channel.outbound {
            self.tally.outbound -= outbound.bytes() as isize;
            let unwritten = if lost == Lost::Budget { Unwritten::Budget } else { Unwritten::Closed };
            let mut waiting = 0;
            for push in outbound.waiting() {
                waiting += 1;
                // Whoever is closing has no key any more.
                if let Some(key) = &key {
                    self.notes.add(push, Some(key), unwritten);
                    if channel.traced {
                        trace::gone(&self.shared.watch, key, channel.user, push, unwritten);
                    }
                }
            }
            self.tally.waiting -= waiting;
            self.shared.stats.lost(lost, waiting as u64);
            if let (Transport::Local(socket), Lost::Budget) = (&channel.transport, lost) {
                crate::socket::abort_on_close(socket);
            }
        }
        self.shared.admission.leave(channel.remote);
    }

    /// Everyone is told to go, each to come back at another time.
    pub(super) fn say_goodbye(&mut self) {
        let spread = self.shared.config.drain_spread.0.as_millis() as u64;
        let slots: Vec<u32> = self.channels.occupied().map(|(slot, _)| slot).collect();
        for slot in slots {
            let after = self.shared.random(slot) % (spread + 1);
            let mut out = Vec::new();
            let Some(channel) = self.channels.get_mut(slot) else { continue };
            if channel.wire.is_closing() {
                continue;
            }
            channel.wire.drain(self.now, after as u32, &self.shared.limits, &mut out);
            self.close_after_flush(slot, &out);
        }
    }

    /// Like [`Self::close`], but what waits is still written if the peer takes it in time.
    fn close_after_flush(&mut self, slot: u32, last: &[u8]) {
        self.count_end(slot, "draining");
        self.unregister(slot);
        self.reply(slot, last);
        if self.channels.get(slot).is_some_and(|channel| !channel.is_pending()) {
            self.finish(slot);
        }
    }

    /// Everything that a closing connection is to get has been written.
    pub(super) fn finish(&mut self, slot: u32) {
        let Some(channel) = self.channels.get(slot) else { return };
        // A task reads to the end of its queue by itself.
        if channel.wire.is_closed() || matches!(channel.transport, Transport::Foreign(_)) {
            self.remove(slot, "closed");
            return;
        }
        channel.transport.finish();
        self.lingering.push(self.channels.handle(slot), self.now + self.shared.limits.linger);
    }
}

/// The transport's index in the count of connections.
fn kind(channel: &Channel) -> usize {
    match channel.transport {
        Transport::Foreign(_) => 2,
        Transport::Local(_) => usize::from(channel.wire.is_websocket()),
    }
}
