//! Connections of callers: how many there may be, and how long they may take to begin.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::{debug, warn};

use super::server::Counters;

/// What every HTTP/2 client says first, in bytes.
const PREFACE: usize = 24;

/// Until it is tried again to accept, when the process has no descriptor left.
const AGAIN: Duration = Duration::from_millis(50);

/// The connections that come. Ends never: what hinders one caller does not hinder the next.
pub(super) struct Incoming {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    patience: Duration,
    counters: Arc<Counters>,
    /// After a failure.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(
        listener: TcpListener,
        connections: usize,
        patience: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(connections)), patience, counters, pause: None }
    }

    /// Takes a caller in, or closes the connection when there are too many.
    fn admit(&self, stream: TcpStream, from: SocketAddr) -> Option<Socket> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
            if self.counters.turned_away_said.may_speak(Instant::now()) {
                warn!(%from, "as many gRPC connections as are allowed are open: closed one that came");
            }
            return None;
        };
        if let Err(cause) = stream.set_nodelay(true) {
            debug!(%from, error = %cause, "cannot set TCP_NODELAY");
        }
        let patience = Some(Box::pin(sleep(self.patience)));
        Some(Socket { stream, patience, received: 0, _slot: slot })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Socket>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, from)) => {
                    if let Some(socket) = self.admit(stream, from) {
                        return Poll::Ready(Some(Ok(socket)));
                    }
                }
                Err(cause) => {
                    if self.counters.accept_said.may_speak(Instant::now()) {
                        warn!(error = %cause, "cannot accept a gRPC connection; trying again");
                    }
                    self.pause = Some(Box::pin(sleep(AGAIN)));
                }
            }
        }
    }
}

/// A connection, with its place among those that are allowed.
pub(super) struct Socket {
    stream: TcpStream,
    /// Until then it must have begun to speak HTTP/2; absent when it has. What stalls later is found by
    /// pings, which a client in the middle of a frame cannot answer.
    patience: Option<Pin<Box<Sleep>>>,
    received: usize,
    _slot: OwnedSemaphorePermit,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let Some(patience) = &mut self.patience else { return result };
        if result.is_pending() {
            ready!(patience.as_mut().poll(cx));
            debug!("a gRPC connection has not begun to speak HTTP/2 in time: closed");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.received += buffer.filled().len() - before;
        if self.received >= PREFACE {
            self.patience = None;
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Socket {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
