//! `anser config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::place::Place;
use crate::config::print;
use crate::failure::Failure;
use crate::out;

/// The arguments.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether `anser up` would take the configuration, and all that is wrong with it
    Check {
        /// The file, instead of the one that `anser up` would read
        file: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Print the values that `anser up` would run with, and where each comes from
    Show {
        #[command(flatten)]
        place: Place,
    },
}

impl Config {
    /// Prints every default, or does what the action says.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            None => out::write(&print::defaults()),
            Some(Action::Check { file, place }) => {
                let mut layers = place.layers();
                layers.file = file.or(layers.file);
                layers.load()?;
                let name =
                    layers.file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
                out::write(&format!("{name}: ok\n"))
            }
            Some(Action::Show { place }) => out::write(&print::effective(&place.layers().load()?)),
        }
    }
}
