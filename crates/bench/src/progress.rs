//! What is being done, on standard error, when somebody looks.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One line with a bar. Shows nothing when standard error is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// An empty line.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(1);
        let style = ProgressStyle::with_template("{spinner} {elapsed_precise} [{bar:30}] {msg}")
            .expect("the template is a constant");
        bar.set_style(style.progress_chars("=> "));
        // Redrawn by a thread five times a second: too little to show in the generator's CPU.
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Something new begins.
    pub(crate) fn phase(&self, what: &str) {
        self.bar.set_position(0);
        self.bar.set_length(1);
        self.bar.set_message(what.to_owned());
    }

    /// So much of the phase is done.
    pub(crate) fn amount(&self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
    }

    /// Removes the line.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
