//! Taking pushes: all of their workers have room, or nobody gets anything.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anser_api::comet::{Flow, Push, PushError, Target};
use anser_api::id::{Key, Session};
use tracing::warn;

use crate::directory::Share;
use crate::frame;
use crate::inbox::{Command, weight};
use crate::lanes::Ticket;
use crate::shared::Shared;

impl Shared {
    /// Queues a push on every worker that has receivers for it. False when nobody is to get it.
    pub(crate) fn push(&self, push: Push, ticket: Option<Ticket>) -> Result<bool, PushError> {
        if self.is_draining() {
            return Err(PushError::Draining);
        }
        let Push { target, op, body, on_overflow, expires } = push;
        if body.len() > self.config.push_body {
            return Err(PushError::TooLarge { len: body.len(), max: self.config.push_body });
        }
        let now = (SystemTime::now(), Instant::now());
        let expires = expires.map(|then| now.1 + then.duration_since(now.0).unwrap_or_default());
        let encode = || frame::Push::of_lane(op, &body, on_overflow, expires, ticket);
        let result = match target {
            Target::Keys(keys) => self.push_to_keys(keys, encode),
            Target::Room(room) => match self.directory.find(&room) {
                // Its members may just have been sent away.
                None if self.is_draining() => Err(PushError::Draining),
                None => Ok(false),
                Some(room) => {
                    let push = encode();
                    let _one_order = room.order.lock().unwrap_or_else(PoisonError::into_inner);
                    self.push_to_members(&room.shares, false, &push, |_| Command::Room {
                        room: room.clone(),
                        push: push.clone(),
                    })
                }
            },
            Target::All { speed } => {
                let push = encode();
                let _one_order = self.everyone_order.lock().unwrap_or_else(PoisonError::into_inner);
                let workers = self.inboxes.len() as u32;
                let queue = if speed == 0 { &self.everyone } else { &self.paced };
                self.push_to_members(queue, true, &push, |worker| {
                    // The remainder of the division goes to the first workers.
                    let share = speed / workers + u32::from((worker as u32) < speed % workers);
                    let speed = if speed == 0 { 0 } else { share.max(1) };
                    Command::All { push: push.clone(), speed }
                })
            }
        };
        match result {
            Ok(_) => self.stats.pushes.fetch_add(1, Ordering::Relaxed),
            Err(PushError::Exhausted { retry_after }) => {
                let mut quiet = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(unsaid) = quiet.may_speak(Instant::now()) {
                    warn!(?retry_after, unsaid, "refused a push: its receivers' queues are full");
                }
                self.stats.pushes_refused.fetch_add(1, Ordering::Relaxed)
            }
            Err(_) => 0,
        };
        result
    }

    /// Queues a switch behind the pushes that go to the same connection.
    pub(crate) fn switch(&self, session: Session, to: Flow) -> Result<(), PushError> {
        if self.is_draining() {
            return Err(PushError::Draining);
        }
        let inbox = &self.inboxes[self.worker_of(&session.key)];
        if !inbox.reserve(1) {
            return Err(PushError::Exhausted { retry_after: self.retry_after() });
        }
        inbox.send(Command::Switch { session, to });
        Ok(())
    }

    fn push_to_keys(
        &self,
        keys: Vec<Key>,
        encode: impl FnOnce() -> Arc<frame::Push>,
    ) -> Result<bool, PushError> {
        let mut by_worker = vec![Vec::new(); self.inboxes.len()];
        for key in keys {
            by_worker[self.worker_of(&key)].push(key);
        }
        let busy: Vec<usize> = (0..by_worker.len()).filter(|worker| !by_worker[*worker].is_empty()).collect();
        if busy.is_empty() {
            return Ok(false);
        }
        let push = encode();
        let weight = |worker: usize| weight(by_worker[worker].len(), &push);
        let cancel = |workers: &[usize]| {
            for worker in workers {
                self.inboxes[*worker].cancel(weight(*worker));
            }
        };
        for (done, worker) in busy.iter().enumerate() {
            if !self.inboxes[*worker].reserve(weight(*worker)) {
                cancel(&busy[..done]);
                return Err(PushError::Exhausted { retry_after: self.retry_after() });
            }
        }
        // Asked again behind the reservation: a worker that ends has seen that place, or is seen here.
        if self.is_draining() {
            cancel(&busy);
            return Err(PushError::Draining);
        }
        for worker in busy {
            let keys = std::mem::take(&mut by_worker[worker]).into_boxed_slice();
            self.inboxes[worker].send(Command::Keys { keys, push: push.clone() });
        }
        Ok(true)
    }

    /// Reserves a place in the queue of members and in the inbox of each worker, then sends. The
    /// queues of everyone have no counted members, and go to all workers.
    fn push_to_members(
        &self,
        shares: &[Share],
        everyone: bool,
        push: &Arc<frame::Push>,
        command: impl Fn(usize) -> Command,
    ) -> Result<bool, PushError> {
        let (len, weight) = (push.bytes(true).len(), weight(1, push));
        let busy: Vec<usize> = (0..shares.len())
            .filter(|worker| everyone || shares[*worker].members.load(Ordering::Acquire) > 0)
            .collect();
        for (done, worker) in busy.iter().enumerate() {
            if let Err(retry_after) = self.reserve(&shares[*worker], *worker, len, weight) {
                for worker in &busy[..done] {
                    give_back(&shares[*worker], len);
                    self.inboxes[*worker].cancel(weight);
                }
                return Err(PushError::Exhausted { retry_after });
            }
        }
        // As for keys.
        if self.is_draining() {
            for worker in &busy {
                give_back(&shares[*worker], len);
                self.inboxes[*worker].cancel(weight);
            }
            return Err(PushError::Draining);
        }
        for worker in &busy {
            self.inboxes[*worker].send(command(*worker));
        }
        Ok(!busy.is_empty())
    }

    fn reserve(&self, share: &Share, worker: usize, len: usize, weight: usize) -> Result<(), Duration> {
        let inbox = &self.inboxes[worker];
        if inbox.backlog.load(Ordering::Relaxed) > self.config.backlog as u64 {
            return Err(self.retry_after());
        }
        let waiting = share.waiting.fetch_add(1, Ordering::AcqRel);
        let bytes = share.waiting_bytes.fetch_add(len, Ordering::AcqRel);
        let full = waiting >= self.config.room_queue || bytes + len > self.config.room_queue_bytes;
        if waiting > 0 && full {
            give_back(share, len);
            // A place comes free when what is under way ends.
            let left = share.round_ends.load(Ordering::Relaxed).saturating_sub(self.micros());
            return Err(Duration::from_micros(left.clamp(1000, 5_000_000)));
        }
        if !inbox.reserve(weight) {
            give_back(share, len);
            return Err(self.retry_after());
        }
        Ok(())
    }
}

fn give_back(share: &Share, len: usize) {
    share.waiting.fetch_sub(1, Ordering::AcqRel);
    share.waiting_bytes.fetch_sub(len, Ordering::AcqRel);
}
