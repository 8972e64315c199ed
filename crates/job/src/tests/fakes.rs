//! Comets, their directory and a log, in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use anser_api::comet::{
    Away, Batch, Comet, Flow, Inquiry, Note, Outcome, Parcel, Present, Push, PushError, Report, Taken,
    Target, Testimony, Unwritten, Welcome,
};
use anser_api::id::{CometName, Incarnation, Key, LogId, Position, Room, Session};
use anser_api::logic::{Directory, Node, NodeState, Online, Place};
use anser_api::trace::Traces;
use anser_api::{Answer, ready};
use anser_store::{AppendError, Appended, Durable, Log, Page, ReadError};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::key;

/// A log whose disk can be stopped. It outlives the job.
#[derive(Default)]
pub(super) struct MemoryLog(Mutex<Records>);

#[derive(Default)]
struct Records {
    by_position: BTreeMap<u64, Bytes>,
    end: u64,
    committed: u64,
    held: bool,
    waiting: Vec<Durable>,
}

impl MemoryLog {
    fn all(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap()
    }

    pub(super) fn hold(&self) {
        self.all().held = true;
    }

    pub(super) fn release(&self) {
        let mut all = self.all();
        all.held = false;
        all.waiting.drain(..).for_each(|durable| durable.settle());
    }

    pub(super) fn end_now(&self) -> u64 {
        self.all().end
    }

    pub(super) fn committed(&self) -> u64 {
        self.all().committed
    }
}

impl Log for MemoryLog {
    fn id(&self) -> u64 {
        7
    }

    fn append(
        &self,
        record: &[u8],
        deliver: &mut dyn FnMut(&Appended) -> bool,
    ) -> Result<Option<Appended>, AppendError> {
        let mut all = self.all();
        let appended = Appended { position: all.end, durable: Durable::default() };
        if !deliver(&appended) {
            return Ok(None);
        }
        let position = all.end;
        all.by_position.insert(position, Bytes::copy_from_slice(record));
        all.end += 1 + record.len() as u64;
        if all.held {
            all.waiting.push(appended.durable.clone());
        } else {
            appended.durable.settle();
        }
        Ok(Some(appended))
    }

    fn end(&self, look: &mut dyn FnMut(u64)) {
        look(self.all().end);
    }

    fn read(&self, from: u64, _: usize) -> Result<Page, ReadError> {
        let all = self.all();
        let records: Vec<_> =
            all.by_position.range(from..).take(3).map(|(at, bytes)| (*at, bytes.clone())).collect();
        let next = records.last().map_or(from, |(at, _)| at + 1);
        Ok(Page { records, next, damage: vec![] })
    }

    fn get(&self, position: u64) -> Result<Option<Bytes>, ReadError> {
        Ok(self.all().by_position.get(&position).cloned())
    }

    fn consumer(&self, _: &str) -> Result<u64, ReadError> {
        Ok(self.all().committed)
    }

    fn commit(&self, _: &str, position: u64) -> Result<(), ReadError> {
        let mut all = self.all();
        assert!(position >= all.committed && position <= all.end);
        all.committed = position;
        Ok(())
    }
}

/// Every comet, and what the directory knows of them.
pub(super) struct World {
    comets: Vec<Arc<FakeComet>>,
    shared: Arc<Mutex<Luck>>,
    announced: Mutex<HashMap<Key, CometName>>,
}

/// What goes wrong.
struct Luck {
    dice: fastrand::Rng,
    /// Percent of calls whose answers are lost.
    trouble: u8,
    /// Bodies of pushes to rooms.
    rooms: HashSet<String>,
    /// What each key got, on whatever comet.
    got: HashMap<Key, Vec<String>>,
}

impl World {
    pub(super) fn new(names: &[&str]) -> Self {
        let luck = Luck {
            dice: fastrand::Rng::with_seed(0),
            trouble: 0,
            rooms: HashSet::new(),
            got: HashMap::new(),
        };
        let shared = Arc::new(Mutex::new(luck));
        let comets = names.iter().map(|name| Arc::new(FakeComet::new(name, shared.clone())));
        Self { comets: comets.collect(), shared, announced: Mutex::default() }
    }

    pub(super) fn seed(&self, seed: u64) {
        self.shared.lock().unwrap().dice = fastrand::Rng::with_seed(seed);
    }

