//! What the process says about itself while it runs: events of `tracing`, on stderr.
//!
//! Whoever has something to say puts the line into a bounded queue, and a thread writes it. When nobody
//! reads stderr, or its disk is full, lines are lost and counted; the server goes on.

use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};
use std::{env, fmt};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{Format, Log};

/// Lines that wait for stderr; what comes above is lost.
const LINES: usize = 1024;

/// A log that has been started. What was said is written when it goes, if somebody reads it.
#[derive(Debug)]
pub struct Running {
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

impl Running {
    /// Puts the log's metric into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Export(self.lost.clone())));
    }
}

/// The log's metric, a counter: its name without `_total`, and what it counts.
pub const METRIC: (&str, &str) =
    ("anser_log_lost", "Lines of the log that were lost, as nobody read stderr fast enough");

#[derive(Debug)]
struct Export(ErrorCounter);

impl Collector for Export {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (name, help) = METRIC;
        let counter = ConstCounter::new(self.0.dropped_lines() as u64);
        counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }
}

/// Starts the log. Once in a process; a second time is refused.
pub fn start(log: &Log) -> Result<Running, TryInitError> {
    let (lines, writer) = NonBlockingBuilder::default().buffered_lines_limit(LINES).finish(io::stderr());
    let running = Running { lost: lines.error_counter(), _writer: writer };
    let lines = Subscriber::builder().with_env_filter(EnvFilter::new(&log.filter)).with_writer(lines);
    match log.format {
        Format::Text => lines.with_ansi(wants_colour()).finish().try_init()?,
        Format::Json => lines.json().finish().try_init()?,
    }
    Ok(running)
}

/// <https://no-color.org>.
fn wants_colour() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A panic is told in one line: in the log once there is one, else on stderr.
pub fn tell_panics() {
    panic::set_hook(Box::new(|info| {
        let message = panic_message(info);
        if tracing::dispatcher::has_been_set() {
            tracing::error!("{message}");
        } else {
            crate::out::note(&format!("anser: {message}"));
        }
    }));
}

fn panic_message(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map(|location| format!(" at {}:{}", location.file(), location.line()));
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let cause = text.unwrap_or("no message").replace('\n', " ");
    format!(
        "internal error{}: {cause}: this is a defect in anser, please report it",
        place.unwrap_or_default()
    )
}
