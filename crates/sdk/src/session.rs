//! What is known of a client between the socket and the application: requests that wait for their
//! answers, events that wait for the application, and what is to be restored after a reconnect.
//! No socket, no clock.

use std::collections::VecDeque;
use std::time::Duration;

use anser_wire::anser::REPLACED;
use anser_wire::client::{self, Closed};
use anser_wire::operation::{self, Dialect};
use anser_wire::packet::{self, Packet};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::{Refused, RequestError};
use crate::wanted::Wanted;
use crate::{Address, Event, Token};

/// Most requests that may be out at once. Past it a caller waits, so that a server that does not
/// answer costs bounded memory; and so many fill a connection whose answers take 100 ms at 10 000 a
/// second.
const MAX_WAITING: usize = 1024;

/// The answer to a request: the body of the packet that brought it.
pub(crate) type Answer = Result<Bytes, RequestError>;

/// What a caller wants done.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) op: i32,
    pub(crate) body: Bytes,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// A request that was written.
#[derive(Debug)]
struct Waiting {
    seq: i32,
    op: i32,
    /// The operation of the packet that answers it.
    reply: i32,
    body: Bytes,
    /// Who waits; nobody for what is restored after a reconnect.
    answer: Option<oneshot::Sender<Answer>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    dialect: Dialect,
    /// Where the connection that is in use, or being made, leads to.
    address: Option<Address>,
    /// In the order in which they were written, which is that of most answers.
    waiting: VecDeque<Waiting>,
    /// What the last read has brought and the application has not taken. No more is read until it is
    /// empty, so it holds what fits into one read or one container.
    pub(crate) events: VecDeque<Event>,
    wanted: Wanted,
    /// When to come back, if the server said so.
    pub(crate) retry_after: Option<Duration>,
    /// Another connection has the key now.
    pub(crate) replaced: bool,
}

impl Session {
    pub(crate) fn new(token: &Token) -> Self {
        Self {
            dialect: token.dialect(),
            address: None,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            wanted: Wanted::new(token.room()),
            retry_after: None,
            replaced: false,
        }
    }

    /// A connection to this address is being made.
    pub(crate) fn connecting(&mut self, address: &Address) {
        self.address = Some(address.clone());
    }

    /// The connection is gone: nobody will answer what was asked on it. Gives its address.
    pub(crate) fn lost(&mut self) -> Option<Address> {
        for waiting in self.waiting.drain(..) {
            waiting.finish(Err(RequestError::Disconnected));
        }
        self.address.take()
    }

