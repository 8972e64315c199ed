//! What the process says about itself while it runs: events of `tracing`, on stderr.

use std::env;
use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{Format, Log};

/// Starts the log. Once in a process; a second time is refused.
pub fn start(log: &Log) -> Result<(), TryInitError> {
    let lines = Subscriber::builder().with_env_filter(EnvFilter::new(&log.filter)).with_writer(io::stderr);
    match log.format {
        Format::Text => lines.with_ansi(wants_colour()).finish().try_init(),
        Format::Json => lines.json().finish().try_init(),
    }
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
