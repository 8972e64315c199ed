//! Where the configuration and the data are; the same arguments for every command that needs to know.

use std::env;
use std::path::PathBuf;

use clap::Args;

use crate::config::layers::{Assignment, Layers};
use crate::up;

/// The file that is read from the data folder when no other is named.
const FILE: &str = "anser.toml";

/// The arguments.
#[derive(Clone, Debug, Args)]
pub(super) struct Place {
    /// Folder of everything that the server keeps
    #[arg(long, value_name = "DIR", env = "ANSER_DATA", default_value = up::DATA)]
    pub(super) data: PathBuf,
    /// Configuration file [default: anser.toml in the data folder, if there is one]
    #[arg(long, value_name = "FILE", env = "ANSER_CONFIG")]
    config: Option<PathBuf>,
    /// Set one key, over file and environment; may be given many times
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<Assignment>,
}

impl Place {
    /// The layers over the defaults.
    pub(super) fn layers(&self) -> Layers {
        let usual = || Some(self.data.join(FILE)).filter(|file| file.symlink_metadata().is_ok());
        Layers {
            file: self.config.clone().or_else(usual),
            env: env::vars_os().collect(),
            set: self.set.clone(),
        }
    }
}