    pub(super) fn trouble(&self, percent: u8) {
        self.shared.lock().unwrap().trouble = percent;
    }

    pub(super) fn was_room(&self, body: &str) -> bool {
        self.shared.lock().unwrap().rooms.contains(body)
    }

    /// What a key got, on whatever comet.
    pub(super) fn got(&self, name: &str) -> Vec<String> {
        self.shared.lock().unwrap().got.get(&key(name)).cloned().unwrap_or_default()
    }

    pub(super) fn comets(&self) -> Vec<Arc<FakeComet>> {
        self.comets.clone()
    }

    /// The directory says that a key is on a comet, which has not let it in.
    pub(super) fn announce(&self, name: &str, comet: &str) {
        let comet = CometName::parse(comet, 64).unwrap();
        self.announced.lock().unwrap().insert(key(name), comet);
    }

    /// Where a key is; of two places the one that it came to last.
    pub(super) fn place(&self, key: &Key) -> Option<CometName> {
        if let Some(comet) = self.announced.lock().unwrap().get(key) {
            return Some(comet.clone());
        }
        let at = |comet: &Arc<FakeComet>| {
            let state = comet.state();
            Some((state.clients.get(key)?.since, comet.name()))
        };
        self.comets.iter().filter_map(at).max_by_key(|(since, _)| *since).map(|(_, name)| name)
    }
}

impl Directory for World {
    fn locate(&self, keys: Vec<Key>) -> Answer<'_, Result<Vec<Place>, Away>> {
        let place = |key: &Key| self.place(key).map_or(Place::Absent, Place::At);
        ready(Ok(keys.iter().map(place).collect()))
    }

    fn online(&self) -> Answer<'_, Online> {
        unreachable!("the job does not ask who is online")
    }

    fn largest_rooms(&self, _: String, _: usize) -> Answer<'_, Vec<(Room, u32)>> {
        unreachable!("the job does not ask for rooms")
    }

    fn members(&self, _: Vec<Room>) -> Answer<'_, Vec<u32>> {
        unreachable!("the job does not ask for rooms")
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeState>> {
        unreachable!("the job does not ask for nodes")
    }

    fn best_nodes(&self) -> Answer<'_, Vec<Node>> {
        unreachable!("the job does not ask for nodes")
    }
}

/// A comet that writes at once, or not at all.
pub(super) struct FakeComet {
    name: CometName,
    state: Mutex<State>,
    news: Notify,
    luck: Arc<Mutex<Luck>>,
}

#[derive(Default)]
struct State {
    life: u64,
    dead: bool,
    /// A lane has been opened in this life.
    lane: bool,
    stopped: bool,
    draining: bool,
    full: bool,
    full_rooms: BTreeSet<String>,
    unwritten: bool,
    clients: HashMap<Key, Client>,
    clock: u64,
    seen: Option<Position>,
    missing: BTreeSet<Position>,
    late: BTreeSet<(Position, Key)>,
    open: BTreeSet<Position>,
    absent: Vec<(Position, Key)>,
    told: (u64, usize, usize),
    count: u64,
    changed: bool,
    speed: u32,
    traced: u64,
}

#[derive(Default)]
struct Client {
    room: Option<String>,
    got: Vec<String>,
    since: u64,
}

