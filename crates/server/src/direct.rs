//! A job without a log: a push goes to the edge of this process at once, and is kept nowhere.

use std::sync::Weak;

use anser_api::comet::{Comet, OnOverflow, Push, PushError, Target};
use anser_api::id::Position;
use anser_api::job::{self, Accepted, Destination, Job};
use anser_api::{Answer, ready};

/// Hands pushes to the one comet that there is.
pub(crate) struct Direct(pub(crate) Weak<anser_comet::Comet>);

impl Job for Direct {
    fn push(&self, push: job::Push) -> Answer<'_, Result<Accepted, PushError>> {
        let Some(comet) = self.0.upgrade() else { return ready(Err(PushError::Draining)) };
        let job::Push { to, op, body, expires, idempotency: _ } = push;
        let (target, routed, absent) = match to {
            Destination::Keys { routes, absent, .. } => {
                let keys: Vec<_> = routes.into_iter().map(|route| route.key).collect();
                let routed = keys.len() as u64;
                (Target::Keys(keys), routed, absent.len() as u64)
            }
            Destination::Room(room) => (Target::Room(room), 0, 0),
            Destination::All { speed } => (Target::All { speed }, 0, 0),
        };
        let push = Push { target, op, body, on_overflow: OnOverflow::Drop, expires };
        Box::pin(async move {
            comet.push(push).await?;
            Ok(Accepted { position: Position(0), routed, absent, repeated: false })
        })
    }
}
