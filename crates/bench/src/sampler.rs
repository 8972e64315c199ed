//! What some processes have at most while something else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::anyhow;

use crate::{clock, procfs};

/// Time between two looks: a hundred files of /proc cost a millisecond or two.
const EVERY: Duration = Duration::from_millis(100);

/// A thread that looks again and again.
#[derive(Debug)]
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Peak>,
}

/// The most that was seen at once, over all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peak {
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
    pub(crate) threads: u64,
}

impl Sampler {
    /// Begins to look at these processes.
    pub(crate) fn start(pids: &[u32]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (pids, stopped) = (pids.to_vec(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut peak = Peak::default();
            loop {
                peak = peak.max_of(Peak::now(&pids));
                if stopped.load(Ordering::Relaxed) {
                    return peak;
                }
                clock::sleep(EVERY);
            }
        });
        Self { stop, thread }
    }

    /// Looks for the last time, and tells the most.
    pub(crate) fn finish(self) -> anyhow::Result<Peak> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the thread that looks at the server has panicked"))
    }
}

impl Peak {
    /// What there is at this moment; nothing of processes that are gone.
    pub(crate) fn now(pids: &[u32]) -> Self {
        pids.iter().filter_map(|pid| procfs::status(*pid)).fold(Self::default(), |sum, status| Self {
            resident: sum.resident + status.resident,
            threads: sum.threads + status.threads,
        })
    }

    fn max_of(self, other: Self) -> Self {
        Self { resident: self.resident.max(other.resident), threads: self.threads.max(other.threads) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_at_least_what_there_was() {
        let myself = [std::process::id()];
        let sampler = Sampler::start(&myself);
        let now = Peak::now(&myself);
        let peak = sampler.finish().unwrap();
        assert!(peak.threads >= 2 && now.resident > 0 && peak.resident > 0, "{peak:?}");
        assert_eq!(Peak::now(&[]), Peak::default());
    }
}
