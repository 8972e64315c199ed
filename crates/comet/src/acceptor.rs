//! The thread that accepts.
//!
//! It ends only when it is told to. No error of `accept` stops it: out of descriptors or memory, it
//! waits a moment and goes on, and the kernel's queue holds whoever waits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tracing::warn;

use crate::admission::{Rate, Refusal};
use crate::inbox::Control;
use crate::quiet::Quiet;
use crate::shared::Shared;
use crate::socket::abort_on_close;

/// After an error that will last a while.
const PAUSE: Duration = Duration::from_millis(50);

const WAKER: Token = Token(usize::MAX);

/// A fresh socket.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: TcpStream,
    pub(crate) remote: SocketAddr,
    pub(crate) kind: Kind,
}

/// What the clients of an address speak, and how they are written to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) websocket: bool,
    pub(crate) one_write_per_packet: bool,
}

/// A bound address.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) kind: Kind,
}

/// Ends the thread.
#[derive(Debug)]
pub(crate) struct Stop {
    flag: AtomicBool,
    waker: mio::Waker,
}

impl Stop {
    pub(crate) fn stop(&self) {
        self.flag.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

/// Accepts on all listeners and deals the sockets out to the workers in turn.
pub(crate) struct Acceptor {
    poll: Poll,
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
    stop: Arc<Stop>,
    rate: Rate,
    next_worker: usize,
    /// A socket for which a worker had no place yet.
    parked: Option<Accepted>,
    errors: Quiet,
    refusals: Quiet,
}

impl Acceptor {
    pub(crate) fn new(mut listeners: Vec<Listener>, shared: Arc<Shared>) -> io::Result<(Self, Arc<Stop>)> {
        let poll = Poll::new()?;
        for (at, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(&mut listener.socket, Token(at), Interest::READABLE)?;
        }
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        let stop = Arc::new(Stop { flag: AtomicBool::new(false), waker });
        let rate = Rate::new(shared.config.handshakes_per_second, shared.now());
        let acceptor = Self {
            poll,
            listeners,
            shared,
            stop: stop.clone(),
            rate,
            next_worker: 0,
            parked: None,
            errors: Quiet::default(),
            refusals: Quiet::default(),
        };
        Ok((acceptor, stop))
    }

    /// Runs until it is stopped.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(16);
        // Whether a listener may have more than was taken. Readiness comes once, so this is remembered.
        let mut ready = vec![true; self.listeners.len()];
        let mut first = 0_usize;
        let mut wait = None;
        while !self.stop.flag.load(Ordering::Acquire) {
            let timeout = wait.or(if ready.contains(&true) { Some(Duration::ZERO) } else { None });
            if let Err(cause) = self.poll.poll(&mut events, timeout) {
                if cause.kind() != io::ErrorKind::Interrupted {
                    self.warn(&cause);
                    std::thread::park_timeout(PAUSE);
                }
                continue;
            }
            for event in &events {
                if event.token() != WAKER {
                    ready[event.token().0] = true;
                }
            }
            wait = None;
            // Another one begins each time: what there is for all of them goes to each in turn.
            first += 1;
            for n in 0..ready.len() {
                let at = (first + n) % ready.len();
                if ready[at] && wait.is_none() {
                    match self.accept_some(at) {
                        Next::Drained => ready[at] = false,
                        Next::More => {}
                        Next::Wait(time) => wait = Some(time),
                    }
                }
            }
        }
    }

    fn accept_some(&mut self, at: usize) -> Next {
        for _ in 0..256 {
            if let Some(parked) = self.parked.take()
                && !self.deal(parked)
            {
                return Next::Wait(Duration::from_millis(1));
            }
            if let Err(millis) = self.rate.look(self.shared.now()) {
                return Next::Wait(Duration::from_millis(millis));
            }
            let listener = &self.listeners[at];
            let kind = listener.kind;
            match listener.socket.accept() {
                Ok((socket, from)) => self.admit(socket, from, kind),
                Err(cause) => match cause.kind() {
                    io::ErrorKind::WouldBlock => return Next::Drained,
                    // The connection died in the queue, or a signal came: the next one is there already.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        self.shared.stats.accept_errors.fetch_add(1, Ordering::Relaxed);
                        self.warn(&cause);
                        return Next::Wait(PAUSE);
                    }
                },
            }
        }
        Next::More
    }

    fn admit(&mut self, socket: TcpStream, from: SocketAddr, kind: Kind) {
        let remote = from.ip().to_canonical();
        if let Err(refusal) = self.shared.admission.enter(remote) {
            let name = match refusal {
                Refusal::Full => "max_connections",
                Refusal::FullForAddress => "max_connections_per_ip",
            };
            self.shared.stats.refused(name);
            if let Some(unsaid) = self.refusals.may_speak(Instant::now()) {
                let open = self.shared.admission.open();
                warn!(%remote, limit = %format_args!("comet.{name}"), open, unsaid, "refused a connection: a limit is reached");
            }
            abort_on_close(&socket);
            return;
        }
        // Only who comes in uses up the rate: one address cannot take it from all others.
        self.rate.take();
        self.shared.stats.accepted.fetch_add(1, Ordering::Relaxed);
        self.deal(Accepted { socket, remote: SocketAddr::new(remote, from.port()), kind });
    }

    /// Gives a socket to the next worker; parks it, and says false, when that one has no place.
    fn deal(&mut self, accepted: Accepted) -> bool {
        let inboxes = &self.shared.inboxes;
        self.next_worker = (self.next_worker + 1) % inboxes.len();
        match inboxes[self.next_worker].control(Control::Accept(accepted)) {
            Err(Control::Accept(accepted)) => {
                self.parked = Some(accepted);
                false
            }
            _ => true,
        }
    }

    fn warn(&mut self, cause: &io::Error) {
        if let Some(unsaid) = self.errors.may_speak(Instant::now()) {
            warn!(
                error = %cause,
                open = self.shared.admission.open(),
                unsaid,
                "cannot accept a connection; trying again. If it stays, raise the limit on open files"
            );
        }
    }
}

enum Next {
    /// The kernel's queue is empty.
    Drained,
    /// There may be more.
    More,
    /// Not before this time.
    Wait(Duration),
}
