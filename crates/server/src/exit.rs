//! The exit codes, as `sysexits.h` has them.

use std::fmt::Write as _;
use std::process::ExitCode;

macro_rules! exits {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)*) => {
        /// How the process ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Exit {
            $($(#[doc = $doc])+ $name = $code,)*
        }

        /// Every code with its meaning, in the order of the codes.
        pub const TABLE: &[(Exit, &str)] = &[$((Exit::$name, concat!($($doc),+)),)*];
    };
}

exits! {
    /// Done.
    Ok = 0,
    /// Wrong arguments, or the server refused what was asked.
    Usage = 64,
    /// Data on disk are damaged.
    Damaged = 65,
    /// Something that is needed is not there: a server that does not run, a port that is taken.
    Unavailable = 69,
    /// A defect in anser.
    Software = 70,
    /// The system refused: a permission, a limit, a full disk.
    System = 71,
    /// A file or folder cannot be made.
    CannotCreate = 73,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The foot of `anser --help`.
pub fn footer() -> String {
    let mut text = "Exit codes:".to_owned();
    for (exit, meaning) in TABLE {
        let _ = write!(text, "\n  {:>2}  {}", *exit as u8, meaning.trim());
    }
    text
}
