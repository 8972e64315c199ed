//! The two streams of a command: results on stdout, words about them on stderr.

use std::io::{self, Write as _};

use crate::failure::Failure;

/// Writes to stdout at once, so that a pipe sees each line when it is said.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
}

/// Writes a line to stderr. There is nobody to tell if that fails.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
