//! The calibration line: what this machine does today, so that absolute figures can be read.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fmt, hint, thread};

use serde::Serialize;

use crate::latency::Latency;
use crate::procfs;

/// Sockets of the send loop: more than a cache of sockets would flatter, few enough to set up at once.
const SOCKETS: usize = 256;

/// Bytes of one send, as the default message has.
const MESSAGE: usize = 60;

/// Appends that are synced.
const SYNCS: u64 = 200;

/// Bytes of one append.
const APPEND: usize = 4096;

/// What was measured, just before a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Calibration {
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// One `send()` of 60 bytes to a loopback socket, in a loop over 256 of them, in µs; half of it is
    /// the receiver's TCP.
    pub(crate) send_us: f64,
    /// `fdatasync` of a preallocated append of 4 KiB in the data folder, in ms.
    pub(crate) fdatasync_p50_ms: f64,
    pub(crate) fdatasync_p99_ms: f64,
    /// FNV-1a (64 bits, a byte at a time) of a buffer in cache: a fixed loop of one dependent
    /// multiplication a byte.
    pub(crate) fnv1a_mb_per_s: f64,
}

impl Calibration {
    /// Takes about a second.
    pub(crate) fn measure(folder: &Path) -> anyhow::Result<Self> {
        let (fdatasync_p50_ms, fdatasync_p99_ms) = fdatasync(folder)?;
        Ok(Self {
            cores: thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel: procfs::kernel(),
            send_us: send()?,
            fdatasync_p50_ms,
            fdatasync_p99_ms,
            fnv1a_mb_per_s: fnv1a(),
        })
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "calibration: {} cores, Linux {}, send {:.2} µs, fdatasync p50 {:.2} ms p99 {:.2} ms, FNV-1a {:.0} MB/s",
            self.cores,
            self.kernel,
            self.send_us,
            self.fdatasync_p50_ms,
            self.fdatasync_p99_ms,
            self.fnv1a_mb_per_s
        )
    }
}

/// µs for a send. The sockets are emptied between the rounds, outside of the time taken.
fn send() -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut pairs = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        let receiver = TcpStream::connect(address)?;
        let (sender, _) = listener.accept()?;
        sender.set_nodelay(true)?;
        pairs.push((sender, receiver));
    }
    let message = [0; MESSAGE];
    let mut buffer = [0; MESSAGE];
    let (mut spent, mut sends) = (Duration::ZERO, 0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        let round = Instant::now();
        for (sender, _) in &pairs {
            socket2::SockRef::from(sender).send(&message)?;
        }
        spent += round.elapsed();
        sends += pairs.len();
        for (_, receiver) in &mut pairs {
            receiver.read_exact(&mut buffer)?;
        }
    }
    Ok(spent.as_secs_f64() * 1e6 / sends as f64)
}

/// p50 and p99 in ms.
fn fdatasync(folder: &Path) -> anyhow::Result<(f64, f64)> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let append = [7; APPEND];
    for _ in 0..SYNCS {
        file.write_all(&append)?;
    }
    file.sync_all()?;
    let mut latency = Latency::default();
    for at in 0..SYNCS {
        let started = Instant::now();
        file.write_all_at(&append, at * APPEND as u64)?;
        file.sync_data()?;
        latency.record(started.elapsed().as_nanos() as u64);
    }
    let total = latency.total();
    Ok((total.value_at_quantile(0.5) as f64 / 1e6, total.value_at_quantile(0.99) as f64 / 1e6))
}

/// MB/s.
fn fnv1a() -> f64 {
    let bytes = vec![0x5a_u8; 64 << 10];
    let started = Instant::now();
    let mut hashed = 0;
    while started.elapsed() < Duration::from_millis(200) {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        hint::black_box(hash);
        hashed += bytes.len();
    }
    hashed as f64 / 1e6 / started.elapsed().as_secs_f64()
}
