//! Steps of those who are traced, as lines in the log. Bodies and tokens are in none of them.
//!
//! A connection knows whether it is traced by a flag, so while nobody is, a step costs nothing beside it, and
//! one relaxed load where there is no connection yet. Workers set the flags when who is traced changes, once a
//! turn.

use std::fmt;
use std::sync::Arc;

use anser_api::comet::Unwritten;
use anser_api::id::{Key, UserId};
use anser_api::trace::{Traced, Watch};
use tracing::info;

use crate::channel::Channel;
use crate::frame::Push;
use crate::worker::Worker;

/// One line.
fn say(key: &Key, user: Option<UserId>, push: Option<&Push>, what: fmt::Arguments<'_>) {
    let position = push.and_then(Push::origin).map(|(_, position)| position.0);
    info!(target: "anser::trace", %key, user = user.map(|user| user.0), position, "{what}");
}

/// A step of a connection.
pub(crate) fn step(watch: &Watch, channel: &Channel, push: Option<&Push>, what: fmt::Arguments<'_>) {
    if !channel.traced {
        return;
    }
    if let Some(key) = channel.name()
        && watch.has(key, channel.user)
    {
        say(key, channel.user, push, what);
    }
}

/// A push was written to a connection.
pub(crate) fn written(watch: &Watch, channel: &Channel, push: &Push, websocket: bool) {
    let bytes = push.bytes(websocket).len();
    step(watch, channel, Some(push), format_args!("push of operation {} written, {bytes} bytes", push.op));
}

/// A push was not written to a connection.
pub(crate) fn unwritten(watch: &Watch, channel: &Channel, push: &Push, why: Unwritten) {
    step(watch, channel, Some(push), format_args!("push of operation {} dropped: {}", push.op, told(why)));
}

/// A push was not written to a key that is not here, or is about to be here no more.
pub(crate) fn gone(watch: &Watch, key: &Key, user: Option<UserId>, push: &Push, why: Unwritten) {
    if watch.is_on() && watch.has(key, user) {
        say(key, user, Some(push), format_args!("push of operation {} dropped: {}", push.op, told(why)));
    }
}

/// The same for several pushes, and for a connection that may have no key any more.
pub(crate) fn all_gone(
    watch: &Watch,
    key: Option<&Key>,
    user: Option<UserId>,
    pushes: &[Arc<Push>],
    why: Unwritten,
) {
    for push in pushes {
        if let Some(key) = key {
            gone(watch, key, user, push, why);
        }
    }
}

fn told(why: Unwritten) -> &'static str {
    match why {
        Unwritten::Absent => "the key is not connected here",
        Unwritten::Filtered => "the connection does not take this operation",
        Unwritten::Overflow => "its queue is full",
        Unwritten::Closed => "the connection ended",
        Unwritten::Budget => "the connection was closed for comet.outbound_budget",
        Unwritten::Draining => "the server is going away",
        Unwritten::Expired => "it has expired",
        Unwritten::Pulled => "the client is behind, and is to pull it",
    }
}

impl Worker {
    /// A step of the connection in a slot.
    pub(crate) fn trace(&self, slot: u32, what: fmt::Arguments<'_>) {
        if let Some(channel) = self.channels.get(slot) {
            step(&self.shared.watch, channel, None, what);
        }
    }

    /// Takes over who is traced, if that has changed: who is new here has a flag from then on.
    pub(crate) fn follow_traces(&mut self) {
        let revision = self.shared.watch.revision();
        if std::mem::replace(&mut self.traces, revision) == revision {
            return;
        }
        for slot in std::mem::take(&mut self.traced) {
            if let Some(channel) = self.channels.get_mut(slot) {
                channel.traced = false;
            }
        }
        let list = self.shared.watch.list();
        let users = list.iter().any(|trace| matches!(trace.of, Traced::User(_)));
        let slots: Vec<u32> = if users {
            // Nothing leads from a user to the connections, so all are looked at, once for each change.
            let is_traced = |channel: &Channel| {
                list.iter().any(|trace| match &trace.of {
                    Traced::Key(key) => channel.name() == Some(key),
                    Traced::User(user) => channel.user == Some(*user),
                })
            };
            self.channels.occupied().filter(|(_, channel)| is_traced(channel)).map(|(slot, _)| slot).collect()
        } else {
            list.iter()
                .filter_map(|trace| match &trace.of {
                    Traced::Key(key) => self.find(key),
                    Traced::User(_) => None,
                })
                .collect()
        };
        for slot in slots {
            self.flag(slot);
        }
    }

    fn flag(&mut self, slot: u32) {
        if let Some(channel) = self.channels.get_mut(slot) {
            channel.traced = true;
            self.traced.push(slot);
        }
    }

    /// A connection has a key now.
    pub(crate) fn trace_login(&mut self, slot: u32) {
        if !self.shared.watch.is_on() {
            return;
        }
        let Some(channel) = self.channels.get(slot) else { return };
        if channel.name().is_some_and(|key| self.shared.watch.has(key, channel.user)) {
            let (from, takes, dialect) = (channel.from(), channel.accepts.to_vec(), channel.wire.dialect());
            self.flag(slot);
            self.trace(slot, format_args!("logged in from {from}, {dialect:?}, takes operations {takes:?}"));
        }
    }

    /// A client was sent away at its login, although logic let it in.
    pub(crate) fn trace_refusal(&self, key: &Key, user: Option<UserId>, why: &str) {
        if self.shared.watch.is_on() && self.shared.watch.has(key, user) {
            say(key, user, None, format_args!("login refused: {why}"));
        }
    }
}
