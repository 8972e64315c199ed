//! A logic in another process, and what it serves beside.

use std::time::Duration;

use super::comet::unavailable;
use super::missed::Missed;
use super::{Link, rpc};
use crate::Answer;
use crate::comet::{Away, PushError};
use crate::grpc::convert::counted_rooms;
use crate::grpc::generated::anser::logic::v1 as message;
use crate::grpc::generated::anser::logic::v1::directory_client::DirectoryClient;
use crate::grpc::generated::anser::logic::v1::logic_client::LogicClient;
use crate::grpc::generated::anser::logic::v1::push_api_client::PushApiClient;
use crate::grpc::generated::anser::v1 as common;
use crate::id::{Key, Room, Session};
use crate::job::Accepted;
use crate::logic::{
    Connect, Connected, Directory, Logic, Node, NodeState, Online, Place, Push, PushApi, Received, Refused,
    Renewal, Renewed, Restore,
};

/// Whoever decides on a client may ask others.
const CONNECT: Duration = Duration::from_secs(10);

/// A logic in another process. Ends of sessions that it could not be told of are told behind the next
/// renewal that gets there.
#[derive(Clone, Debug)]
pub struct RemoteLogic {
    link: Link,
    missed: Missed,
}

impl RemoteLogic {
    /// The logic at the end of this link.
    pub fn new(link: Link) -> Self {
        Self { link, missed: Missed::default() }
    }
}

impl Logic for RemoteLogic {
    fn connect(&self, request: Connect) -> Answer<'static, Result<Connected, Refused>> {
        let link = self.link.clone();
        let limit = link.deadline().max(CONNECT);
        let call = rpc!(link, limit, LogicClient::connect, message::ConnectRequest::from(request));
        Box::pin(async move {
            let answer = call.await.map_err(Refused::Unavailable)?;
            link.parse(answer).map_err(Refused::Unavailable)?
        })
    }

    fn disconnect(&self, session: Session) -> Answer<'static, ()> {
        let Self { link, missed } = self.clone();
        let request = common::Session::from(session.clone());
        let call = rpc!(link, link.deadline(), LogicClient::disconnect, request);
        Box::pin(async move {
            if let Err(why) = call.await {
                link.complain("logic is not told of the end of a connection until it is there again", &why);
                missed.keep(session);
            }
        })
    }

    fn receive(&self, packet: Received) -> Answer<'static, ()> {
        let link = self.link.clone();
        let request = message::ReceiveRequest::from(packet);
        let call = rpc!(link, link.deadline(), LogicClient::receive, request);
        Box::pin(async move {
            if let Err(why) = call.await {
                link.complain("a packet from a client did not get to logic, and is lost", &why);
            }
        })
    }

    fn renew(&self, renewal: Renewal) -> Answer<'_, Result<Renewed, Away>> {
        let request = message::RenewRequest::from(renewal);
        let call = rpc!(self.link, self.link.deadline(), LogicClient::renew, request);
        Box::pin(async {
            let answer = self.link.parse(call.await.map_err(Away)?).map_err(Away)?;
            self.missed.tell(&self.link);
            answer
        })
    }

    fn restore(&self, restore: Restore) -> Answer<'_, Result<(), Away>> {
        let request = message::RestoreRequest::from(restore);
        let call = rpc!(self.link, self.link.deadline(), LogicClient::restore, request);
        Box::pin(async { call.await.map_err(Away)?.into() })
    }
}

/// The push API of another process.
#[derive(Clone, Debug)]
pub struct RemotePushApi(Link);

impl RemotePushApi {
    /// The push API at the end of this link.
    pub fn new(link: Link) -> Self {
        Self(link)
    }
}

impl PushApi for RemotePushApi {
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>> {
        let request = message::PushRequest::from(push);
        let call = rpc!(self.0, self.0.deadline(), PushApiClient::push, request);
        Box::pin(async { self.0.parse(call.await.map_err(unavailable)?).map_err(unavailable)? })
    }
}

/// The directory of another process. Where a trait's answer cannot say that it is away, nobody is
/// online and no comet is there.
#[derive(Clone, Debug)]
pub struct RemoteDirectory(Link);

impl RemoteDirectory {
    /// The directory at the end of this link.
    pub fn new(link: Link) -> Self {
        Self(link)
    }

    fn or_nothing<T: Default>(&self, answer: Result<T, String>) -> T {
        answer.unwrap_or_else(|why| {
            self.0.complain("the directory does not answer: it is taken for empty", &why);
            T::default()
        })
    }
}

impl Directory for RemoteDirectory {
    fn locate(&self, keys: Vec<Key>) -> Answer<'_, Result<Vec<Place>, Away>> {
        let asked = keys.len();
        let request = message::LocateRequest::from(keys);
        let call = rpc!(self.0, self.0.deadline(), DirectoryClient::locate, request);
        Box::pin(async move {
            let answer: Result<Vec<Place>, Away> = self.0.parse(call.await.map_err(Away)?).map_err(Away)?;
            let places = answer?;
            if places.len() == asked {
                Ok(places)
            } else {
                let address = self.0.address();
                Err(Away(format!("{address} answered with {} places for {asked} keys", places.len())))
            }
        })
    }

    fn online(&self) -> Answer<'_, Online> {
        let call = rpc!(self.0, self.0.deadline(), DirectoryClient::online, common::Empty {});
        Box::pin(async { self.or_nothing(call.await.map(Online::from)) })
    }

    fn largest_rooms(&self, kind: String, limit: usize) -> Answer<'_, Vec<(Room, u32)>> {
        let request = message::LargestRoomsRequest { kind, limit: limit as u64 };
        let call = rpc!(self.0, self.0.deadline(), DirectoryClient::largest_rooms, request);
        Box::pin(async {
            let rooms = call.await.and_then(|rooms| counted_rooms(&rooms.rooms).map_err(|bad| bad.0));
            self.or_nothing(rooms)
        })
    }

    fn members(&self, rooms: Vec<Room>) -> Answer<'_, Vec<u32>> {
        let asked = rooms.len();
        let request = message::MembersRequest::from(rooms);
        let call = rpc!(self.0, self.0.deadline(), DirectoryClient::members, request);
        Box::pin(async move {
            let answer: Result<message::MembersReply, String> = call.await;
            let mut members = self.or_nothing(answer.map(|answer| answer.members));
            members.resize(asked, 0);
            members
        })
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeState>> {
        let call = rpc!(self.0, self.0.deadline(), DirectoryClient::nodes, common::Empty {});
        Box::pin(async {
            let answer: Result<message::NodesReply, String> = call.await;
            let nodes = answer.and_then(|answer| self.list(answer.nodes));
            self.or_nothing(nodes)
        })
    }

    fn best_nodes(&self) -> Answer<'_, Vec<Node>> {
        let call = rpc!(self.0, self.0.deadline(), DirectoryClient::best_nodes, common::Empty {});
        Box::pin(async {
            let answer: Result<message::BestNodesReply, String> = call.await;
            let nodes = answer.and_then(|answer| self.list(answer.nodes));
            self.or_nothing(nodes)
        })
    }
}

impl RemoteDirectory {
    fn list<M, T>(&self, messages: Vec<M>) -> Result<Vec<T>, String>
    where
        T: TryFrom<M, Error = crate::grpc::convert::Bad>,
    {
        messages.into_iter().map(|message| self.0.parse(message)).collect()
    }
}
