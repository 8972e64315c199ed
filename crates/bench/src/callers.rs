//! Many callers of the push API on one thread, each with one request at a time on a connection of its own.
//!
//! [`crate::load`] gives each poster a thread, which keeps time to some microseconds. Here one loop over epoll
//! serves hundreds of callers for a few system calls each, so that on a small machine the server has the rest;
//! a pace is kept to a millisecond.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock;
use crate::http::{self, MAX_ANSWER, Outcome};
use crate::load::{FAILURES, Manner, PATIENCE, Pace, Posted, Poster};

/// How long answers that are still owed at the end may take.
const LAST_ANSWERS: Duration = Duration::from_secs(35);

/// How long a patient caller waits after an answer that is neither acceptance nor refusal.
const PAUSE: u64 = 10_000_000;

/// Where a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its next request goes out at the time that is in the heap.
    Waiting,
    /// A request is on its way.
    Calling,
    /// Its time is over.
    Done,
}

#[derive(Debug)]
struct Caller<'a> {
    poster: &'a mut Poster,
    socket: TcpStream,
    request: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    filled: usize,
    state: State,
    /// The number of its message, and when that was due.
    message: u64,
    due: u64,
    /// Whether the message was sent before, and not taken.
    again: bool,
    failures: u32,
}

#[derive(Debug)]
struct Run<'a> {
    api: SocketAddr,
    poll: Poll,
    callers: Vec<Caller<'a>>,
    /// When each that waits goes on.
    wake: BinaryHeap<Reverse<(u64, usize)>>,
    pace: Pace,
    from: u64,
    ends: u64,
    calling: usize,
    posted: Posted,
}

/// Lets each of `posters` push for a time, on a connection of its own. `pace` is that of all together.
/// Latencies of patient ones count from when a push was due, those of impatient ones from when it was sent.
pub(crate) fn run(
    api: SocketAddr,
    posters: &mut [Poster],
    pace: Pace,
    time: Duration,
) -> anyhow::Result<Posted> {
    ensure!(!posters.is_empty(), "no callers");
    let poll = Poll::new()?;
    let mut callers = Vec::with_capacity(posters.len());
    for (index, poster) in posters.iter_mut().enumerate() {
        let socket = connect(api, &poll, index)?;
        callers.push(Caller::new(poster, socket));
    }
    let from = clock::now();
    let ends = from + clock::nanos(time);
    let wake = BinaryHeap::with_capacity(callers.len());
    let posted = Posted::default();
    let mut run = Run { api, poll, callers, wake, pace, from, ends, calling: 0, posted };
    run.serve()?;
    Ok(run.posted)
}

fn connect(api: SocketAddr, poll: &Poll, index: usize) -> anyhow::Result<TcpStream> {
    let stream = http::dial(api).with_context(|| {
        format!("caller {index} cannot reach the push API at {api}: is http.max_connections lower?")
    })?;
    stream.set_nonblocking(true)?;
    let mut socket = TcpStream::from_std(stream);
    poll.registry().register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
    Ok(socket)
}

impl<'a> Caller<'a> {
    fn new(poster: &'a mut Poster, socket: TcpStream) -> Self {
        Self {
            poster,
            socket,
            request: Vec::new(),
            written: 0,
            answer: vec![0; 2048],
            filled: 0,
            state: State::Done,
            message: 0,
            due: 0,
            again: false,
            failures: 0,
        }
    }

