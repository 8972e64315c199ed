//! The generator: posters that push over the HTTP API, paced or as fast as they are let.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cli::To;
use crate::clock;
use crate::http::{Client, Outcome};
use crate::latency::Latency;
use crate::receiver::dial;
use crate::stamp::{self, KEY_STREAM, Stamp};

/// How long one message may be refused before the run is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Failures in a row after which the run is given up: something is wrong that is not load.
pub(crate) const FAILURES: u32 = 50;

/// Who gets the pushes of a poster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Rooms 1 to `count`, in turn; this poster is their `stream`.
    Rooms { count: u64, stream: u16 },
    /// The keys of `count` connections from `first` on, every `step`-th, in turn. No other poster may
    /// push to them.
    Keys { first: u64, count: u64, step: u64 },
    /// All connections of one user.
    User(u64),
    /// Everyone. No poster to a room may go on beside it.
    Everyone,
}

/// How fast a poster goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// So many a second, each due at its own moment: one that is late does not move the next.
    Rate(f64),
    /// The next as soon as the one before is accepted.
    Full,
}

/// What a poster does when the server does not take a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It comes back with it after the time told.
    Patient,
    /// It gives the push up and goes on to the next: what is offered does not go down when the server refuses.
    Impatient,
}

/// A poster. Keeps its sequence numbers from run to run.
#[derive(Debug)]
pub(crate) struct Poster {
    target: Target,
    pub(crate) manner: Manner,
    /// The next number for each room or key.
    next: Vec<u64>,
    turn: usize,
    body: Vec<u8>,
    path: String,
}

/// What a poster did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Posted {
    /// Pushes that the server took.
    pub(crate) accepted: u64,
    /// Answers that said to come back later.
    pub(crate) refused: u64,
    /// Other answers that were no acceptance, each followed by another attempt.
    pub(crate) failed: u64,
    /// The first of these, in the server's words.
    pub(crate) failure: Option<String>,
    /// From when a push was due to its acceptance.
    pub(crate) answered: Latency,
    /// From the first to the last acceptance, in seconds.
    pub(crate) span: f64,
}

impl Poster {
    /// As many posters of messages of `body` bytes as there are `callers`, each with a stream of its own, for
    /// connections numbered from 0 to `connections`: each caller has some of the keys, or all have one room.
    pub(crate) fn for_callers(to: To, callers: u64, connections: u64, body: usize) -> Vec<Self> {
        let target = |caller: u64| match to {
            To::Keys => Target::Keys { first: caller, count: connections - caller, step: callers },
            To::Room => Target::Rooms { count: 1, stream: stamp::of_room(caller as u16) },
        };
        (0..callers).map(|caller| Self::new(target(caller), body)).collect()
    }

    /// A poster of messages of `body` bytes.
    pub(crate) fn new(target: Target, body: usize) -> Self {
        let streams = match target {
            Target::Rooms { count, .. } => count,
            Target::Keys { count, step, .. } => count.div_ceil(step),
            Target::User(_) | Target::Everyone => 1,
        };
        let body = vec![b'.'; body];
        Self {
            target,
            manner: Manner::Patient,
            next: vec![0; streams as usize],
            turn: 0,
            body,
            path: String::new(),
        }
    }

    /// How many messages were accepted for the room or key that is next.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next[self.turn]
    }

    /// The path and body of the next message, which was due at `at`.
    pub(crate) fn message(&mut self, at: u64) -> (&str, &[u8]) {
        self.prepare(at);
        (&self.path, &self.body)
    }

    /// The message was accepted: on to the next room or key.
    pub(crate) fn accepted(&mut self) {
        self.next[self.turn] += 1;
        self.turn = (self.turn + 1) % self.next.len();
    }

    fn prepare(&mut self, at: u64) {
        let (target, turn) = (self.target, self.turn as u64);
        let stream = match target {
            Target::Rooms { stream, .. } => stream,
            Target::Keys { .. } | Target::User(_) => KEY_STREAM,
            Target::Everyone => 0,
        };
        Stamp { stream, seq: self.next[self.turn], at }.write(&mut self.body);
        self.path.clear();
        let written = match target {
            Target::Rooms { .. } => {
                write!(self.path, "/goim/push/room?operation=1000&type=bench&room={}", turn + 1)
            }
            Target::Keys { first, step, .. } => {
                let key = dial::key(first + turn * step);
                write!(self.path, "/goim/push/keys?operation=1001&keys={key}")
            }
            Target::User(user) => write!(self.path, "/goim/push/mids?operation=1002&mids={user}"),
            Target::Everyone => write!(self.path, "/goim/push/all?operation=1000&speed=0"),
        };
        written.expect("a string takes all");
    }

    /// Posts the next message, which was due at `at`, until it is accepted; when impatient, once.
    pub(crate) fn post(&mut self, api: &mut Client, at: u64, posted: &mut Posted) -> anyhow::Result<()> {
        self.prepare(at);
        let mut failures = 0;
        loop {
            match api.push(&self.path, &self.body)? {
                Outcome::Accepted => break,
                Outcome::Refused(retry) => {
                    posted.refused += 1;
                    if self.manner == Manner::Impatient {
                        return Ok(());
                    }
                    clock::sleep(retry);
                }
                Outcome::Failed(reason) => {
                    posted.failed += 1;
                    failures += 1;
                    if self.manner == Manner::Impatient {
                        posted.failure.get_or_insert(reason);
                        return Ok(());
                    }
                    if failures == FAILURES {
                        bail!("{failures} pushes in a row failed, the last one with {reason}");
                    }
                    posted.failure.get_or_insert(reason);
                    clock::sleep(Duration::from_millis(10));
                }
            }
            if clock::now() > at + clock::nanos(PATIENCE) {
                bail!("a push was refused for {PATIENCE:?}: {} times", posted.refused);
            }
        }
        posted.accepted += 1;
        posted.answered.record(clock::now() - at);
        self.accepted();
        Ok(())
    }

    /// Posts for a time that began at `from`.
    fn run(&mut self, api: &mut Client, pace: Pace, from: u64, time: Duration) -> anyhow::Result<Posted> {
        clock::wake_on_time();
        let mut posted = Posted::default();
        let ends = from + clock::nanos(time);
        for message in 0u64.. {
            let at = match pace {
                Pace::Rate(rate) => from + (message as f64 / rate * 1e9) as u64,
                Pace::Full => from.max(clock::now()),
            };
            if at >= ends {
                break;
            }
            clock::sleep_until(at);
            self.post(api, at, &mut posted)?;
        }
        posted.span = clock::now().saturating_sub(from) as f64 / 1e9;
        Ok(posted)
    }
}

