//! A job in another process.

use super::comet::unavailable;
use super::{Link, rpc};
use crate::Answer;
use crate::comet::{Away, PushError};
use crate::grpc::generated::anser::job::v1::job_client::JobClient;
use crate::grpc::generated::anser::job::v1::{ExplainRequest, PushRequest};
use crate::grpc::generated::anser::v1 as common;
use crate::id::{CometName, Position};
use crate::job::{Accepted, Explanation, Job, Push, Subject};
use crate::trace::Traces;

/// A job in another process.
#[derive(Clone, Debug)]
pub struct RemoteJob(Link);

impl RemoteJob {
    /// The job at the end of this link.
    pub fn new(link: Link) -> Self {
        Self(link)
    }
}

impl Job for RemoteJob {
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>> {
        let call = rpc!(self.0, self.0.deadline(), JobClient::push, PushRequest::from(push));
        Box::pin(async { self.0.parse(call.await.map_err(unavailable)?).map_err(unavailable)? })
    }

    fn explain(&self, position: Position, subject: Subject) -> Answer<'_, Result<Explanation, Away>> {
        let request = ExplainRequest::from((position, subject));
        let call = rpc!(self.0, self.0.deadline(), JobClient::explain, request);
        Box::pin(async { self.0.parse(call.await.map_err(Away)?).map_err(Away)? })
    }

    fn trace(&self, traces: Traces) -> Answer<'_, Result<Vec<CometName>, Away>> {
        let call = rpc!(self.0, self.0.deadline(), JobClient::trace, common::Traces::from(traces));
        Box::pin(async { self.0.parse(call.await.map_err(Away)?).map_err(Away)? })
    }
}
