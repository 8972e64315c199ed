//! Our services: each hands its calls to the trait, and says in the answer what the trait says.
//!
//! What a role refuses is an answer; a status other than OK means that the call was not understood.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::convert::{Bad, room_counts};
use super::generated::anser::comet::v1 as comet;
use super::generated::anser::job::v1 as job;
use super::generated::anser::logic::v1 as logic;
use super::generated::anser::v1 as common;
use crate::id::LogId;

/// The answer of a service.
type Reply<T> = Result<Response<T>, Status>;

impl From<Bad> for Status {
    fn from(bad: Bad) -> Self {
        Self::invalid_argument(bad.0)
    }
}

#[derive(Clone)]
pub(super) struct Comet(pub(super) Arc<dyn crate::comet::Comet>);

#[async_trait]
impl comet::comet_server::Comet for Comet {
    async fn push(&self, request: Request<comet::PushRequest>) -> Reply<common::Done> {
        let push = request.into_inner().try_into()?;
        Ok(Response::new(self.0.push(push).await.into()))
    }

    async fn open_lane(&self, request: Request<comet::OpenLaneRequest>) -> Reply<comet::OpenLaneReply> {
        let log = LogId(request.into_inner().log);
        Ok(Response::new(self.0.open_lane(log).await.into()))
    }

    async fn take(&self, request: Request<comet::TakeRequest>) -> Reply<comet::TakeReply> {
        let batch = request.into_inner().try_into()?;
        Ok(Response::new(self.0.take(batch).await.into()))
    }

    async fn report(&self, request: Request<comet::ReportRequest>) -> Reply<comet::ReportReply> {
        let comet::ReportRequest { log, seen } = request.into_inner();
        Ok(Response::new(self.0.report(LogId(log), seen).await.into()))
    }

    async fn switch(&self, request: Request<comet::SwitchRequest>) -> Reply<common::Done> {
        let (session, flow) = request.into_inner().try_into()?;
        Ok(Response::new(self.0.switch(session, flow).await.into()))
    }

    async fn explain(&self, request: Request<comet::ExplainRequest>) -> Reply<comet::ExplainReply> {
        let inquiry = request.into_inner().try_into()?;
        Ok(Response::new(self.0.explain(inquiry).await.into()))
    }

    async fn trace(&self, request: Request<common::Traces>) -> Reply<comet::TraceReply> {
        let traces = request.into_inner().try_into()?;
        Ok(Response::new(self.0.trace(traces).await.into()))
    }
}

#[derive(Clone)]
pub(super) struct Logic(pub(super) Arc<dyn crate::logic::Logic>);

#[async_trait]
impl logic::logic_server::Logic for Logic {
    async fn connect(&self, request: Request<logic::ConnectRequest>) -> Reply<logic::ConnectReply> {
        let connect = request.into_inner().try_into()?;
        Ok(Response::new(self.0.connect(connect).await.into()))
    }

    async fn disconnect(&self, request: Request<common::Session>) -> Reply<common::Empty> {
        self.0.disconnect(request.into_inner().try_into()?).await;
        Ok(Response::new(common::Empty {}))
    }

    async fn receive(&self, request: Request<logic::ReceiveRequest>) -> Reply<common::Empty> {
        self.0.receive(request.into_inner().try_into()?).await;
        Ok(Response::new(common::Empty {}))
    }

    async fn renew(&self, request: Request<logic::RenewRequest>) -> Reply<logic::RenewReply> {
        let renewal = request.into_inner().try_into()?;
        Ok(Response::new(self.0.renew(renewal).await.into()))
    }

    async fn restore(&self, request: Request<logic::RestoreRequest>) -> Reply<logic::RestoreReply> {
        let restore = request.into_inner().try_into()?;
        Ok(Response::new(self.0.restore(restore).await.into()))
    }
}

#[derive(Clone)]
pub(super) struct PushApi(pub(super) Arc<dyn crate::logic::PushApi>);

#[async_trait]
impl logic::push_api_server::PushApi for PushApi {
    async fn push(&self, request: Request<logic::PushRequest>) -> Reply<common::Pushed> {
        let push = request.into_inner().try_into()?;
        Ok(Response::new(self.0.push(push).await.into()))
    }
}

#[derive(Clone)]
pub(super) struct Directory(pub(super) Arc<dyn crate::logic::Directory>);

#[async_trait]
impl logic::directory_server::Directory for Directory {
    async fn locate(&self, request: Request<logic::LocateRequest>) -> Reply<logic::LocateReply> {
        let keys = request.into_inner().try_into()?;
        Ok(Response::new(self.0.locate(keys).await.into()))
    }

    async fn online(&self, _: Request<common::Empty>) -> Reply<logic::OnlineReply> {
        Ok(Response::new(self.0.online().await.into()))
    }

    async fn largest_rooms(&self, request: Request<logic::LargestRoomsRequest>) -> Reply<logic::Rooms> {
        let logic::LargestRoomsRequest { kind, limit } = request.into_inner();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let rooms = room_counts(self.0.largest_rooms(kind, limit).await);
        Ok(Response::new(logic::Rooms { rooms }))
    }

    async fn members(&self, request: Request<logic::MembersRequest>) -> Reply<logic::MembersReply> {
        let rooms = request.into_inner().try_into()?;
        Ok(Response::new(logic::MembersReply { members: self.0.members(rooms).await }))
    }

    async fn nodes(&self, _: Request<common::Empty>) -> Reply<logic::NodesReply> {
        let nodes = self.0.nodes().await.into_iter().map(Into::into).collect();
        Ok(Response::new(logic::NodesReply { nodes }))
    }

    async fn best_nodes(&self, _: Request<common::Empty>) -> Reply<logic::BestNodesReply> {
        let nodes = self.0.best_nodes().await.into_iter().map(Into::into).collect();
        Ok(Response::new(logic::BestNodesReply { nodes }))
    }
}

#[derive(Clone)]
pub(super) struct Job(pub(super) Arc<dyn crate::job::Job>);

#[async_trait]
impl job::job_server::Job for Job {
    async fn push(&self, request: Request<job::PushRequest>) -> Reply<common::Pushed> {
        let push = request.into_inner().try_into()?;
        Ok(Response::new(self.0.push(push).await.into()))
    }

    async fn explain(&self, request: Request<job::ExplainRequest>) -> Reply<job::ExplainReply> {
        let (position, subject) = request.into_inner().try_into()?;
        Ok(Response::new(self.0.explain(position, subject).await.into()))
    }

    async fn trace(&self, request: Request<common::Traces>) -> Reply<job::TraceReply> {
        let traces = request.into_inner().try_into()?;
        Ok(Response::new(self.0.trace(traces).await.into()))
    }
}
