//! The edge.

use std::time::Duration;

use anser_wire::packet;

use super::{Bad, all, key, positions, room, since_1970, strings, time};
use crate::comet::{
    Away, Batch, Flow, Form, OnOverflow, Outcome, Parcel, Push, Report, Taken, Target, Welcome,
};
use crate::grpc::generated::anser::comet::v1 as message;
use crate::grpc::generated::anser::comet::v1::{
    open_lane_reply, outcome, push_request, report_reply, take_reply,
};
use crate::grpc::generated::anser::v1::Empty;
use crate::id::{Incarnation, LogId, Position, Session};

impl From<Push> for message::PushRequest {
    fn from(push: Push) -> Self {
        let Push { target, op, form, body, on_overflow, expires } = push;
        let target = match target {
            Target::Keys(keys) => push_request::Target::Keys(message::Keys { keys: strings(&keys) }),
            Target::Room(room) => push_request::Target::Room(room.to_string()),
            Target::All { speed } => push_request::Target::All(message::All { speed }),
        };
        let form = match form {
            Form::Message => None,
            Form::Packets => Some(push_request::Form::Packets(Empty {})),
            Form::Packet { ver, op, seq } => {
                Some(push_request::Form::Packet(message::Header { ver: ver.into(), op, seq }))
            }
        };
        let on_overflow = match on_overflow {
            OnOverflow::Pull => message::Overflow::Pull,
            OnOverflow::Drop => message::Overflow::Drop,
        };
        let (on_overflow, expires) = (on_overflow.into(), expires.map(since_1970));
        Self { target: Some(target), op, form, body, on_overflow, expires }
    }
}

impl TryFrom<message::PushRequest> for Push {
    type Error = Bad;

    fn try_from(push: message::PushRequest) -> Result<Self, Bad> {
        let on_overflow = push.on_overflow();
        let message::PushRequest { target, op, form, body, on_overflow: _, expires } = push;
        let target = match target.ok_or_else(|| Bad::missing("target"))? {
            push_request::Target::Keys(message::Keys { keys }) => Target::Keys(all(&keys, |name| key(name))?),
            push_request::Target::Room(name) => Target::Room(room(&name)?),
            push_request::Target::All(message::All { speed }) => Target::All { speed },
        };
        let form = match form {
            None => Form::Message,
            Some(push_request::Form::Packets(_)) => {
                packet::check_all(&body).map_err(|cause| Bad(format!("the packets: {cause}")))?;
                Form::Packets
            }
            Some(push_request::Form::Packet(message::Header { ver, op, seq })) => {
                let ver = ver.try_into().map_err(|_| Bad(format!("version {ver} has over 16 bits")))?;
                Form::Packet { ver, op, seq }
            }
        };
        let on_overflow = match on_overflow {
            message::Overflow::Unspecified => return Err(Bad::missing("on_overflow")),
            message::Overflow::Pull => OnOverflow::Pull,
            message::Overflow::Drop => OnOverflow::Drop,
        };
        Ok(Self { target, op, form, body, on_overflow, expires: expires.map(time) })
    }
}

