//! A push inside the edge, and several of them as one write.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anser_api::comet::{Form, OnOverflow};
use anser_api::id::{Key, LogId, Position};
use anser_wire::packet::Header;
use anser_wire::push::Frame;

use crate::lanes::Ticket;

/// A push: encoded once, shared by every worker and every connection that it waits for.
#[derive(Debug)]
pub(crate) struct Push {
    frame: Frame,
    pub(crate) op: i32,
    pub(crate) on_overflow: OnOverflow,
    /// When the API took it.
    pub(crate) accepted: Instant,
    /// When it is of no use any more.
    pub(crate) expires: Option<Instant>,
    /// Its place in a log, open as long as this lives.
    ticket: Option<Ticket>,
}

impl Push {
    /// An application message that comes from nowhere.
    #[cfg(test)]
    pub(crate) fn new(op: i32, body: &[u8], on_overflow: OnOverflow) -> Arc<Self> {
        Self::of_lane(op, Form::Message, body, on_overflow, None, None)
    }

    /// One that may expire, or come from a log.
    pub(crate) fn of_lane(
        op: i32,
        form: Form,
        body: &[u8],
        on_overflow: OnOverflow,
        expires: Option<Instant>,
        ticket: Option<Ticket>,
    ) -> Arc<Self> {
        let frame = match form {
            Form::Message => Frame::push(op, body),
            Form::Packets => Frame::packets(body),
            Form::Packet { ver, op, seq } => Frame::plain(Header { ver, op, seq }, body),
        };
        Arc::new(Self { frame, op, on_overflow, accepted: Instant::now(), expires, ticket })
    }

    /// Whether it is too late for it.
    pub(crate) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= Instant::now())
    }

    /// The log that it comes from and its place there, if it comes from one.
    pub(crate) fn origin(&self) -> Option<(LogId, Position)> {
        self.ticket.as_ref().map(Ticket::origin)
    }

    /// A key that it was for is not here.
    pub(crate) fn absent(&self, key: &Key) {
        if let Some(ticket) = &self.ticket {
            ticket.absent(key);
        }
    }

    pub(crate) fn bytes(&self, websocket: bool) -> &[u8] {
        if websocket { self.frame.websocket() } else { self.frame.tcp() }
    }
}

/// Pushes that go to the same receivers together. More than one are laid end to end once for each
/// transport, so that each receiver costs one system call over one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) pushes: Vec<Arc<Push>>,
    joined: [Option<Box<[u8]>>; 2],
    pullable: bool,
}

impl Batch {
    pub(crate) fn new(pushes: Vec<Arc<Push>>) -> Self {
        let pullable = pushes.iter().any(|push| push.on_overflow == OnOverflow::Pull);
        Self { pushes, joined: [None, None], pullable }
    }

    /// Whether some of it depends on each receiver's flow.
    pub(crate) fn is_pullable(&self) -> bool {
        self.pullable
    }

    pub(crate) fn bytes(&mut self, websocket: bool) -> &[u8] {
        match &self.pushes[..] {
            [push] => push.bytes(websocket),
            pushes => self.joined[usize::from(websocket)].get_or_insert_with(|| {
                let parts: Vec<&[u8]> = pushes.iter().map(|push| push.bytes(websocket)).collect();
                parts.concat().into_boxed_slice()
            }),
        }
    }

    /// The pushes that are not whole within the first `sent` bytes, and how much of the first of
    /// those is.
    pub(crate) fn rest(&self, websocket: bool, mut sent: usize) -> (Range<usize>, usize) {
        for (at, push) in self.pushes.iter().enumerate() {
            let len = push.bytes(websocket).len();
            if sent < len {
                return (at..self.pushes.len(), sent);
            }
            sent -= len;
        }
        (self.pushes.len()..self.pushes.len(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_names_the_push_that_is_cut() {
        let pushes: Vec<_> = (0..3).map(|_| Push::new(1000, b"1234", OnOverflow::Drop)).collect();
        let mut batch = Batch::new(pushes);
        assert_eq!(batch.bytes(false).len(), 60);
        assert_eq!(batch.rest(false, 0), (0..3, 0));
        assert_eq!(batch.rest(false, 19), (0..3, 19));
        assert_eq!(batch.rest(false, 20), (1..3, 0));
        assert_eq!(batch.rest(false, 59), (2..3, 19));
        assert_eq!(batch.rest(false, 60), (3..3, 0));
    }
}
