//! What a client has asked for since it authenticated, and asks for again after a reconnect.

use std::collections::BTreeSet;

use anser_wire::operation;
use bytes::Bytes;

/// Operations in one request, so that its body stays below goim's 4096 bytes: at most 12 bytes each.
pub(crate) const OPS_PER_REQUEST: usize = 4096 / 12;

/// Rooms and operations, as far as they differ from what the token brings about.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The room that the token enters, empty for none; `None` when only the server knows.
    token_room: Option<Bytes>,
    /// The room of the last [`operation::CHANGE_ROOM`]. It has replaced whatever came before it.
    room: Option<Bytes>,
    /// Rooms that were joined on top of that.
    joined: BTreeSet<Bytes>,
    /// Rooms that were left and that the token enters, or may enter.
    left: BTreeSet<Bytes>,
    subscribed: BTreeSet<i32>,
    unsubscribed: BTreeSet<i32>,
}

impl Wanted {
    pub(crate) fn new(token_room: Option<Bytes>) -> Self {
        Self { token_room, ..Self::default() }
    }

    /// The server has done this request.
    pub(crate) fn done(&mut self, op: i32, body: &Bytes) {
        match op {
            operation::CHANGE_ROOM => {
                self.room = Some(body.clone());
                self.joined.clear();
                self.left.clear();
            }
            operation::JOIN => {
                self.left.remove(body);
                self.joined.insert(body.clone());
            }
            operation::LEAVE => {
                let joined = self.joined.remove(body);
                // With a token that we cannot read, whatever was not joined may come from it.
                let from_token = self.token_room.as_ref().map_or(!joined, |room| room == body);
                match &mut self.room {
                    Some(room) if room == body => *room = Bytes::new(),
                    None if from_token => {
                        self.left.insert(body.clone());
                    }
                    _ => {}
                }
            }
            operation::SUBSCRIBE => {
                for op in parse_ops(body) {
                    self.unsubscribed.remove(&op);
                    self.subscribed.insert(op);
                }
            }
            operation::UNSUBSCRIBE => {
                for op in parse_ops(body) {
                    self.subscribed.remove(&op);
                    self.unsubscribed.insert(op);
                }
            }
            _ => {}
        }
    }

    /// The server has refused to do this request again.
    pub(crate) fn refused(&mut self, op: i32, body: &Bytes) {
        match op {
            operation::CHANGE_ROOM => self.room = None,
            operation::JOIN => self.joined.retain(|room| room != body),
            operation::LEAVE => self.left.retain(|room| room != body),
            operation::SUBSCRIBE => remove_all(&mut self.subscribed, body),
            operation::UNSUBSCRIBE => remove_all(&mut self.unsubscribed, body),
            _ => {}
        }
    }

    /// The requests that bring a fresh connection to where the last one was.
    pub(crate) fn requests(&self) -> Vec<(i32, Bytes)> {
        let rooms =
            |op, rooms: &BTreeSet<Bytes>| rooms.iter().map(|room| (op, room.clone())).collect::<Vec<_>>();
        let mut requests: Vec<_> =
            self.room.iter().map(|room| (operation::CHANGE_ROOM, room.clone())).collect();
        requests.extend(rooms(operation::LEAVE, &self.left));
        requests.extend(rooms(operation::JOIN, &self.joined));
        for (op, ops) in
            [(operation::SUBSCRIBE, &self.subscribed), (operation::UNSUBSCRIBE, &self.unsubscribed)]
        {
            let ops: Vec<i32> = ops.iter().copied().collect();
            requests.extend(ops.chunks(OPS_PER_REQUEST).map(|chunk| (op, write_ops(chunk))));
        }
        requests
    }
}

/// The body of SUBSCRIBE and UNSUBSCRIBE: decimal numbers, joined by commas.
pub(crate) fn write_ops(ops: &[i32]) -> Bytes {
    ops.iter().map(i32::to_string).collect::<Vec<_>>().join(",").into()
}

fn remove_all(ops: &mut BTreeSet<i32>, body: &[u8]) {
    for op in parse_ops(body) {
        ops.remove(&op);
    }
}

