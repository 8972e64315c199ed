//! Lanes: the pushes that come from a job's log, each with its position there.
//!
//! What a lane knows is bounded by what is on its way: which positions it has seen, which it had no place
//! for, and which still wait for some receiver. A push holds a [`Ticket`]; when the last worker and the
//! last connection have let go of the push, the ticket closes its position. So nothing is counted for each
//! delivery, whatever becomes of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anser_api::comet::{Away, Batch, Outcome, Parcel, Push, PushError, Report, Taken, Target, Welcome};
use anser_api::id::{Key, LogId, Position, Room};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::shared::Shared;

/// Most logs that have lanes here. One more takes the place of the one that was silent longest.
const LANES: usize = 16;

/// Most open positions in one report.
const OPEN: usize = 4096;

/// Reports of one lane are at least so far apart, unless a key was absent: then it may be elsewhere.
const APART: Duration = Duration::from_millis(100);

/// A report comes after so long even if it says nothing new. The job takes a comet that is silent for much
/// longer for dead.
const AT_LEAST: Duration = Duration::from_secs(5);

/// All lanes.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<LogId, Arc<Lane>>>);

/// The lane of one log.
#[derive(Debug)]
pub(crate) struct Lane {
    log: LogId,
    state: Mutex<State>,
    /// Something is new for the next report.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last position that came in order.
    seen: Option<Position>,
    /// Positions up to there for which there was no place.
    missing: BTreeSet<Position>,
    /// What came out of order.
    late: BTreeSet<(Position, Key)>,
    /// Tickets that are out, by position.
    open: BTreeMap<Position, u32>,
    /// Calls.
    count: u64,
    /// Keys that were not here, kept until nothing will come for their positions again: a job that has
    /// started anew is told them again.
    absent: Vec<(Position, Key)>,
    /// None of them is below this position.
    absent_from: Position,
    /// The last report's number, and how many of `absent` have been told by it, and before it.
    number: u64,
    told: usize,
    told_before: usize,
    changed: bool,
    /// When the last report went out.
    reported: Option<Instant>,
    /// When the job was last heard of.
    heard: Option<Instant>,
}

/// Keeps a position open as long as it lives.
#[derive(Debug)]
pub(crate) struct Ticket {
    lane: Arc<Lane>,
    position: Position,
}

impl Ticket {
    /// The log, and the place there.
    pub(crate) fn origin(&self) -> (LogId, Position) {
        (self.lane.log, self.position)
    }

    /// A key is not here.
    pub(crate) fn absent(&self, key: &Key) {
        let mut state = self.lane.state();
        if state.absent.is_empty() || self.position < state.absent_from {
            state.absent_from = self.position;
        }
        state.absent.push((self.position, key.clone()));
        // It may be on its way here: then it comes late once more.
        state.late.remove(&(self.position, key.clone()));
        state.changed = true;
        drop(state);
        self.lane.news.notify_one();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.lane.state();
        if let Some(count) = state.open.get_mut(&self.position) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.position);
            }
        }
        if !std::mem::replace(&mut state.changed, true) {
            drop(state);
            self.lane.news.notify_one();
        }
    }
}

impl Lanes {
    fn all(&self) -> MutexGuard<'_, HashMap<LogId, Arc<Lane>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, log: LogId) -> Option<Arc<Lane>> {
        self.all().get(&log).cloned()
    }

    fn open(&self, log: LogId) -> Arc<Lane> {
        let mut all = self.all();
        if all.len() >= LANES
            && !all.contains_key(&log)
            && let Some(oldest) = all.iter().min_by_key(|(_, lane)| lane.state().heard).map(|(log, _)| *log)
        {
            warn!(lanes = LANES, "too many push logs have lanes to this comet: forgot the most silent one");
            all.remove(&oldest);
        }
        all.entry(log).or_insert_with(|| Arc::new(Lane::new(log))).clone()
    }
}

