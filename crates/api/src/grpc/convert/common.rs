//! What several contracts carry.

use std::time::Duration;

use super::{Bad, key, nanos, size};
use crate::comet::{Away, PushError};
use crate::grpc::generated::anser::v1 as message;
use crate::grpc::generated::anser::v1::push_error::{Cause, Exhausted, TooLarge, TooMany, Unavailable};
use crate::grpc::generated::anser::v1::pushed;
use crate::id::{Generation, Position, Session};
use crate::job::{Accepted, Idempotency};

impl From<Session> for message::Session {
    fn from(session: Session) -> Self {
        let Session { key, generation } = session;
        Self { key: key.to_string(), generation: generation.0 }
    }
}

impl TryFrom<message::Session> for Session {
    type Error = Bad;

    fn try_from(session: message::Session) -> Result<Self, Bad> {
        let message::Session { key: name, generation } = session;
        Ok(Self { key: key(&name)?, generation: Generation(generation) })
    }
}

impl From<Away> for message::Away {
    fn from(away: Away) -> Self {
        Self { why: away.0 }
    }
}

impl From<message::Away> for Away {
    fn from(away: message::Away) -> Self {
        Self(away.why)
    }
}

impl From<PushError> for message::PushError {
    fn from(error: PushError) -> Self {
        let cause = match error {
            PushError::Exhausted { retry_after } => {
                Cause::Exhausted(Exhausted { retry_after: nanos(retry_after) })
            }
            PushError::TooLarge { len, max } => {
                Cause::TooLarge(TooLarge { len: len as u64, max: max as u64 })
            }
            PushError::TooMany { max } => Cause::TooMany(TooMany { max: max as u64 }),
            PushError::Draining => Cause::Draining(message::Empty {}),
            PushError::Unavailable { what, retry_after } => {
                Cause::Unavailable(Unavailable { what, retry_after: nanos(retry_after) })
            }
            PushError::Conflict => Cause::Conflict(message::Empty {}),
        };
        Self { cause: Some(cause) }
    }
}

impl TryFrom<message::PushError> for PushError {
    type Error = Bad;

    fn try_from(error: message::PushError) -> Result<Self, Bad> {
        Ok(match error.cause.ok_or_else(|| Bad::missing("cause"))? {
            Cause::Exhausted(Exhausted { retry_after }) => {
                Self::Exhausted { retry_after: Duration::from_nanos(retry_after) }
            }
            Cause::TooLarge(TooLarge { len, max }) => Self::TooLarge { len: size(len), max: size(max) },
            Cause::TooMany(TooMany { max }) => Self::TooMany { max: size(max) },
            Cause::Draining(_) => Self::Draining,
            Cause::Unavailable(Unavailable { what, retry_after }) => {
                Self::Unavailable { what, retry_after: Duration::from_nanos(retry_after) }
            }
            Cause::Conflict(_) => Self::Conflict,
        })
    }
}

impl From<Result<(), PushError>> for message::Done {
    fn from(result: Result<(), PushError>) -> Self {
        Self { error: result.err().map(Into::into) }
    }
}

impl TryFrom<message::Done> for Result<(), PushError> {
    type Error = Bad;

    fn try_from(done: message::Done) -> Result<Self, Bad> {
        Ok(match done.error {
            None => Ok(()),
            Some(error) => Err(error.try_into()?),
        })
    }
}

impl From<Idempotency> for message::Idempotency {
    fn from(idempotency: Idempotency) -> Self {
        let Idempotency { key, digest } = idempotency;
        Self { key, digest: digest.to_vec().into() }
    }
}

impl TryFrom<message::Idempotency> for Idempotency {
    type Error = Bad;

    fn try_from(idempotency: message::Idempotency) -> Result<Self, Bad> {
        let message::Idempotency { key, digest } = idempotency;
        if key.len() > crate::grpc::NAME {
            return Err(Bad(format!("an idempotency key of {} bytes is too long", key.len())));
        }
        let digest = digest[..].try_into().map_err(|_| Bad("`digest` must have 32 bytes".into()))?;
        Ok(Self { key, digest })
    }
}

impl From<Result<Accepted, PushError>> for message::Pushed {
    fn from(result: Result<Accepted, PushError>) -> Self {
        let result = match result {
            Ok(Accepted { position, routed, absent, repeated }) => {
                let position = position.0;
                pushed::Result::Accepted(message::Accepted { position, routed, absent, repeated })
            }
            Err(error) => pushed::Result::Error(error.into()),
        };
        Self { result: Some(result) }
    }
}

impl TryFrom<message::Pushed> for Result<Accepted, PushError> {
    type Error = Bad;

    fn try_from(pushed: message::Pushed) -> Result<Self, Bad> {
        Ok(match pushed.result.ok_or_else(|| Bad::missing("result"))? {
            pushed::Result::Accepted(accepted) => {
                let message::Accepted { position, routed, absent, repeated } = accepted;
                Ok(Accepted { position: Position(position), routed, absent, repeated })
            }
            pushed::Result::Error(error) => Err(error.try_into()?),
        })
    }
}
