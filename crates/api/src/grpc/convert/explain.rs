//! What became of a push: questions and answers of comets and of the job.

use super::{Bad, all, comet_name, key, room, since_1970, strings, time, user};
use crate::comet::{Away, Inquiry, Note, Present, Testimony, Unwritten};
use crate::grpc::generated::anser::comet::v1 as comet;
use crate::grpc::generated::anser::job::v1 as message;
use crate::grpc::generated::anser::job::v1::{
    account, explain_reply, explain_request, explanation, key_place, progress, share,
};
use crate::grpc::generated::anser::v1 as common;
use crate::grpc::generated::anser::v1::Empty;
use crate::id::{Key, LogId, Position};
use crate::job::{Account, Addressed, Ended, Explanation, Progress, Share, Subject};
use crate::logic::Place;

impl From<Inquiry> for comet::ExplainRequest {
    fn from(inquiry: Inquiry) -> Self {
        let Inquiry { log, position, op, room, keys } = inquiry;
        let room = room.map(|room| room.to_string());
        Self { log: log.0, position: position.0, op, room, keys: strings(&keys) }
    }
}

impl TryFrom<comet::ExplainRequest> for Inquiry {
    type Error = Bad;

    fn try_from(request: comet::ExplainRequest) -> Result<Self, Bad> {
        let comet::ExplainRequest { log, position, op, room: name, keys } = request;
        let room = name.map(|name| room(&name)).transpose()?;
        let keys = all(&keys, |name| key(name))?;
        Ok(Self { log: LogId(log), position: Position(position), op, room, keys })
    }
}

