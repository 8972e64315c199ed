//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::control::Transport;
use crate::placement::Pin;
use crate::server::Target;
use crate::stamp;

/// Measures Anser, or another server with goim's protocol and push API.
///
/// Each command starts `anser up` on free ports in a temporary folder (or, with --roles apart, a process for
/// each role; or uses the server of --target),
/// connects a fleet of client processes from addresses all over 127.0.0.0/8, pushes over HTTP, and prints
/// a table. Where a figure is a ratio, it is one to the floor: a bare loop of `send()` to a fleet of the
/// same size with the same bytes and pacing, measured in turn with the server, and the median and range of
/// the ratios are told. For what has to be durable the floor is a loop of `fdatasync()`. Latency counts from the moment when a message was due. Absolute figures are to be
/// read with the calibration line above them.
#[derive(Debug, Parser)]
#[command(name = "anser-bench", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What a connection costs that does nothing: memory, and CPU for heartbeats.
    ///
    /// Memory per connection is a slope: resident at 18 000 connections less that at 2 000, over the
    /// difference, of every process of the server, each size on a fresh server; after 100 pushes and 3
    /// heartbeats for each, and again after a burst of 1 000 pushes for each and a minute of quiet. Then
    /// the server's CPU over a minute of heartbeats, 240 s apart on each connection and spread evenly.
    /// Before all that: the server without a connection, and the time from its start until it is ready.
    ///
    /// Defaults: --connections 2000,18000 --seconds 60
    Idle {
        #[command(flatten)]
        options: Options,
        /// Rooms that the connections are spread over.
        #[arg(long, default_value_t = 1, value_name = "N")]
        rooms: u64,
        /// Seconds of quiet after the burst.
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        quiet: u64,
    },
    /// One room: the cost of a delivery, the time to the last member, the most that it takes.
    ///
    /// cost: one message at a time, at --rate; the server's CPU for each delivery in pairs with the
    /// floor's, and its system calls for each delivery in a short run that perf, or else strace, counts. last: the same run,
    /// from the post to the arrival at the last member, in pairs with the floor's loop. saturation:
    /// --posters push as fast as they are accepted for --seconds, and come back after the time told when
    /// they are refused; what the receivers got, lost, and in which order.
    ///
    /// Defaults: cost and last --connections 10000 --rate 5 --seconds 10 --pairs 5; saturation
    /// --connections 18000,1000 --seconds 60 --posters 4
    Room {
        #[command(flatten)]
        options: Options,
        /// What to measure.
        #[arg(long, value_enum, value_delimiter = ',', default_value = "cost,last,saturation")]
        mode: Vec<Mode>,
    },
    /// Pushes to single keys: throughput alone, and latency beside a busy room.
    ///
    /// All connections are members of one room. First --posters push to keys as fast as they are accepted,
    /// and at --rate. Then a short saturation finds what the room takes, and the room runs at --share of
    /// it while pushes to keys go on at --rate: to members of the room in the process that reads for all of
    /// them (whose own queue is in that latency), to 100 members with a process of their own, and to 100
    /// connections in no room.
    ///
    /// Defaults: --connections 18000 --rate 100 --seconds 10 --posters 4
    Unicast {
        #[command(flatten)]
        options: Options,
        /// Part of the room's saturation to run at.
        #[arg(long, default_value_t = 0.7, value_name = "SHARE")]
        share: f64,
    },
    /// New connections a second, and what they do to pushes.
    ///
    /// For --seconds connections come, authenticate, wait for the reply and close, --visitors at a time;
    /// some of them say nothing until the server cuts them. Meanwhile pushes go at --rate to the keys of
    /// some steady connections; their p99 is told in pairs with that of the same without newcomers.
    ///
    /// Defaults: --connections 100 --rate 100 --seconds 60 --pairs 1
    Connect {
        #[command(flatten)]
        options: Options,
        /// Percent of the connections that say nothing.
        #[arg(long, default_value_t = 10, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(0..=50))]
        silent: u64,
        /// Connections that are on their way at once, silent ones not counted.
        #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
        visitors: u64,
        /// Most connections that begin in a second. Default: as many as come through.
        #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
        arrivals: Option<f64>,
        /// Close with RST in place of FIN, which leaves nothing in `TIME_WAIT`.
        #[arg(long)]
        reset: bool,
    },
    /// From the push API to the client, at a gentle rate.
    ///
    /// At --rate to the key of one client, and to rooms of the other sizes, the server otherwise idle; in
    /// pairs with the floor, one process that sends to as many sockets at the same pacing. Also the CPU of
    /// all processes of the server for each push. Above 400 a second there are several posters, and as many
    /// clients in place of the one.
    ///
    /// Defaults: --connections 1,1000 --rate 100 --seconds 10 --pairs 5
    Latency {
        #[command(flatten)]
        options: Options,
    },
    /// What clients that do not read do to those that do.
    ///
    /// --never of the connections read nothing, --byte of them a byte a second, and their queues are full
    /// before timing starts. A room of all of them gets --rate messages a second, and keys of the others
    /// get 100 a second. The p99 of those others is told in pairs with that of the same run without the
    /// slow ones; and the memory of server and kernel before and after. The server runs with
    /// `comet.user_timeout="1h"`, so that it keeps the slow ones (--set gives another).
    ///
    /// Defaults: --connections 18000 --rate 10 --seconds 10 --pairs 5
    Slow {
        #[command(flatten)]
        options: Options,
        /// Connections that read nothing.
        #[arg(long, default_value_t = 900, value_name = "N")]
        never: u64,
        /// Connections that read a byte a second.
        #[arg(long, default_value_t = 100, value_name = "N")]
        byte: u64,
    },
    /// How many durable pushes the API accepts.
    ///
    /// --callers with a connection each push as fast as they are answered, one request at a time, to keys
    /// (each caller to those of some clients) or to one room. In turn with two floors: a bare loop of one
    /// thread that appends as many bytes to a file that was written out before, and calls fdatasync for each
    /// record, or for as many records at once as there are callers.
    ///
    /// Defaults: --body 200 --seconds 10 --pairs 5, and --connections as many as callers (8 for a room)
    Accept {
        #[command(flatten)]
        options: Options,
        /// Connections that push, one request at a time on each.
        #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4000))]
        callers: u64,
        /// Who gets the pushes.
        #[arg(long, value_enum, default_value_t = To::Keys)]
        to: To,
    },
    /// What durability costs a caller that is alone.
    ///
    /// One caller pushes at --rate to the key of one client; from when a push was due to the API's 200. In
    /// turn with the floor: one thread that appends as many bytes to a file that was written out before, and
    /// calls fdatasync, at the same pacing on the same file system.
    ///
    /// Defaults: --body 200 --rate 20 --seconds 10 --pairs 5
    Lone {
        #[command(flatten)]
        options: Options,
    },
    /// Ten times more than the server bears.
    ///
    /// First --callers push as fast as they are accepted for ten seconds, and come back when they are
    /// refused: what the server bears. Then a --crowd of callers offers --times that rate for --seconds, as far
    /// as the machine can, and gives up what is refused. What was accepted has to arrive; told are also how
    /// long it took until nothing waited any more, and the most memory that the server took.
    ///
    /// Defaults: --connections 2000 --seconds 30
    Burst {
        #[command(flatten)]
        options: Options,
        /// Connections that push while it is looked for what the server bears.
        #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=500))]
        callers: u64,
        /// Connections that push in the burst, one request at a time on each.
        #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4000))]
        crowd: u64,
        /// Who gets the pushes: one room with all connections, or keys, each caller to those of its own.
        #[arg(long, value_enum, default_value_t = To::Room)]
        to: To,
        /// How many times the rate that the server bears is offered.
        #[arg(long, default_value_t = 10.0, value_name = "TIMES", value_parser = times)]
        times: f64,
    },
    /// What a comet that stands still does to the others.
    ///
    /// One logic, one job, --comets; the connections are spread over the comets, and all are in one room.
    /// At --rate each, pushes go to the keys of every comet and to the room: for --seconds, then for as long
    /// while one comet is stopped (SIGSTOP), then for ten seconds after it goes on (SIGCONT). The p99 through
    /// the others is told against that before; and what became of the pushes through the stopped one.
    ///
    /// Defaults: --connections 300 --rate 100 --seconds 60 --pairs 1
    Stopped {
        #[command(flatten)]
        options: Options,
        /// How many comets.
        #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=50))]
        comets: u64,
    },
    /// How many threads the server has, whatever is pushed.
    ///
    /// Pushes to keys, one in each request, are offered at each of --rates for --seconds; what is refused is
    /// given up. The number of threads of all processes is told for each, with what was reached.
    ///
    /// Defaults: --connections 512 --seconds 10
    Threads {
        #[command(flatten)]
        options: Options,
        /// Connections that push.
        #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
        callers: u64,
        /// Pushes a second that are offered, one after the other.
        #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1000,100000", value_parser = rate)]
        rates: Vec<f64>,
    },
    /// A million connections on many comets.
    ///
    /// One logic, one job, --comets with --connections each, and as many client processes, whose addresses
    /// come from all of 127.0.0.0/8: a process may open 20 000 files on the project's machines, and a comet
    /// keeps a sixteenth of its files for itself. All authenticate, then one push goes to everyone. Ends with
    /// a message, and with the rows so far, before the machine's memory is gone.
    ///
    /// Defaults: --connections 18600 (for each comet)
    Million {
        #[command(flatten)]
        options: Options,
        /// How many comets.
        #[arg(long, default_value_t = 54, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=500))]
        comets: u64,
        /// Memory of the machine that has to stay free.
        #[arg(long, default_value_t = 1500, value_name = "MB", value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
        reserve: u64,
    },
    /// A process of the fleet, told what to do on standard input.
    #[command(hide = true)]
    Fleet,
    /// Becomes the server, and ends with this program.
    #[command(hide = true)]
    Exec {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// The floor's process, told what to do on standard input.
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        transport: Transport,
    },
}

