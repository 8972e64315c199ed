//! Ends of sessions that logic could not be told of: it is told when it is there again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use super::{Link, rpc};
use crate::grpc::generated::anser::logic::v1::logic_client::LogicClient;
use crate::grpc::generated::anser::v1 as common;
use crate::id::Session;

/// Most ends that are kept, about 10 MB. Beyond, logic believes in the oldest sessions until their keys
/// come again or their comet starts anew.
const MOST: usize = 100_000;

/// The ends that are still to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Missed(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    sessions: VecDeque<Session>,
    lost: u64,
    /// A task is at it.
    telling: bool,
}

impl Missed {
    /// Keeps an end.
    pub(super) fn keep(&self, session: Session) {
        self.queue().keep(session, MOST);
    }

    /// Logic is there: tells it in a task, of which there is one at a time.
    pub(super) fn tell(&self, link: &Link) {
        if !self.queue().begin() {
            return;
        }
        let (missed, link) = (self.clone(), link.clone());
        link.0.runtime.clone().spawn(async move {
            let mut told = 0_u64;
            while let Some(session) = missed.next() {
                let request = common::Session::from(session.clone());
                let call = rpc!(link, link.deadline(), LogicClient::disconnect, request);
                if call.await.is_err() {
                    missed.queue().give_back(session);
                    return;
                }
                told += 1;
            }
            info!(sessions = told, "logic has been told of connections that ended while it was away");
        });
    }

    /// The next end, or the end of the task.
    fn next(&self) -> Option<Session> {
        let mut queue = self.queue();
        let session = queue.sessions.pop_front();
        queue.telling = session.is_some();
        session
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn keep(&mut self, session: Session, most: usize) {
        if self.sessions.len() >= most {
            self.sessions.pop_front();
            if self.lost == 0 {
                warn!(most, "more connections ended than are kept for logic, which cannot be told: lost");
            }
            self.lost += 1;
        }
        self.sessions.push_back(session);
    }

    fn begin(&mut self) -> bool {
        let begins = !self.telling && !self.sessions.is_empty();
        if begins {
            self.telling = true;
            self.lost = 0;
        }
        begins
    }

    fn give_back(&mut self, session: Session) {
        self.sessions.push_front(session);
        self.telling = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, Key};

    fn session(generation: u64) -> Session {
        Session { key: Key::parse("k", 1).unwrap(), generation: Generation(generation) }
    }

    #[test]
    fn the_oldest_are_lost() {
        let mut queue = Queue::default();
        assert!(!queue.begin());
        for generation in 0..5 {
            queue.keep(session(generation), 3);
        }
        assert_eq!((queue.lost, &queue.sessions), (2, &[2, 3, 4].map(session).into()));
        assert!(queue.begin());
        assert!(!queue.begin(), "one task is enough");
        let first = queue.sessions.pop_front().unwrap();
        queue.give_back(first);
        assert_eq!(queue.sessions[0], session(2));
        assert!(queue.begin());
    }
}
