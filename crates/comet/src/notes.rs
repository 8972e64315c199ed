//! What became of pushes that come from a log, where they were not written: kept for operators who ask.
//!
//! Each worker has its own notes, within a bound, so no lock is taken; what was written is not noted, and
//! costs nothing. A push that is done with and has no note here has been written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anser_api::comet::{Away, Inquiry, Note, Testimony, Unwritten};
use anser_api::id::{Key, LogId, Position};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::frame::Push;
use crate::inbox::Control;
use crate::shared::Shared;
use crate::worker::Worker;

/// Most notes in one answer.
const MOST: usize = 256;

/// How long the workers may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Entry {
    log: LogId,
    position: Position,
    /// None: all who had not got it.
    key: Option<Key>,
    at: SystemTime,
    why: Unwritten,
}

/// The notes of one worker, the oldest first.
#[derive(Debug)]
pub(crate) struct Notes {
    entries: VecDeque<Entry>,
    most: usize,
    /// None that was made since then has been forgotten.
    since: SystemTime,
}

impl Notes {
    /// Keeps so many; 0 keeps none.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: VecDeque::new(), most, since: SystemTime::now() }
    }

    /// Notes that a push was not written to a connection, or to all who had not got it.
    pub(crate) fn add(&mut self, push: &Push, key: Option<&Key>, why: Unwritten) {
        if self.most == 0 {
            return;
        }
        let Some((log, position)) = push.origin() else { return };
        if self.entries.len() >= self.most
            && let Some(oldest) = self.entries.pop_front()
        {
            self.since = oldest.at;
        }
        self.entries.push_back(Entry { log, position, key: key.cloned(), at: SystemTime::now(), why });
    }

    /// The same for several pushes.
    pub(crate) fn add_all(&mut self, pushes: &[Arc<Push>], key: Option<&Key>, why: Unwritten) {
        for push in pushes {
            self.add(push, key, why);
        }
    }

    fn of(&self, inquiry: &Inquiry) -> impl Iterator<Item = Note> {
        let Inquiry { log, position, ref keys, .. } = *inquiry;
        let asked = move |entry: &&Entry| {
            (entry.log, entry.position) == (log, position)
                && (keys.is_empty() || entry.key.as_ref().is_none_or(|key| keys.contains(key)))
        };
        let note = |entry: &Entry| Note { key: entry.key.clone(), why: entry.why, at: entry.at };
        self.entries.iter().filter(asked).map(note)
    }

    pub(crate) fn testimony(&self, inquiry: &Inquiry) -> Testimony {
        let mut notes: Vec<Note> = self.of(inquiry).take(MOST + 1).collect();
        let more = notes.len() > MOST;
        notes.truncate(MOST);
        Testimony { notes, more, since: (self.most > 0).then_some(self.since), present: Vec::new() }
    }
}

impl Shared {
    /// Asks the workers of the keys, or all if there are none.
    pub(crate) async fn explain(&self, inquiry: Inquiry) -> Result<Testimony, Away> {
        let mut whole = Testimony { notes: Vec::new(), more: false, since: None, present: Vec::new() };
        for worker in 0..self.inboxes.len() {
            let keys: Vec<Key> =
                inquiry.keys.iter().filter(|key| self.worker_of(key) == worker).cloned().collect();
            if keys.is_empty() && !inquiry.keys.is_empty() {
                continue;
            }
            let part = Inquiry { keys, ..inquiry.clone() };
            let asked = timeout(LIMIT, self.ask(worker, part)).await;
            let Testimony { notes, more, since, present } =
                asked.unwrap_or_else(|_| Err(Away("a worker does not answer".to_owned())))?;
            whole.notes.extend(notes);
            whole.more |= more;
            whole.since = whole.since.max(since);
            whole.present.extend(present);
        }
        whole.more |= whole.notes.len() > MOST;
        whole.notes.sort_by_key(|note| note.at);
        whole.notes.truncate(MOST);
        Ok(whole)
    }

