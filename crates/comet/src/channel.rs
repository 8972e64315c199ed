//! One connection on the worker that owns it.

use std::net::{IpAddr, SocketAddr};

use anser_api::comet::Flow;
use anser_api::id::{Key, Session, UserId};
use anser_wire::server::Connection;
use smallvec::SmallVec;

use crate::outbound::Outbound;
use crate::transport::Transport;

/// A place in a room's list of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The room, by the worker's own index.
    pub(crate) room: u32,
    /// Where in its list.
    pub(crate) at: u32,
}

/// All that a worker keeps for a connection. It is small on purpose: an idle connection is this and
/// its key, nothing else.
#[derive(Debug)]
pub(crate) struct Channel {
    /// The protocol's state.
    pub(crate) wire: Connection,
    pub(crate) transport: Transport,
    /// Who it is, once authenticated.
    pub(crate) session: Option<Session>,
    /// The user behind it, if any.
    pub(crate) user: Option<UserId>,
    /// The operations it takes, sorted.
    pub(crate) accepts: SmallVec<[i32; 4]>,
    pub(crate) rooms: SmallVec<[Membership; 1]>,
    /// What waits to be written; absent when nothing does.
    pub(crate) outbound: Option<Box<Outbound>>,
    /// Pushes dropped since the client was last told, or in all if it does not want to be.
    pub(crate) dropped: u32,
    pub(crate) remote: IpAddr,
    /// Its port there, 0 if it is a task's.
    pub(crate) port: u16,
    pub(crate) flow: Flow,
    /// The client asked to be told of dropped pushes.
    pub(crate) tell_dropped: bool,
    /// Each packet is written by a system call of its own.
    pub(crate) one_write_per_packet: bool,
    /// The socket took less than there was; it will say when it takes more.
    pub(crate) blocked: bool,
    /// Reading rests until the replies that wait have been taken.
    pub(crate) paused: bool,
    /// Reading rests until the answer to its authentication is there.
    pub(crate) asking: bool,
    /// Its steps are told in the log.
    pub(crate) traced: bool,
    /// In the list of connections to flush at the end of this turn.
    pub(crate) touched: bool,
    /// In the list of connections with more to read.
    pub(crate) readable: bool,
    /// The peer sends nothing more. Readiness comes once, so this is remembered until its end is read.
    pub(crate) hung_up: bool,
    /// Its end has been counted.
    pub(crate) ended: bool,
}

impl Channel {
    pub(crate) fn new(wire: Connection, transport: Transport, remote: IpAddr) -> Self {
        Self {
            wire,
            transport,
            session: None,
            user: None,
            accepts: SmallVec::new(),
            rooms: SmallVec::new(),
            outbound: None,
            dropped: 0,
            remote,
            port: 0,
            flow: Flow::Live,
            tell_dropped: false,
            one_write_per_packet: false,
            blocked: false,
            paused: false,
            asking: false,
            traced: false,
            touched: false,
            readable: false,
            hung_up: false,
            ended: false,
        }
    }

    /// Where it comes from, for the log.
    pub(crate) fn from(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.port)
    }

    /// Its key, as others name it.
    pub(crate) fn name(&self) -> Option<&Key> {
        self.session.as_ref().map(|session| &session.key)
    }

    /// Its key, for the log.
    pub(crate) fn key(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.key.as_str())
    }

    pub(crate) fn accepts(&self, op: i32) -> bool {
        self.accepts.contains(&op)
    }

    /// Whether entries wait for the socket.
    pub(crate) fn is_pending(&self) -> bool {
        self.outbound.as_ref().is_some_and(|outbound| outbound.is_pending())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs on its worker, before its key. The bound only goes down.
    #[test]
    fn a_channel_is_small() {
        assert!(size_of::<Channel>() <= 264, "{}", size_of::<Channel>());
    }
}
