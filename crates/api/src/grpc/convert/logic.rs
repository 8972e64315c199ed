//! Who is where, and may they; and the push API.

use std::net::IpAddr;
use std::time::Duration;

use super::{
    Bad, all, comet_name, counted_rooms, key, nanos, room, room_counts, since_1970, size, strings, time, user,
};
use crate::comet::Away;
use crate::grpc::generated::anser::logic::v1 as message;
use crate::grpc::generated::anser::logic::v1::push_request::To;
use crate::grpc::generated::anser::logic::v1::refused::{Cause, TooLong as LongName};
use crate::grpc::generated::anser::logic::v1::{connect_reply, locate_reply, place, renew_reply};
use crate::grpc::generated::anser::v1::Empty;
use crate::id::{Incarnation, Key, Room, TooLong};
use crate::logic::{
    Audience, Connect, Connected, Node, NodeState, Online, Place, Push, Received, Refused, Renewal, Renewed,
    Restore,
};

/// What a [`TooLong`] can be about.
const KINDS: &[&str] = &["a key", "a room name", "the name of a comet"];

impl From<Connect> for message::ConnectRequest {
    fn from(connect: Connect) -> Self {
        let Connect { comet, token, cookie, remote } = connect;
        let remote = match remote {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        Self { comet: comet.to_string(), token, cookie, remote: remote.into() }
    }
}

impl TryFrom<message::ConnectRequest> for Connect {
    type Error = Bad;

