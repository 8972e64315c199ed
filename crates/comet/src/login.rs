//! Asking other roles without waiting for them.
//!
//! A worker polls an answer once. In one process it is ready; from another process it is not, and
//! goes to the lane, one task that keeps a bounded number of answers and brings each back when it is
//! there. So neither workers nor tasks grow in number with the load.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anser_api::Answer;
use anser_api::logic::{Connected, Refused};
use anser_wire::packet::Header;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::inbox::Control;
use crate::quiet::Quiet;
use crate::shared::Shared;
use crate::slab::Handle;

/// Most questions that are out at once.
const OUTSTANDING: usize = 256;

/// Most questions that wait to be asked. When that many wait, a client that wants in is turned away
/// (it comes back by itself), and news that nobody waits for stays with the worker.
const WAITING: usize = 4096;

/// How long the lane waits for an answer that nobody else waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A question that was not answered at once.
pub(crate) enum Question {
    /// May this client come in?
    Login {
        answer: Answer<'static, Result<Connected, Refused>>,
        shared: Arc<Shared>,
        worker: usize,
        handle: Handle,
        auth: Header,
    },
    /// News for another role, to which there is no answer.
    News(Answer<'static, ()>),
}

/// Polls an answer once.
pub(crate) fn try_now<T>(answer: &mut Answer<'static, T>) -> Option<T> {
    match Pin::as_mut(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Starts the lane on the current runtime.
pub(crate) fn start(runtime: &tokio::runtime::Handle) -> mpsc::Sender<Question> {
    let (sender, mut questions) = mpsc::channel(WAITING);
    runtime.spawn(async move {
        let quiet = Arc::new(Mutex::new(Quiet::default()));
        let mut out = JoinSet::new();
        loop {
            tokio::select! {
                question = questions.recv(), if out.len() < OUTSTANDING => match question {
                    Some(question) => { out.spawn(ask(question, quiet.clone())); }
                    None => break,
                },
                Some(_) = out.join_next() => {}
            }
        }
        while out.join_next().await.is_some() {}
    });
    sender
}

async fn ask(question: Question, quiet: Arc<Mutex<Quiet>>) {
    match question {
        Question::News(answer) => {
            if timeout(PATIENCE, answer).await.is_err() {
                let unsaid = quiet.lock().unwrap_or_else(PoisonError::into_inner).may_speak(Instant::now());
                if let Some(unsaid) = unsaid {
                    warn!(
                        unsaid,
                        "logic does not answer: it was not told of the end of a connection, or of a packet"
                    );
                }
            }
        }
        Question::Login { answer, shared, worker, handle, auth } => {
            // The client is sent away at its deadline; an answer just behind that is still looked at, as
            // there may be a session to give back.
            let limit = shared.config.handshake_timeout.0 + PATIENCE;
            let late = |_| Err(Refused::Unavailable("logic does not answer".into()));
            let answer = timeout(limit, answer).await.unwrap_or_else(late);
            let mut control = Control::LoggedIn { handle, auth, answer };
            while let Err(refused) = shared.inboxes[worker].control(control) {
                control = refused;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // The worker has it, or has ended: then whoever is the later of the two sees the other.
            if shared.ended.load(Ordering::SeqCst) {
                shared.sweep().await;
            }
        }
    }
}
