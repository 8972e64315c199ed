//! Work that strangers can cause: never done twice at once, and not again within a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Lets one in at a time.
#[derive(Debug)]
pub(super) struct Gate {
    pause: Duration,
    last: Mutex<Option<Instant>>,
    inside: watch::Sender<bool>,
}

/// What becomes of somebody who wants in.
pub(super) enum Entry {
    /// In.
    Enter(Pass),
    /// Another one is inside, and does the same work.
    Join,
    /// Another one was inside a short while ago.
    Closed,
}

/// Is inside until it is dropped.
pub(super) struct Pass(Arc<Gate>);

impl Gate {
    /// After one has entered, the next one may after `pause`.
    pub(super) fn new(pause: Duration) -> Arc<Self> {
        Arc::new(Self { pause, last: Mutex::new(None), inside: watch::Sender::new(false) })
    }

    /// Asks to be let in; `in_turn` does not wait for the pause.
    pub(super) fn enter(self: &Arc<Self>, in_turn: bool) -> Entry {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if *self.inside.borrow() {
            return Entry::Join;
        }
        if !in_turn && last.is_some_and(|last| now.saturating_duration_since(last) < self.pause) {
            return Entry::Closed;
        }
        *last = Some(now);
        self.inside.send_replace(true);
        Entry::Enter(Pass(self.clone()))
    }

    /// Waits until nobody is inside.
    pub(super) fn left(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut inside = self.inside.subscribe();
        async move {
            // An error says that the gate is gone, and whoever was inside with it.
            let _ = inside.wait_for(|inside| !inside).await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_then_a_pause() {
        let gate = Gate::new(Duration::from_secs(30));
        let Entry::Enter(pass) = gate.enter(false) else { panic!("nobody was inside") };
        assert!(matches!(gate.enter(true), Entry::Join));
        let left = gate.left();
        drop(pass);
        left.await;
        assert!(matches!(gate.enter(false), Entry::Closed));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(matches!(gate.enter(false), Entry::Closed));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(gate.enter(false), Entry::Enter(_)));
        assert!(matches!(gate.enter(false), Entry::Closed));
        assert!(matches!(gate.enter(true), Entry::Enter(_)));
    }
}