fn parse_ops(body: &[u8]) -> impl Iterator<Item = i32> {
    body.split(|byte| *byte == b',').filter_map(|op| str::from_utf8(op).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use anser_wire::operation::{CHANGE_ROOM, JOIN, LEAVE, SUBSCRIBE, UNSUBSCRIBE};

    use super::*;

    fn after(done: &[(i32, &'static str)]) -> Wanted {
        after_token(None, done)
    }

    fn after_token(room: Option<&'static str>, done: &[(i32, &'static str)]) -> Wanted {
        let mut wanted = Wanted::new(room.map(Bytes::from));
        for (op, body) in done {
            wanted.done(*op, &Bytes::from_static(body.as_bytes()));
        }
        wanted
    }

    #[test]
    fn only_what_still_holds_is_asked_for_again() {
        let check = |done: &[(i32, &'static str)], expected: &[(i32, &'static str)]| {
            let expected: Vec<_> =
                expected.iter().map(|(op, body)| (*op, Bytes::from_static(body.as_bytes()))).collect();
            assert_eq!(after(done).requests(), expected, "{done:?}");
        };
        check(&[], &[]);
        check(&[(1000, "a message")], &[]);
        check(&[(JOIN, "a"), (JOIN, "b"), (JOIN, "a")], &[(JOIN, "a"), (JOIN, "b")]);
        check(&[(JOIN, "a"), (LEAVE, "a")], &[]);
        check(&[(LEAVE, "of the token"), (JOIN, "b")], &[(LEAVE, "of the token"), (JOIN, "b")]);
        check(&[(LEAVE, "a"), (JOIN, "a")], &[(JOIN, "a")]);
        check(&[(JOIN, "a"), (LEAVE, "b"), (CHANGE_ROOM, "c")], &[(CHANGE_ROOM, "c")]);
        check(&[(CHANGE_ROOM, "a"), (JOIN, "b")], &[(CHANGE_ROOM, "a"), (JOIN, "b")]);
        check(&[(CHANGE_ROOM, "a"), (LEAVE, "a")], &[(CHANGE_ROOM, "")]);
        check(&[(CHANGE_ROOM, "a"), (JOIN, "a"), (LEAVE, "a")], &[(CHANGE_ROOM, "")]);
        check(&[(CHANGE_ROOM, "a"), (LEAVE, "b")], &[(CHANGE_ROOM, "a")]);
        check(&[(SUBSCRIBE, "2,1"), (SUBSCRIBE, "-3")], &[(SUBSCRIBE, "-3,1,2")]);
        check(
            &[(SUBSCRIBE, "1,2"), (UNSUBSCRIBE, "2,9"), (SUBSCRIBE, "9")],
            &[(SUBSCRIBE, "1,9"), (UNSUBSCRIBE, "2")],
        );
    }

    #[test]
    fn the_room_of_a_token_is_left_again() {
        let leave_a = [(LEAVE, Bytes::from("a"))];
        assert_eq!(after_token(Some("a"), &[(JOIN, "a"), (LEAVE, "a")]).requests(), leave_a);
        assert_eq!(after_token(Some("a"), &[(LEAVE, "b"), (LEAVE, "a")]).requests(), leave_a);
        assert_eq!(after_token(Some(""), &[(LEAVE, "a")]).requests(), []);
        assert_eq!(after_token(None, &[(LEAVE, "a")]).requests(), leave_a);
    }

    #[test]
    fn what_is_refused_is_not_asked_for_a_third_time() {
        let mut wanted = after(&[(CHANGE_ROOM, "a"), (JOIN, "b"), (SUBSCRIBE, "1,2"), (UNSUBSCRIBE, "3")]);
        for (op, body) in wanted.requests() {
            wanted.refused(op, &body);
        }
        assert_eq!(wanted.requests(), []);
    }

    #[test]
    fn many_operations_are_asked_for_in_bodies_that_goim_takes() {
        let mut wanted = Wanted::default();
        let ops: Vec<i32> = (i32::MIN..).take(1000).collect();
        ops.chunks(OPS_PER_REQUEST).for_each(|chunk| wanted.done(SUBSCRIBE, &write_ops(chunk)));
        let requests = wanted.requests();
        assert!(requests.iter().all(|(op, body)| *op == SUBSCRIBE && body.len() <= 4096));
        let again: Vec<i32> = requests.iter().flat_map(|(_, body)| parse_ops(body)).collect();
        assert_eq!(again, ops);
    }
}
