//! The owner of data that a client can pull, as the edge sees it.

use bytes::Bytes;

use crate::Answer;
use crate::id::Session;

/// Whoever decides when a connection may have pullable pushes again.
pub trait Owner: Send + Sync {
    /// A client said `LIVE`: it has pulled everything up to what `body` names. The owner answers by
    /// switching the connection, never through this call.
    fn live(&self, session: Session, body: Bytes) -> Answer<'static, ()>;
}
