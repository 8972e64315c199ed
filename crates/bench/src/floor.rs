//! The floor: the least that a delivery can cost on this machine, a bare loop of `send()` to the same
//! kind of sockets. What a server costs is said as a ratio to it.

pub(crate) mod process;

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::control::{FloorCommand, Reply, Transport};
use crate::helper::Helper;
use crate::placement::{Placement, Side};

/// A floor process, seen from the parent.
#[derive(Debug)]
pub(crate) struct Floor {
    helper: Helper,
    replies: Receiver<(usize, Reply)>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
}

/// What the floor has sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// When it began, by the common clock.
    pub(crate) from: u64,
    /// How many messages, each to every socket.
    pub(crate) messages: u64,
}

impl Floor {
    /// Starts one, on the server's side of the machine.
    pub(crate) fn start(transport: Transport, placement: &Placement) -> anyhow::Result<Self> {
        let (sender, replies) = sync_channel(16);
        let arguments = ["floor", "--transport", &transport.to_string()];
        let helper = Helper::start(&arguments, placement, Side::Server, 0, sender)?;
        let address = match replies.recv_timeout(Duration::from_secs(10)) {
            Ok((_, Reply::Listening(address))) => address,
            other => bail!("the floor process did not start: {other:?}"),
        };
        Ok(Self { helper, replies, address })
    }

    /// Sends one message to every socket.
    pub(crate) fn send(&mut self, body: usize, stream: u16, seq: u64) -> anyhow::Result<Sent> {
        self.command(FloorCommand::Send { body, stream, seq }, Duration::from_secs(60))
    }

    /// Sends messages from number `seq` on to every socket, `rate` a second.
    pub(crate) fn pace(
        &mut self,
        body: usize,
        stream: u16,
        seq: u64,
        rate: f64,
        time: Duration,
    ) -> anyhow::Result<Sent> {
        let millis = time.as_millis() as u64;
        self.command(FloorCommand::Pace { body, stream, seq, rate, millis }, time + Duration::from_secs(60))
    }

    fn command(&mut self, command: FloorCommand, limit: Duration) -> anyhow::Result<Sent> {
        self.helper.send(&command)?;
        match self.replies.recv_timeout(limit).context("the floor process does not answer")? {
            (_, Reply::Sent { from, messages }) => Ok(Sent { from, messages }),
            (_, Reply::Failed(reason)) => bail!("the floor process: {reason}"),
            (_, other) => bail!("the floor process answers {other:?}"),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.helper.pid()
    }
}