impl FakeComet {
    fn new(name: &str, luck: Arc<Mutex<Luck>>) -> Self {
        let name = CometName::parse(name, 64).unwrap();
        Self { name, state: Mutex::default(), news: Notify::new(), luck }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn name(&self) -> CometName {
        self.name.clone()
    }

    pub(super) fn enter(&self, name: &str, room: Option<&str>) {
        static CLOCK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let since = CLOCK.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let client = Client { room: room.map(str::to_owned), got: vec![], since };
        self.state().clients.insert(key(name), client);
    }

    pub(super) fn leave(&self, name: &str) {
        self.state().clients.remove(&key(name));
    }

    pub(super) fn got(&self, name: &str) -> Vec<String> {
        self.state().clients.get(&key(name)).map(|client| client.got.clone()).unwrap_or_default()
    }

    pub(super) fn last_speed(&self) -> u32 {
        self.state().speed
    }

    /// It takes nothing more, until it ends.
    pub(super) fn drain(&self) {
        self.state().draining = true;
    }

    /// The last revision of who is traced.
    pub(super) fn traced(&self) -> u64 {
        self.state().traced
    }

    pub(super) fn full(&self, full: bool) {
        self.state().full = full;
    }

    pub(super) fn full_room(&self, room: &str, full: bool) {
        let mut state = self.state();
        if full {
            state.full_rooms.insert(room.to_owned());
        } else {
            state.full_rooms.remove(room);
        }
    }

    /// Calls do not end any more, or do again.
    pub(super) fn stop(&self, stopped: bool) {
        self.state().stopped = stopped;
        self.news.notify_waiters();
    }

    /// Whether it writes what it takes.
    pub(super) fn write(&self, writes: bool) {
        self.state().unwritten = !writes;
    }

    /// It dies, and its clients' places stay as they were in the directory.
    pub(super) fn die(&self) {
        let mut state = self.state();
        let clients = std::mem::take(&mut state.clients);
        let (life, clock) = (state.life + 1, state.clock);
        *state = State { life, dead: true, clients, clock, ..State::default() };
        self.news.notify_waiters();
    }

    /// It begins anew, without clients.
    pub(super) fn live(&self) {
        let mut state = self.state();
        state.dead = false;
        state.clients.clear();
    }

    fn lucky(&self) -> bool {
        let mut luck = self.luck.lock().unwrap();
        let trouble = luck.trouble;
        luck.dice.u8(..100) >= trouble
    }

    /// Whether it answers, after it has been let go on.
    async fn answers(&self) -> Result<(), Away> {
        loop {
            let mut word = std::pin::pin!(self.news.notified());
            word.as_mut().enable();
            {
                let state = self.state();
                if state.dead {
                    return Err(Away("dead".into()));
                }
                if !state.stopped {
                    return Ok(());
                }
            }
            word.await;
        }
    }

    fn take_now(&self, batch: Batch) -> Taken {
        let mut state = self.state();
        let mut full = HashSet::new();
        let mut outcomes = Vec::new();
        for parcel in batch.parcels {
            for held in &batch.held {
                if !parcel.late && *held <= parcel.position && state.seen.is_none_or(|seen| *held > seen) {
                    state.missing.insert(*held);
                    state.seen = Some(*held);
                }
            }
            outcomes.push(self.take_one(&mut state, parcel, &mut full));
        }
        let gone = |upto: usize| state.absent[..upto].iter().filter(|(at, _)| *at < batch.done).count();
        let (number, told, before) = state.told;
        state.told = (number, told - gone(told), before - gone(before));
        state.absent.retain(|(position, _)| *position >= batch.done);
        state.count += 1;
        Taken { outcomes, count: state.count }
    }

    fn take_one(&self, state: &mut State, parcel: Parcel, full: &mut HashSet<String>) -> Outcome {
        let Parcel { position, late, mut push } = parcel;
        let late = match (&push.target, late) {
            (Target::Keys(keys), true) => Some(keys[0].clone()),
            _ => None,
        };
        let taken = match &late {
            Some(key) => state.late.contains(&(position, key.clone())),
            None => state.seen.is_some_and(|seen| position <= seen) && !state.missing.contains(&position),
        };
        if taken {
            return Outcome::Queued;
        }
        if let (Target::Keys(keys), None) = (&mut push.target, &late) {
            keys.retain(|key| !state.late.contains(&(position, key.clone())));
        }
        let is_full = state.full
            || matches!(&push.target, Target::Room(room)
                if state.full_rooms.contains(room.as_str()) || full.contains(room.as_str()));
        if late.is_none() {
            state.seen = state.seen.max(Some(position));
        }
        if state.draining {
            if late.is_none() {
                state.missing.insert(position);
            }
            return Outcome::Draining;
        }
        if is_full {
            if let Target::Room(room) = &push.target {
                full.insert(room.as_str().to_owned());
            }
            if late.is_none() {
                state.missing.insert(position);
            }
            return Outcome::Full { retry_after: Duration::from_millis(30) };
        }
        match late {
            Some(key) => drop(state.late.insert((position, key))),
            None => drop(state.missing.remove(&position)),
        }
        if state.unwritten {
            state.open.insert(position);
            return Outcome::Queued;
        }
        state.changed = true;
        self.deliver(state, position, &push)
    }

    fn deliver(&self, state: &mut State, position: Position, push: &Push) -> Outcome {
        let body = String::from_utf8(push.body.to_vec()).unwrap();
        match &push.target {
            Target::Keys(keys) => {
                for key in keys {
                    if let Some(client) = state.clients.get_mut(key) {
                        client.got.push(body.clone());
                        self.luck.lock().unwrap().got.entry(key.clone()).or_default().push(body.clone());
                    } else {
                        state.absent.push((position, key.clone()));
                        state.late.remove(&(position, key.clone()));
                    }
                }
            }
            Target::Room(room) => {
                self.luck.lock().unwrap().rooms.insert(body.clone());
                let members = state.clients.values_mut().filter(|c| c.room.as_deref() == Some(room.as_str()));
                let mut any = false;
                for client in members {
                    any = true;
                    client.got.push(body.clone());
                }
                if !any {
                    return Outcome::Absent;
                }
            }
            Target::All { speed } => {
                state.speed = *speed;
                state.clients.values_mut().for_each(|client| client.got.push(body.clone()));
            }
        }
        Outcome::Queued
    }
}

impl Comet for FakeComet {
    fn push(&self, _: Push) -> Answer<'_, Result<(), PushError>> {
        unreachable!("the job uses lanes")
    }

