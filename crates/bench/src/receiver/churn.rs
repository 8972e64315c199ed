//! Connections that come, authenticate, wait for the reply, and go; some say nothing until the
//! server cuts them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use anser_wire::limits::Limits;
use anyhow::Context;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::link::{self, Link, Phase};
use super::{count, dial, is_connected, words};
use crate::clock;
use crate::control::{Churn, Churned};
use crate::latency::Recorder;

/// How long a connection that speaks may take until it has its reply.
const HANDSHAKE: u64 = 10_000_000_000;

/// How long a silent one waits for the server's cut. goim's deadline is 8 s.
const SILENCE: u64 = 20_000_000_000;

/// What a connection is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Speaks,
    Silent,
}

#[derive(Debug)]
struct Visitor {
    socket: TcpStream,
    link: Link,
    kind: Kind,
    number: u64,
    since: u64,
}

#[derive(Debug)]
struct Crowd<'a> {
    plan: &'a Churn,
    poll: Poll,
    host: String,
    limits: Limits,
    visitors: Vec<Option<Visitor>>,
    free: Vec<usize>,
    speaking: usize,
    silent: usize,
    /// Begun so far.
    begun: u64,
    /// Index, number and limit of each, the earliest limit first in each queue.
    limits_of: [VecDeque<(usize, u64, u64)>; 2],
    handshake: Recorder,
    cut_after: Recorder,
    churned: Churned,
}

/// Runs for the time of the plan, and gives what happened.
pub(super) fn run(plan: &Churn) -> anyhow::Result<Churned> {
    let started = clock::now();
    let ends = started + plan.millis * 1_000_000;
    let mut crowd = Crowd {
        plan,
        poll: Poll::new()?,
        host: plan.address.to_string(),
        limits: link::limits(),
        visitors: Vec::new(),
        free: Vec::new(),
        speaking: 0,
        silent: 0,
        begun: 0,
        limits_of: [VecDeque::new(), VecDeque::new()],
        handshake: Recorder::new(),
        cut_after: Recorder::new(),
        churned: Churned::default(),
    };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 << 10];
    while clock::now() < ends {
        while crowd.speaking < plan.window && crowd.next_due(started) <= clock::now() {
            crowd.admit()?;
        }
        let wait = crowd.next_due(started).saturating_sub(clock::now()).clamp(1_000_000, 10_000_000);
        match crowd.poll.poll(&mut events, Some(Duration::from_nanos(wait))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            crowd.event(event, &mut buffer);
        }
        crowd.expire(clock::now());
    }
    let mut churned = crowd.churned;
    churned.handshake = crowd.handshake.take();
    churned.cut_after = crowd.cut_after.take();
    churned.millis = (clock::now() - started) / 1_000_000;
    Ok(churned)
}

impl Crowd<'_> {
    /// When the next connection may begin.
    fn next_due(&self, started: u64) -> u64 {
        self.plan.rate.map_or(0, |rate| started + (self.begun as f64 / rate * 1e9) as u64)
    }

    /// Begins the next connection.
    fn admit(&mut self) -> anyhow::Result<()> {
        let number = self.plan.first + self.begun;
        self.begun += 1;
        let turn = self.plan.silent_every > 0 && self.begun.is_multiple_of(self.plan.silent_every);
        let kind = match turn {
            true if self.silent >= self.plan.silent_limit => {
                self.churned.silent_skipped += 1;
                Kind::Speaks
            }
            true => Kind::Silent,
            false => Kind::Speaks,
        };
        let mut socket = dial::dial(self.plan.address, number, false)
            .with_context(|| format!("cannot open connection {number}"))?;
        let index = self.free.pop().unwrap_or_else(|| {
            self.visitors.push(None);
            self.visitors.len() - 1
        });
        self.poll.registry().register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let since = clock::now();
        let (patience, queue) = match kind {
            Kind::Speaks => (HANDSHAKE, 0),
            Kind::Silent => (SILENCE, 1),
        };
        match kind {
            Kind::Speaks => self.speaking += 1,
            Kind::Silent => self.silent += 1,
        }
        self.limits_of[queue].push_back((index, number, since + patience));
        let link = Link::new(self.plan.transport);
        self.visitors[index] = Some(Visitor { socket, link, kind, number, since });
        Ok(())
    }

    fn event(&mut self, event: &Event, buffer: &mut [u8]) {
        let index = event.token().0;
        let Some(Some(visitor)) = self.visitors.get_mut(index) else { return };
        match visitor.advance(&self.host, &self.limits, buffer) {
            Ok(false) => {}
            Ok(true) => {
                self.handshake.record(clock::now(), visitor.since);
                self.churned.completed += 1;
                if self.plan.reset {
                    let _ = dial::close_by_reset(&visitor.socket);
                }
                self.leave(index);
            }
            Err(_) if visitor.kind == Kind::Silent && visitor.link.phase() != Phase::Connecting => {
                self.cut_after.record(clock::now(), visitor.since);
                self.churned.silent_cut += 1;
                self.leave(index);
            }
            Err(reason) => {
                count(&mut self.churned.errors, &reason);
                self.leave(index);
            }
        }
    }

    fn leave(&mut self, index: usize) {
        if let Some(visitor) = self.visitors[index].take() {
            self.free.push(index);
            match visitor.kind {
                Kind::Speaks => self.speaking -= 1,
                Kind::Silent => {
                    self.churned.silent += 1;
                    self.silent -= 1;
                }
            }
        }
    }

    /// Ends those that have waited for too long.
    fn expire(&mut self, now: u64) {
        for queue in 0..self.limits_of.len() {
            while let Some(&(index, number, limit)) = self.limits_of[queue].front() {
                let there = self.visitors[index].as_ref().is_some_and(|visitor| visitor.number == number);
                if there && now < limit {
                    break;
                }
                self.limits_of[queue].pop_front();
                if there {
                    let reason = match queue {
                        0 => "no reply within 10 s",
                        _ => "silent for 20 s and not cut",
                    };
                    count(&mut self.churned.errors, reason);
                    self.leave(index);
                }
            }
        }
    }
}

impl Visitor {
    /// Does what the socket is ready for. `true` once the reply is here; an error when the connection
    /// has ended.
    fn advance(&mut self, host: &str, limits: &Limits, buffer: &mut [u8]) -> Result<bool, String> {
        let mut out = Vec::new();
        let token = || dial::token(self.number, dial::user(self.number), None);
        if self.link.phase() == Phase::Connecting {
            if !is_connected(&self.socket).map_err(words)? {
                return Ok(false);
            }
            self.link.opened(self.number, host, &token(), &mut out);
            if self.kind == Kind::Speaks {
                self.socket.write_all(&out).map_err(words)?;
            }
        }
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => return Err("closed by the server before its reply".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(words(error)),
            };
            if self.kind == Kind::Silent {
                continue;
            }
            out.clear();
            self.link.read(self.number, &mut buffer[..read], limits, token, &mut out, |_| {})?;
            if !out.is_empty() {
                self.socket.write_all(&out).map_err(words)?;
            }
            if self.link.phase() == Phase::Live {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn errors_are_counted_by_their_words() {
        let mut errors = BTreeMap::new();
        for reason in ["refused", "timeout", "refused"] {
            count(&mut errors, reason);
        }
        assert_eq!(errors, BTreeMap::from([("refused".into(), 2), ("timeout".into(), 1)]));
    }
}