impl From<Result<Welcome, Away>> for message::OpenLaneReply {
    fn from(result: Result<Welcome, Away>) -> Self {
        let result = match result {
            Ok(Welcome { incarnation, seen, missing }) => {
                open_lane_reply::Result::Welcome(message::Welcome {
                    incarnation: incarnation.0,
                    seen: seen.map(|seen| seen.0),
                    missing: positions(&missing),
                })
            }
            Err(away) => open_lane_reply::Result::Away(away.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<message::OpenLaneReply> for Result<Welcome, Away> {
    type Error = Bad;

    fn try_from(reply: message::OpenLaneReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            open_lane_reply::Result::Welcome(message::Welcome { incarnation, seen, missing }) => {
                let missing = missing.into_iter().map(Position).collect();
                Ok(Welcome { incarnation: Incarnation(incarnation), seen: seen.map(Position), missing })
            }
            open_lane_reply::Result::Away(away) => Err(away.into()),
        })
    }
}

impl From<Batch> for message::TakeRequest {
    fn from(batch: Batch) -> Self {
        let Batch { log, done, held, parcels } = batch;
        let parcel = |Parcel { position, late, push }| message::Parcel {
            position: position.0,
            late,
            push: Some(push.into()),
        };
        Self {
            log: log.0,
            done: done.0,
            held: held.into_iter().map(|position| position.0).collect(),
            parcels: parcels.into_iter().map(parcel).collect(),
        }
    }
}

impl TryFrom<message::TakeRequest> for Batch {
    type Error = Bad;

    fn try_from(batch: message::TakeRequest) -> Result<Self, Bad> {
        let message::TakeRequest { log, done, parcels, held } = batch;
        let parcel = |parcel| {
            let message::Parcel { position, late, push } = parcel;
            let push = push.ok_or_else(|| Bad::missing("push"))?.try_into()?;
            Ok(Parcel { position: Position(position), late, push })
        };
        let parcels = parcels.into_iter().map(parcel).collect::<Result<_, Bad>>()?;
        let held = held.into_iter().map(Position).collect();
        Ok(Self { log: LogId(log), done: Position(done), held, parcels })
    }
}

impl From<Outcome> for message::Outcome {
    fn from(outcome: Outcome) -> Self {
        let what = match outcome {
            Outcome::Queued => outcome::What::Queued(Empty {}),
            Outcome::Absent => outcome::What::Absent(Empty {}),
            Outcome::Refused(why) => outcome::What::Refused(why.into()),
            Outcome::Draining => outcome::What::Draining(Empty {}),
            Outcome::Full { retry_after } => outcome::What::Full(super::nanos(retry_after)),
        };
        Self { what: Some(what) }
    }
}

impl TryFrom<message::Outcome> for Outcome {
    type Error = Bad;

    fn try_from(outcome: message::Outcome) -> Result<Self, Bad> {
        Ok(match outcome.what.ok_or_else(|| Bad::missing("what"))? {
            outcome::What::Queued(_) => Self::Queued,
            outcome::What::Absent(_) => Self::Absent,
            outcome::What::Refused(why) => Self::Refused(why.try_into()?),
            outcome::What::Draining(_) => Self::Draining,
            outcome::What::Full(nanos) => Self::Full { retry_after: Duration::from_nanos(nanos) },
        })
    }
}

impl From<Result<Taken, Away>> for message::TakeReply {
    fn from(result: Result<Taken, Away>) -> Self {
        let result = match result {
            Ok(Taken { outcomes, count }) => {
                let outcomes = outcomes.into_iter().map(Into::into).collect();
                take_reply::Result::Taken(message::Taken { outcomes, count })
            }
            Err(away) => take_reply::Result::Away(away.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<message::TakeReply> for Result<Taken, Away> {
    type Error = Bad;

    fn try_from(reply: message::TakeReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            take_reply::Result::Taken(message::Taken { outcomes, count }) => {
                let outcomes = outcomes.into_iter().map(TryInto::try_into).collect::<Result<_, Bad>>()?;
                Ok(Taken { outcomes, count })
            }
            take_reply::Result::Away(away) => Err(away.into()),
        })
    }
}

impl From<Result<Report, Away>> for message::ReportReply {
    fn from(result: Result<Report, Away>) -> Self {
        let result = match result {
            Ok(Report { number, count, open, end, absent }) => {
                let absent = absent
                    .into_iter()
                    .map(|(position, key)| message::AbsentKey { position: position.0, key: key.to_string() });
                report_reply::Result::Report(message::Report {
                    number,
                    count,
                    open: positions(&open),
                    end: end.map(|end| end.0),
                    absent: absent.collect(),
                })
            }
            Err(away) => report_reply::Result::Away(away.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<message::ReportReply> for Result<Report, Away> {
    type Error = Bad;

    fn try_from(reply: message::ReportReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            report_reply::Result::Report(report) => {
                let message::Report { number, count, open, end, absent } = report;
                let absent = all(&absent, |at| Ok((Position(at.position), key(&at.key)?)))?;
                let open = open.into_iter().map(Position).collect();
                Ok(Report { number, count, open, end: end.map(Position), absent })
            }
            report_reply::Result::Away(away) => Err(away.into()),
        })
    }
}

impl From<(Session, Flow)> for message::SwitchRequest {
    fn from((session, to): (Session, Flow)) -> Self {
        let to = match to {
            Flow::Live => message::Flow::Live,
            Flow::Behind => message::Flow::Behind,
            Flow::Held => message::Flow::Held,
        };
        Self { session: Some(session.into()), to: to.into() }
    }
}

impl TryFrom<message::SwitchRequest> for (Session, Flow) {
    type Error = Bad;

    fn try_from(request: message::SwitchRequest) -> Result<Self, Bad> {
        let to = match request.to() {
            message::Flow::Unspecified => return Err(Bad::missing("to")),
            message::Flow::Live => Flow::Live,
            message::Flow::Behind => Flow::Behind,
            message::Flow::Held => Flow::Held,
        };
        Ok((request.session.ok_or_else(|| Bad::missing("session"))?.try_into()?, to))
    }
}
