//! `goim.comet.Comet`, over a comet.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status, async_trait};

use super::form;
use crate::comet::{Comet, OnOverflow, Push, PushError, Target};
use crate::grpc::NAME;
use crate::grpc::generated::goim::comet as message;
use crate::grpc::generated::goim::comet::comet_server;
use crate::id::{Key, Room};

/// goim waits for ever for a place in the queues of a room, and its job does not try again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What goim's contract has and [`Comet`] has not.
pub trait Rooms: Send + Sync {
    /// The rooms with members here, and how many.
    fn rooms(&self) -> Vec<(Room, u32)>;
}

/// The service.
pub(in crate::grpc) struct CometService {
    comet: Arc<dyn Comet>,
    rooms: Arc<dyn Rooms>,
}

impl CometService {
    pub(in crate::grpc) fn new(comet: Arc<dyn Comet>, rooms: Arc<dyn Rooms>) -> Self {
        Self { comet, rooms }
    }

    /// Each key has the push or not for itself: all together while there is room for all, and one by
    /// one otherwise, so that the full queue of one does not take it from the others.
    async fn push_to_keys(&self, keys: Vec<Key>, push: Push) -> Result<(), PushError> {
        let to = |keys: Vec<Key>| self.comet.push(Push { target: Target::Keys(keys), ..push.clone() });
        let whole = to(keys.clone()).await;
        if keys.len() < 2 || !matches!(whole, Err(PushError::Exhausted { .. })) {
            return whole;
        }
        let mut result = Ok(());
        for key in keys {
            match to(vec![key]).await {
                Ok(()) => {}
                Err(exhausted @ PushError::Exhausted { .. }) => result = Err(exhausted),
                Err(other) => return Err(other),
            }
        }
        result
    }

    /// Pushes, and waits a while for places in queues.
    async fn push_patiently(&self, push: Push) -> Result<(), PushError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.comet.push(push.clone()).await {
                Err(PushError::Exhausted { retry_after }) if Instant::now() + retry_after < until => {
                    sleep(retry_after.max(Duration::from_millis(1))).await;
                }
                result => return result,
            }
        }
    }
}

/// A push as goim's callers know it: whoever is too slow loses it.
fn push(
    target: Target,
    op: i32,
    proto: crate::grpc::generated::goim::protocol::Proto,
) -> Result<Push, Status> {
    let (form, body) = form(proto)?;
    Ok(Push { target, op, form, body, on_overflow: OnOverflow::Drop, expires: None })
}

fn refusal(error: &PushError) -> Status {
    let text = error.to_string();
    match error {
        PushError::Exhausted { .. } => Status::unknown("signal channel full, msg dropped"),
        PushError::TooLarge { .. } | PushError::TooMany { .. } => Status::invalid_argument(text),
        PushError::Draining | PushError::Unavailable { .. } => Status::unavailable(text),
        PushError::Conflict => Status::already_exists(text),
    }
}

#[async_trait]
impl comet_server::Comet for CometService {
    async fn push_msg(
        &self,
        request: Request<message::PushMsgReq>,
    ) -> Result<Response<message::PushMsgReply>, Status> {
        let message::PushMsgReq { keys, proto, proto_op } = request.into_inner();
        let (false, Some(proto)) = (keys.is_empty(), proto) else {
            return Err(Status::unknown("rpc pushmsg arg error"));
        };
        // A longer name than any connection can have is that of none: skipped, like each that is not here.
        let keys: Vec<Key> = keys.iter().filter_map(|key| Key::parse(key, NAME).ok()).collect();
        let push = push(Target::Keys(Vec::new()), proto_op, proto)?;
        self.push_to_keys(keys, push).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(message::PushMsgReply {}))
    }

    async fn broadcast(
        &self,
        request: Request<message::BroadcastReq>,
    ) -> Result<Response<message::BroadcastReply>, Status> {
        let message::BroadcastReq { proto_op, proto, speed } = request.into_inner();
        let proto = proto.ok_or_else(|| Status::unknown("rpc broadcast arg error"))?;
        let speed = speed.try_into().unwrap_or(0);
        let push = push(Target::All { speed }, proto_op, proto)?;
        self.push_patiently(push).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(message::BroadcastReply {}))
    }

    async fn broadcast_room(
        &self,
        request: Request<message::BroadcastRoomReq>,
    ) -> Result<Response<message::BroadcastRoomReply>, Status> {
        let message::BroadcastRoomReq { room_id, proto } = request.into_inner();
        let (false, Some(proto)) = (room_id.is_empty(), proto) else {
            return Err(Status::unknown("rpc broadcast  room arg error"));
        };
        let room =
            Room::parse(&room_id, NAME).map_err(|cause| Status::invalid_argument(cause.to_string()))?;
        // Members of a room are not asked what they take.
        let op = proto.op;
        self.push_patiently(push(Target::Room(room), op, proto)?).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(message::BroadcastRoomReply {}))
    }

    async fn rooms(&self, _: Request<message::RoomsReq>) -> Result<Response<message::RoomsReply>, Status> {
        let rooms = self.rooms.rooms().into_iter().filter(|(_, members)| *members > 0);
        let rooms = rooms.map(|(room, _)| (room.to_string(), true)).collect();
        Ok(Response::new(message::RoomsReply { rooms }))
    }

    async fn ping(&self, _: Request<message::Empty>) -> Result<Response<message::Empty>, Status> {
        Ok(Response::new(message::Empty {}))
    }

    async fn close(&self, _: Request<message::Empty>) -> Result<Response<message::Empty>, Status> {
        Ok(Response::new(message::Empty {}))
    }
}