    /// Whether another request may be written. Those that nobody waits for any longer make room.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.retain(|waiting| waiting.answer.as_ref().is_none_or(|answer| !answer.is_closed()));
        }
        self.waiting.len() < MAX_WAITING
    }

    /// The requests that bring a fresh connection to where the last one was.
    pub(crate) fn to_restore(&self) -> Vec<(i32, Bytes)> {
        self.wanted.requests()
    }

    /// A request was written under this number.
    pub(crate) fn written(
        &mut self,
        seq: i32,
        op: i32,
        body: Bytes,
        answer: Option<oneshot::Sender<Answer>>,
    ) {
        match reply_to(op, self.dialect) {
            Some(reply) => self.waiting.push_back(Waiting { seq, op, reply, body, answer }),
            None => drop(answer.map(|answer| answer.send(Ok(Bytes::new())))),
        }
    }

    /// Something has come from the server.
    pub(crate) fn handle(&mut self, event: client::Event<'_>) -> Result<(), Closed> {
        match event {
            client::Event::Authenticated => {
                self.events.extend(self.address.clone().map(|address| Event::Connected { address }));
            }
            client::Event::Heartbeat { seq, online } => {
                if let Some(waiting) = self.take(seq, operation::HEARTBEAT_REPLY) {
                    waiting.finish(Ok(Bytes::copy_from_slice(&online.to_be_bytes())));
                }
            }
            client::Event::Packet(packet) => self.packet(packet),
            client::Event::Pushes(container) => {
                for packet in packet::decode_all(container) {
                    self.push(packet?);
                }
            }
            client::Event::Refused { seq: 0, error } if error.code == REPLACED => self.replaced = true,
            client::Event::Refused { seq, error } => self.refused(seq, error.into()),
            client::Event::Dropped(count) => self.events.push_back(Event::Dropped(count)),
            client::Event::Behind => self.events.push_back(Event::Behind),
            client::Event::Draining(after) => {
                self.retry_after = Some(after);
                self.events.push_back(Event::Draining(after));
            }
            client::Event::Upgraded | client::Event::Nothing => {}
        }
        Ok(())
    }

    /// An answer, if somebody waits for it, and a push otherwise.
    fn packet(&mut self, packet: Packet<'_>) {
        let Packet { header, body } = packet;
        if let Some(waiting) = self.take(header.seq, header.op) {
            // goim answers operations that it does not know like an application's own.
            if waiting.reply != header.op {
                let op = waiting.op;
                return waiting.finish(Err(RequestError::NeedsAnser(op)));
            }
            self.wanted.done(waiting.op, &waiting.body);
            return waiting.finish(Ok(Bytes::copy_from_slice(body)));
        }
        self.push(packet);
    }

    fn push(&mut self, packet: Packet<'_>) {
        let body = Bytes::copy_from_slice(packet.body);
        self.events.push_back(Event::Push { op: packet.header.op, body });
    }

    fn refused(&mut self, seq: i32, error: Refused) {
        let at = self.waiting.iter().position(|waiting| waiting.seq == seq);
        match at.and_then(|at| self.waiting.remove(at)) {
            Some(Waiting { answer: Some(answer), .. }) => drop(answer.send(Err(error.into()))),
            Some(Waiting { op, body, .. }) => {
                self.wanted.refused(op, &body);
                self.events.push_back(Event::Refused { error, body });
            }
            None => self.events.push_back(Event::Refused { error, body: Bytes::new() }),
        }
    }

    /// The request that a packet answers. None has the number 0, and most pushes have.
    fn take(&mut self, seq: i32, op: i32) -> Option<Waiting> {
        if seq == 0 {
            return None;
        }
        let answers = |waiting: &Waiting| waiting.seq == seq && (waiting.reply == op || waiting.op == op);
        let at = self.waiting.iter().position(answers)?;
        self.waiting.remove(at)
    }
}

impl Waiting {
    /// Tells whoever waits, if they still do.
    fn finish(self, answer: Answer) {
        if let Some(waiter) = self.answer {
            let _ = waiter.send(answer);
        }
    }
}

/// The operation that answers this one; `None` when there is no answer. Application operations are
/// echoed.
fn reply_to(op: i32, dialect: Dialect) -> Option<i32> {
    match operation::find(op) {
        Some(row) if row.dialect == Dialect::Goim || dialect == Dialect::Anser => row.reply,
        _ => Some(op),
    }
}

#[cfg(test)]
mod tests {
    use anser_wire::anser;
    use anser_wire::operation::{HEARTBEAT, HEARTBEAT_REPLY, JOIN, JOIN_REPLY, LIVE};
    use anser_wire::packet::Header;

    use super::*;

    fn session() -> Session {
        Session::new(&Token::raw_anser(""))
    }

    /// Writes a request, and gives what its caller holds.
    fn write(session: &mut Session, seq: i32, op: i32, body: &'static str) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        session.written(seq, op, body.into(), Some(answer));
        receiver
    }

    fn packet(session: &mut Session, op: i32, seq: i32, body: &[u8]) {
        let packet = Packet { header: Header { ver: 1, op, seq }, body };
        session.handle(client::Event::Packet(packet)).unwrap();
    }

    fn pushes(session: &mut Session) -> Vec<(i32, Bytes)> {
        let push = |event| match event {
            Event::Push { op, body } => (op, body),
            other => panic!("{other:?}"),
        };
        session.events.drain(..).map(push).collect()
    }

    #[test]
    fn answers_find_their_request_and_the_rest_is_a_push() {
        let mut session = session();
        let mut first = write(&mut session, 1, 1000, "hello");
        let mut second = write(&mut session, 2, 1000, "hello");
        packet(&mut session, 1000, 0, b"a push");
        packet(&mut session, 1001, 1, b"a push with the number of a request");
        packet(&mut session, 1000, 3, b"a push with the operation of a request");
        assert_eq!(pushes(&mut session).len(), 3);
        packet(&mut session, 1000, 2, b"second");
        assert!(first.try_recv().is_err());
        assert_eq!(second.try_recv().unwrap(), Ok("second".into()));
        packet(&mut session, 1000, 1, b"");
        assert_eq!(first.try_recv().unwrap(), Ok(Bytes::new()));
        packet(&mut session, 1000, 1, b"again");
        assert_eq!(pushes(&mut session), [(1000, "again".into())]);
    }

