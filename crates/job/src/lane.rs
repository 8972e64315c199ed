//! The lane to one comet: what waits for it, what it has taken, what it has no place for now.
//!
//! Parcels go in the order of the log, except late ones: those are for a key that was elsewhere before, and
//! the comet knows them one by one. A room that is full is parked with all that follows for it, and holds up
//! nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use anser_api::comet::{
    Batch, Comet, Form, OnOverflow, Outcome, Parcel, Push, Report, Taken, Target, Welcome,
};
use anser_api::id::{CometName, Incarnation, Key, LogId, Position, Room};
use anser_api::job::Progress;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::explain::{ago, from_now, is_for};

/// Most parcels in one call.
const BATCH: usize = 512;

/// Most bytes of bodies in one call, beyond the first.
const BATCH_BYTES: usize = 1 << 20;

/// What is sent, shared by all lanes that it goes to.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) position: Position,
    pub(crate) op: i32,
    pub(crate) body: Bytes,
    pub(crate) expires: Option<SystemTime>,
    /// It was read back from the log after a start: whoever is to get it may still have to come back.
    pub(crate) replayed: bool,
}

impl Message {
    pub(crate) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= SystemTime::now())
    }
}

/// A message, and who on one comet is to get it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Arc<Message>,
    pub(crate) to: Target,
    pub(crate) late: bool,
    /// It may have been written before, by a comet that did not say so.
    pub(crate) repeat: bool,
    /// How often it found its key absent.
    pub(crate) tries: u8,
    pub(crate) since: Instant,
    /// Keys of it that were not there, and are looked for elsewhere.
    gone: Vec<Key>,
}

impl Item {
    pub(crate) fn new(message: Arc<Message>, to: Target) -> Self {
        Self { message, to, late: false, repeat: false, tries: 0, since: Instant::now(), gone: Vec::new() }
    }

    pub(crate) fn parcel(&self) -> Parcel {
        let Message { position, op, body, expires, .. } = &*self.message;
        let push = Push {
            target: self.to.clone(),
            op: *op,
            form: Form::Message,
            body: body.clone(),
            on_overflow: OnOverflow::Drop,
            expires: *expires,
        };
        Parcel { position: *position, late: self.late, push }
    }

    /// Whether a key gets it, or may.
    fn is_for(&self, key: Option<&Key>) -> bool {
        is_for(&self.to, key)
    }

    fn size(&self) -> usize {
        self.message.body.len() + 64
    }
}

/// Names an item in its lane.
pub(crate) type Number = (Position, u64);

/// Whether the comet can be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Open(Incarnation),
    /// Not since then.
    Away(Instant),
}

/// What is parked together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Spot {
    Room(Room),
    All,
}

#[derive(Debug)]
struct Parked {
    until: Instant,
    items: VecDeque<Number>,
}

pub(crate) struct Lane {
    pub(crate) name: CometName,
    pub(crate) comet: Arc<dyn Comet>,
    /// The comet is in this process: it is offered what comes at once.
    pub(crate) local: bool,
    pub(crate) link: Link,
    /// Which life of the comet had the lane last.
    incarnation: Option<Incarnation>,
    /// The comet drains: its clients are about to be elsewhere.
    leaving: bool,
    waiting: BTreeMap<Number, Item>,
    /// What of `waiting` is to be sent, in order.
    queue: VecDeque<Number>,
    parked: HashMap<Spot, Parked>,
    /// Positions that do not go in their order, of which the comet is to know before it gets later ones.
    held: BTreeSet<Position>,
    /// Those of them that it is being told.
    telling: Vec<Position>,
    /// Nothing is sent until then: the comet has no place for keys.
    pause: Option<Instant>,
    /// In a call now.
    sent: BTreeMap<Number, Item>,
    /// Taken by the comet at this count of calls, and not reported as written.
    taken: BTreeMap<Number, (Item, u64)>,
    bytes: usize,
    next: u64,
    /// When the comet last took something, or nothing waited.
    pub(crate) moved: Instant,
    /// Rung when something waits.
    pub(crate) bell: Arc<Notify>,
    /// Rung when the link opens.
    pub(crate) opened: Arc<Notify>,
}

