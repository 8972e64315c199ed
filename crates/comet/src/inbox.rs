//! How others reach a worker: two bounded queues and a bell.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anser_api::comet::{Flow, Inquiry, Testimony};
use anser_api::id::{Key, Session};
use anser_api::logic::{Connected, Refused};
use anser_wire::packet::Header;
use crossbeam_queue::ArrayQueue;
use tokio::sync::oneshot;

use crate::acceptor::Accepted;
use crate::channel::Channel;
use crate::directory;
use crate::foreign::Attached;
use crate::frame::Push;
use crate::renewal::Page;
use crate::slab::Handle;

/// Commands that concern connections. They come from inside, so their number is bounded by the number
/// of connections; when the queue is full the sender keeps the command and tries again.
#[derive(Debug)]
pub(crate) enum Control {
    /// A fresh socket, to be authenticated here.
    Accept(Accepted),
    /// Authentication did not answer at once, and has answered now.
    LoggedIn { handle: Handle, auth: Header, answer: Result<Connected, Refused> },
    /// A connection that authenticated on another worker and belongs here.
    Adopt(Box<Adoption>),
    /// A connection whose transport is a task.
    Attach(Box<Attached>),
    /// Bytes that such a transport received.
    Input { handle: Handle, bytes: Vec<u8> },
    /// Such a transport has room again.
    Writable(Handle),
    /// Such a transport is gone.
    Detach(Handle),
    /// Logic wants to know who is connected, from this slot on.
    Sessions { from: u32, answer: oneshot::Sender<Page> },
    /// An operator wants to know what became of a push.
    Inquire(Box<(Inquiry, oneshot::Sender<Testimony>)>),
}

/// A connection on its way to the worker of its key.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) channel: Channel,
    pub(crate) connected: Connected,
    pub(crate) auth: Header,
    /// Bytes that were read behind the authentication packet.
    pub(crate) early: Vec<u8>,
}

/// Commands that bring pushes. They come from outside, so a place is reserved first, and no place is
/// a refusal.
#[derive(Debug)]
pub(crate) enum Command {
    /// A push to connections of this worker.
    Keys { keys: Box<[Key]>, push: Arc<Push> },
    /// A push to a room with members on this worker.
    Room { room: Arc<directory::Shared>, push: Arc<Push> },
    /// A push to everyone; `speed` in connections a second for this worker, 0 for no limit.
    All { push: Arc<Push>, speed: u32 },
    /// Whether pullable pushes flow to a connection.
    Switch { session: Session, to: Flow },
}

/// Keys that take one place.
const KEYS_PER_PLACE: usize = 64;

/// Bytes that take one place.
const BYTES_PER_PLACE: usize = 16 << 10;

/// The places that a push to so many keys takes.
pub(crate) fn weight(keys: usize, push: &Push) -> usize {
    keys.div_ceil(KEYS_PER_PLACE).max(push.bytes(true).len().div_ceil(BYTES_PER_PLACE))
}

impl Command {
    fn weight(&self) -> usize {
        match self {
            Self::Keys { keys, push } => weight(keys.len(), push),
            Self::Room { push, .. } | Self::All { push, .. } => weight(1, push),
            Self::Switch { .. } => 1,
        }
    }
}

/// The receiving end belongs to one worker.
#[derive(Debug)]
pub(crate) struct Inbox {
    control: ArrayQueue<Control>,
    commands: ArrayQueue<Command>,
    reserved: AtomicUsize,
    waker: mio::Waker,
    rung: AtomicBool,
    /// Deliveries to rooms that wait on the worker.
    pub(crate) backlog: AtomicU64,
    /// When the worker's loop was last seen going, in microseconds since the start of the comet.
    pub(crate) beat: AtomicU64,
    /// What one delivery costs there at the moment, in nanoseconds.
    pub(crate) delivery_nanos: AtomicU64,
    /// Most bytes that wait for one connection there, or did since the worker looked last.
    pub(crate) largest: AtomicUsize,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker, commands: usize, control: usize) -> Self {
        Self {
            control: ArrayQueue::new(control),
            commands: ArrayQueue::new(commands),
            reserved: AtomicUsize::new(0),
            waker,
            rung: AtomicBool::new(false),
            backlog: AtomicU64::new(0),
            beat: AtomicU64::new(0),
            delivery_nanos: AtomicU64::new(1000),
            largest: AtomicUsize::new(0),
        }
    }

    /// Reserves places for a command: as many as it weighs, so that what waits is bounded in memory and
    /// not only in number. The first command is always taken, whatever it weighs.
    pub(crate) fn reserve(&self, weight: usize) -> bool {
        // In one order with the flag that says that the comet drains.
        let before = self.reserved.fetch_add(weight, Ordering::SeqCst);
        if before == 0 || before + weight <= self.commands.capacity() {
            return true;
        }
        self.cancel(weight);
        false
    }

    /// Gives reserved places back.
    pub(crate) fn cancel(&self, weight: usize) {
        self.reserved.fetch_sub(weight, Ordering::AcqRel);
    }

    /// Queues a command in a reserved place.
    pub(crate) fn send(&self, command: Command) {
        let pushed = self.commands.push(command);
        debug_assert!(pushed.is_ok(), "a reserved place was not there");
        self.ring();
    }

    /// Queues a control command, or gives it back when the queue is full.
    pub(crate) fn control(&self, control: Control) -> Result<(), Control> {
        self.control.push(control)?;
        self.ring();
        Ok(())
    }

    /// Wakes the worker, unless it has been told already.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // The bell is a counter in the kernel: it fails only when the process is out of descriptors
            // at creation, never here; the worker looks once a second anyway.
            let _: io::Result<()> = self.waker.wake();
        }
    }

    /// To be called by the worker before it takes commands.
    pub(crate) fn answer_bell(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn take_control(&self) -> Option<Control> {
        self.control.pop()
    }

    pub(crate) fn take_command(&self) -> Option<Command> {
        let command = self.commands.pop()?;
        self.cancel(command.weight());
        Some(command)
    }

    /// Whether pushes wait.
    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Whether anything waits here, or has a place reserved and is about to come.
    pub(crate) fn is_expecting(&self) -> bool {
        self.reserved.load(Ordering::SeqCst) > 0 || !self.control.is_empty()
    }

    /// Commands that wait.
    pub(crate) fn depth(&self) -> usize {
        self.commands.len() + self.control.len()
    }

    /// About how long the deliveries that wait here will take, in microseconds.
    pub(crate) fn backlog_micros(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed) * self.delivery_nanos.load(Ordering::Relaxed) / 1000
    }
}
