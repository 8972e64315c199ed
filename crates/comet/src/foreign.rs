//! Connections whose transport is a task and not a socket of the worker: what long polling, server-sent
//! events, QUIC and WebTransport attach through.
//!
//! The task gets packets in order from a bounded queue, which is to the worker what a socket's send
//! buffer is: when it is full the pushes wait on the worker, under the same bounds and the same rules
//! of overflow as for a socket. It hands in what its client sends as goim packets.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anser_api::logic::Connected;
use anser_wire::packet::{Header, Packet};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::inbox::{Control, Inbox};
use crate::slab::Handle;

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Link {
    items: mpsc::Sender<Bytes>,
    full: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
}

impl Link {
    pub(crate) fn send(&mut self, item: Bytes) -> io::Result<()> {
        // The flag is up before the queue is tried: a task that takes the last item in between sees it.
        self.full.store(true, Ordering::SeqCst);
        match self.items.try_send(item) {
            Ok(()) => {
                self.full.store(false, Ordering::SeqCst);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => Err(io::ErrorKind::WouldBlock.into()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Says whether requests rest until answers have been taken.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }
}

/// A connection that asks to be taken in.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) connected: Connected,
    pub(crate) remote: IpAddr,
    pub(crate) auth: Header,
    pub(crate) link: Link,
    pub(crate) handle: oneshot::Sender<Handle>,
}

/// The task's end of a connection. Dropping it ends the connection.
#[derive(Debug)]
pub struct Foreign {
    items: mpsc::Receiver<Bytes>,
    full: Arc<AtomicBool>,
    /// Too many answers wait for more requests.
    paused: Arc<AtomicBool>,
    inbox: Arc<Inbox>,
    handle: Handle,
    /// The worker had no place for the word that there is room again.
    owed: bool,
}

impl Foreign {
    /// Both ends: what the worker keeps, and what becomes a [`Foreign`] once it has a handle.
    pub(crate) fn pair(capacity: usize) -> (Link, impl FnOnce(Arc<Inbox>, Handle) -> Self) {
        let (sender, items) = mpsc::channel(capacity);
        let full = Arc::new(AtomicBool::new(false));
        let paused = Arc::new(AtomicBool::new(false));
        let link = Link { items: sender, full: full.clone(), paused: paused.clone() };
        (link, move |inbox, handle| Self { items, full, paused, inbox, handle, owed: false })
    }

    /// The next packet for the client, or `None` when the connection is over.
    pub async fn next(&mut self) -> Option<Bytes> {
        while self.owed && self.items.is_empty() && !self.items.is_closed() {
            // Without the word nothing more may come.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.say_writable();
        }
        let item = self.items.recv().await?;
        if self.full.swap(false, Ordering::SeqCst) || self.owed {
            self.say_writable();
        }
        Some(item)
    }

    fn say_writable(&mut self) {
        self.owed = self.inbox.control(Control::Writable(self.handle)).is_err();
    }

    /// Hands in a packet of the client; false when the worker has no place for it now, or so many answers
    /// wait that some have to be taken first.
    pub fn request(&self, header: Header, body: &[u8]) -> bool {
        if self.paused.load(Ordering::Acquire) {
            return false;
        }
        let mut bytes = Vec::new();
        Packet { header, body }.encode(&mut bytes);
        self.inbox.control(Control::Input { handle: self.handle, bytes }).is_ok()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // When there is no place for the word, the worker finds the closed queue at its next write, or
        // the silence at its idle limit.
        let _ = self.inbox.control(Control::Detach(self.handle));
    }
}