impl Pace {
    /// Time between two messages, in ns.
    pub(crate) fn interval(self) -> u64 {
        match self {
            Self::Rate(rate) => (1e9 / rate) as u64,
            Self::Full => 0,
        }
    }
}

impl Posted {
    /// Pushes that were offered, counted again when they came back.
    pub(crate) fn offered(&self) -> u64 {
        self.accepted + self.refused + self.failed
    }

    /// The sum of what several posters did at the same time.
    pub(crate) fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, posted| {
            sum.accepted += posted.accepted;
            sum.refused += posted.refused;
            sum.failed += posted.failed;
            sum.failure = sum.failure.or_else(|| posted.failure.clone());
            sum.answered.merge(&posted.answered);
            sum.span = sum.span.max(posted.span);
            sum
        })
    }
}

/// Runs posters side by side, each with a thread and a connection of its own.
pub(crate) fn run(
    api: SocketAddr,
    posters: &mut [(&mut Poster, Pace)],
    time: Duration,
) -> anyhow::Result<Vec<Posted>> {
    let mut clients = posters.iter().map(|_| Client::connect(api)).collect::<anyhow::Result<Vec<_>>>()?;
    // All start at one moment, when all threads are there.
    let start = clock::now() + 50_000_000;
    let count = posters.len() as u64;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(posters.iter_mut().zip(&mut clients))
            .map(|(turn, ((poster, pace), api))| {
                // Those that are paced take turns, so that they do not all push in the same moment.
                let from = start + pace.interval() * turn / count;
                scope.spawn(move || poster.run(api, *pace, from, time))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a poster has panicked")?).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_share_no_key_and_no_stream() {
        let mut keys = Vec::new();
        for mut poster in Poster::for_callers(To::Keys, 3, 8, 44) {
            for _ in 0..poster.next.len() {
                keys.push(poster.message(0).0.to_owned());
                poster.accepted();
            }
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 8);
        let mut streams: Vec<u16> = Poster::for_callers(To::Room, 20, 8, 44)
            .iter_mut()
            .filter_map(|poster| Stamp::read(poster.message(0).1))
            .map(|stamp| stamp.stream)
            .collect();
        streams.dedup();
        assert_eq!(streams.len(), 20);
    }

    #[test]
    fn each_room_and_key_has_its_own_sequence() {
        let check = |target, expected: &[(&str, u16, u64)]| {
            let mut poster = Poster::new(target, 44);
            for (path, stream, seq) in expected {
                poster.prepare(7);
                assert!(poster.path.ends_with(path), "{} {path}", poster.path);
                let stamp = Stamp { stream: *stream, seq: *seq, at: 7 };
                assert_eq!(Stamp::read(&poster.body), Some(stamp));
                poster.accepted();
            }
        };
        check(
            Target::Rooms { count: 2, stream: 3 },
            &[("&type=bench&room=1", 3, 0), ("&room=2", 3, 0), ("&room=1", 3, 1)],
        );
        let keys = Target::Keys { first: 10, count: 3, step: 2 };
        check(keys, &[("00000000000a", 7, 0), ("00000000000c", 7, 0), ("00000000000a", 7, 1)]);
        check(Target::User(9), &[("/goim/push/mids?operation=1002&mids=9", 7, 0)]);
        check(Target::Everyone, &[("/goim/push/all?operation=1000&speed=0", 0, 0), ("speed=0", 0, 1)]);
    }
}
