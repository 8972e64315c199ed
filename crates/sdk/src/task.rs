//! The task of a client: it owns the connection, and makes another when it is lost.

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Delays;
use crate::error::Failure;
use crate::event::Cause;
use crate::session::{Request, Session};
use crate::transport::Transport;
use crate::{Config, Event};

/// Everything that the task owns.
pub(crate) struct Task {
    pub(crate) config: Config,
    pub(crate) session: Session,
    pub(crate) transport: Option<Transport>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Task {
    /// Runs until the client is closed, its events are dropped, its token is refused for good, or another
    /// connection takes its key.
    /// That `closing` is gone tells [`Client::close`](crate::Client::close) that the socket is closed.
    pub(crate) async fn run(mut self, mut closing: watch::Receiver<bool>) {
        let events = self.events.clone();
        tokio::select! {
            () = self.stay_connected() => {}
            () = events.closed() => {}
            () = asked_to_close(&mut closing) => {}
        }
        if let Some(transport) = self.transport.take() {
            transport.close().await;
        }
    }

    async fn stay_connected(&mut self) {
        let mut delays = Delays::new(self.config.backoff.clone());
        while let Some(transport) = &mut self.transport {
            let since = Instant::now();
            let Err(failure) = serve(transport, &mut self.session, &mut self.requests, &self.events).await;
            self.transport = None;
            delays.connection_lasted(since.elapsed());
            self.transport = self.reconnect(failure, &mut delays).await;
        }
    }

    /// Connects again, however often that takes; `None` when the token was refused too often, or another
    /// connection has the key.
    async fn reconnect(&mut self, failure: Failure, delays: &mut Delays) -> Option<Transport> {
        let after = self.session.retry_after.take();
        let mut cause = self.session.lost().map(|address| Cause::Lost { address, failure })?;
        if self.session.replaced {
            let event = Event::Disconnected { cause: Cause::Replaced, retry_in: None };
            self.session.events.push_back(event);
            self.tell().await?;
            return None;
        }
        let mut delay = after.unwrap_or_else(|| delays.next(random()));
        let mut refused = 0;
        loop {
            let retry_in = (refused < self.config.auth_attempts).then_some(delay);
            self.session.events.push_back(Event::Disconnected { cause, retry_in });
            self.tell().await?;
            sleep(retry_in?).await;
            match Transport::open(&self.config, &mut self.session).await {
                Ok(mut transport) => {
                    restore(&mut transport, &mut self.session);
                    return Some(transport);
                }
                Err(error) => {
                    refused += u32::from(error.is_refused());
                    delay = delays.next(random());
                    cause = Cause::Unreachable(error);
                }
            }
        }
    }

    /// Hands the application all events, as fast as it takes them; `None` when it is gone.
    async fn tell(&mut self) -> Option<()> {
        while let Some(event) = self.session.events.pop_front() {
            self.events.send(event).await.ok()?;
        }
        Some(())
    }
}

/// Serves one connection until it ends, and says why it has.
async fn serve(
    transport: &mut Transport,
    session: &mut Session,
    requests: &mut mpsc::Receiver<Request>,
    events: &mpsc::Sender<Event>,
) -> Result<std::convert::Infallible, Failure> {
    loop {
        forward(session, events);
        // What the application does not take stops the reading, and so, in the end, the server.
        let reading = session.events.is_empty();
        let has_room = session.has_room() && transport.has_room();
        tokio::select! {
            ready = transport.ready(reading) => ready?,
            Some(request) = requests.recv(), if has_room => submit(request, transport, session, requests),
            Ok(_) = events.reserve(), if !reading => {}
            () = sleep_until(transport.deadline()) => {}
        }
        transport.transfer(session.events.is_empty(), session)?;
    }
}

/// Hands the application as many events as it has room for.
fn forward(session: &mut Session, events: &mpsc::Sender<Event>) {
    while let Some(event) = session.events.pop_front() {
        if let Err(mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event)) =
            events.try_send(event)
        {
            session.events.push_front(event);
            return;
        }
    }
}

/// Writes a request, and all others that wait and find room: they share one write to the socket.
fn submit(
    request: Request,
    transport: &mut Transport,
    session: &mut Session,
    requests: &mut mpsc::Receiver<Request>,
) {
    let mut next = Some(request);
    while let Some(Request { op, body, answer }) = next {
        // Whoever has given up meanwhile is not surprised by its request being done after all.
        if !answer.is_closed() {
            let seq = transport.request(op, &body);
            session.written(seq, op, body, Some(answer));
        }
        let has_room = session.has_room() && transport.has_room();
        next = if has_room { requests.try_recv().ok() } else { None };
    }
}

/// Asks for the rooms and operations of the last connection.
fn restore(transport: &mut Transport, session: &mut Session) {
    for (op, body) in session.to_restore() {
        let seq = transport.request(op, &body);
        session.written(seq, op, body, None);
    }
}

/// One draw from the system's generator. Without one, the longest wait: late is better than all at once.
fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

/// Ends when [`Client::close`](crate::Client::close) was called; never, when all clients are dropped:
/// then the events are all that is wanted.
async fn asked_to_close(closing: &mut watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        std::future::pending::<()>().await;
    }
}
