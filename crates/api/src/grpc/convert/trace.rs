//! Who is traced.

use super::{Bad, all, comet_name, key, since_1970, strings, time, user};
use crate::comet::Away;
use crate::grpc::generated::anser::comet::v1 as comet;
use crate::grpc::generated::anser::job::v1 as job;
use crate::grpc::generated::anser::v1 as message;
use crate::grpc::generated::anser::v1::trace::Subject;
use crate::id::CometName;
use crate::trace::{Trace, Traced, Traces};

impl From<Traces> for message::Traces {
    fn from(traces: Traces) -> Self {
        let Traces { revision, list } = traces;
        let trace = |Trace { of, until }| {
            let subject = match of {
                Traced::Key(key) => Subject::Key(key.to_string()),
                Traced::User(user) => Subject::User(user.0),
            };
            message::Trace { subject: Some(subject), until: since_1970(until) }
        };
        Self { revision, traces: list.into_iter().map(trace).collect() }
    }
}

impl TryFrom<message::Traces> for Traces {
    type Error = Bad;

    fn try_from(traces: message::Traces) -> Result<Self, Bad> {
        let message::Traces { revision, traces } = traces;
        let list = all(&traces, |message::Trace { subject, until }| {
            let of = match subject.as_ref().ok_or_else(|| Bad::missing("subject"))? {
                Subject::Key(name) => Traced::Key(key(name)?),
                Subject::User(mid) => Traced::User(user(*mid)?),
            };
            Ok(Trace { of, until: time(*until) })
        })?;
        Ok(Self { revision, list })
    }
}

impl From<Result<(), Away>> for comet::TraceReply {
    fn from(result: Result<(), Away>) -> Self {
        Self { away: result.err().map(Into::into) }
    }
}

impl From<comet::TraceReply> for Result<(), Away> {
    fn from(reply: comet::TraceReply) -> Self {
        reply.away.map_or(Ok(()), |away| Err(away.into()))
    }
}

impl From<Result<Vec<CometName>, Away>> for job::TraceReply {
    fn from(result: Result<Vec<CometName>, Away>) -> Self {
        let result = match result {
            Ok(missing) => {
                job::trace_reply::Result::Told(job::trace_reply::Told { missing: strings(&missing) })
            }
            Err(away) => job::trace_reply::Result::Away(away.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<job::TraceReply> for Result<Vec<CometName>, Away> {
    type Error = Bad;

    fn try_from(reply: job::TraceReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            job::trace_reply::Result::Told(job::trace_reply::Told { missing }) => {
                Ok(all(&missing, |name| comet_name(name))?)
            }
            job::trace_reply::Result::Away(away) => Err(away.into()),
        })
    }
}
