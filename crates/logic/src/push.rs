//! The way of a push: from whom it is for to where they are, and on to the job.

use std::collections::HashSet;

use anser_api::Answer;
use anser_api::comet::PushError;
use anser_api::id::{Key, UserId};
use anser_api::job::{self, Accepted, Destination, Route};
use anser_api::logic::{Audience, Push, PushApi};

use crate::{Logic, Shared};

impl Shared {
    /// Finds connections by key, each once.
    fn find_keys(&self, mut keys: Vec<Key>) -> Destination {
        let mut seen = HashSet::with_capacity(keys.len());
        keys.retain(|key| seen.insert(key.clone()));
        let places = self.locate(&keys);
        let (mut routes, mut absent) = (Vec::new(), Vec::new());
        for (key, place) in keys.into_iter().zip(places) {
            match place {
                Some(comet) => routes.push(Route { key, comet }),
                None => absent.push(key),
            }
        }
        Destination::Keys { routes, absent, users: Vec::new() }
    }

    /// Finds the connections of users, each once however often its user is named; and how many users have
    /// none. The lock is taken for one user at a time, as workers wait for it.
    fn find_users(&self, mut users: Vec<UserId>) -> Result<(Destination, u64), PushError> {
        let max = self.config.push_connections;
        users.sort_unstable();
        users.dedup();
        let (mut routes, mut lonely) = (Vec::new(), 0);
        for user in &users {
            let before = routes.len();
            let own = self.state();
            let own = own.sessions.keys_of(*user).take(max + 1 - before);
            routes.extend(own.map(|(key, comet)| Route { key, comet }));
            if routes.len() > max {
                return Err(PushError::TooMany { max });
            }
            lonely += u64::from(routes.len() == before);
        }
        Ok((Destination::Keys { routes, absent: Vec::new(), users }, lonely))
    }
}

impl PushApi for Logic {
    fn push(&self, push: Push) -> Answer<'_, Result<Accepted, PushError>> {
        Box::pin(async move {
            let job = self.job.get().ok_or(PushError::Draining)?;
            let Push { to, op, body, expires, idempotency } = push;
            self.shared.bury();
            let (to, lonely) = match to {
                Audience::Keys(keys) => {
                    self.shared.settled().await;
                    (self.shared.find_keys(keys), 0)
                }
                Audience::Users(users) => {
                    self.shared.settled().await;
                    self.shared.find_users(users)?
                }
                Audience::Room(room) => (Destination::Room(room), 0),
                Audience::All { speed } => (Destination::All { speed }, 0),
            };
            let accepted = job.push(job::Push { to, op, body, expires, idempotency }).await?;
            Ok(if accepted.repeated {
                accepted
            } else {
                Accepted { absent: accepted.absent + lonely, ..accepted }
            })
        })
    }
}
