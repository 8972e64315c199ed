//! A helper process: this program again, under a hidden command.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::Context;
use serde::Serialize;

use crate::clock;
use crate::control::Reply;
use crate::placement::{Placement, Side};

/// A running helper. Ends with its standard input, which closes when this is dropped.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    input: Option<ChildStdin>,
}

impl Helper {
    /// Starts `anser-bench ARGUMENTS`. Its replies arrive at `replies` with `index`; the last one is
    /// [`Reply::Failed`], when it has ended.
    pub(crate) fn start(
        arguments: &[&str],
        placement: &Placement,
        side: Side,
        index: usize,
        replies: SyncSender<(usize, Reply)>,
    ) -> anyhow::Result<Self> {
        let program = env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = placement.spawn(side, &mut command)?;
        let output = child.stdout.take().context("no standard output")?;
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let reply = serde_json::from_str(&line)
                    .unwrap_or_else(|error| Reply::Failed(format!("a reply that is none: {error}: {line}")));
                if replies.send((index, reply)).is_err() {
                    return;
                }
            }
            let _ = replies.send((index, Reply::Failed("the helper process has ended".into())));
        });
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    /// Sends a command.
    pub(crate) fn send(&mut self, command: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        let input = self.input.as_mut().context("the helper was told to end")?;
        input.write_all(&line).context("the helper process has ended: see its message above")
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.input = None;
        reap(&mut self.child, Duration::from_secs(5));
    }
}

/// Waits for a process that was told to end, and kills it when it does not.
pub(crate) fn reap(child: &mut Child, patience: Duration) {
    let started = Instant::now();
    while started.elapsed() < patience {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        clock::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The helper's side: writes one reply to standard output.
pub(crate) fn reply(reply: &Reply) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut output = std::io::stdout().lock();
    output.write_all(&line)?;
    output.flush()?;
    Ok(())
}
