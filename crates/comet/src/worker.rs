//! A worker: one thread that owns its connections, their rooms and their keys outright.
//!
//! The loop fits on a screen: wait, answer sockets, take commands, write a bounded piece of the large
//! pushes, look at the clock. Nothing in it waits for anybody.

mod clients;
mod deliver;
mod lifecycle;
mod room;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anser_api::Answer;
use anser_api::id::Key;
use anser_wire::time::Instant;
use hashbrown::HashTable;
use mio::{Events, Poll, Token};
use tracing::{debug, error, warn};

use crate::channel::Channel;
use crate::frame::Push;
use crate::inbox::{Control, Inbox};
use crate::login::Question;
use crate::notes::Notes;
use crate::quiet::Quiet;
use crate::shared::Shared;
use crate::slab::{Handle, Slab};
use crate::stats::Lost;
use crate::wheel::{Fifo, Wheel};
use deliver::{Everyone, Paced, TURN_TIME};
use room::Room;

/// The token of the inbox's bell. No connection has it: its generation would need 32 bits.
pub(crate) const BELL: Token = Token(usize::MAX);

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// Bytes read from one socket at once. Large enough that nearly every read is the last.
const READ_BUFFER: usize = 64 << 10;

/// Work that is done in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Room(Handle),
    Everyone,
}

/// Counts of one turn, added to the shared ones at its end.
#[derive(Debug, Default)]
struct Tally {
    /// Deliveries that were to be made; each then counts as one of the others, or waits.
    due: u64,
    delivered: u64,
    bytes: u64,
    writes: u64,
    packets: u64,
    filtered: u64,
    /// Keys that were not here.
    absent: u64,
    /// Pushes left for their receivers to pull.
    pulled: u64,
    /// Change in pushes that wait for connections.
    waiting: isize,
    /// Change in bytes that wait for connections.
    outbound: isize,
    /// When the pushes that were just written had been accepted.
    accepted: Vec<std::time::Instant>,
}

/// Kinds of lines in the log that clients cause.
#[derive(Debug, Default)]
struct Lines {
    refused: Quiet,
    slow: Quiet,
    budget: Quiet,
    rooms: Quiet,
}

pub(crate) struct Worker {
    id: usize,
    pub(crate) shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    poll: Poll,
    now: Instant,
    pub(crate) channels: Slab<Channel>,
    /// Slots of authenticated connections, by key.
    keys: HashTable<u32>,
    rooms: Slab<Room>,
    jobs: VecDeque<Job>,
    everyone: Everyone,
    paced: VecDeque<Paced>,
    /// A push to many keys that is under way, and how far it is.
    keyed: Option<(Box<[Key]>, usize, Arc<Push>)>,
    /// Connections to flush at the end of the turn.
    touched: Vec<u32>,
    /// Connections that have something to read, in the order in which it came.
    readable: VecDeque<u32>,
    /// Bytes that came behind an authentication packet whose answer is not there yet.
    early: HashMap<u32, Vec<u8>>,
    wheel: Wheel,
    handshakes: Fifo,
    lingering: Fifo,
    /// Commands for other workers whose queue was full.
    deferred: VecDeque<(usize, Control)>,
    /// News for other roles for which the lane had no place: of ends of connections, and of `LIVE` from
    /// clients as long as there are few.
    news: VecDeque<Answer<'static, ()>>,
    buffer: Box<[u8]>,
    /// Replies to what is being read.
    out: Vec<u8>,
    /// The body of the packet that is being handled.
    body: Vec<u8>,
    /// Members that are being served.
    slots: Vec<u32>,
    tally: Tally,
    quiet: Lines,
    /// What was not written, and why.
    pub(crate) notes: Notes,
    /// Who is traced, by its revision, and the connections here that are.
    pub(crate) traces: u64,
    pub(crate) traced: Vec<u32>,
    /// Most bytes that have waited for one connection since all were looked at.
    largest: usize,
    /// Set when draining: when to give up.
    drain: Option<Instant>,
    said_goodbye: bool,
}

impl Worker {
    pub(crate) fn new(id: usize, poll: Poll, shared: Arc<Shared>) -> Self {
        let now = shared.now();
        let notes = shared.config.notes.div_ceil(shared.inboxes.len());
        Self {
            id,
            inbox: shared.inboxes[id].clone(),
            shared,
            poll,
            now,
            channels: Slab::new(),
            keys: HashTable::new(),
            rooms: Slab::new(),
            jobs: VecDeque::new(),
            everyone: Everyone::default(),
            paced: VecDeque::new(),
            keyed: None,
            touched: Vec::new(),
            readable: VecDeque::new(),
            early: HashMap::new(),
            wheel: Wheel::new(now),
            handshakes: Fifo::default(),
            lingering: Fifo::default(),
            deferred: VecDeque::new(),
            news: VecDeque::new(),
            buffer: vec![0; READ_BUFFER].into(),
            out: Vec::new(),
            body: Vec::new(),
            slots: Vec::new(),
            tally: Tally::default(),
            quiet: Lines::default(),
            notes: Notes::new(notes),
            traces: 0,
            traced: Vec::new(),
            largest: 0,
            drain: None,
            said_goodbye: false,
        }
    }

