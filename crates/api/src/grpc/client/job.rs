//! A job in another process.

use super::comet::unavailable;
use super::{Link, rpc};
use crate::Answer;
use crate::comet::PushError;
use crate::grpc::generated::anser::job::v1::PushRequest;
use crate::grpc::generated::anser::job::v1::job_client::JobClient;
use crate::job::{Accepted, Job, Push};

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
}
