//! What waits for one connection, within bounds. Exists only while something waits.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use anser_api::comet::OnOverflow;
use bytes::Bytes;

use crate::frame::Push;
use crate::transport::Transport;

/// One thing to write, whole.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// A push, shared.
    Push(Arc<Push>),
    /// Replies and notices of this connection, framed for it.
    Own(Bytes),
}

impl Entry {
    pub(crate) fn bytes(&self, websocket: bool) -> &[u8] {
        match self {
            Self::Push(push) => push.bytes(websocket),
            Self::Own(bytes) => bytes,
        }
    }

    /// The same bytes, for a task that keeps them.
    pub(crate) fn shared(&self, websocket: bool) -> Bytes {
        struct Owner(Arc<Push>, bool);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.bytes(self.1)
            }
        }
        match self {
            Self::Push(push) => Bytes::from_owner(Owner(push.clone(), websocket)),
            Self::Own(bytes) => bytes.clone(),
        }
    }
}

/// What a round of writing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Pushes that are now wholly in the socket.
    pub(crate) pushes: u64,
    /// Bytes taken by the socket.
    pub(crate) bytes: usize,
    /// System calls.
    pub(crate) writes: u64,
    /// Whether the socket took less than there was: it will say when it takes more.
    pub(crate) blocked: bool,
}

/// A queue of entries and how far the first of them has been written.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are in the socket already.
    sent: usize,
    /// Bytes of all entries, the sent ones included.
    bytes: usize,
    /// Bytes of entries that are the connection's own.
    own_bytes: usize,
    /// Some of the entries may expire.
    expiring: bool,
    /// Pullable pushes that wait for the owner's word, and their bytes.
    held: VecDeque<Arc<Push>>,
    held_bytes: usize,
}

impl Outbound {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.held.is_empty()
    }

    /// Whether entries wait for the socket.
    pub(crate) fn is_pending(&self) -> bool {
        !self.entries.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.held_bytes
    }

    pub(crate) fn own_bytes(&self) -> usize {
        self.own_bytes
    }

    /// Whether one more entry of `len` bytes keeps within the bounds. One entry always does.
    pub(crate) fn has_room(&self, len: usize, max_entries: usize, max_bytes: usize) -> bool {
        self.entries.is_empty() || (self.entries.len() < max_entries && self.bytes + len <= max_bytes)
    }

    pub(crate) fn push(&mut self, entry: Entry, websocket: bool) {
        let len = entry.bytes(websocket).len();
        self.bytes += len;
        match &entry {
            Entry::Own(_) => self.own_bytes += len,
            Entry::Push(push) => self.expiring |= push.expires.is_some(),
        }
        self.entries.push_back(entry);
    }

    /// Notes that the first entry was written up to here before it came into the queue.
    pub(crate) fn set_sent(&mut self, sent: usize) {
        debug_assert!(self.is_first());
        self.sent = sent;
    }

    /// Whether there is one entry, and nothing of it has been written.
    pub(crate) fn is_first(&self) -> bool {
        self.sent == 0 && self.entries.len() == 1
    }

    /// Pushes that are not wholly written, the held ones included.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Arc<Push>> {
        let waiting = self.entries.iter().filter_map(|entry| match entry {
            Entry::Push(push) => Some(push),
            Entry::Own(_) => None,
        });
        waiting.chain(&self.held)
    }

    /// Takes out everything that is not partly written; the pushes that went.
    pub(crate) fn discard_all(&mut self, websocket: bool) -> Vec<Arc<Push>> {
        let mut gone: Vec<_> = std::mem::take(&mut self.held).into();
        self.held_bytes = 0;
        gone.extend(self.discard(websocket, |_| true));
        gone
    }

    /// Holds a pullable push back; false when the bound is reached.
    pub(crate) fn hold(&mut self, push: Arc<Push>, len: usize, max: usize, max_bytes: usize) -> bool {
        if self.held.len() >= max || self.held_bytes + len > max_bytes {
            return false;
        }
        self.held_bytes += len;
        self.held.push_back(push);
        true
    }

    /// What was held follows what waits.
    pub(crate) fn release(&mut self, websocket: bool) {
        self.held_bytes = 0;
        for push in std::mem::take(&mut self.held) {
            self.push(Entry::Push(push), websocket);
        }
    }

    /// Takes out what `which` names, save an entry that is partly written; the pushes that went.
    fn discard(&mut self, websocket: bool, which: impl Fn(&Entry) -> bool) -> Vec<Arc<Push>> {
        let keep_first = self.sent > 0;
        let (mut first, mut gone) = (true, Vec::new());
        let (mut bytes, mut own_bytes) = (0, 0);
        self.entries.retain(|entry| {
            let keep = (std::mem::take(&mut first) && keep_first) || !which(entry);
            if keep {
                let len = entry.bytes(websocket).len();
                bytes += len;
                own_bytes += if matches!(entry, Entry::Own(_)) { len } else { 0 };
            } else if let Entry::Push(push) = entry {
                gone.push(push.clone());
            }
            keep
        });
        (self.bytes, self.own_bytes) = (bytes, own_bytes);
        gone
    }

    /// Takes out every pullable push that is not partly written, the held ones included.
    pub(crate) fn discard_pullable(&mut self, websocket: bool) -> Vec<Arc<Push>> {
        let mut gone: Vec<_> = std::mem::take(&mut self.held).into();
        self.held_bytes = 0;
        let pullable =
            |entry: &Entry| matches!(entry, Entry::Push(push) if push.on_overflow == OnOverflow::Pull);
        gone.extend(self.discard(websocket, pullable));
        gone
    }

    /// Takes out pushes that have expired.
    pub(crate) fn discard_expired(&mut self, websocket: bool) -> Vec<Arc<Push>> {
        if !std::mem::take(&mut self.expiring) {
            return Vec::new();
        }
        let gone = self.discard(websocket, |entry| matches!(entry, Entry::Push(push) if push.has_expired()));
        let may = |entry: &Entry| matches!(entry, Entry::Push(push) if push.expires.is_some());
        self.expiring = self.entries.iter().any(may);
        gone
    }

    /// Writes until nothing waits or the socket takes no more; what that came to is in `flushed`, also when
    /// it failed. Adds to `accepted` when each push that
    /// went out had been taken from the API.
    pub(crate) fn flush(
        &mut self,
        transport: &mut Transport,
        websocket: bool,
        one_write_per_packet: bool,
        accepted: &mut Vec<Instant>,
        flushed: &mut Flushed,
    ) -> io::Result<()> {
        while !self.entries.is_empty() {
            let many = if one_write_per_packet { 1 } else { self.entries.len() };
            flushed.writes += 1;
            let written = match transport.write_entries(self.entries.iter().take(many), websocket, self.sent)
            {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    flushed.blocked = true;
                    break;
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(cause),
            };
            flushed.bytes += written;
            self.advance(written, websocket, flushed, accepted);
        }
        Ok(())
    }

    fn advance(
        &mut self,
        written: usize,
        websocket: bool,
        flushed: &mut Flushed,
        accepted: &mut Vec<Instant>,
    ) {
        let mut at = self.sent + written;
        self.sent = 0;
        while let Some(first) = self.entries.front() {
            let len = first.bytes(websocket).len();
            if at < len {
                self.sent = at;
                return;
            }
            at -= len;
            self.bytes -= len;
            match self.entries.pop_front() {
                Some(Entry::Push(push)) => {
                    flushed.pushes += 1;
                    accepted.push(push.accepted);
                }
                Some(Entry::Own(_)) => self.own_bytes -= len,
                None => {}
            }
        }
    }
}
