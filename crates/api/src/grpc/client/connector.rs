//! How a link connects: not more often than is good for the other side.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::Uri;
use tower::Service;

/// Longest attempt to connect. Calls have as long as their deadline, so there is time for a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first pause after a failure, which doubles with each.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause: so long after the other side is back, calls arrive.
const LONGEST: Duration = Duration::from_secs(1);

/// Connects to one address.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    host: Arc<str>,
    port: u16,
    history: Arc<Mutex<History>>,
}

impl Connector {
    pub(super) fn new(host: String, port: u16) -> Self {
        Self { host: host.into(), port, history: Arc::default() }
    }

    async fn connect(self) -> io::Result<TokioIo<TcpStream>> {
        self.history().begin(Instant::now())?;
        let address = (&*self.host, self.port);
        let attempt = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = attempt.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {PATIENCE:?}")))
        });
        let result = stream.and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        });
        self.history().end(Instant::now(), result.as_ref().err());
        result
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// How the last attempts went.
#[derive(Debug, Default)]
struct History {
    /// The pause after the next failure, if it comes now.
    pause: Duration,
    /// Not before then, and why.
    wait: Option<(Instant, String)>,
    /// When the last connection came to be, until it is needed again.
    connected: Option<Instant>,
}

impl History {
    /// Whether it may be tried now; if not, the error of the last attempt.
    fn begin(&mut self, now: Instant) -> io::Result<()> {
        match self.connected.take() {
            // It may be a server that takes nobody.
            Some(at) if now.saturating_duration_since(at) < LONGEST => {
                self.fail(now, "the connection ended at once".into());
            }
            Some(_) => *self = Self::default(),
            None => {}
        }
        match &self.wait {
            Some((until, why)) if now < *until => Err(io::Error::other(why.clone())),
            _ => Ok(()),
        }
    }

    fn end(&mut self, now: Instant, error: Option<&io::Error>) {
        match error {
            Some(error) => self.fail(now, error.to_string()),
            None => self.connected = Some(now),
        }
    }

    fn fail(&mut self, now: Instant, why: String) {
        self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
        self.wait = Some((now + self.pause, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> io::Error {
        io::Error::other("refused")
    }

    #[test]
    fn pauses_grow_to_a_second() {
        let (mut history, mut now) = (History::default(), Instant::now());
        for millis in [50, 100, 200, 400, 800, 1000, 1000] {
            history.begin(now).unwrap();
            history.end(now, Some(&refused()));
            let pause = Duration::from_millis(millis);
            let early = history.begin(now + pause * 9 / 10);
            assert_eq!(early.unwrap_err().to_string(), "refused");
            now += pause;
        }
        history.begin(now).unwrap();
        history.end(now, None);
        now += LONGEST;
        history.begin(now).unwrap();
        history.end(now, Some(&refused()));
        history.begin(now + FIRST).unwrap();
    }

    #[test]
    fn a_connection_that_ends_at_once_is_a_failure() {
        let (mut history, mut now) = (History::default(), Instant::now());
        for millis in [50, 100, 200] {
            history.begin(now).unwrap();
            history.end(now, None);
            let text = history.begin(now).unwrap_err().to_string();
            assert_eq!(text, "the connection ended at once");
            now += Duration::from_millis(millis);
        }
        history.begin(now).unwrap();
    }
}
