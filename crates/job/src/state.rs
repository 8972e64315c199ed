//! All that the job knows of what is on its way, under one lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anser_api::comet::{Batch, Outcome, PushError, Report, Taken, Target, Welcome};
use anser_api::id::{CometName, Key, LogId, Position};
use anser_api::job::{Destination, Push};
use anser_api::logic::Place;
use anser_api::trace::Watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::Config;
use crate::idempotency::Remembered;
use crate::lane::{Item, Lane, Link, Message, Number, Verdict, has_taken};
use crate::metrics::{Done, Stats};
use crate::remarks::{Remarks, What};
use crate::returning::{Returning, Stray};
use crate::trace;

/// How long a caller is to wait when a lane is full.
const FULL: Duration = Duration::from_millis(100);

/// How often a key that is said to be on a comet, and is not there, is looked for again.
const TRIES: u8 = 10;

pub(crate) struct State {
    config: Config,
    log: LogId,
    pub(crate) lanes: Vec<Lane>,
    /// How many parcels of each position are not done.
    open: BTreeMap<Position, u32>,
    /// The lowest position that is open, as far as comets were told.
    pub(crate) floor: Position,
    pub(crate) returning: Returning,
    pub(crate) remembered: Remembered,
    pub(crate) stats: Stats,
    pub(crate) remarks: Remarks,
    watch: Arc<Watch>,
}

impl State {
    pub(crate) fn new(config: Config, log: LogId, lanes: Vec<Lane>, watch: Arc<Watch>) -> Self {
        let remembered = Remembered::new(config.idempotency_keys, config.idempotency.0);
        Self {
            config,
            log,
            lanes,
            open: BTreeMap::new(),
            floor: Position(0),
            returning: Returning::default(),
            remembered,
            stats: Stats::default(),
            remarks: Remarks::new(),
            watch,
        }
    }

    /// Parcels that are not done.
    pub(crate) fn open(&self) -> usize {
        self.open.values().map(|count| *count as usize).sum()
    }

    /// The first position that is not done.
    pub(crate) fn lowest(&self) -> Option<Position> {
        self.open.keys().next().copied()
    }

    fn begin(&mut self, position: Position) {
        *self.open.entry(position).or_default() += 1;
        self.stats.fed += 1;
    }

