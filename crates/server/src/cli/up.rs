//! `anser up`.

use clap::Args;
use tokio::runtime::Runtime;

use super::place::Place;
use crate::failure::Failure;
use crate::{log, up};

/// The arguments.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    place: Place,
}

impl Up {
    /// Runs the server until a signal ends it. A wrong configuration ends it before anything is touched.
    pub fn run(self) -> Result<(), Failure> {
        let config = self.place.layers().load()?.config;
        log::start(&config.log).map_err(anyhow::Error::from)?;
        let runtime = Runtime::new().map_err(|error| {
            Failure::system("cannot start threads", &error, "raise the limit (`ulimit -u`)")
        })?;
        Ok(runtime.block_on(up::run(config, self.place.data))?)
    }
}