    fn open_lane(&self, _: LogId) -> Answer<'_, Result<Welcome, Away>> {
        Box::pin(async move {
            self.answers().await?;
            let mut state = self.state();
            state.lane = true;
            Ok(Welcome {
                incarnation: Incarnation(state.life),
                seen: state.seen,
                missing: state.missing.iter().copied().collect(),
            })
        })
    }

    fn take(&self, batch: Batch) -> Answer<'_, Result<Taken, Away>> {
        let lost = |when| Away(format!("the {when} was lost"));
        Box::pin(async move {
            self.answers().await?;
            if !self.lucky() || !self.state().lane {
                return Err(lost("request"));
            }
            let taken = self.take_now(batch);
            self.news.notify_waiters();
            if self.lucky() { Ok(taken) } else { Err(lost("answer")) }
        })
    }

    fn report(&self, _: LogId, seen: u64) -> Answer<'_, Result<Report, Away>> {
        Box::pin(async move {
            sleep(Duration::from_millis(100)).await;
            self.answers().await?;
            let waits = async {
                loop {
                    let mut word = std::pin::pin!(self.news.notified());
                    word.as_mut().enable();
                    if self.state().changed || self.state().dead {
                        return;
                    }
                    word.await;
                }
            };
            let _ = timeout(Duration::from_secs(5), waits).await;
            self.answers().await?;
            if !self.lucky() || !self.state().lane {
                return Err(Away("the report was lost".into()));
            }
            let mut state = self.state();
            let (number, told, before) = state.told;
            let from = if seen == number {
                told
            } else if seen == 0 {
                0
            } else {
                before
            };
            let from = from.min(state.absent.len());
            state.told = (number + 1, state.absent.len(), from);
            state.changed = false;
            Ok(Report {
                number: number + 1,
                count: state.count,
                open: state.open.iter().copied().collect(),
                end: None,
                absent: state.absent[from..].to_vec(),
            })
        })
    }

    fn switch(&self, _: Session, _: Flow) -> Answer<'_, Result<(), PushError>> {
        unreachable!("the job switches nobody")
    }

    fn explain(&self, inquiry: Inquiry) -> Answer<'_, Result<Testimony, Away>> {
        Box::pin(async move {
            self.answers().await?;
            let state = self.state();
            let absent = state.absent.iter().filter(|(position, _)| *position == inquiry.position);
            let note = |(_, key): &(Position, Key)| Note {
                key: Some(key.clone()),
                why: Unwritten::Absent,
                at: SystemTime::now(),
            };
            let here = inquiry.keys.iter().filter(|key| state.clients.contains_key(key));
            let present = |key: &Key| Present { key: key.clone(), takes: true, member: false, waits: false };
            Ok(Testimony {
                notes: absent.map(note).collect(),
                more: false,
                since: Some(SystemTime::UNIX_EPOCH),
                present: here.map(present).collect(),
            })
        })
    }

    fn trace(&self, traces: Traces) -> Answer<'_, Result<(), Away>> {
        Box::pin(async move {
            self.answers().await?;
            self.state().traced = traces.revision;
            Ok(())
        })
    }
}
