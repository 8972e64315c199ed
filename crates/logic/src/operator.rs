//! What operators ask: what became of a push, and to see the steps of somebody.

use std::time::SystemTime;

use anser_api::Answer;
use anser_api::comet::Away;
use anser_api::id::{CometName, Key, Position, UserId};
use anser_api::job::{Explanation, Subject};
use anser_api::logic::{Operator, TooManyTraces, Tracing};
use anser_api::trace::{Traced, Traces};
use tracing::info;

use crate::{Logic, Shared};

/// Connections of a user that are asked for. The job tells of as many.
const CONNECTIONS: usize = 100;

impl Operator for Logic {
    fn explain(&self, position: Position, mut subject: Subject) -> Answer<'_, Result<Explanation, Away>> {
        self.shared.bury();
        if let Subject::User { user, keys } = &mut subject {
            let own = self.shared.state();
            *keys = own.sessions.keys_of(*user).take(CONNECTIONS).map(|(key, _)| key).collect();
        }
        Box::pin(async move {
            let job = self.job.get().ok_or_else(|| Away("there is no job yet".to_owned()))?;
            job.explain(position, subject).await
        })
    }

    fn trace(&self, of: Traced, until: SystemTime) -> Answer<'_, Result<Tracing, TooManyTraces>> {
        Box::pin(async move {
            let traces = self.shared.watch.change(of, until).ok_or(TooManyTraces)?;
            let list = traces.list.clone();
            let told = self.tell_job(traces).await;
            let (missing, away) = match told {
                Ok(missing) => (missing, None),
                Err(away) => (Vec::new(), Some(away)),
            };
            Ok(Tracing { list, missing, away })
        })
    }
}

impl Logic {
    /// The job tells the comets at once; those that it cannot tell hear it with their next renewal.
    async fn tell_job(&self, traces: Traces) -> Result<Vec<CometName>, Away> {
        let job = self.job.get().ok_or_else(|| Away("there is no job yet".to_owned()))?;
        job.trace(traces).await
    }
}

impl Shared {
    /// A client may not come in, and it is known who it says it is.
    pub(crate) fn trace_refusal(&self, key: &Key, user: Option<UserId>, why: &str) {
        if self.watch.is_on() && self.watch.has(key, user) {
            info!(target: "anser::trace", %key, user = user.map(|user| user.0), "login refused: {why}");
        }
    }
}