impl Lane {
    pub(crate) fn new(log: LogId) -> Self {
        Self { log, state: Mutex::default(), news: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ticket for a parcel, unless it has been taken before.
    pub(crate) fn admit(self: &Arc<Self>, position: Position, late: Option<&Key>) -> Option<Ticket> {
        let mut state = self.state();
        let taken = match late {
            // Noted before it goes to a worker, who may find at once that its key is not here.
            Some(key) => !state.late.insert((position, key.clone())),
            None => state.seen.is_some_and(|seen| position <= seen) && !state.missing.contains(&position),
        };
        if taken {
            return None;
        }
        *state.open.entry(position).or_default() += 1;
        Some(Ticket { lane: self.clone(), position })
    }

    /// Notes that a position comes later than its place. Always true.
    fn hold(&self, position: Position) -> bool {
        let mut state = self.state();
        if state.seen.is_none_or(|seen| position > seen) {
            state.seen = Some(position);
            state.missing.insert(position);
        }
        true
    }

    /// Takes out of `keys` those that got this position late.
    fn without_late(&self, position: Position, keys: &mut Vec<Key>) {
        let state = self.state();
        if !state.late.is_empty() {
            keys.retain(|key| !state.late.contains(&(position, key.clone())));
        }
    }

    /// Notes whether a parcel was taken.
    fn note(&self, position: Position, late: Option<Key>, taken: bool) {
        let mut state = self.state();
        match late {
            Some(_) if taken => {}
            Some(key) => {
                state.late.remove(&(position, key));
            }
            None => {
                state.seen = state.seen.max(Some(position));
                if taken {
                    state.missing.remove(&position);
                } else {
                    state.missing.insert(position);
                }
            }
        }
    }
}

impl State {
    /// Forgets what no parcel will come for again.
    fn prune(&mut self, done: Position) {
        if self.missing.first().is_some_and(|first| *first < done) {
            self.missing = self.missing.split_off(&done);
        }
        if !self.absent.is_empty() && self.absent_from < done {
            let gone = |at: usize| self.absent[..at].iter().filter(|(position, _)| *position < done).count();
            (self.told, self.told_before) =
                (self.told - gone(self.told), self.told_before - gone(self.told_before));
            self.absent.retain(|(position, _)| *position >= done);
            self.absent_from = self.absent.iter().map(|(position, _)| *position).min().unwrap_or(done);
        }
        while self.late.first().is_some_and(|(first, _)| *first < done) {
            self.late.pop_first();
        }
    }

    fn report(&mut self) -> Report {
        self.number += 1;
        self.told_before = std::mem::replace(&mut self.told, self.absent.len());
        self.changed = false;
        self.reported = Some(Instant::now());
        Report {
            number: self.number,
            count: self.count,
            open: self.open.keys().copied().take(OPEN).collect(),
            end: self.open.keys().nth(OPEN).copied(),
            absent: self.absent[self.told_before..].to_vec(),
        }
    }
}

impl Shared {
    pub(crate) fn open_lane(&self, log: LogId) -> Welcome {
        let lane = self.lanes.open(log);
        let mut state = lane.state();
        state.heard = Some(Instant::now());
        info!(
            log = log.0,
            seen = state.seen.map(|seen| seen.0),
            missing = state.missing.len(),
            "lane opened"
        );
        Welcome {
            incarnation: self.incarnation,
            seen: state.seen,
            missing: state.missing.iter().copied().collect(),
        }
    }

    pub(crate) fn take(&self, batch: Batch) -> Result<Taken, Away> {
        let Batch { log, done, held, parcels } = batch;
        let lane = self.lanes.get(log).ok_or_else(|| Away("the lane is not open here".to_owned()))?;
        let mut held = held.into_iter().peekable();
        let mut full = HashMap::new();
        let take = |parcel: Parcel| {
            while !parcel.late
                && held.next_if(|held| *held <= parcel.position).is_some_and(|held| lane.hold(held))
            {
            }
            self.take_one(&lane, parcel, &mut full)
        };
        let outcomes = parcels.into_iter().map(take).collect();
        let mut state = lane.state();
        state.prune(done);
        state.heard = Some(Instant::now());
        state.count += 1;
        Ok(Taken { outcomes, count: state.count })
    }

    /// Takes a parcel. What has found a full queue is in `full`: what follows for the same receivers in the
    /// same call does not pass it.
    fn take_one(
        &self,
        lane: &Arc<Lane>,
        parcel: Parcel,
        full: &mut HashMap<Option<Room>, Duration>,
    ) -> Outcome {
        let Parcel { position, late, mut push } = parcel;
        let key = match (&push.target, late) {
            (Target::Keys(keys), true) => keys.first().cloned(),
            _ => None,
        };
        let Some(ticket) = lane.admit(position, key.as_ref()) else { return Outcome::Queued };
        if let (Target::Keys(keys), false) = (&mut push.target, late) {
            // What was held back may have come to some of its keys by itself.
            lane.without_late(position, keys);
            if keys.is_empty() {
                drop(ticket);
                lane.note(position, None, true);
                return Outcome::Queued;
            }
        }
        let room = match &push.target {
            Target::Room(room) => Some(room.clone()),
            Target::Keys(_) | Target::All { .. } => None,
        };
        let outcome = match full.get(&room) {
            Some(retry_after) => Outcome::Full { retry_after: *retry_after },
            None => self.outcome(push, ticket),
        };
        if let Outcome::Full { retry_after } = &outcome {
            full.insert(room, *retry_after);
        }
        // What was refused may come again, and is then refused again. In one process the log has not got it
        // either, and gives its position to the next push.
        lane.note(position, key, matches!(outcome, Outcome::Queued | Outcome::Absent));
        outcome
    }

    fn outcome(&self, push: Push, ticket: Ticket) -> Outcome {
        match self.push(push, Some(ticket)) {
            Ok(true) => Outcome::Queued,
            Ok(false) => Outcome::Absent,
            Err(PushError::Exhausted { retry_after }) => Outcome::Full { retry_after },
            Err(PushError::Draining) => Outcome::Draining,
            Err(cause) => Outcome::Refused(cause),
        }
    }

    /// Waits for something to report.
    pub(crate) async fn report(&self, log: LogId, seen: u64) -> Result<Report, Away> {
        let lane = self.lanes.get(log).ok_or_else(|| Away("the lane is not open here".to_owned()))?;
        {
            let mut state = lane.state();
            state.heard = Some(Instant::now());
            if seen != state.number {
                // What it has not got is told again; to one that has just started, all.
                state.told = if seen == 0 { 0 } else { state.told_before };
                state.changed = true;
            }
        }
        let limit = Instant::now() + AT_LEAST;
        loop {
            let wait = {
                let mut state = lane.state();
                let next = state.reported.map_or(limit, |reported| (reported + APART).min(limit));
                let now = Instant::now();
                let due = state.changed
                    && (state.absent.len() > state.told || next <= now || state.reported.is_none());
                if due || now >= limit {
                    return Ok(state.report());
                }
                if state.changed { next } else { limit }
            };
            // A word that comes between is kept by the bell.
            let _ = tokio::time::timeout_at(wait, lane.news.notified()).await;
        }
    }

    /// Pushes of lanes that wait for some receiver.
    pub(crate) fn open_positions(&self) -> usize {
        self.lanes.all().values().map(|lane| lane.state().open.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::parse(name, 64).unwrap()
    }

    #[test]
    fn nothing_is_taken_twice_and_what_found_no_place_is_taken_later() {
        let lane = Arc::new(Lane::new(LogId(1)));
        let take = |position, late: Option<&str>, place: bool| {
            let late = late.map(key);
            let admitted = lane.admit(Position(position), late.as_ref()).is_some();
            if admitted {
                lane.note(Position(position), late, place);
            }
            admitted
        };
        assert!(take(10, None, true) && take(20, None, false) && take(30, None, true));
        assert!(!take(10, None, true) && !take(30, None, true));
        assert!(take(20, None, false) && take(20, None, true) && !take(20, None, true));
        // What comes late is known by its key.
        assert!(take(15, Some("a"), true) && take(10, Some("b"), false) && take(10, Some("b"), true));
        assert!(!take(15, Some("a"), true) && take(15, Some("b"), true));
        assert!(!take(15, None, true), "never came in order, and never will");
        let mut state = lane.state();
        assert!(state.open.is_empty());
        state.prune(Position(15));
        assert_eq!(state.late.len(), 2);
        state.prune(Position(16));
        assert!(state.late.is_empty());
    }

    #[test]
    fn a_position_is_open_as_long_as_anybody_holds_it() {
        let lane = Arc::new(Lane::new(LogId(1)));
        let first = lane.admit(Position(10), None).unwrap();
        let second = lane.admit(Position(20), None).unwrap();
        let late = lane.admit(Position(10), Some(&key("a"))).unwrap();
        drop(first);
        late.absent(&key("a"));
        let report = lane.state().report();
        assert_eq!(report.open, [Position(10), Position(20)]);
        assert_eq!(report.absent, [(Position(10), key("a"))]);
        drop((late, second));
        let again = lane.admit(Position(10), Some(&key("a")));
        assert!(again.is_some(), "it was not here, and may be now");
        assert!(lane.admit(Position(10), Some(&key("a"))).is_none());
        drop(again);
        assert!(lane.state().changed);
        assert!(lane.state().report().open.is_empty());
    }
}
