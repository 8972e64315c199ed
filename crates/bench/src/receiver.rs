//! A process of the fleet: thousands of connections on one epoll loop, which counts what they get.
//!
//! In the steady state it makes no system call but `epoll_wait` and `recv`, and allocates nothing: it
//! shares the machine with the server that it measures.

pub(crate) mod churn;
pub(crate) mod dial;
pub(crate) mod link;
mod pulse;
mod tally;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, Read, Write};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anser_wire::limits::Limits;
use anyhow::Context;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use self::link::{Link, Phase};
use self::pulse::Pulse;
use self::tally::{Ledger, Tally};
use crate::control::{Appetite, Command, Connected, Connections, Reply};
use crate::helper::reply;
use crate::{clock, placement};

/// The token of the thread that reads commands.
const COMMANDS: Token = Token(usize::MAX);

/// Events that one `epoll_wait` may bring. More would make the first of them wait for the last.
const EVENTS: usize = 1024;

/// The one read buffer, in bytes. What a connection may have pending when the server merges writes.
const BUFFER: usize = 256 << 10;

/// How long a connection may take until it is authenticated.
const HANDSHAKE: u64 = 10_000_000_000;

/// How long after a failure a connection is tried again, and how often.
const RETRY: u64 = 200_000_000;
const ATTEMPTS: u32 = 5;

const SECOND: u64 = 1_000_000_000;

/// Runs until standard input ends.
pub(crate) fn run() -> anyhow::Result<()> {
    placement::open_files(0)?;
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), COMMANDS)?);
    let (sender, commands) = sync_channel(64);
    thread::spawn(move || read_commands(&sender, &waker));
    let mut process = Process::new(poll);
    process.serve(&commands).inspect_err(|error| {
        tell(&Reply::Failed(format!("{error:#}")));
    })
}

/// Reads standard input. Its end means that the parent has gone, and this process with it.
fn read_commands(sender: &SyncSender<Command>, waker: &Waker) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(command) => {
                if sender.send(command).is_err() || waker.wake().is_err() {
                    break;
                }
            }
            Err(error) => {
                tell(&Reply::Failed(format!("not a command: {error}: {line}")));
            }
        }
    }
    process::exit(0);
}

/// One connection.
#[derive(Debug)]
struct Connection {
    link: Link,
    /// `None` before the first attempt, between two, and once the server has closed.
    socket: Option<TcpStream>,
    ledger: Ledger,
    /// When this attempt began.
    since: u64,
    /// Attempts that failed.
    attempts: u32,
}

