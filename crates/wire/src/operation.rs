//! Operations, as rows of one table: the numbers in the code and the table in docs/protocol.md both
//! come from here.

/// Who sends an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// Reserved: sent by nobody.
    Neither,
}

/// On which connections an operation has its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// On every connection.
    Goim,
    /// Only on connections whose authentication said `"proto":"anser/1"`. On others the number is an
    /// application's own, like every number that is not in the table.
    Anser,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The number in the packet header.
    pub number: i32,
    /// Its name in the documentation.
    pub name: &'static str,
    /// Who sends it.
    pub direction: Direction,
    /// Where it exists.
    pub dialect: Dialect,
    /// The operation of the answer, if there is one.
    pub reply: Option<i32>,
    /// What the body holds.
    pub body: &'static str,
    /// What it means.
    pub doc: &'static str,
}

macro_rules! operations {
    ($($konst:ident = $number:literal, $direction:ident, $dialect:ident, $reply:expr, $body:literal, $doc:literal;)*) => {
        $(#[doc = $doc] #[doc = concat!("\n\nBody: ", $body, ".")] pub const $konst: i32 = $number;)*

        /// Every operation that the protocol itself gives a meaning, by number.
        pub const TABLE: &[Operation] = &[$(Operation {
            number: $number,
            name: stringify!($konst),
            direction: Direction::$direction,
            dialect: Dialect::$dialect,
            reply: $reply,
            body: $body,
            doc: $doc,
        }),*];
    };
}

operations! {
    HANDSHAKE = 0, Neither, Goim, None, "none",
        "Reserved; from a client it is an application operation.";
    HANDSHAKE_REPLY = 1, Neither, Goim, None, "none",
        "Reserved.";
    HEARTBEAT = 2, Up, Goim, Some(HEARTBEAT_REPLY), "ignored",
        "Keeps the connection alive.";
    HEARTBEAT_REPLY = 3, Down, Goim, None, "int32: connections in the client's room, 0 without a room",
        "Answers a heartbeat.";
    SEND = 4, Up, Goim, Some(SEND), "opaque",
        "An application operation: handed to the application, and answered like all of those.";
    SEND_REPLY = 5, Neither, Goim, None, "none",
        "Reserved.";
    DISCONNECT_REPLY = 6, Neither, Goim, None, "none",
        "Reserved.";
    AUTH = 7, Up, Goim, Some(AUTH_REPLY), "token; without another authenticator JSON {mid, key, room_id, accepts, proto, dropped}",
        "Authenticates the connection; what comes before it is ignored. A refusal closes without a word.";
    AUTH_REPLY = 8, Down, Goim, None, "none",
        "The connection is authenticated, registered and in its room.";
    RAW = 9, Down, Goim, None, "one or more packets, one after another",
        "The container that holds every push on WebSocket; never seen on TCP.";
    READY = 10, Neither, Goim, None, "none",
        "Reserved.";
    FINISH = 11, Neither, Goim, None, "none",
        "Reserved.";
    CHANGE_ROOM = 12, Up, Goim, Some(CHANGE_ROOM_REPLY), "room, type://id; empty leaves",
        "Leaves every room and enters this one.";
    CHANGE_ROOM_REPLY = 13, Down, Goim, None, "the request's",
        "Answers a change of room, whether or not it could be done.";
    SUBSCRIBE = 14, Up, Goim, Some(SUBSCRIBE_REPLY), "decimal int32s joined by commas",
        "Adds operations whose pushes to keys, users and everyone are delivered.";
    SUBSCRIBE_REPLY = 15, Down, Goim, None, "the request's",
        "Answers SUBSCRIBE.";
    UNSUBSCRIBE = 16, Up, Goim, Some(UNSUBSCRIBE_REPLY), "decimal int32s joined by commas",
        "Takes operations back.";
    UNSUBSCRIBE_REPLY = 17, Down, Goim, None, "the request's",
        "Answers UNSUBSCRIBE.";
    ERROR = 100, Down, Anser, None, "protobuf Error",
        "The request with the same seq was refused; says why, and whether to try again.";
    JOIN = 101, Up, Anser, Some(JOIN_REPLY), "room, type://id",
        "Enters one more room.";
    JOIN_REPLY = 102, Down, Anser, None, "the request's",
        "The connection is in the room.";
    LEAVE = 103, Up, Anser, Some(LEAVE_REPLY), "room, type://id",
        "Leaves one room.";
    LEAVE_REPLY = 104, Down, Anser, None, "the request's",
        "The connection is not in the room.";
    DROPPED = 105, Down, Anser, None, "protobuf Dropped",
        "So many pushes were lost because this client read too slowly; sent to clients that asked.";
    DRAINING = 106, Down, Anser, None, "protobuf Draining",
        "The server closes this connection; come back after the time it names.";
    BEHIND = 107, Down, Anser, None, "none",
        "The client reads too slowly for pushes that it can also pull: none comes until it says LIVE.";
    LIVE = 108, Up, Anser, None, "opaque to the edge: epoch and number up to which the client has pulled",
        "The client has caught up. Goes to the owner of the data, who lets pushes flow again.";
}

/// The row of a number.
pub fn find(number: i32) -> Option<&'static Operation> {
    TABLE.iter().find(|row| row.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_replies_exist() {
        assert!(TABLE.is_sorted_by_key(|row| row.number));
        for row in TABLE {
            if let Some(reply) = row.reply {
                assert!(find(reply).is_some(), "{} answers with {reply}, which has no row", row.name);
            }
            assert_eq!(row.dialect == Dialect::Anser, (100..200).contains(&row.number), "{}", row.name);
        }
    }
}