impl From<Testimony> for common::Testimony {
    fn from(testimony: Testimony) -> Self {
        let Testimony { notes, more, since, present } = testimony;
        Self {
            notes: notes.into_iter().map(Into::into).collect(),
            more,
            since: since.map(since_1970),
            present: present.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<common::Testimony> for Testimony {
    type Error = Bad;

    fn try_from(testimony: common::Testimony) -> Result<Self, Bad> {
        let common::Testimony { notes, more, since, present } = testimony;
        Ok(Self {
            notes: notes.into_iter().map(TryInto::try_into).collect::<Result<_, Bad>>()?,
            more,
            since: since.map(time),
            present: present.into_iter().map(TryInto::try_into).collect::<Result<_, Bad>>()?,
        })
    }
}

impl From<Note> for common::Note {
    fn from(note: Note) -> Self {
        let Note { key, why, at } = note;
        let why = match why {
            Unwritten::Absent => common::Unwritten::Absent,
            Unwritten::Filtered => common::Unwritten::Filtered,
            Unwritten::Overflow => common::Unwritten::Overflow,
            Unwritten::Closed => common::Unwritten::Closed,
            Unwritten::Budget => common::Unwritten::Budget,
            Unwritten::Draining => common::Unwritten::Draining,
            Unwritten::Expired => common::Unwritten::Expired,
            Unwritten::Pulled => common::Unwritten::Pulled,
        };
        Self { key: key.map(|key| key.to_string()), why: why.into(), at: since_1970(at) }
    }
}

impl TryFrom<common::Note> for Note {
    type Error = Bad;

    fn try_from(note: common::Note) -> Result<Self, Bad> {
        let why = match note.why() {
            common::Unwritten::Unspecified => return Err(Bad::missing("why")),
            common::Unwritten::Absent => Unwritten::Absent,
            common::Unwritten::Filtered => Unwritten::Filtered,
            common::Unwritten::Overflow => Unwritten::Overflow,
            common::Unwritten::Closed => Unwritten::Closed,
            common::Unwritten::Budget => Unwritten::Budget,
            common::Unwritten::Draining => Unwritten::Draining,
            common::Unwritten::Expired => Unwritten::Expired,
            common::Unwritten::Pulled => Unwritten::Pulled,
        };
        let common::Note { key: name, why: _, at } = note;
        Ok(Self { key: name.map(|name| key(&name)).transpose()?, why, at: time(at) })
    }
}

impl From<Present> for common::Present {
    fn from(present: Present) -> Self {
        let Present { key, takes, member, waits } = present;
        Self { key: key.to_string(), takes, member, waits }
    }
}

impl TryFrom<common::Present> for Present {
    type Error = Bad;

    fn try_from(present: common::Present) -> Result<Self, Bad> {
        let common::Present { key: name, takes, member, waits } = present;
        Ok(Self { key: key(&name)?, takes, member, waits })
    }
}

impl From<Result<Testimony, Away>> for comet::ExplainReply {
    fn from(result: Result<Testimony, Away>) -> Self {
        let result = match result {
            Ok(testimony) => comet::explain_reply::Result::Testimony(testimony.into()),
            Err(away) => comet::explain_reply::Result::Away(away.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<comet::ExplainReply> for Result<Testimony, Away> {
    type Error = Bad;

    fn try_from(reply: comet::ExplainReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            comet::explain_reply::Result::Testimony(testimony) => Ok(testimony.try_into()?),
            comet::explain_reply::Result::Away(away) => Err(away.into()),
        })
    }
}

impl From<(Position, Subject)> for message::ExplainRequest {
    fn from((position, subject): (Position, Subject)) -> Self {
        let subject = match subject {
            Subject::Key(key) => explain_request::Subject::Key(key.to_string()),
            Subject::User { user, keys } => {
                explain_request::Subject::User(explain_request::User { user: user.0, keys: strings(&keys) })
            }
            Subject::Room(room) => explain_request::Subject::Room(room.to_string()),
        };
        Self { position: position.0, subject: Some(subject) }
    }
}

impl TryFrom<message::ExplainRequest> for (Position, Subject) {
    type Error = Bad;

    fn try_from(request: message::ExplainRequest) -> Result<Self, Bad> {
        let message::ExplainRequest { position, subject } = request;
        let subject = match subject.ok_or_else(|| Bad::missing("subject"))? {
            explain_request::Subject::Key(name) => Subject::Key(key(&name)?),
            explain_request::Subject::User(explain_request::User { user: mid, keys }) => {
                Subject::User { user: user(mid)?, keys: all(&keys, |name| key(name))? }
            }
            explain_request::Subject::Room(name) => Subject::Room(room(&name)?),
        };
        Ok((Position(position), subject))
    }
}

impl From<Result<Explanation, Away>> for message::ExplainReply {
    fn from(result: Result<Explanation, Away>) -> Self {
        let result = match result {
            Ok(explanation) => explain_reply::Result::Explanation(explanation.into()),
            Err(away) => explain_reply::Result::Away(away.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<message::ExplainReply> for Result<Explanation, Away> {
    type Error = Bad;

    fn try_from(reply: message::ExplainReply) -> Result<Self, Bad> {
        Ok(match reply.result.ok_or_else(|| Bad::missing("result"))? {
            explain_reply::Result::Explanation(explanation) => Ok(explanation.try_into()?),
            explain_reply::Result::Away(away) => Err(away.into()),
        })
    }
}

impl From<Explanation> for message::Explanation {
    fn from(explanation: Explanation) -> Self {
        let what = match explanation {
            Explanation::NotGiven { next } => {
                explanation::What::NotGiven(explanation::NotGiven { next: next.0 })
            }
            Explanation::NotKept { first } => {
                explanation::What::NotKept(explanation::NotKept { first: first.map(|first| first.0) })
            }
            Explanation::Kept(account) => explanation::What::Kept((*account).into()),
        };
        Self { what: Some(what) }
    }
}

impl TryFrom<message::Explanation> for Explanation {
    type Error = Bad;

    fn try_from(explanation: message::Explanation) -> Result<Self, Bad> {
        Ok(match explanation.what.ok_or_else(|| Bad::missing("what"))? {
            explanation::What::NotGiven(explanation::NotGiven { next }) => {
                Self::NotGiven { next: Position(next) }
            }
            explanation::What::NotKept(explanation::NotKept { first }) => {
                Self::NotKept { first: first.map(Position) }
            }
            explanation::What::Kept(account) => Self::Kept(Box::new(account.try_into()?)),
        })
    }
}

impl From<Account> for message::Account {
    fn from(account: Account) -> Self {
        let Account { accepted, op, bytes, expires, to, named, absent, shares, more, since, now } = account;
        let to = match to {
            Addressed::Keys { connected, absent } => account::To::Keys(account::Keys { connected, absent }),
            Addressed::Users { users, connected } => account::To::Users(account::Users { users, connected }),
            Addressed::Room(room) => account::To::Room(room.to_string()),
            Addressed::All => account::To::All(Empty {}),
        };
        Self {
            accepted: since_1970(accepted),
            op,
            bytes,
            expires: expires.map(since_1970),
            to: Some(to),
            named,
            absent: strings(&absent),
            shares: shares.into_iter().map(Into::into).collect(),
            more,
            since: since_1970(since),
            now: now.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<message::Account> for Account {
    type Error = Bad;

    fn try_from(account: message::Account) -> Result<Self, Bad> {
        let message::Account { accepted, op, bytes, expires, to, named, absent, shares, more, since, now } =
            account;
        let to = match to.ok_or_else(|| Bad::missing("to"))? {
            account::To::Keys(account::Keys { connected, absent }) => Addressed::Keys { connected, absent },
            account::To::Users(account::Users { users, connected }) => Addressed::Users { users, connected },
            account::To::Room(name) => Addressed::Room(room(&name)?),
            account::To::All(Empty {}) => Addressed::All,
        };
        Ok(Self {
            accepted: time(accepted),
            op,
            bytes,
            expires: expires.map(time),
            to,
            named,
            absent: all(&absent, |name| key(name))?,
            shares: shares.into_iter().map(TryInto::try_into).collect::<Result<_, Bad>>()?,
            more,
            since: time(since),
            now: now.into_iter().map(TryInto::try_into).collect::<Result<_, Bad>>()?,
        })
    }
}

impl From<(Key, Place)> for message::KeyPlace {
    fn from((key, place): (Key, Place)) -> Self {
        let place = match place {
            Place::At(comet) => key_place::Place::At(comet.to_string()),
            Place::Absent => key_place::Place::Absent(Empty {}),
            Place::Unknown => key_place::Place::Unknown(Empty {}),
        };
        Self { key: key.to_string(), place: Some(place) }
    }
}

impl TryFrom<message::KeyPlace> for (Key, Place) {
    type Error = Bad;

    fn try_from(place: message::KeyPlace) -> Result<Self, Bad> {
        let message::KeyPlace { key: name, place } = place;
        let place = match place.ok_or_else(|| Bad::missing("place"))? {
            key_place::Place::At(comet) => Place::At(comet_name(&comet)?),
            key_place::Place::Absent(Empty {}) => Place::Absent,
            key_place::Place::Unknown(Empty {}) => Place::Unknown,
        };
        Ok((key(&name)?, place))
    }
}

impl From<Share> for message::Share {
    fn from(share: Share) -> Self {
        let Share { key, comet, progress, followed, resent, said } = share;
        let said = match said {
            Ok(testimony) => share::Said::Testimony(testimony.into()),
            Err(away) => share::Said::Away(away.into()),
        };
        let (key, comet) = (key.map(|key| key.to_string()), comet.to_string());
        Self { key, comet, progress: Some(progress.into()), followed, resent, said: Some(said) }
    }
}

impl TryFrom<message::Share> for Share {
    type Error = Bad;

    fn try_from(share: message::Share) -> Result<Self, Bad> {
        let message::Share { key: name, comet, progress, followed, resent, said } = share;
        let said = match said.ok_or_else(|| Bad::missing("said"))? {
            share::Said::Testimony(testimony) => Ok(testimony.try_into()?),
            share::Said::Away(away) => Err(away.into()),
        };
        let key = name.map(|name| key(&name)).transpose()?;
        let progress = progress.ok_or_else(|| Bad::missing("progress"))?.try_into()?;
        Ok(Self { key, comet: comet_name(&comet)?, progress, followed, resent, said })
    }
}

impl From<Progress> for message::Progress {
    fn from(progress: Progress) -> Self {
        let what = match progress {
            Progress::Turn => progress::What::Turn(Empty {}),
            Progress::Parked { until } => progress::What::Parked(since_1970(until)),
            Progress::Paused { until } => progress::What::Paused(since_1970(until)),
            Progress::CometAway { since } => progress::What::CometAway(since_1970(since)),
            Progress::Returning { until } => progress::What::Returning(since_1970(until)),
            Progress::Taken => progress::What::Taken(Empty {}),
            Progress::Done => progress::What::Done(Empty {}),
            Progress::Ended { why, at } => {
                let why = match why {
                    Ended::Refused => message::End::Refused,
                    Ended::Expired => message::End::Expired,
                    Ended::Full => message::End::Full,
                    Ended::Away => message::End::Away,
                    Ended::Lost => message::End::Lost,
                    Ended::NotBack => message::End::NotBack,
                    Ended::NoLane => message::End::NoLane,
                };
                progress::What::Ended(progress::Ended { why: why.into(), at: since_1970(at) })
            }
        };
        Self { what: Some(what) }
    }
}

impl TryFrom<message::Progress> for Progress {
    type Error = Bad;

    fn try_from(progress: message::Progress) -> Result<Self, Bad> {
        Ok(match progress.what.ok_or_else(|| Bad::missing("what"))? {
            progress::What::Turn(Empty {}) => Self::Turn,
            progress::What::Parked(until) => Self::Parked { until: time(until) },
            progress::What::Paused(until) => Self::Paused { until: time(until) },
            progress::What::CometAway(since) => Self::CometAway { since: time(since) },
            progress::What::Returning(until) => Self::Returning { until: time(until) },
            progress::What::Taken(Empty {}) => Self::Taken,
            progress::What::Done(Empty {}) => Self::Done,
            progress::What::Ended(ended) => {
                let why = match ended.why() {
                    message::End::Unspecified => return Err(Bad::missing("why")),
                    message::End::Refused => Ended::Refused,
                    message::End::Expired => Ended::Expired,
                    message::End::Full => Ended::Full,
                    message::End::Away => Ended::Away,
                    message::End::Lost => Ended::Lost,
                    message::End::NotBack => Ended::NotBack,
                    message::End::NoLane => Ended::NoLane,
                };
                let progress::Ended { why: _, at } = ended;
                Self::Ended { why, at: time(at) }
            }
        })
    }
}