/// What becomes of an item at once.
pub(crate) enum Verdict {
    /// The comet has it, or will get it.
    Kept,
    /// Nobody there is to get it.
    Absent(Item),
    /// The comet will never take it.
    Refused(Item, anser_api::comet::PushError),
    /// The comet is going away, and the keys that it is for come back elsewhere.
    Leaving(Item),
}

impl Lane {
    pub(crate) fn new(name: CometName, comet: Arc<dyn Comet>, local: bool) -> Self {
        let now = Instant::now();
        Self {
            name,
            comet,
            local,
            link: Link::Away(now),
            incarnation: None,
            leaving: false,
            waiting: BTreeMap::new(),
            queue: VecDeque::new(),
            parked: HashMap::new(),
            held: BTreeSet::new(),
            telling: Vec::new(),
            pause: None,
            sent: BTreeMap::new(),
            taken: BTreeMap::new(),
            bytes: 0,
            next: 0,
            moved: now,
            bell: Arc::default(),
            opened: Arc::default(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// Whether what is for keys there goes there, and does not wait until they are elsewhere.
    pub(crate) fn takes_keys(&self) -> bool {
        self.is_open() && !self.leaving
    }

    /// Whether the comet has ever been spoken to.
    pub(crate) fn has_been_open(&self) -> bool {
        self.incarnation.is_some()
    }

    /// Items that are not done.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.sent.len() + self.taken.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn has_room(&self, len: usize, most: usize, most_bytes: usize) -> bool {
        let count = self.len();
        count == 0 || (count < most && self.bytes + len <= most_bytes)
    }

    fn number(&mut self, item: &Item) -> Number {
        self.next += 1;
        self.bytes += item.size();
        (item.message.position, self.next)
    }

    /// Puts an item behind what waits.
    pub(crate) fn push(&mut self, item: Item) {
        if self.len() == 0 {
            self.moved = Instant::now();
        }
        let number = self.number(&item);
        self.waiting.insert(number, item);
        self.queue.push_back(number);
        self.bell.notify_one();
    }

    /// Keeps an item that the comet has taken already.
    pub(crate) fn keep_taken(&mut self, item: Item, count: u64) {
        let number = self.number(&item);
        self.taken.insert(number, (item, count));
    }

    /// Whether a local comet may be offered an item now: nothing is before it.
    pub(crate) fn is_free(&self, to: &Target) -> bool {
        self.local
            && self.is_open()
            && self.queue.is_empty()
            && self.sent.is_empty()
            && self.pause.is_none()
            && spot(to).is_none_or(|spot| !self.parked.contains_key(&spot))
    }

    /// The next call's parcels, with their items' numbers. `until` is when to look again if there are none.
    pub(crate) fn batch(
        &mut self,
        log: LogId,
        done: Position,
    ) -> (Option<(Batch, Vec<Number>)>, Option<Instant>) {
        let now = Instant::now();
        self.unpark(now);
        if self.pause.is_some_and(|pause| pause > now) {
            return (None, self.pause);
        }
        self.pause = None;
        let (mut parcels, mut numbers, mut bytes) = (Vec::new(), Vec::new(), 0);
        while parcels.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(number) = self.queue.pop_front()
        {
            let Some(item) = self.waiting.get(&number) else { continue };
            if let Some(parked) = spot(&item.to).and_then(|spot| self.parked.get_mut(&spot)) {
                parked.items.push_back(number);
                if !item.late {
                    self.held.insert(number.0);
                }
                continue;
            }
            bytes += item.size();
            parcels.push(item.parcel());
            numbers.push(number);
            if let Some(item) = self.waiting.remove(&number) {
                self.sent.insert(number, item);
            }
        }
        if parcels.is_empty() {
            let next = self.parked.values().map(|parked| parked.until).min();
            if self.len() == 0 {
                self.moved = now;
            }
            return (None, next);
        }
        let held = self.take_held(&parcels, done);
        (Some((Batch { log, done, held, parcels }, numbers)), None)
    }

    /// What a call with these parcels is to say of positions that it leaves out.
    pub(crate) fn take_held(&mut self, parcels: &[Parcel], done: Position) -> Vec<Position> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let in_order = parcels.iter().filter(|parcel| !parcel.late).map(|parcel| parcel.position);
        let Some(last) = in_order.max() else { return Vec::new() };
        let later = self.held.split_off(&Position(last.0 + 1));
        let told = std::mem::replace(&mut self.held, later);
        self.telling = told.into_iter().filter(|position| *position >= done).collect();
        self.telling.clone()
    }

    /// A position does not go in its order.
    pub(crate) fn hold(&mut self, position: Position) {
        self.held.insert(position);
    }

    /// Rooms whose time has come stand in front again.
    fn unpark(&mut self, now: Instant) {
        let due: Vec<Spot> = self
            .parked
            .iter()
            .filter(|(_, parked)| parked.until <= now)
            .map(|(spot, _)| spot.clone())
            .collect();
        for spot in due {
            let Some(parked) = self.parked.remove(&spot) else { continue };
            for number in parked.items.into_iter().rev() {
                self.queue.push_front(number);
            }
        }
    }

    /// What a comet said to a call.
    pub(crate) fn settle(&mut self, numbers: &[Number], taken: Taken) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        self.telling.clear();
        for (number, outcome) in numbers.iter().zip(taken.outcomes) {
            let Some(item) = self.sent.remove(number) else { continue };
            match outcome {
                Outcome::Queued => {
                    self.moved = Instant::now();
                    self.taken.insert(*number, (item, taken.count));
                    verdicts.push(Verdict::Kept);
                }
                Outcome::Full { retry_after } => self.park(*number, item, retry_after),
                Outcome::Draining => {
                    self.leaving = true;
                    if is_keys(&item) {
                        self.give_back(&item);
                        verdicts.push(Verdict::Leaving(item));
                    } else {
                        self.park_all(*number, item, Duration::from_millis(200));
                    }
                }
                Outcome::Absent => {
                    self.moved = Instant::now();
                    self.bytes -= item.size();
                    verdicts.push(Verdict::Absent(item));
                }
                Outcome::Refused(cause) => {
                    self.bytes -= item.size();
                    verdicts.push(Verdict::Refused(item, cause));
                }
            }
        }
        verdicts
    }