/// What of a room to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// CPU and system calls for each delivery.
    Cost,
    /// Time to the last member.
    Last,
    /// The most that it takes.
    Saturation,
}

/// Who gets the pushes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum To {
    /// Single keys.
    Keys,
    /// One room with all connections.
    Room,
}

/// In which processes the roles are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Roles {
    /// All in one process.
    #[default]
    Together,
    /// One process for logic, one for the job, one comet.
    Apart,
}

impl To {
    /// The word of the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Room => "one room",
        }
    }
}

/// What all commands have in common.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Connections; several sizes are measured one after the other.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) connections: Vec<u64>,
    /// Length of each measurement.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: Option<u64>,
    /// How often both halves of a pair (floor and server, or without and with) are measured in turn.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) pairs: Option<u64>,
    /// Bytes of a message's body; its packet has 16 more. Default: 44, if the command names no other.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(stamp::LEN as u64..=1_000_000))]
    pub(crate) body: Option<u64>,
    /// Messages a second, where they are paced.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// How clients connect; several are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "tcp")]
    pub(crate) transport: Vec<Transport>,
    /// Connections of the generator that push as fast as they are accepted.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=u64::from(stamp::KEY_STREAM)))]
    pub(crate) posters: u64,
    /// Also write all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The server's binary. Default: the `anser` beside this program.
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,
    /// Measure a server that runs already: `tcp=HOST:PORT,ws=HOST:PORT,http=HOST:PORT,pid=PID`. Its
    /// processes (pid, repeated for each) are needed for CPU and memory.
    #[arg(long, value_name = "ADDRESSES", conflicts_with_all = ["server", "set"])]
    pub(crate) target: Option<Target>,
    /// Whether the server is one process, or has its roles in processes of their own.
    #[arg(long, value_enum, default_value_t, conflicts_with = "target")]
    pub(crate) roles: Roles,
    /// A setting for the server, as `anser up --set` takes it; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where the server's temporary folder goes: the disk that fdatasync is measured on. Default: the
    /// system's.
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Which processors server and clients get.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) pin: Pin,
    /// Connections that the fleet opens at once.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(crate) window: u64,
}

fn times(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(times) if (1.0..=1000.0).contains(&times) => Ok(times),
        _ => Err("a number from 1 to 1000".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.01 to 1000000".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_and_bounds() {
        let parse = |text: &str| Cli::try_parse_from(text.split(' '));
        let cli =
            parse("anser-bench room --connections 10,100 --transport tcp,websocket --mode last").unwrap();
        let Command::Room { options, mode } = cli.command else { panic!("not a room") };
        assert_eq!(options.connections, [10, 100]);
        assert_eq!(options.transport, [Transport::Tcp, Transport::Websocket]);
        assert_eq!(mode, [Mode::Last]);
        for text in [
            "room --body 15",
            "room --rate 0",
            "room --posters 8",
            "idle --connections 0",
            "accept --callers 0",
            "burst --times 0.5",
            "latency --roles apart --target http=127.0.0.1:1",
            "frob",
        ] {
            assert!(parse(&format!("anser-bench {text}")).is_err(), "{text}");
        }
    }
}