    /// Runs until everything is drained.
    pub(crate) fn run(mut self) {
        let runtime = self.shared.runtime.clone();
        let _inside = runtime.enter();
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_drained() {
            let timeout = self.timeout();
            if let Err(cause) = self.poll.poll(&mut events, Some(timeout))
                && cause.kind() != io::ErrorKind::Interrupted
            {
                error!(worker = self.id, error = %cause, "cannot wait for events");
                std::thread::park_timeout(Duration::from_millis(10));
            }
            self.now = self.shared.now();
            self.inbox.beat.store(self.shared.micros(), Ordering::Relaxed);
            self.inbox.answer_bell();
            self.follow_traces();
            if self.drain.is_none() && self.shared.is_draining() {
                self.drain = Some(self.now + self.shared.config.drain_limit.0);
            }
            for event in &events {
                if event.token() != BELL {
                    let handle = Handle::from_token(event.token());
                    let hangup = event.is_error() || event.is_read_closed();
                    self.socket_event(handle, event.is_readable(), event.is_writable(), hangup);
                }
            }
            self.read_some();
            self.take_control();
            self.take_commands();
            self.flush_touched();
            self.work();
            self.timers();
            self.settle();
            if !self.jobs.is_empty() {
                // Whoever brings pushes or reads them may need this processor. With none to spare, a push
                // to one connection beside a busy room waits here, not in a queue of ours.
                std::thread::yield_now();
            }
        }
        debug!(worker = self.id, "worker ended");
    }

    /// How long to wait for events.
    fn timeout(&self) -> Duration {
        let has_work = !self.jobs.is_empty()
            || self.keyed.is_some()
            || !self.readable.is_empty()
            || self.inbox.depth() > 0;
        if has_work {
            return Duration::ZERO;
        }
        let mut next = self.wheel.next();
        let timers = [self.handshakes.next(self.now), self.lingering.next(self.now)];
        for deadline in timers.into_iter().flatten() {
            next = next.min(deadline);
        }
        let mut timeout = next.since(self.shared.now());
        for paced in &self.paced {
            timeout = timeout.min(if self.drain.is_some() { Duration::ZERO } else { paced.wait() });
        }
        if !self.deferred.is_empty() || !self.news.is_empty() {
            timeout = timeout.min(Duration::from_millis(1));
        }
        if self.drain.is_some() {
            timeout = timeout.min(Duration::from_millis(20));
        }
        timeout
    }

    fn take_control(&mut self) {
        let began = std::time::Instant::now();
        while began.elapsed() < TURN_TIME {
            let Some(control) = self.inbox.take_control() else { break };
            self.pushes_first();
            match control {
                Control::Accept(accepted) => self.accept(accepted),
                Control::LoggedIn { handle, auth, answer } => self.logged_in(handle, auth, answer),
                Control::Adopt(adoption) => self.adopt_from_elsewhere(*adoption),
                Control::Attach(attached) => self.attach(*attached),
                Control::Input { handle, mut bytes } => {
                    if let Some(slot) = self.channels.resolve(handle) {
                        self.input(slot, &mut bytes);
                    }
                }
                Control::Writable(handle) => self.socket_event(handle, false, true, false),
                Control::Sessions { from, answer } => {
                    // Whoever asked may have given up.
                    let _ = answer.send(self.sessions_from(from));
                }
                Control::Inquire(asked) => {
                    let (inquiry, answer) = *asked;
                    let _ = answer.send(self.testify(&inquiry));
                }
                Control::Detach(handle) => {
                    if let Some(slot) = self.channels.resolve(handle) {
                        self.remove(slot, "peer");
                    }
                }
            }
        }
    }

    /// A push does not wait until all who came in or said something before it have been served.
    fn pushes_first(&mut self) {
        if self.inbox.has_commands() {
            self.take_commands();
            self.flush_touched();
        }
    }

    fn timers(&mut self) {
        for handle in self.wheel.expired(self.now) {
            let Some(slot) = self.channels.resolve(handle) else { continue };
            let Some(channel) = self.channels.get(slot) else { continue };
            if channel.wire.is_closing() {
                // It has an entry among the lingering ones.
            } else if channel.wire.deadline() > self.now {
                self.wheel.arm(handle, channel.wire.deadline());
            } else {
                self.time_out(slot);
            }
            // A task whose word did not get through is found here.
            self.retry_foreign(slot);
        }
        while let Some(handle) = self.handshakes.pop_expired(self.now) {
            if let Some(slot) = self.channels.resolve(handle)
                && self.channels.get(slot).is_some_and(|channel| channel.session.is_none())
            {
                self.late(slot);
            }
        }
        while let Some(handle) = self.lingering.pop_expired(self.now) {
            if let Some(slot) = self.channels.resolve(handle) {
                self.remove(slot, "linger");
            }
        }
    }

