//! Who is traced: here, and on the comets.

use std::sync::Arc;
use std::time::Duration;

use anser_api::comet::Comet;
use anser_api::id::CometName;
use anser_api::trace::Traces;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Shared;

/// How long a comet may take to hear who is traced. They are told at once, within the deadline of calls
/// between processes.
const CALL: Duration = Duration::from_secs(3);

impl Shared {
    /// Takes over who is traced, and tells the comets; those that could not be told.
    pub(crate) async fn trace(&self, traces: Traces) -> Vec<CometName> {
        self.watch.replace(traces.clone());
        let comets: Vec<(CometName, Arc<dyn Comet>)> =
            self.state().lanes.iter().map(|lane| (lane.name.clone(), lane.comet.clone())).collect();
        let mut told = JoinSet::new();
        for (name, comet) in comets {
            let traces = traces.clone();
            told.spawn(async move {
                let heard = matches!(timeout(CALL, comet.trace(traces)).await, Ok(Ok(())));
                (!heard).then_some(name)
            });
        }
        told.join_all().await.into_iter().flatten().collect()
    }
}
