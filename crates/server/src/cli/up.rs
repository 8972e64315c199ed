//! `anser up`.

use clap::Args;
use tokio::runtime::Runtime;

use super::place::Place;
use crate::failure::Failure;
use crate::roles::Roles;
use crate::{log, up};

/// The arguments.
#[derive(Debug, Args)]
#[command(
    after_help = "`anser config` prints every key with its default and its meaning. Those that are asked for most:
  --set log.filter=debug           tell of every connection that ends, and why
  --set log.format=json            a log for machines
  --set comet.tcp=0.0.0.0:3101     listen beyond this machine (it says what else that needs)

SIGTERM, SIGINT and SIGHUP drain: clients are told to go, what is queued is written, then it ends. A second
one ends it at once."
)]
pub struct Up {
    #[command(flatten)]
    place: Place,
}

impl Up {
    /// Runs the server until a signal ends it. A wrong configuration ends it before anything is touched.
    pub fn run(self, roles: Roles) -> Result<(), Failure> {
        let config = self.place.layers().load()?.config;
        let log = log::start(&config.log).map_err(anyhow::Error::from)?;
        let runtime = Runtime::new().map_err(|error| {
            Failure::system("cannot start threads", &error, "raise the limit (`ulimit -u`)")
        })?;
        Ok(runtime.block_on(up::run(roles, config, self.place.data, &log))?)
    }
}
