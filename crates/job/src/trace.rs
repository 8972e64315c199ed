//! Who is traced: here, and on the comets; and the lines of the job about them. The job knows keys, and users
//! where a push names them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anser_api::comet::{Comet, Target};
use anser_api::id::{CometName, Position};
use anser_api::job::{Destination, Ended, Push};
use anser_api::trace::{Traced, Traces, Watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::info;

use crate::Shared;

/// How long a comet may take to hear who is traced. They are told at once, within the deadline of calls
/// between processes.
const CALL: Duration = Duration::from_secs(3);

impl Shared {
    /// Takes over who is traced, and tells the comets; those that could not be told.
    pub(crate) async fn trace(&self, traces: Traces) -> Vec<CometName> {
        self.watch.replace(traces.clone());
        let comets: Vec<(CometName, Arc<dyn Comet>)> =
            self.state().lanes.iter().map(|lane| (lane.name.clone(), lane.comet.clone())).collect();
        let mut told = JoinSet::new();
        for (name, comet) in comets {
            let traces = traces.clone();
            told.spawn(async move {
                let heard = matches!(timeout(CALL, comet.trace(traces)).await, Ok(Ok(())));
                (!heard).then_some(name)
            });
        }
        told.join_all().await.into_iter().flatten().collect()
    }
}

fn say(of: &Traced, position: Position, what: fmt::Arguments<'_>) {
    let (key, user) = match of {
        Traced::Key(key) => (Some(key.as_str()), None),
        Traced::User(user) => (None, Some(user.0)),
    };
    info!(target: "anser::trace", key, user, position = position.0, "{what}");
}

/// A push was accepted. Whom a push to a room or to everyone reaches only comets know.
pub(crate) fn accepted(watch: &Watch, position: Position, push: &Push) {
    let Destination::Keys { routes, absent, users } = &push.to else { return };
    let (op, bytes) = (push.op, push.body.len());
    for of in watch.list().into_iter().map(|trace| trace.of) {
        match &of {
            Traced::Key(key) => {
                if let Some(route) = routes.iter().find(|route| route.key == *key) {
                    let comet = &route.comet;
                    say(
                        &of,
                        position,
                        format_args!("push of operation {op} accepted, {bytes} bytes, for comet {comet}"),
                    );
                } else if absent.contains(key) {
                    say(
                        &of,
                        position,
                        format_args!("push of operation {op} accepted, and the key is not connected"),
                    );
                }
            }
            Traced::User(user) if users.contains(user) => {
                let users = users.len();
                let connections = routes.len();
                say(
                    &of,
                    position,
                    format_args!(
                        "push of operation {op} accepted, {bytes} bytes, for {users} users with {connections} connections"
                    ),
                );
            }
            Traced::User(_) => {}
        }
    }
}

/// A push goes no further on its way to a comet.
pub(crate) fn ended(watch: &Watch, position: Position, to: &Target, why: Ended) {
    let told = match why {
        Ended::Refused => "the comet refused it",
        Ended::Expired => "it has expired",
        Ended::Full => "too much waits for the comet, or for keys to come back",
        Ended::Away => "the comet was away, or took nothing, for longer than job.patience",
        Ended::Lost => "the comet died with it",
        Ended::NotBack => "the key did not come back within job.return_within",
        Ended::NoLane => "the comet is none of this job's",
    };
    of_keys(watch, position, to, format_args!("push dropped: {told}"));
}

/// A push goes to a comet behind its key.
pub(crate) fn followed(watch: &Watch, position: Position, to: &Target, comet: &CometName, again: bool) {
    let again = if again { ", and may come twice" } else { "" };
    of_keys(watch, position, to, format_args!("push follows the key to comet {comet}{again}"));
}

fn of_keys(watch: &Watch, position: Position, to: &Target, what: fmt::Arguments<'_>) {
    if !watch.is_on() {
        return;
    }
    let Target::Keys(keys) = to else { return };
    for of in watch.list().into_iter().map(|trace| trace.of) {
        if matches!(&of, Traced::Key(key) if keys.contains(key)) {
            say(&of, position, what);
        }
    }
}