    async fn ask(&self, worker: usize, inquiry: Inquiry) -> Result<Testimony, Away> {
        let (answer, testimony) = oneshot::channel();
        let mut control = Control::Inquire(Box::new((inquiry, answer)));
        while let Err(refused) = self.inboxes[worker].control(control) {
            control = refused;
            sleep(Duration::from_millis(1)).await;
        }
        testimony.await.map_err(|_| Away("a worker has ended".to_owned()))
    }
}

impl Worker {
    /// What this worker knows of a push, and which of the connections are here.
    pub(crate) fn testify(&self, inquiry: &Inquiry) -> Testimony {
        let mut testimony = self.notes.testimony(inquiry);
        testimony.present = inquiry.keys.iter().filter_map(|key| self.present(key, inquiry)).collect();
        testimony
    }
}

#[cfg(test)]
mod tests {
    use anser_api::comet::{Form, OnOverflow};

    use super::*;
    use crate::lanes::Lane;

    fn push(log: u64, position: u64) -> Arc<Push> {
        let ticket = Arc::new(Lane::new(LogId(log))).admit(Position(position), None);
        Push::of_lane(1, Form::Message, b"", OnOverflow::Drop, None, ticket)
    }

    fn key(name: &str) -> Key {
        Key::parse(name, 9).unwrap()
    }

    fn inquiry(position: u64, keys: &[&str]) -> Inquiry {
        let keys = keys.iter().map(|name| key(name)).collect();
        Inquiry { log: LogId(1), position: Position(position), op: 1, room: None, keys }
    }

    #[test]
    fn what_is_asked_for_is_told_in_order() {
        let mut notes = Notes::new(9);
        notes.add(&push(1, 5), Some(&key("a")), Unwritten::Filtered);
        notes.add(&push(1, 5), Some(&key("b")), Unwritten::Overflow);
        notes.add(&push(1, 6), Some(&key("a")), Unwritten::Closed);
        notes.add(&push(2, 5), Some(&key("a")), Unwritten::Closed);
        notes.add(&push(1, 5), None, Unwritten::Expired);
        notes.add(&Push::new(1, b"", OnOverflow::Drop), Some(&key("a")), Unwritten::Closed);
        let told = |keys: &[&str]| -> Vec<Unwritten> {
            notes.testimony(&inquiry(5, keys)).notes.iter().map(|note| note.why).collect()
        };
        assert_eq!(told(&["a"]), [Unwritten::Filtered, Unwritten::Expired]);
        assert_eq!(told(&["b", "a"]), [Unwritten::Filtered, Unwritten::Overflow, Unwritten::Expired]);
        assert_eq!(told(&["c"]), [Unwritten::Expired]);
        assert_eq!(told(&[]).len(), 3);
        assert_eq!(notes.entries.len(), 5, "what comes from no log is not noted");
    }

    #[test]
    fn the_oldest_are_forgotten_and_that_is_said() {
        let mut notes = Notes::new(2);
        let start = notes.since;
        for position in 1..=2 {
            notes.add(&push(1, position), Some(&key("a")), Unwritten::Overflow);
        }
        assert_eq!(notes.testimony(&inquiry(1, &["a"])).since, Some(start));
        let first = notes.entries[0].at;
        notes.add(&push(1, 3), Some(&key("a")), Unwritten::Overflow);
        let testimony = notes.testimony(&inquiry(1, &["a"]));
        assert_eq!((testimony.notes, testimony.since), (vec![], Some(first)));
        assert_eq!(notes.entries.len(), 2);
    }

    #[test]
    fn none_are_kept_when_that_is_set() {
        let mut notes = Notes::new(0);
        notes.add(&push(1, 1), Some(&key("a")), Unwritten::Overflow);
        assert_eq!(
            notes.testimony(&inquiry(1, &[])),
            Testimony { notes: vec![], more: false, since: None, present: vec![] }
        );
        assert_eq!(notes.entries.capacity(), 0);
    }

    #[test]
    fn an_answer_is_bounded() {
        let mut notes = Notes::new(2 * MOST);
        for _ in 0..=MOST {
            notes.add(&push(1, 1), Some(&key("a")), Unwritten::Filtered);
        }
        let testimony = notes.testimony(&inquiry(1, &[]));
        assert_eq!((testimony.notes.len(), testimony.more), (MOST, true));
    }
}