    /// The end of a turn: what could not be handed on is tried again, counts are published, the budget
    /// is kept.
    fn settle(&mut self) {
        for _ in 0..self.deferred.len() {
            let Some((worker, control)) = self.deferred.pop_front() else { break };
            if let Err(control) = self.shared.inboxes[worker].control(control) {
                self.deferred.push_back((worker, control));
            }
        }
        while let Some(answer) = self.news.pop_front() {
            if let Err(back) = self.shared.lane.try_send(Question::News(answer)) {
                if let Question::News(answer) = back.into_inner() {
                    self.news.push_front(answer);
                }
                break;
            }
        }
        let stats = &self.shared.stats;
        let tally = &mut self.tally;
        if !tally.accepted.is_empty() {
            let now = std::time::Instant::now();
            for accepted in tally.accepted.drain(..) {
                stats.latency.record(now.saturating_duration_since(accepted), 1);
            }
        }
        for (counter, value) in [
            (&stats.due, &mut tally.due),
            (&stats.delivered, &mut tally.delivered),
            (&stats.written_bytes, &mut tally.bytes),
            (&stats.writes, &mut tally.writes),
            (&stats.packets, &mut tally.packets),
            (&stats.filtered, &mut tally.filtered),
            (&stats.absent, &mut tally.absent),
            (&stats.pulled, &mut tally.pulled),
        ] {
            if *value > 0 {
                counter.fetch_add(std::mem::take(value), Ordering::Relaxed);
            }
        }
        if tally.waiting != 0 {
            // Two's complement, as for the bytes.
            let change = std::mem::take(&mut tally.waiting) as u64;
            stats.waiting.fetch_add(change, Ordering::Relaxed);
        }
        if self.inbox.largest.load(Ordering::Relaxed) < self.largest {
            self.inbox.largest.store(self.largest, Ordering::Relaxed);
        }
        let grows = self.tally.outbound > 0;
        if self.publish_outbound() > self.shared.config.outbound_budget
            && (grows || self.shared.worst() == self.id)
        {
            self.keep_budget();
        }
    }

    /// Adds this worker's change to the bytes that wait for all connections; how many those are.
    fn publish_outbound(&mut self) -> usize {
        let change = std::mem::take(&mut self.tally.outbound);
        if change == 0 {
            return self.shared.outbound_bytes.load(Ordering::Relaxed);
        }
        // Two's complement: adding a negative change wraps to a subtraction.
        let before = self.shared.outbound_bytes.fetch_add(change as usize, Ordering::Relaxed);
        before.wrapping_add(change as usize)
    }

    /// Closes the connections for which most waits, until a tenth of the budget is free again. While
    /// another worker has a worse one, it is that one's turn.
    fn keep_budget(&mut self) {
        let mut waiting: Vec<(usize, u32)> = self
            .channels
            .occupied()
            .filter_map(|(slot, channel)| Some((channel.outbound.as_ref()?.bytes(), slot)))
            .collect();
        waiting.sort_unstable();
        while self.publish_outbound() > self.shared.config.outbound_budget / 10 * 9 {
            self.largest = waiting.last().map_or(0, |(bytes, _)| *bytes);
            self.inbox.largest.store(self.largest, Ordering::Relaxed);
            let worst = self.shared.worst();
            if worst != self.id {
                self.shared.inboxes[worst].ring();
                return;
            }
            let Some((waits, slot)) = waiting.pop() else { return };
            if let Some(channel) = self.channels.get(slot)
                && let Some(unsaid) = self.quiet.budget.may_speak(std::time::Instant::now())
            {
                let (remote, key) = (channel.from(), channel.key());
                warn!(%remote, key, waits, unsaid, "closed the slowest client: comet.outbound_budget is reached");
            }
            self.remove_for(slot, "budget", Lost::Budget);
        }
    }

    fn is_drained(&mut self) -> bool {
        let Some(deadline) = self.drain else { return false };
        let served = self.jobs.is_empty() && self.keyed.is_none() && self.paced.is_empty();
        let idle = served && !self.inbox.is_expecting();
        if !self.said_goodbye && (idle || self.now >= deadline) {
            self.said_goodbye = true;
            if !idle {
                self.give_up();
            }
            self.say_goodbye();
        }
        let done = self.said_goodbye && (self.channels.len() == 0 || self.now >= deadline);
        if done {
            let left: Vec<u32> = self.channels.occupied().map(|(slot, _)| slot).collect();
            let waits: usize =
                self.channels.occupied().filter_map(|(_, c)| Some(c.outbound.as_ref()?.bytes())).sum();
            if waits > 0 {
                warn!(
                    worker = self.id,
                    cut = left.len(),
                    bytes = waits,
                    "clients had not taken everything at comet.drain_limit"
                );
            }
            for slot in left {
                self.remove(slot, "drain_limit");
            }
            self.largest = 0;
            self.inbox.largest.store(0, Ordering::Relaxed);
            self.settle();
        }
        done
    }
}
