//! The fleet: client processes, seen from the parent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::clock;
use crate::control::{
    Appetite, Churn, Churned, Command, Connected, Connections, Count, Received, Reply, Transport,
};
use crate::helper::Helper;
use crate::latency::Latency;
use crate::placement::{Placement, Side};
use crate::progress::Progress;
use crate::sequence::Order;

/// Most connections of one process. It may open 20 000 files on the project's machines; two processes
/// of half that keep two cores busy when it matters.
pub(crate) const PER_PROCESS: u64 = 9_000;

/// How long counters may stand still before what is missing counts as lost. The server's own
/// pauses (a queue that drains, a retry) are far shorter.
const STANDSTILL: Duration = Duration::from_secs(5);

/// The connections of a fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    /// Number of the first connection: no two fleets of one server overlap.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Over how many rooms they are spread; 0: none.
    pub(crate) rooms: u64,
    /// One user for all, or one each.
    pub(crate) user: Option<u64>,
    pub(crate) appetite: Appetite,
    /// How many may be on their way at once, in all.
    pub(crate) window: usize,
    pub(crate) heartbeat: Duration,
    /// Most of them in one process.
    pub(crate) per_process: u64,
}

/// A connected fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    helpers: Vec<Helper>,
    replies: Receiver<(usize, Reply)>,
    /// Live connections.
    pub(crate) size: u64,
    /// Attempts that failed before they succeeded, by reason.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// What a fleet received between two reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Haul {
    pub(crate) count: Count,
    pub(crate) reads: u64,
    pub(crate) to_keys: u64,
    pub(crate) order: Order,
    /// When the first and the last message came.
    pub(crate) first_at: u64,
    pub(crate) last_at: u64,
    pub(crate) room: Latency,
    pub(crate) key: Latency,
    /// Members by room and by the order that they saw.
    orders: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// Of reports that were absorbed; each has orders of its own.
    earlier_dissenters: u64,
}

impl Fleet {
    /// Starts the processes and connects all; fails when not every connection can be had.
    pub(crate) fn connect(
        plan: &Plan,
        name: &str,
        placement: &Placement,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let processes = plan.count.div_ceil(plan.per_process).max(1);
        let mut fleet = Self::start(processes, placement)?;
        let mut first = plan.first;
        for (index, helper) in fleet.helpers.iter_mut().enumerate() {
            let left = plan.first + plan.count - first;
            let count = left.div_ceil(processes - index as u64);
            helper.send(&Command::Connect(Connections {
                address: plan.address,
                transport: plan.transport,
                first,
                count,
                rooms: plan.rooms,
                user: plan.user,
                appetite: plan.appetite,
                window: (plan.window / processes as usize).max(1),
                heartbeat_ms: plan.heartbeat.as_millis() as u64,
            }))?;
            first += count;
        }
        progress.phase(&format!("connecting {} ({}) to {name}", plan.count, plan.transport));
        let mut live = BTreeMap::new();
        let limit = Duration::from_secs(30 + plan.count / 100);
        let connected: Vec<Connected> = fleet.gather(limit, |index, reply| match reply {
            Reply::Connected(connected) => Some(connected),
            Reply::Progress(count) => {
                live.insert(index, count);
                progress.amount(live.values().sum(), plan.count);
                None
            }
            _ => None,
        })?;
        for process in connected {
            fleet.size += process.live;
            for (reason, count) in process.errors {
                *fleet.errors.entry(reason).or_default() += count;
            }
        }
        ensure!(
            fleet.size == plan.count,
            "only {} of {} connections to {name} at {} could be opened: {:?}. Is its limit of connections or \
             of open files lower? Try a smaller --window, or fewer --connections",
            fleet.size,
            plan.count,
            plan.address,
            fleet.errors
        );
        // What came with the handshakes is no part of any measurement.
        fleet.report()?;
        Ok(fleet)
    }