    /// An item leaves the lane for the time in which its keys are nowhere.
    fn give_back(&mut self, item: &Item) {
        self.bytes -= item.size();
        if !item.late {
            self.held.insert(item.message.position);
        }
    }

    /// What waits for keys, in order.
    pub(crate) fn take_keys(&mut self) -> Vec<Item> {
        let keys = take_if(&mut self.waiting, |_, item| is_keys(item));
        let mut keys: Vec<Item> = keys.into_iter().map(|(_, item)| item).collect();
        for item in &keys {
            self.give_back(item);
        }
        keys.sort_by_key(|item| item.message.position);
        keys
    }

    fn park(&mut self, number: Number, item: Item, retry_after: Duration) {
        match spot(&item.to) {
            Some(spot) => {
                let until = Instant::now() + retry_after;
                let parked = Parked { until, items: VecDeque::new() };
                self.parked.entry(spot).or_insert(parked).items.push_back(number);
                self.waiting.insert(number, item);
            }
            None => self.park_all(number, item, retry_after),
        }
    }

    /// The whole lane waits. What was in the same call comes back in its order.
    fn park_all(&mut self, number: Number, item: Item, retry_after: Duration) {
        self.pause = Some(Instant::now() + retry_after);
        self.waiting.insert(number, item);
        let at = self.queue.iter().take_while(|queued| queued.1 < number.1).count();
        self.queue.insert(at, number);
    }