    fn try_from(connect: message::ConnectRequest) -> Result<Self, Bad> {
        let message::ConnectRequest { comet, token, cookie, remote } = connect;
        let v4 = <[u8; 4]>::try_from(&remote[..]).map(IpAddr::from);
        let v6 = <[u8; 16]>::try_from(&remote[..]).map(IpAddr::from);
        let remote = v4.or(v6).map_err(|_| Bad("`remote` must have 4 or 16 bytes".into()))?;
        Ok(Self { comet: comet_name(&comet)?, token, cookie, remote })
    }
}

impl From<Result<Connected, Refused>> for message::ConnectReply {
    fn from(result: Result<Connected, Refused>) -> Self {
        let result = match result {
            Ok(connected) => connect_reply::Result::Connected(connected.into()),
            Err(refused) => connect_reply::Result::Refused(refused.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<message::ConnectReply> for Result<Connected, Refused> {
    type Error = Bad;

    fn try_from(reply: message::ConnectReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            connect_reply::Result::Connected(connected) => Ok(connected.try_into()?),
            connect_reply::Result::Refused(refused) => Err(refused.try_into()?),
        })
    }
}

impl From<Connected> for message::Connected {
    fn from(connected: Connected) -> Self {
        let Connected { session, user, room, accepts, idle, anser, tell_dropped } = connected;
        Self {
            session: Some(session.into()),
            user: user.map(|user| user.0),
            room: room.map(|room| room.to_string()),
            accepts,
            idle: nanos(idle),
            anser,
            tell_dropped,
        }
    }
}

impl TryFrom<message::Connected> for Connected {
    type Error = Bad;

    fn try_from(connected: message::Connected) -> Result<Self, Bad> {
        let message::Connected { session, user: mid, room: name, accepts, idle, anser, tell_dropped } =
            connected;
        Ok(Self {
            session: session.ok_or_else(|| Bad::missing("session"))?.try_into()?,
            user: mid.map(user).transpose()?,
            room: name.map(|name| room(&name)).transpose()?,
            accepts,
            idle: Duration::from_nanos(idle),
            anser,
            tell_dropped,
        })
    }
}

impl From<Refused> for message::Refused {
    fn from(refused: Refused) -> Self {
        let cause = match refused {
            Refused::BadToken(why) => Cause::BadToken(why),
            Refused::TooLong(TooLong { what, len, max }) => {
                Cause::TooLong(LongName { what: what.to_owned(), len: len as u64, max: max as u64 })
            }
            Refused::Unavailable(why) => Cause::Unavailable(why),
        };
        Self { cause: Some(cause) }
    }
}

impl TryFrom<message::Refused> for Refused {
    type Error = Bad;

    fn try_from(refused: message::Refused) -> Result<Self, Bad> {
        Ok(match refused.cause.ok_or_else(|| Bad::missing("cause"))? {
            Cause::BadToken(why) => Self::BadToken(why),
            Cause::TooLong(LongName { what, len, max }) => {
                let what = KINDS.iter().find(|kind| **kind == what).unwrap_or(&"a name");
                Self::TooLong(TooLong { what, len: size(len), max: size(max) })
            }
            Cause::Unavailable(why) => Self::Unavailable(why),
        })
    }
}

impl From<Received> for message::ReceiveRequest {
    fn from(received: Received) -> Self {
        let Received { session, user, op, seq, body } = received;
        Self { session: Some(session.into()), user: user.map(|user| user.0), op, seq, body }
    }
}

impl TryFrom<message::ReceiveRequest> for Received {
    type Error = Bad;

    fn try_from(received: message::ReceiveRequest) -> Result<Self, Bad> {
        let message::ReceiveRequest { session, user: mid, op, seq, body } = received;
        let session = session.ok_or_else(|| Bad::missing("session"))?.try_into()?;
        Ok(Self { session, user: mid.map(user).transpose()?, op, seq, body })
    }
}

impl From<Node> for message::Node {
    fn from(node: Node) -> Self {
        let Node { comet, addresses, region, zone, weight, offline, grpc } = node;
        Self { comet: comet.to_string(), addresses, region, zone, weight, offline, grpc }
    }
}

impl TryFrom<message::Node> for Node {
    type Error = Bad;

    fn try_from(node: message::Node) -> Result<Self, Bad> {
        let message::Node { comet, addresses, region, zone, weight, offline, grpc } = node;
        Ok(Self { comet: comet_name(&comet)?, addresses, region, zone, weight, offline, grpc })
    }
}

impl From<Renewal> for message::RenewRequest {
    fn from(renewal: Renewal) -> Self {
        let Renewal { node, incarnation, connections, addresses, rooms } = renewal;
        let (node, rooms) = (Some(node.into()), room_counts(rooms));
        Self { node, incarnation: incarnation.0, connections, addresses, rooms }
    }
}

impl TryFrom<message::RenewRequest> for Renewal {
    type Error = Bad;

    fn try_from(renewal: message::RenewRequest) -> Result<Self, Bad> {
        let message::RenewRequest { node, incarnation, connections, addresses, rooms } = renewal;
        let node = node.ok_or_else(|| Bad::missing("node"))?.try_into()?;
        let (incarnation, rooms) = (Incarnation(incarnation), counted_rooms(&rooms)?);
        Ok(Self { node, incarnation, connections, addresses, rooms })
    }
}

impl From<Result<Renewed, Away>> for message::RenewReply {
    fn from(result: Result<Renewed, Away>) -> Self {
        let result = match result {
            Ok(Renewed { restore, elsewhere, traces }) => {
                let (elsewhere, traces) = (room_counts(elsewhere), Some(traces.into()));
                renew_reply::Result::Renewed(message::Renewed { restore, elsewhere, traces })
            }
            Err(away) => renew_reply::Result::Away(away.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<message::RenewReply> for Result<Renewed, Away> {
    type Error = Bad;

    fn try_from(reply: message::RenewReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            renew_reply::Result::Renewed(message::Renewed { restore, elsewhere, traces }) => {
                // An older logic traces nobody.
                let traces = traces.unwrap_or_default().try_into()?;
                Ok(Renewed { restore, elsewhere: counted_rooms(&elsewhere)?, traces })
            }
            renew_reply::Result::Away(away) => Err(away.into()),
        })
    }
}

impl From<Restore> for message::RestoreRequest {
    fn from(restore: Restore) -> Self {
        let Restore { comet, incarnation, sessions, last } = restore;
        let told = sessions.into_iter().map(|(session, user)| message::restore_request::Told {
            session: Some(session.into()),
            user: user.map(|user| user.0),
        });
        Self { comet: comet.to_string(), incarnation: incarnation.0, sessions: told.collect(), last }
    }
}

impl TryFrom<message::RestoreRequest> for Restore {
    type Error = Bad;

    fn try_from(restore: message::RestoreRequest) -> Result<Self, Bad> {
        let message::RestoreRequest { comet, incarnation, sessions, last } = restore;
        let session = |told| {
            let message::restore_request::Told { session, user: mid } = told;
            let session = session.ok_or_else(|| Bad::missing("session"))?.try_into()?;
            Ok((session, mid.map(user).transpose()?))
        };
        let sessions = sessions.into_iter().map(session).collect::<Result<_, Bad>>()?;
        Ok(Self { comet: comet_name(&comet)?, incarnation: Incarnation(incarnation), sessions, last })
    }
}

impl From<Result<(), Away>> for message::RestoreReply {
    fn from(result: Result<(), Away>) -> Self {
        Self { away: result.err().map(Into::into) }
    }
}

impl From<message::RestoreReply> for Result<(), Away> {
    fn from(reply: message::RestoreReply) -> Self {
        reply.away.map_or(Ok(()), |away| Err(away.into()))
    }
}

impl From<Push> for message::PushRequest {
    fn from(push: Push) -> Self {
        let Push { to, op, body, expires, idempotency } = push;
        let to = match to {
            Audience::Keys(keys) => To::Keys(message::Keys { keys: strings(&keys) }),
            Audience::Users(users) => {
                To::Users(message::Users { users: users.into_iter().map(|user| user.0).collect() })
            }
            Audience::Room(room) => To::Room(room.to_string()),
            Audience::All { speed } => To::All(message::All { speed }),
        };
        let (expires, idempotency) = (expires.map(since_1970), idempotency.map(Into::into));
        Self { to: Some(to), op, body, expires, idempotency }
    }
}

impl TryFrom<message::PushRequest> for Push {
    type Error = Bad;

    fn try_from(push: message::PushRequest) -> Result<Self, Bad> {
        let message::PushRequest { to, op, body, expires, idempotency } = push;
        let to = match to.ok_or_else(|| Bad::missing("to"))? {
            To::Keys(message::Keys { keys }) => Audience::Keys(all(&keys, |name| key(name))?),
            To::Users(message::Users { users }) => Audience::Users(all(&users, |mid| user(*mid))?),
            To::Room(name) => Audience::Room(room(&name)?),
            To::All(message::All { speed }) => Audience::All { speed },
        };
        let idempotency = idempotency.map(TryInto::try_into).transpose()?;
        Ok(Self { to, op, body, expires: expires.map(time), idempotency })
    }
}

impl From<Vec<Key>> for message::LocateRequest {
    fn from(keys: Vec<Key>) -> Self {
        Self { keys: strings(&keys) }
    }
}

impl TryFrom<message::LocateRequest> for Vec<Key> {
    type Error = Bad;

    fn try_from(request: message::LocateRequest) -> Result<Self, Bad> {
        all(&request.keys, |name| key(name))
    }
}

impl From<Place> for message::Place {
    fn from(place: Place) -> Self {
        let what = match place {
            Place::At(comet) => place::What::At(comet.to_string()),
            Place::Absent => place::What::Absent(Empty {}),
            Place::Unknown => place::What::Unknown(Empty {}),
        };
        Self { what: Some(what) }
    }
}

impl TryFrom<message::Place> for Place {
    type Error = Bad;

    fn try_from(place: message::Place) -> Result<Self, Bad> {
        Ok(match place.what.ok_or_else(|| Bad::missing("what"))? {
            place::What::At(name) => Self::At(comet_name(&name)?),
            place::What::Absent(_) => Self::Absent,
            place::What::Unknown(_) => Self::Unknown,
        })
    }
}

impl From<Result<Vec<Place>, Away>> for message::LocateReply {
    fn from(result: Result<Vec<Place>, Away>) -> Self {
        let result = match result {
            Ok(places) => {
                let places = places.into_iter().map(Into::into).collect();
                locate_reply::Result::Places(message::Places { places })
            }
            Err(away) => locate_reply::Result::Away(away.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<message::LocateReply> for Result<Vec<Place>, Away> {
    type Error = Bad;

    fn try_from(reply: message::LocateReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            locate_reply::Result::Places(message::Places { places }) => {
                Ok(places.into_iter().map(TryInto::try_into).collect::<Result<_, Bad>>()?)
            }
            locate_reply::Result::Away(away) => Err(away.into()),
        })
    }
}

impl From<Online> for message::OnlineReply {
    fn from(online: Online) -> Self {
        let Online { connections, users, addresses } = online;
        Self { connections, users, addresses }
    }
}

impl From<message::OnlineReply> for Online {
    fn from(online: message::OnlineReply) -> Self {
        let message::OnlineReply { connections, users, addresses } = online;
        Self { connections, users, addresses }
    }
}

impl From<Vec<Room>> for message::MembersRequest {
    fn from(rooms: Vec<Room>) -> Self {
        Self { rooms: strings(&rooms) }
    }
}

impl TryFrom<message::MembersRequest> for Vec<Room> {
    type Error = Bad;

    fn try_from(request: message::MembersRequest) -> Result<Self, Bad> {
        all(&request.rooms, |name| room(name))
    }
}

impl From<NodeState> for message::NodeState {
    fn from(state: NodeState) -> Self {
        let NodeState { node, connections, addresses, since } = state;
        Self { node: Some(node.into()), connections, addresses, since }
    }
}

impl TryFrom<message::NodeState> for NodeState {
    type Error = Bad;

    fn try_from(state: message::NodeState) -> Result<Self, Bad> {
        let message::NodeState { node, connections, addresses, since } = state;
        let node = node.ok_or_else(|| Bad::missing("node"))?.try_into()?;
        Ok(Self { node, connections, addresses, since })
    }
}