    /// Starts processes without connections, for [`Fleet::churn`].
    pub(crate) fn start(processes: u64, placement: &Placement) -> anyhow::Result<Self> {
        let (sender, replies) = sync_channel(256);
        let helpers = (0..processes as usize)
            .map(|index| Helper::start(&["fleet"], placement, Side::Client, index, sender.clone()))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { helpers, replies, size: 0, errors: BTreeMap::new() })
    }

    /// Process ids, for what the fleet itself costs.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.helpers.iter().map(Helper::pid)
    }

    fn tell(&mut self, command: &Command) -> anyhow::Result<()> {
        self.helpers.iter_mut().try_for_each(|helper| helper.send(command))
    }

    /// Waits until `take` has taken a reply from each process.
    fn gather<T>(
        &mut self,
        limit: Duration,
        mut take: impl FnMut(usize, Reply) -> Option<T>,
    ) -> anyhow::Result<Vec<T>> {
        let ends = Instant::now() + limit;
        let mut taken: Vec<Option<T>> = self.helpers.iter().map(|_| None).collect();
        while taken.iter().any(Option::is_none) {
            let left = ends.saturating_duration_since(Instant::now());
            match self.replies.recv_timeout(left) {
                Ok((_, Reply::Failed(reason))) => bail!("a process of the fleet: {reason}"),
                Ok((index, reply)) => {
                    if let Some(value) = take(index, reply) {
                        taken[index] = Some(value);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let late = taken.iter().filter(|value| value.is_none()).count();
                    bail!("{late} of {} processes of the fleet did not answer in {limit:?}", taken.len());
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the fleet has ended"),
            }
        }
        Ok(taken.into_iter().flatten().collect())
    }

    /// Tells the fleet to watch for the last arrival of each message, for [`Fleet::completed`].
    pub(crate) fn watch(&mut self, on: bool) -> anyhow::Result<()> {
        self.tell(&Command::Watch(on))?;
        // Commands are answered in order: now it watches, however soon the first message comes.
        self.count().map(drop)
    }

    /// Waits until every connection has message `seq`; gives the time of the last arrival.
    pub(crate) fn completed(&mut self, seq: u64) -> anyhow::Result<u64> {
        self.completed_within(seq, Duration::from_secs(30))
    }

    /// The same, with another limit.
    pub(crate) fn completed_within(&mut self, seq: u64, limit: Duration) -> anyhow::Result<u64> {
        let last = self
            .gather(limit, |_, reply| match reply {
                Reply::Complete { seq: complete, at } if complete == seq => Some(at),
                _ => None,
            })
            .with_context(|| format!("message {seq} did not reach every member"))?;
        last.into_iter().max().context("a fleet without processes")
    }

    /// Each connection sends a heartbeat, spread over a time; waits until the answers are here.
    pub(crate) fn beat(&mut self, spread: Duration) -> anyhow::Result<()> {
        let before = self.count()?.heartbeats;
        self.tell(&Command::Beat { spread_ms: spread.as_millis() as u64 })?;
        let ends = Instant::now() + spread + Duration::from_secs(30);
        loop {
            clock::sleep(Duration::from_millis(50));
            let answered = self.count()?.heartbeats - before;
            if answered >= self.size {
                return Ok(());
            }
            ensure!(
                Instant::now() < ends,
                "{answered} of {} heartbeats were answered within 30 s",
                self.size
            );
        }
    }

    /// The counters, without a reset.
    pub(crate) fn count(&mut self) -> anyhow::Result<Count> {
        self.tell(&Command::Count)?;
        let counts = self.gather(Duration::from_secs(60), |_, reply| match reply {
            Reply::Count(count) => Some(count),
            _ => None,
        })?;
        Ok(counts.into_iter().fold(Count::default(), |sum, count| Count {
            received: sum.received + count.received,
            heartbeats: sum.heartbeats + count.heartbeats,
            closed: sum.closed + count.closed,
        }))
    }

    /// Waits until the fleet has received `expected` messages since its last report, or nothing more
    /// comes.
    pub(crate) fn drain(&mut self, expected: u64) -> anyhow::Result<()> {
        let mut best = (0, Instant::now());
        loop {
            let received = self.count()?.received;
            if received > best.0 {
                best = (received, Instant::now());
            }
            if received >= expected || best.1.elapsed() > STANDSTILL {
                return Ok(());
            }
            clock::sleep(Duration::from_millis(20));
        }
    }

    /// What was received since the last report; starts again from zero.
    pub(crate) fn report(&mut self) -> anyhow::Result<Haul> {
        self.tell(&Command::Report)?;
        let reports = self.gather(Duration::from_secs(60), |_, reply| match reply {
            Reply::Report(received) => Some(received),
            _ => None,
        })?;
        let mut haul = Haul::default();
        for received in reports {
            haul.add(&received);
        }
        Ok(haul)
    }

    /// Lets connections come and go in each process, for the time that the plan says.
    pub(crate) fn churn(&mut self, plan: &Churn) -> anyhow::Result<()> {
        for (index, helper) in self.helpers.iter_mut().enumerate() {
            let first = plan.first + ((index as u64) << 32);
            helper.send(&Command::Churn(Churn { first, ..plan.clone() }))?;
        }
        Ok(())
    }

    /// Waits for the end of [`Fleet::churn`].
    pub(crate) fn churned(&mut self, limit: Duration) -> anyhow::Result<Vec<Churned>> {
        self.gather(limit, |_, reply| match reply {
            Reply::Churned(churned) => Some(*churned),
            _ => None,
        })
    }
}

impl Haul {
    /// Adds what one process received.
    fn add(&mut self, received: &Received) {
        self.count.received += received.count.received;
        self.count.heartbeats += received.count.heartbeats;
        self.count.closed += received.count.closed;
        self.reads += received.reads;
        self.to_keys += received.to_keys;
        self.order.add(received.order);
        if received.first_at > 0 {
            self.first_at = match self.first_at {
                0 => received.first_at,
                first => first.min(received.first_at),
            };
            self.last_at = self.last_at.max(received.last_at);
        }
        self.room.add(&received.room);
        self.key.add(&received.key);
        for (room, hash, members) in &received.orders {
            *self.orders.entry(*room).or_default().entry(*hash).or_default() += members;
        }
    }

    /// Adds the counts of another report. Latencies and times are left out.
    pub(crate) fn absorb(&mut self, later: &Self) {
        self.count.received += later.count.received;
        self.count.heartbeats += later.count.heartbeats;
        self.count.closed += later.count.closed;
        self.order.add(later.order);
        self.earlier_dissenters += later.dissenters();
    }

    /// All latencies, those of rooms and of keys.
    pub(crate) fn into_latency(self) -> Latency {
        let mut latency = self.room;
        latency.merge(&self.key);
        latency
    }

    /// From the first arrival to the last, in seconds.
    pub(crate) fn span(&self) -> f64 {
        self.last_at.saturating_sub(self.first_at) as f64 / 1e9
    }

    /// Members that saw another order of their room than most members did.
    pub(crate) fn dissenters(&self) -> u64 {
        let rooms = self.orders.values();
        let here = rooms.map(|hashes| hashes.values().sum::<u64>() - hashes.values().max().unwrap_or(&0));
        self.earlier_dissenters + here.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_merged() {
        let received = |first_at, last_at, orders: &[(u64, u64, u64)]| Received {
            count: Count { received: 10, heartbeats: 1, closed: 0 },
            orders: orders.to_vec(),
            first_at,
            last_at,
            ..Received::default()
        };
        let mut haul = Haul::default();
        haul.add(&received(2_000_000_000, 5_000_000_000, &[(1, 77, 50), (2, 5, 10)]));
        haul.add(&received(0, 0, &[(1, 77, 30)]));
        haul.add(&received(1_000_000_000, 4_000_000_000, &[(1, 78, 3)]));
        assert_eq!(haul.count.received, 30);
        assert!((haul.span() - 4.0).abs() < 1e-9);
        assert_eq!(haul.dissenters(), 3);
        let mut sum = Haul::default();
        sum.absorb(&haul);
        sum.absorb(&haul);
        assert_eq!((sum.dissenters(), sum.count.received), (6, 60));
    }
}
