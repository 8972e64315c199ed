//! How bytes leave: a socket of the worker's own, or a bounded queue to a task that has one.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use bytes::Bytes;
use mio::net::TcpStream;

use crate::foreign::Link;
use crate::outbound::Entry;

/// Most entries in one system call.
const VECTORS: usize = 64;

/// The far end of a channel.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A socket that the worker polls.
    Local(TcpStream),
    /// A task that takes items from a bounded queue; a full queue is what a full socket buffer is.
    Foreign(Link),
}

impl Transport {
    /// Reads from a socket; a task brings its bytes by itself.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Local(socket) => socket.read(buffer),
            Self::Foreign(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes one piece of memory; how much of it was taken. `WouldBlock` when none was.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Local(socket) => socket.write(bytes),
            Self::Foreign(link) => link.send(Bytes::copy_from_slice(bytes)).map(|()| bytes.len()),
        }
    }

    /// Writes as many of the entries as go into one system call, without the first `skip` bytes.
    pub(crate) fn write_entries<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        websocket: bool,
        skip: usize,
    ) -> io::Result<usize> {
        match self {
            Self::Local(socket) => {
                let mut vectors = [IoSlice::new(&[]); VECTORS];
                let mut used = 0;
                for (vector, entry) in vectors.iter_mut().zip(entries) {
                    let bytes = entry.bytes(websocket);
                    *vector = IoSlice::new(if used == 0 { &bytes[skip..] } else { bytes });
                    used += 1;
                }
                match &vectors[..used] {
                    [one] => socket.write(one),
                    many => socket.write_vectored(many),
                }
            }
            Self::Foreign(link) => {
                let mut written = 0;
                for entry in entries {
                    match link.send(entry.shared(websocket)) {
                        Ok(()) => written += entry.bytes(websocket).len(),
                        Err(cause) if written == 0 => return Err(cause),
                        Err(_) => break,
                    }
                }
                Ok(written)
            }
        }
    }

    /// Says whether requests rest until answers have been taken. A socket is just not read meanwhile.
    pub(crate) fn pause(&self, paused: bool) {
        if let Self::Foreign(link) = self {
            link.pause(paused);
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(&self) {
        if let Self::Local(socket) = self {
            // A peer that is gone already needs no goodbye.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }
}