    /// What a report says is done.
    pub(crate) fn reported(&mut self, report: &Report) -> Vec<Item> {
        let done = |number: &Number, count: u64| {
            count <= report.count
                && report.end.is_none_or(|end| number.0 < end)
                && report.open.binary_search(&number.0).is_err()
        };
        let numbers: Vec<Number> =
            self.taken.iter().filter(|(number, (_, count))| done(number, *count)).map(|(n, _)| *n).collect();
        let mut items = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some((item, _)) = self.taken.remove(&number) {
                self.bytes -= item.size();
                items.push(item);
            }
        }
        items
    }

    /// Notes that a key was not there; the item for it alone, unless that is known already.
    pub(crate) fn absent(&mut self, position: Position, key: &Key) -> Option<Item> {
        let own = |item: &Item| match &item.to {
            Target::Keys(keys) => keys.contains(key) && !item.gone.contains(key),
            _ => false,
        };
        let mut items = self.taken.range_mut((position, 0)..=(position, u64::MAX));
        let (_, (item, _)) = items.find(|(_, (item, _))| own(item))?;
        item.gone.push(key.clone());
        let mut stray = Item::new(item.message.clone(), Target::Keys(vec![key.clone()]));
        (stray.repeat, stray.tries) = (item.repeat, item.tries + 1);
        Some(stray)
    }

    /// How far what is here at a position for a key, or for anybody, is on its way.
    pub(crate) fn progress(&self, position: Position, key: Option<&Key>) -> Option<Progress> {
        let at = (position, 0)..=(position, u64::MAX);
        if let Some((_, item)) = self.waiting.range(at.clone()).find(|(_, item)| item.is_for(key)) {
            return Some(self.waits(&item.to));
        }
        if self.sent.range(at.clone()).any(|(_, item)| item.is_for(key)) {
            return Some(self.link_away().unwrap_or(Progress::Turn));
        }
        let is_open = |item: &Item| item.is_for(key) && !key.is_some_and(|key| item.gone.contains(key));
        self.taken.range(at).any(|(_, (item, _))| is_open(item)).then_some(Progress::Taken)
    }

    /// Why something waits here.
    fn waits(&self, to: &Target) -> Progress {
        let parked = spot(to).and_then(|spot| self.parked.get(&spot));
        match (self.link_away(), self.pause, parked) {
            (Some(away), _, _) => away,
            (None, Some(pause), _) => Progress::Paused { until: from_now(pause) },
            (None, None, Some(parked)) => Progress::Parked { until: from_now(parked.until) },
            (None, None, None) => Progress::Turn,
        }
    }

    fn link_away(&self) -> Option<Progress> {
        match self.link {
            Link::Away(since) => Some(Progress::CometAway { since: ago(since) }),
            Link::Open(_) => None,
        }
    }

    /// The comet cannot be spoken to any more. Gives back what is for keys, which may come to another one;
    /// with each whether it may have been taken.
    pub(crate) fn close(&mut self) -> Vec<(Item, bool)> {
        if !self.is_open() {
            return Vec::new();
        }
        self.link = Link::Away(Instant::now());
        (self.pause, self.moved) = (None, Instant::now());
        self.held.extend(self.telling.drain(..));
        // What was in a call is known when the lane opens again.
        let keys = self.take_keys();
        let sent = take_if(&mut self.sent, |_, item| is_keys(item)).into_iter().map(|(_, item)| item);
        let taken = take_if(&mut self.taken, |_, (item, _)| is_keys(item));
        let tried: Vec<Item> = sent.chain(taken.into_iter().map(|(_, (item, _))| item)).collect();
        for item in &tried {
            self.give_back(item);
        }
        let mut back: Vec<_> = keys.into_iter().map(|item| (item, false)).collect();
        back.extend(tried.into_iter().map(|item| (item, true)));
        back.sort_by_key(|(item, _)| item.message.position);
        back
    }

    /// The comet can be spoken to again. Gives back what it had and has lost, having died between.
    pub(crate) fn open(&mut self, welcome: &Welcome) -> Vec<Item> {
        let same = self.incarnation == Some(welcome.incarnation) || self.incarnation.is_none();
        self.incarnation = Some(welcome.incarnation);
        self.leaving = false;
        self.link = Link::Open(welcome.incarnation);
        self.moved = Instant::now();
        let mut lost = Vec::new();
        if same {
            for (number, item) in std::mem::take(&mut self.sent) {
                if has_taken(welcome, number.0) {
                    self.taken.insert(number, (item, 0));
                } else {
                    self.waiting.insert(number, item);
                }
            }
            // After a start the job does not know what it had sent before.
            let known = |number: &Number, item: &Item| !item.late && has_taken(welcome, number.0);
            let taken = take_if(&mut self.waiting, known);
            self.taken.extend(taken.into_iter().map(|(number, item)| (number, (item, 0))));
        } else {
            lost.extend(std::mem::take(&mut self.sent).into_values());
            lost.extend(std::mem::take(&mut self.taken).into_values().map(|(item, _)| item));
            self.bytes -= lost.iter().map(Item::size).sum::<usize>();
        }
        self.parked.clear();
        self.queue = self.waiting.keys().copied().collect();
        // Of one position the late ones came later.
        self.queue.make_contiguous().sort_by_key(|number| number.1);
        self.opened.notify_one();
        self.bell.notify_one();
        lost
    }

    /// Whether this life of the comet has taken what was sent to it before.
    pub(crate) fn was(&self, incarnation: Incarnation) -> bool {
        self.incarnation == Some(incarnation)
    }

    /// What has waited for longer than a comet may be away, or take nothing.
    pub(crate) fn give_up(&mut self, patience: Duration) -> Vec<Item> {
        let now = Instant::now();
        let since = match self.link {
            Link::Away(since) => since,
            Link::Open(_) => self.moved,
        };
        if now.saturating_duration_since(since) < patience {
            return Vec::new();
        }
        let old = |item: &Item| now.saturating_duration_since(item.since) >= patience;
        let mut gone: Vec<Item> =
            take_if(&mut self.waiting, |_, item| old(item)).into_iter().map(|(_, item)| item).collect();
        if !self.is_open() {
            gone.extend(std::mem::take(&mut self.sent).into_values());
            gone.extend(std::mem::take(&mut self.taken).into_values().map(|(item, _)| item));
        }
        self.bytes -= gone.iter().map(Item::size).sum::<usize>();
        gone
    }

    /// What waits and is too late.
    pub(crate) fn expire(&mut self) -> Vec<Item> {
        let gone = take_if(&mut self.waiting, |_, item| item.message.has_expired());
        let gone: Vec<Item> = gone.into_iter().map(|(_, item)| item).collect();
        self.bytes -= gone.iter().map(Item::size).sum::<usize>();
        gone
    }
}

/// Whether a comet has taken what came in order at this position.
pub(crate) fn has_taken(welcome: &Welcome, position: Position) -> bool {
    welcome.seen.is_some_and(|seen| position <= seen) && !welcome.missing.contains(&position)
}

/// Takes out what `which` names, in order.
fn take_if<T>(map: &mut BTreeMap<Number, T>, which: impl Fn(&Number, &T) -> bool) -> Vec<(Number, T)> {
    let numbers: Vec<Number> = map.iter().filter(|(n, item)| which(n, item)).map(|(n, _)| *n).collect();
    numbers.into_iter().filter_map(|number| Some((number, map.remove(&number)?))).collect()
}

fn is_keys(item: &Item) -> bool {
    matches!(item.to, Target::Keys(_))
}

fn spot(to: &Target) -> Option<Spot> {
    match to {
        Target::Keys(_) => None,
        Target::Room(room) => Some(Spot::Room(room.clone())),
        Target::All { .. } => Some(Spot::All),
    }
}
