//! A comet in another process.

use std::time::Duration;

use super::{Link, rpc};
use crate::Answer;
use crate::comet::{Away, Batch, Comet, Flow, Inquiry, Push, PushError, Report, Taken, Testimony, Welcome};
use crate::grpc::RETRY_AFTER;
use crate::grpc::generated::anser::comet::v1::comet_client::CometClient;
use crate::grpc::generated::anser::comet::v1::{ExplainRequest, OpenLaneRequest, PushRequest, ReportRequest};
use crate::grpc::generated::anser::comet::v1::{SwitchRequest, TakeRequest};
use crate::grpc::generated::anser::v1 as common;
use crate::id::{LogId, Session};
use crate::trace::Traces;

/// A report comes when there is something new, or after some seconds.
const REPORT: Duration = Duration::from_secs(15);

/// A comet in another process.
#[derive(Clone, Debug)]
pub struct RemoteComet(Link);

impl RemoteComet {
    /// The comet at the end of this link.
    pub fn new(link: Link) -> Self {
        Self(link)
    }
}

/// A push that did not get there. It may have, if the answer is what did not come.
pub(super) fn unavailable(what: String) -> PushError {
    PushError::Unavailable { what, retry_after: RETRY_AFTER }
}

impl Comet for RemoteComet {
    fn push(&self, push: Push) -> Answer<'_, Result<(), PushError>> {
        let call = rpc!(self.0, self.0.deadline(), CometClient::push, PushRequest::from(push));
        Box::pin(async { self.0.parse(call.await.map_err(unavailable)?).map_err(unavailable)? })
    }

    fn open_lane(&self, log: LogId) -> Answer<'_, Result<Welcome, Away>> {
        let request = OpenLaneRequest { log: log.0 };
        let call = rpc!(self.0, self.0.deadline(), CometClient::open_lane, request);
        Box::pin(async { self.0.parse(call.await.map_err(Away)?).map_err(Away)? })
    }

    fn take(&self, batch: Batch) -> Answer<'_, Result<Taken, Away>> {
        let call = rpc!(self.0, self.0.deadline(), CometClient::take, TakeRequest::from(batch));
        Box::pin(async { self.0.parse(call.await.map_err(Away)?).map_err(Away)? })
    }

    fn report(&self, log: LogId, seen: u64) -> Answer<'_, Result<Report, Away>> {
        let request = ReportRequest { log: log.0, seen };
        let call = rpc!(self.0, self.0.deadline().max(REPORT), CometClient::report, request);
        Box::pin(async { self.0.parse(call.await.map_err(Away)?).map_err(Away)? })
    }

    fn switch(&self, session: Session, to: Flow) -> Answer<'_, Result<(), PushError>> {
        let request = SwitchRequest::from((session, to));
        let call = rpc!(self.0, self.0.deadline(), CometClient::switch, request);
        Box::pin(async { self.0.parse(call.await.map_err(unavailable)?).map_err(unavailable)? })
    }

    fn explain(&self, inquiry: Inquiry) -> Answer<'_, Result<Testimony, Away>> {
        let call = rpc!(self.0, self.0.deadline(), CometClient::explain, ExplainRequest::from(inquiry));
        Box::pin(async { self.0.parse(call.await.map_err(Away)?).map_err(Away)? })
    }

    fn trace(&self, traces: Traces) -> Answer<'_, Result<(), Away>> {
        let call = rpc!(self.0, self.0.deadline(), CometClient::trace, common::Traces::from(traces));
        Box::pin(async { call.await.map_err(Away)?.into() })
    }
}