    /// Writes what the socket takes of the request.
    fn write(&mut self) -> io::Result<()> {
        while self.written < self.request.len() {
            match self.socket.write(&self.request[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The answer, when all of it is here, and whether the server closes after it.
    fn read(&mut self) -> io::Result<Option<(Outcome, bool)>> {
        loop {
            if self.filled == self.answer.len() {
                if self.filled >= MAX_ANSWER {
                    return Err(invalid("the answer is larger than 1 MiB"));
                }
                self.answer.resize(self.filled * 2, 0);
            }
            match self.socket.read(&mut self.answer[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let parsed = http::parse(&self.answer[..self.filled]);
            if let Some((answer, close)) = parsed.map_err(|error| invalid(&error.to_string()))? {
                self.filled = 0;
                return Ok(Some((answer.outcome(), close)));
            }
        }
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

impl Run<'_> {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        for index in 0..self.callers.len() {
            self.next(index, 0)?;
        }
        let gives_up = self.ends + clock::nanos(LAST_ANSWERS);
        while self.calling > 0 || !self.wake.is_empty() {
            let now = clock::now();
            if now > gives_up {
                bail!(
                    "{} of {} callers got no answer within {LAST_ANSWERS:?}",
                    self.calling,
                    self.callers.len()
                );
            }
            while let Some(Reverse((at, index))) = self.wake.peek().copied() {
                if at > clock::now() {
                    break;
                }
                self.wake.pop();
                self.send(index)?;
            }
            if self.calling == 0 && self.wake.is_empty() {
                // The time was over for the last one.
                break;
            }
            let next = self.wake.peek().map_or(gives_up, |Reverse((at, _))| *at);
            let timeout = Duration::from_nanos(next.saturating_sub(clock::now()));
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.advance(event.token().0)?;
            }
        }
        Ok(())
    }

    /// On to the next message, when it is due, but not before `earliest`.
    fn next(&mut self, index: usize, earliest: u64) -> anyhow::Result<()> {
        let callers = self.callers.len() as u64;
        let caller = &mut self.callers[index];
        let at = match self.pace {
            // They take turns: one message in so many is this caller's.
            Pace::Rate(rate) => {
                self.from + ((caller.message * callers + index as u64) as f64 / rate * 1e9) as u64
            }
            Pace::Full => clock::now(),
        };
        caller.message += 1;
        caller.again = false;
        caller.failures = 0;
        (caller.due, caller.state) = (at, State::Waiting);
        let at = at.max(earliest);
        if at > clock::now() {
            self.wait(index, at);
            return Ok(());
        }
        self.send(index)
    }

    fn wait(&mut self, index: usize, at: u64) {
        let over = at >= self.ends;
        self.callers[index].state = if over { State::Done } else { State::Waiting };
        if !over {
            self.wake.push(Reverse((at, index)));
        }
    }

    /// Sends the message that is due.
    fn send(&mut self, index: usize) -> anyhow::Result<()> {
        let caller = &mut self.callers[index];
        if clock::now() >= self.ends {
            caller.state = State::Done;
            return Ok(());
        }
        if caller.again && clock::now() > caller.due + clock::nanos(PATIENCE) {
            bail!("a push was not taken for {PATIENCE:?}: {} refusals in all", self.posted.refused);
        }
        if caller.poster.manner == Manner::Impatient {
            // More is due than can be sent: what is measured begins with the sending.
            caller.due = caller.due.max(clock::now());
        }
        let (path, body) = caller.poster.message(caller.due);
        http::write_request(&mut caller.request, "POST", path, self.api, body)?;
        (caller.written, caller.filled, caller.state) = (0, 0, State::Calling);
        self.calling += 1;
        match caller.write() {
            Ok(()) => Ok(()),
            Err(error) => self.broken(index, &error),
        }
    }

    /// Goes on with what the socket is ready for.
    fn advance(&mut self, index: usize) -> anyhow::Result<()> {
        let caller = &mut self.callers[index];
        if caller.state != State::Calling {
            // It has closed, which the next request finds out, or says what nobody asked for.
            return Ok(());
        }
        match caller.write().and_then(|()| caller.read()) {
            Ok(None) => Ok(()),
            Ok(Some((outcome, close))) => {
                if close {
                    self.reconnect(index)?;
                }
                self.answered(index, outcome)
            }
            Err(error) => self.broken(index, &error),
        }
    }

    fn reconnect(&mut self, index: usize) -> anyhow::Result<()> {
        self.callers[index].socket = connect(self.api, &self.poll, index)?;
        Ok(())
    }

    fn broken(&mut self, index: usize, error: &io::Error) -> anyhow::Result<()> {
        self.reconnect(index).with_context(|| error.to_string())?;
        self.answered(index, Outcome::Failed(format!("the connection broke: {error}")))
    }

    fn answered(&mut self, index: usize, outcome: Outcome) -> anyhow::Result<()> {
        self.calling -= 1;
        let now = clock::now();
        self.posted.span = (now - self.from) as f64 / 1e9;
        let caller = &mut self.callers[index];
        let failed = matches!(outcome, Outcome::Failed(_));
        let retry = match outcome {
            Outcome::Accepted => {
                caller.poster.accepted();
                self.posted.accepted += 1;
                self.posted.answered.record(now - caller.due);
                return self.next(index, now);
            }
            Outcome::Refused(retry) => {
                self.posted.refused += 1;
                clock::nanos(retry)
            }
            Outcome::Failed(reason) => {
                self.posted.failed += 1;
                caller.failures += 1;
                if caller.failures == FAILURES && caller.poster.manner == Manner::Patient {
                    bail!("{FAILURES} pushes in a row failed, the last one with {reason}");
                }
                self.posted.failure.get_or_insert(reason);
                PAUSE
            }
        };
        match caller.poster.manner {
            Manner::Patient => {
                caller.again = true;
                self.wait(index, now + retry);
                Ok(())
            }
            // Whoever is refused goes on at once; what is broken gets a pause.
            Manner::Impatient => self.next(index, now + if failed { PAUSE } else { 0 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::load::Target;

    /// Answers each request on each connection with one of `statuses` in turn.
    fn server(statuses: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(&stream, statuses));
            }
        });
        address
    }

    fn answer(stream: &TcpStream, statuses: &[&str]) {
        let mut input = BufReader::new(stream);
        for status in statuses.iter().cycle() {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if input.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            input.read_exact(&mut body).unwrap();
            let text = match *status {
                "200 OK" => r#"{"code":0,"message":""}"#,
                _ => r#"{"code":-429,"message":"full, retry after 1 ms"}"#,
            };
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            let mut output = stream;
            output.write_all(text.as_bytes()).unwrap();
        }
    }

    fn posters(count: u64) -> Vec<Poster> {
        let keys = (0..count).map(|first| Target::Keys { first, count: 1, step: 1 });
        keys.map(|target| Poster::new(target, 44)).collect()
    }

    fn posts(poster: &Poster) -> u64 {
        poster.next_seq()
    }

    #[test]
    fn patient_callers_come_back_with_the_same_push() {
        let api = server(&["200 OK", "429 Too Many Requests"]);
        let mut posters = posters(3);
        let time = Duration::from_millis(200);
        let posted = run(api, &mut posters, Pace::Full, time).unwrap();
        assert!(posted.accepted > 3 && posted.refused > 3 && posted.failed == 0, "{posted:?}");
        assert_eq!(posters.iter().map(posts).sum::<u64>(), posted.accepted);
        assert!(posted.refused <= posted.accepted, "each message is refused once at most: {posted:?}");
    }

    #[test]
    fn impatient_callers_offer_what_they_should_however_much_is_refused() {
        let api = server(&["429 Too Many Requests"]);
        let mut posters = posters(4);
        for poster in &mut posters {
            poster.manner = Manner::Impatient;
        }
        let time = Duration::from_millis(500);
        let posted = run(api, &mut posters, Pace::Rate(200.0), time).unwrap();
        assert_eq!((posted.accepted, posted.failed), (0, 0));
        assert!((90..=100).contains(&posted.refused), "{posted:?}");
        assert_eq!(posters.iter().map(posts).sum::<u64>(), 0);
    }

    #[test]
    fn the_end_is_not_waited_for_when_nobody_has_a_call_to_finish() {
        let api = server(&["200 OK"]);
        // The second message of each is due a moment before the end, and may find the time over.
        for millis in 100..105 {
            let time = Duration::from_millis(millis);
            let begun = clock::now();
            run(api, &mut posters(20), Pace::Rate(397.0), time).unwrap();
            assert!(clock::now() - begun < clock::nanos(time * 20), "{millis}");
        }
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = listener.local_addr().unwrap();
        drop(listener);
        let error = run(api, &mut posters(1), Pace::Full, Duration::from_secs(1));
        assert!(error.unwrap_err().to_string().contains("cannot reach the push API"));
    }
}