    fn end(&mut self, position: Position, how: Done) {
        self.stats.done[how as usize] += 1;
        if let Some(count) = self.open.get_mut(&position) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&position);
            }
        }
    }

    /// Something is over before it came to its comet, or to any.
    fn fail(&mut self, position: Position, at: Option<usize>, to: &Target, how: Done) {
        if let Some(why) = how.ended() {
            let comet = at.map(|at| self.lanes[at].name.clone());
            trace::ended(&self.watch, position, to, why);
            self.remarks.add(position, comet, to, What::Ended(why));
        }
        self.end(position, how);
    }

    /// The same for an item of a lane.
    fn drop_item(&mut self, at: usize, item: &Item, how: Done) {
        self.fail(item.message.position, Some(at), &item.to, how);
    }

    /// Sends a push on its way, or says why it cannot be taken: then nobody has it.
    pub(crate) fn place(&mut self, position: Position, push: &Push, replayed: bool) -> Result<(), PushError> {
        let message = Arc::new(Message {
            position,
            op: push.op,
            body: push.body.clone(),
            expires: push.expires,
            replayed,
        });
        match &push.to {
            Destination::Keys { routes, .. } => {
                let mut by_lane: Vec<(usize, Vec<Key>)> = Vec::new();
                for route in routes {
                    let Some(lane) = self.lane_of(&route.comet) else {
                        self.begin(position);
                        let to = Target::Keys(vec![route.key.clone()]);
                        self.fail(position, None, &to, Done::NoLane);
                        continue;
                    };
                    match by_lane.iter_mut().find(|(own, _)| *own == lane) {
                        Some((_, keys)) => keys.push(route.key.clone()),
                        None => by_lane.push((lane, vec![route.key.clone()])),
                    }
                }
                let targets = by_lane.into_iter().map(|(lane, keys)| (lane, Target::Keys(keys))).collect();
                self.feed(&message, targets)
            }
            Destination::Room(room) => {
                let targets = (0..self.lanes.len()).map(|lane| (lane, Target::Room(room.clone())));
                self.feed(&message, targets.collect())
            }
            Destination::All { speed } => {
                let targets = self.shares(*speed).into_iter().map(|speed| Target::All { speed });
                self.feed(&message, targets.enumerate().collect())
            }
        }
    }

    fn lane_of(&mut self, comet: &CometName) -> Option<usize> {
        let lane = self.lanes.iter().position(|lane| lane.name == *comet);
        if lane.is_none() && self.stats.speak() {
            warn!(%comet, "pushes for keys on a comet that is none of this job's: name it in cluster.comets");
        }
        lane
    }

    /// What each comet gets of a speed. The remainder of the division goes to the first ones.
    fn shares(&self, speed: u32) -> Vec<u32> {
        let limit = self.config.broadcast_speed;
        let speed = if limit > 0 && (speed == 0 || speed > limit) { limit } else { speed };
        let lanes = self.lanes.len() as u32;
        let share = |lane: u32| (speed / lanes + u32::from(lane < speed % lanes)).max(1);
        (0..lanes).map(|lane| if speed == 0 { 0 } else { share(lane) }).collect()
    }

    /// Hands a message to its lanes. When none of them has room for it, it is refused.
    fn feed(&mut self, message: &Arc<Message>, targets: Vec<(usize, Target)>) -> Result<(), PushError> {
        if let [(lane, target)] = &targets[..]
            && !message.replayed
            && self.lanes[*lane].is_free(target)
            && !self.awaited(target)
        {
            return self.offer(*lane, message, target.clone());
        }
        let Config { lane: most, lane_bytes, returning, .. } = self.config;
        let len = message.body.len();
        let open = |lane: &Lane, target: &Target| lane.takes_keys() || !matches!(target, Target::Keys(_));
        let has_room = |state: &Self, lane: usize, target: &Target| {
            let lane = &state.lanes[lane];
            if open(lane, target) {
                lane.has_room(len, most, lane_bytes)
            } else {
                state.returning.len() < returning
            }
        };
        // What was accepted before the start is not refused now.
        if !message.replayed
            && !targets.is_empty()
            && targets.iter().all(|(lane, target)| !has_room(self, *lane, target))
        {
            return Err(PushError::Exhausted { retry_after: FULL });
        }
        for (lane, target) in targets {
            self.begin(message.position);
            if !message.replayed && !has_room(self, lane, &target) {
                self.fail(message.position, Some(lane), &target, Done::Full);
                continue;
            }
            self.enqueue(lane, Item::new(message.clone(), target));
        }
        Ok(())
    }

    fn awaited(&self, target: &Target) -> bool {
        match target {
            Target::Keys(keys) if !self.returning.is_empty() => {
                keys.iter().any(|key| self.returning.has(key))
            }
            _ => false,
        }
    }

    /// Offers a message to a comet in this process, which says at once whether it has a place for it.
    fn offer(&mut self, at: usize, message: &Arc<Message>, target: Target) -> Result<(), PushError> {
        let item = Item::new(message.clone(), target);
        let lane = &mut self.lanes[at];
        let parcels = vec![item.parcel()];
        let held = lane.take_held(&parcels, self.floor);
        let batch = Batch { log: self.log, done: self.floor, held, parcels };
        let Some(taken) = crate::now(lane.comet.take(batch)) else {
            lane.push(item);
            self.begin(message.position);
            return Ok(());
        };
        let outcome = taken.map_err(|away| PushError::Unavailable { what: away.0, retry_after: FULL });
        let Taken { outcomes, count } = outcome?;
        let how = match outcomes.into_iter().next() {
            Some(Outcome::Queued) => {
                lane.keep_taken(item, count);
                self.begin(message.position);
                return Ok(());
            }
            Some(Outcome::Full { retry_after }) => return Err(PushError::Exhausted { retry_after }),
            Some(Outcome::Draining) => return Err(PushError::Draining),
            Some(Outcome::Refused(cause)) => return Err(cause),
            Some(Outcome::Absent) | None => Done::Absent,
        };
        self.begin(message.position);
        self.end(message.position, how);
        Ok(())
    }

    /// Puts an item into its lane; what is for keys and cannot go now waits until they are back.
    fn enqueue(&mut self, at: usize, mut item: Item) {
        item.repeat |= item.message.replayed;
        if item.message.replayed && self.lanes[at].local {
            // The comet of this process has begun anew, and nobody can be there yet.
            match item.to.clone() {
                Target::Keys(keys) => self.split(keys, &item, None),
                _ => self.drop_item(at, &item, Done::Lost),
            }
            return;
        }
        let keys = match &item.to {
            Target::Keys(keys) if !self.lanes[at].takes_keys() && self.lanes[at].has_been_open() => {
                keys.clone()
            }
            Target::Keys(_) if self.awaited(&item.to) => {
                // Behind what waits for the same keys, all of it late.
                let Target::Keys(keys) = item.to.clone() else { return };
                let free: Vec<Key> = keys.iter().filter(|key| !self.returning.has(key)).cloned().collect();
                self.divert(at, &item);
                self.split(keys, &item, None);
                for key in free {
                    self.bring(at, &key);
                }
                return;
            }
            _ => {
                self.lanes[at].push(item);
                return;
            }
        };
        self.divert(at, &item);
        self.split(keys, &item, None);
    }

    /// An item does not go to its comet in the order of the log. The comet is to know that, or a job that
    /// starts anew would take it for one that it has.
    fn divert(&mut self, at: usize, item: &Item) {
        if !item.late {
            self.lanes[at].hold(item.message.position);
        }
    }

    /// Lets an item wait for each of its keys.
    fn split(&mut self, keys: Vec<Key>, item: &Item, origin: Option<(usize, anser_api::id::Incarnation)>) {
        let until = Instant::now() + self.config.return_within.0;
        let position = item.message.position;
        for (n, key) in keys.into_iter().enumerate() {
            if n > 0 {
                self.begin(position);
            }
            if self.returning.len() >= self.config.returning {
                self.fail(position, origin.map(|(at, _)| at), &Target::Keys(vec![key]), Done::Full);
                continue;
            }
            let mut own = Item::new(item.message.clone(), Target::Keys(vec![key.clone()]));
            (own.late, own.repeat, own.tries) = (item.late, item.repeat, item.tries);
            self.returning.push(key, Stray { item: own, until, origin });
        }
    }

    /// All that waits for a key goes to the comet on which it is.
    fn bring(&mut self, at: usize, key: &Key) {
        for Stray { mut item, .. } in self.returning.take(key) {
            self.stats.resent += u64::from(item.repeat);
            self.follows(at, &item);
            item.late = true;
            self.lanes[at].push(item);
        }
    }

    /// Something goes to a comet behind its key.
    fn follows(&mut self, at: usize, item: &Item) {
        let what = if item.repeat { What::Resent } else { What::Followed };
        trace::followed(&self.watch, item.message.position, &item.to, &self.lanes[at].name, item.repeat);
        self.remarks.add(item.message.position, Some(self.lanes[at].name.clone()), &item.to, what);
    }

    /// What is to go to a comet next, or when to look again.
    pub(crate) fn batch(&mut self, at: usize) -> (Option<(Batch, Vec<Number>)>, Option<Instant>) {
        for item in self.lanes[at].expire() {
            self.drop_item(at, &item, Done::Expired);
        }
        self.lanes[at].batch(self.log, self.floor)
    }

    pub(crate) fn taken(&mut self, at: usize, numbers: &[Number], taken: Taken) {
        let mut leaving = Vec::new();
        for verdict in self.lanes[at].settle(numbers, taken) {
            match verdict {
                Verdict::Kept => {}
                // Whoever was in the room when the log took the push has gone with the comet that died.
                Verdict::Absent(item) if item.message.replayed => {
                    self.drop_item(at, &item, Done::Lost);
                }
                Verdict::Absent(item) => self.end(item.message.position, Done::Absent),
                Verdict::Refused(item, cause) => {
                    if self.stats.speak() {
                        warn!(comet = %self.lanes[at].name, error = %cause, "a comet refused a push");
                    }
                    self.drop_item(at, &item, Done::Refused);
                }
                Verdict::Leaving(item) => leaving.push(item),
            }
        }
        if leaving.is_empty() {
            return;
        }
        // All of it, so that what comes for the same keys later waits behind.
        leaving.extend(self.lanes[at].take_keys());
        for item in leaving {
            if let Target::Keys(keys) = item.to.clone() {
                self.split(keys, &item, None);
            }
        }
    }

    /// What a comet reports; the keys that were not there, to be looked for.
    pub(crate) fn reported(&mut self, at: usize, report: &Report) -> Vec<Item> {
        let lane = &mut self.lanes[at];
        let strays: Vec<Item> =
            report.absent.iter().filter_map(|(position, key)| lane.absent(*position, key)).collect();
        let done = lane.reported(report);
        for stray in &strays {
            self.begin(stray.message.position);
        }
        for item in done {
            self.end(item.message.position, Done::Reported);
        }
        strays
    }

    /// Where the keys are that a comet did not have.
    pub(crate) fn relocate(&mut self, strays: Vec<Item>, places: Option<Vec<Place>>) {
        let mut places = places.map(Vec::into_iter);
        for mut stray in strays {
            let place = places.as_mut().and_then(Iterator::next).unwrap_or(Place::Unknown);
            let Target::Keys(keys) = stray.to.clone() else { continue };
            match place {
                Place::At(comet) if stray.tries < TRIES => match self.lane_of(&comet) {
                    Some(lane) if stray.tries == 1 => {
                        stray.late = true;
                        self.follows(lane, &stray);
                        self.enqueue(lane, stray);
                    }
                    // Its comet may not have let it in yet.
                    Some(_) => self.split(keys, &stray, None),
                    None => self.fail(stray.message.position, None, &stray.to, Done::NoLane),
                },
                Place::Absent | Place::At(_) if !stray.message.replayed => {
                    self.end(stray.message.position, Done::Absent);
                }
                _ => self.split(keys, &stray, None),
            }
        }
    }

    /// Where keys are for which something waits.
    pub(crate) fn found(&mut self, keys: Vec<Key>, places: Vec<Place>) {
        for (key, place) in keys.into_iter().zip(places) {
            if let Place::At(comet) = place
                && let Some(lane) = self.lanes.iter().position(|lane| lane.name == comet && lane.takes_keys())
                && self.returning.is_settled(&key, &comet)
            {
                self.bring(lane, &key);
            }
        }
    }

    /// A comet cannot be spoken to.
    pub(crate) fn away(&mut self, at: usize, cause: &str) {
        let lane = &mut self.lanes[at];
        let Link::Open(incarnation) = lane.link else { return };
        warn!(comet = %lane.name, cause, unfinished = lane.len(), "a comet is away; its pushes wait");
        for (mut item, sent) in lane.close() {
            item.repeat |= sent;
            let origin = sent.then_some((at, incarnation));
            if let Target::Keys(keys) = item.to.clone() {
                self.split(keys, &item, origin.or(Some((at, incarnation))));
            }
        }
    }

    /// A comet can be spoken to.
    pub(crate) fn opened(&mut self, at: usize, welcome: &Welcome) {
        let name = self.lanes[at].name.clone();
        let died = self.lanes[at].has_been_open() && !self.lanes[at].was(welcome.incarnation);
        let lost = self.lanes[at].open(welcome);
        if died {
            warn!(comet = %name, lost = lost.len(), keys = self.returning.len(), "a comet has died, and is back; \
                 what its keys had not got waits for them");
        } else {
            info!(comet = %name, "lane to a comet opened");
        }
        for item in lost {
            self.drop_item(at, &item, Done::Lost);
        }
        if died {
            return;
        }
        for key in self.returning.of_lane(at) {
            for Stray { mut item, origin, .. } in self.returning.take(&key) {
                let same = origin == Some((at, welcome.incarnation));
                if same && !item.late && has_taken(welcome, item.message.position) {
                    self.lanes[at].keep_taken(item, 0);
                } else {
                    item.late = true;
                    self.lanes[at].push(item);
                }
            }
        }
    }

    /// Drops what has waited for longer than it may.
    pub(crate) fn give_up(&mut self, at: usize) {
        let gone = self.lanes[at].give_up(self.config.patience.0);
        if !gone.is_empty() {
            warn!(comet = %self.lanes[at].name, dropped = gone.len(), "a comet took nothing for job.patience: \
                 dropped what waited for it");
        }
        for item in gone {
            self.drop_item(at, &item, Done::Away);
        }
    }

    /// Gives up on keys that have not come back.
    pub(crate) fn overdue(&mut self) {
        let gone = self.returning.overdue();
        if !gone.is_empty() {
            info!(
                pushes = gone.len(),
                "keys did not come back within job.return_within: dropped what waited"
            );
        }
        for stray in gone {
            let how = if stray.item.message.has_expired() { Done::Expired } else { Done::NotBack };
            let at = stray.origin.map(|(at, _)| at);
            self.fail(stray.item.message.position, at, &stray.item.to, how);
        }
    }
}