#[derive(Debug)]
struct Process {
    poll: Poll,
    plan: Option<Connections>,
    /// The host header of upgrades.
    host: String,
    connections: Vec<Connection>,
    /// Indices whose attempt runs, in the order of their start.
    under_way: VecDeque<usize>,
    /// Indices to be tried again, and when.
    again: VecDeque<(u64, usize)>,
    /// How many of `connections` are between their start and [`Phase::Live`].
    pending: usize,
    connected: Connected,
    /// Whether [`Reply::Connected`] is still owed.
    connecting: bool,
    tally: Tally,
    pulses: [Option<Pulse>; 2],
    /// When the connections with [`Appetite::Byte`] read next.
    nibble: u64,
    limits: Limits,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Process {
    fn new(poll: Poll) -> Self {
        Self {
            poll,
            plan: None,
            host: String::new(),
            connections: Vec::new(),
            under_way: VecDeque::new(),
            again: VecDeque::new(),
            pending: 0,
            connected: Connected::default(),
            connecting: false,
            tally: Tally::new(),
            pulses: [None; 2],
            nibble: u64::MAX,
            limits: link::limits(),
            buffer: vec![0; BUFFER],
            out: Vec::new(),
        }
    }

    fn serve(&mut self, commands: &Receiver<Command>) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout =
                self.next_deadline().map(|at| Duration::from_nanos(at.saturating_sub(clock::now())));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if event.token() == COMMANDS {
                    while let Ok(command) = commands.try_recv() {
                        self.command(command)?;
                    }
                } else {
                    self.event(event);
                }
            }
            self.timers()?;
        }
    }

    fn command(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Connect(plan) => self.plan(plan),
            Command::Watch(on) => self.tally.watch(if on { self.connected.live } else { 0 }),
            Command::Beat { spread_ms } => {
                self.pulses[1] = Pulse::once(self.connections.len(), spread_ms, clock::now());
            }
            Command::Count => reply(&Reply::Count(self.tally.count()))?,
            Command::Report => {
                let plan = self.plan.as_ref();
                let ledgers = self.connections.iter_mut().enumerate().filter_map(|(index, connection)| {
                    let plan = plan.filter(|plan| plan.rooms > 0 && connection.socket.is_some())?;
                    Some((dial::room(plan.first + index as u64, plan.rooms), &mut connection.ledger))
                });
                reply(&Reply::Report(Box::new(self.tally.report(ledgers))))?;
            }
            Command::Churn(churn) => reply(&Reply::Churned(Box::new(churn::run(&churn)?)))?,
        }
        Ok(())
    }

    fn plan(&mut self, plan: Connections) {
        self.host = plan.address.to_string();
        self.connections.reserve_exact(plan.count as usize);
        self.connecting = true;
        if plan.appetite == Appetite::Byte {
            self.nibble = clock::now() + SECOND;
        }
        self.plan = Some(plan);
    }

    fn next_deadline(&self) -> Option<u64> {
        let pulses = self.pulses.iter().flatten().map(Pulse::due);
        let again = self.again.front().map(|(at, _)| *at);
        let handshake = self.under_way.front().map(|index| self.connections[*index].since + HANDSHAKE);
        let nibble = (self.nibble < u64::MAX).then_some(self.nibble);
        // A plan that is not complete is looked at after each event, and at once when it is new.
        let start = self.may_start().then_some(0);
        pulses.chain(again).chain(handshake).chain(nibble).chain(start).min()
    }

    /// Whether another connection may be begun now.
    fn may_start(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| {
            self.pending < plan.window && (self.connections.len() as u64) < plan.count && self.connecting
        })
    }

    fn timers(&mut self) -> anyhow::Result<()> {
        while self.may_start() {
            let Some(plan) = &self.plan else { break };
            let link = Link::new(plan.transport);
            self.connections.push(Connection {
                link,
                socket: None,
                ledger: Ledger::default(),
                since: 0,
                attempts: 0,
            });
            self.pending += 1;
            self.attempt(self.connections.len() - 1)?;
        }
        if self.connecting || !self.under_way.is_empty() {
            self.watch_handshakes()?;
        }
        let now = clock::now();
        for at in 0..self.pulses.len() {
            while let Some(pulse) = self.pulses[at].filter(|pulse| pulse.due() <= now) {
                self.beat(pulse.turn());
                self.pulses[at] = pulse.next();
            }
        }
        if now >= self.nibble {
            self.nibble = now + SECOND;
            for connection in &mut self.connections {
                if let Some(socket) = &mut connection.socket {
                    // Whether there was a byte does not matter; a close shows as an event.
                    let _ = socket.read(&mut [0]);
                }
            }
        }
        Ok(())
    }

    fn watch_handshakes(&mut self) -> anyhow::Result<()> {
        let now = clock::now();
        while let Some(&(_, index)) = self.again.front().filter(|(at, _)| *at <= now) {
            self.again.pop_front();
            self.attempt(index)?;
        }
        while let Some(&index) = self.under_way.front() {
            let connection = &self.connections[index];
            let on_its_way = connection.socket.is_some() && connection.link.phase() != Phase::Live;
            if on_its_way && now < connection.since + HANDSHAKE {
                break;
            }
            self.under_way.pop_front();
            if on_its_way {
                self.lost(index, "not authenticated within 10 s");
            }
        }
        let Some(plan) = self.plan.as_ref().filter(|_| self.connecting) else { return Ok(()) };
        if self.pending == 0 && self.connections.len() as u64 == plan.count {
            self.connecting = false;
            self.pulses[0] = Pulse::endless(self.connections.len(), plan.heartbeat_ms, clock::now());
            reply(&Reply::Connected(self.connected.clone()))?;
        }
        Ok(())
    }

    /// Starts to connect.
    fn attempt(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let slow = plan.appetite != Appetite::All;
        let mut socket = match dial::dial(plan.address, plan.first + index as u64, slow) {
            Ok(socket) => socket,
            Err(error) => {
                self.lost(index, &error.to_string());
                return Ok(());
            }
        };
        self.poll
            .registry()
            .register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)
            .context("cannot register a socket with epoll")?;
        let connection = &mut self.connections[index];
        connection.link = Link::new(plan.transport);
        connection.socket = Some(socket);
        connection.since = clock::now();
        self.under_way.push_back(index);
        Ok(())
    }

    /// A connection has ended: an attempt that is repeated, or a live one that the server closed.
    fn lost(&mut self, index: usize, reason: &str) {
        let connection = &mut self.connections[index];
        connection.socket = None;
        if connection.link.phase() == Phase::Live {
            self.tally.closed();
            return;
        }
        count(&mut self.connected.errors, reason);
        connection.attempts += 1;
        if connection.attempts == ATTEMPTS {
            self.pending -= 1;
            return;
        }
        self.again.push_back((clock::now() + RETRY, index));
    }

    fn event(&mut self, event: &Event) {
        let index = event.token().0;
        if let Err(reason) = self.advance(index, event) {
            self.lost(index, &reason);
        }
    }

    /// Does what the socket is ready for. An error says why the connection has ended.
    fn advance(&mut self, index: usize, event: &Event) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let Some(socket) = &mut connection.socket else { return Ok(()) };
        let number = self.plan.as_ref().map_or(0, |plan| plan.first) + index as u64;
        if connection.link.phase() == Phase::Connecting {
            if !is_connected(socket).map_err(words)? {
                return Ok(());
            }
            self.out.clear();
            let token = token(self.plan.as_ref(), number);
            connection.link.opened(number, &self.host, &token, &mut self.out);
            socket.write_all(&self.out).map_err(words)?;
        }
        let closed = event.is_error() || event.is_read_closed() || event.is_write_closed();
        let reads = self.plan.as_ref().is_none_or(|plan| plan.appetite == Appetite::All);
        if reads || connection.link.phase() != Phase::Live {
            return self.read(index, number, closed);
        }
        if closed { Err("closed".into()) } else { Ok(()) }
    }

    /// Reads what there is; up to the end of the stream when the server has `closed`.
    fn read(&mut self, index: usize, number: u64, closed: bool) -> Result<(), String> {
        let connection = &mut self.connections[index];
        let Some(socket) = &mut connection.socket else { return Ok(()) };
        loop {
            let read = match socket.read(&mut self.buffer) {
                Ok(0) => return Err("closed by the server before its reply".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(words(error)),
            };
            let now = clock::now();
            self.tally.read();
            self.out.clear();
            let was_live = connection.link.phase() == Phase::Live;
            let (tally, ledger, plan) = (&mut self.tally, &mut connection.ledger, self.plan.as_ref());
            let mut complete = None;
            connection.link.read(
                number,
                &mut self.buffer[..read],
                &self.limits,
                || token(plan, number),
                &mut self.out,
                |packet| complete = tally.packet(ledger, packet, now).or(complete),
            )?;
            if !was_live && connection.link.phase() == Phase::Live {
                self.pending -= 1;
                self.connected.live += 1;
                if self.connected.live.is_multiple_of(500) {
                    tell(&Reply::Progress(self.connected.live));
                }
            }
            if !self.out.is_empty() {
                socket.write_all(&self.out).map_err(words)?;
            }
            if let Some(seq) = complete {
                tell(&Reply::Complete { seq, at: now });
            }
            // Fewer bytes than asked for: the socket is empty, and epoll tells when that changes.
            if read < self.buffer.len() && !closed {
                return Ok(());
            }
        }
    }

    fn beat(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if let Some(socket) = &mut connection.socket
            && connection.link.phase() == Phase::Live
        {
            self.out.clear();
            connection.link.heartbeat(&mut self.out);
            // A socket that takes no 40 bytes is full because the server has stalled; the answers are
            // counted, and one will be missing.
            let _ = socket.write_all(&self.out);
        }
    }
}

/// A reply that the loop does not wait for. Without a parent, standard input ends and this process too.
fn tell(message: &Reply) {
    let _ = reply(message);
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn words(error: io::Error) -> String {
    error.to_string()
}

/// Whether a socket that has become writable is connected. `false` after a wake-up without a reason.
fn is_connected(socket: &TcpStream) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// What connection `number` authenticates with.
fn token(plan: Option<&Connections>, number: u64) -> String {
    let user = plan.and_then(|plan| plan.user).unwrap_or_else(|| dial::user(number));
    let room = plan.filter(|plan| plan.rooms > 0).map(|plan| dial::room(number, plan.rooms));
    dial::token(number, user, room)
}

/// Counts an error by its words.
fn count(errors: &mut BTreeMap<String, u64>, reason: &str) {
    match errors.get_mut(reason) {
        Some(count) => *count += 1,
        None => {
            errors.insert(reason.to_owned(), 1);
        }
    }
}