    #[test]
    fn a_late_answer_is_no_push() {
        let mut session = session();
        drop(write(&mut session, 1, JOIN, "a"));
        packet(&mut session, JOIN_REPLY, 1, b"a");
        assert!(session.events.is_empty());
        assert_eq!(session.to_restore(), [(JOIN, "a".into())]);
    }

    #[test]
    fn a_container_is_walked_in_order() {
        let mut container = Vec::new();
        for body in [b"1", b"2"] {
            Packet { header: Header { ver: 1, op: 1000, seq: 0 }, body }.encode(&mut container);
        }
        let mut session = session();
        session.handle(client::Event::Pushes(&container)).unwrap();
        assert_eq!(pushes(&mut session), [(1000, "1".into()), (1000, "2".into())]);
        container.pop();
        assert!(session.handle(client::Event::Pushes(&container)).is_err());
    }

    #[test]
    fn heartbeats_and_requests_without_answer() {
        let mut session = session();
        let mut online = write(&mut session, 5, HEARTBEAT, "");
        session.handle(client::Event::Heartbeat { seq: 4, online: 1 }).unwrap();
        assert!(online.try_recv().is_err());
        session.handle(client::Event::Heartbeat { seq: 5, online: 2 }).unwrap();
        assert_eq!(online.try_recv().unwrap(), Ok(Bytes::from_static(&[0, 0, 0, 2])));
        assert_eq!(write(&mut session, 6, LIVE, "up to 9").try_recv().unwrap(), Ok(Bytes::new()));
        assert_eq!(reply_to(HEARTBEAT, Dialect::Goim), Some(HEARTBEAT_REPLY));
        assert_eq!(reply_to(LIVE, Dialect::Goim), Some(LIVE));
    }

    #[test]
    fn refusals_go_to_the_caller_or_become_events() {
        let error = anser::Error { op: JOIN, code: "room_limit".into(), ..anser::Error::default() };
        let refusal = |seq| client::Event::Refused { seq, error: error.clone() };
        let mut session = session();
        let mut caller = write(&mut session, 1, JOIN, "a");
        session.handle(refusal(1)).unwrap();
        assert_eq!(caller.try_recv().unwrap(), Err(RequestError::Refused(error.clone().into())));
        assert!(session.events.is_empty());

        let _answer = write(&mut session, 2, JOIN, "b");
        packet(&mut session, JOIN_REPLY, 2, b"b");
        session.lost();
        session.written(1, JOIN, "b".into(), None);
        session.handle(refusal(1)).unwrap();
        assert!(matches!(session.events.pop_front(), Some(Event::Refused { body, .. }) if body == "b"));
        assert_eq!(session.to_restore(), []);
    }

    #[test]
    fn a_goim_server_does_not_know_how_to_join() {
        let mut session = session();
        let mut caller = write(&mut session, 1, JOIN, "a");
        packet(&mut session, JOIN, 1, b"");
        assert_eq!(caller.try_recv().unwrap(), Err(RequestError::NeedsAnser(JOIN)));
        assert_eq!(session.to_restore(), []);
    }

    #[test]
    fn a_lost_connection_answers_everything() {
        let mut session = session();
        let mut callers = [write(&mut session, 1, 1000, ""), write(&mut session, 2, JOIN, "a")];
        session.lost();
        for caller in &mut callers {
            assert_eq!(caller.try_recv().unwrap(), Err(RequestError::Disconnected));
        }
        assert_eq!(session.to_restore(), []);
    }

    #[test]
    fn requests_that_are_out_are_bounded() {
        let mut session = session();
        let mut callers: Vec<_> =
            (1..=MAX_WAITING as i32).map(|seq| write(&mut session, seq, 1000, "")).collect();
        assert!(!session.has_room());
        callers.pop();
        assert!(session.has_room());
    }
}
