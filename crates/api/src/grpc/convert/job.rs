//! The push log.

use super::{Bad, all, comet_name, key, room, since_1970, strings, time, user};
use crate::grpc::generated::anser::job::v1 as message;
use crate::grpc::generated::anser::job::v1::push_request::To;
use crate::job::{Destination, Push, Route};

impl From<Push> for message::PushRequest {
    fn from(push: Push) -> Self {
        let Push { to, op, body, expires, idempotency } = push;
        let to = match to {
            Destination::Keys { routes, absent, users } => {
                let route =
                    |Route { key, comet }| message::Route { key: key.to_string(), comet: comet.to_string() };
                To::Keys(message::Keys {
                    routes: routes.into_iter().map(route).collect(),
                    absent: strings(&absent),
                    users: users.into_iter().map(|user| user.0).collect(),
                })
            }
            Destination::Room(room) => To::Room(room.to_string()),
            Destination::All { speed } => To::All(message::All { speed }),
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
            To::Keys(message::Keys { routes, absent, users }) => Destination::Keys {
                routes: all(&routes, |route| {
                    Ok(Route { key: key(&route.key)?, comet: comet_name(&route.comet)? })
                })?,
                absent: all(&absent, |name| key(name))?,
                users: all(&users, |mid| user(*mid))?,
            },
            To::Room(name) => Destination::Room(room(&name)?),
            To::All(message::All { speed }) => Destination::All { speed },
        };
        let idempotency = idempotency.map(TryInto::try_into).transpose()?;
        Ok(Self { to, op, body, expires: expires.map(time), idempotency })
    }
}
